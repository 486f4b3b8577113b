/* select.c: which nodes a picture has: live ones, the forward part, ancestors, descendants,
 * parameters. */
#include "viz/picture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- names ---- */

/* The name that messages have: of a source its full name, else scope, name or op. */
static void print_name(const wr_graph *g, uint32_t id, wr_str *out) {
    const wr_node *x = wr_node_at(g, id);
    const char *source = wr_source_name(g, id);
    if (source[0] != '\0') {
        wr_str_add(out, "%s", source);
        return;
    }
    wr_scope_path(g, x->scope, out);
    wr_str_add(out, "%s%s", x->scope != 0 ? "." : "",
               x->name != 0 ? wr_text_at(g, x->name) : x->op->name);
}

/* "123": the number; 0 when the text is no number of a node. */
static uint32_t node_number(const wr__picture *p, const char *text) {
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    bool whole = text[0] >= '0' && text[0] <= '9' && *end == '\0';
    return whole && n > 0 && n < p->n_nodes ? (uint32_t)n : 0;
}

/* ---- near names ---- */

enum { NEAR = 6, LONGEST_NAME = 96 };

typedef struct near {
    char name[LONGEST_NAME];
    size_t distance;
} near;

/* How many letters must be changed, added or dropped to make one of the other. */
static size_t edit_distance(const char *a, const char *b) {
    size_t row[LONGEST_NAME + 1], m = strnlen(b, LONGEST_NAME);
    for (size_t k = 0; k <= m; k++)
        row[k] = k;
    for (size_t i = 0; a[i] != '\0'; i++) {
        size_t corner = row[0];
        row[0] = i + 1;
        for (size_t k = 0; k < m; k++) {
            size_t change = corner + (a[i] != b[k]);
            size_t other = 1 + (row[k] < row[k + 1] ? row[k] : row[k + 1]);
            corner = row[k + 1];
            row[k + 1] = change < other ? change : other;
        }
    }
    return row[m];
}

/* Put a name among the nearest ones, unless it is there. */
static void add_near(near *list, const char *wanted, const char *name) {
    near x = {.distance = edit_distance(wanted, name)};
    snprintf(x.name, sizeof x.name, "%s", name);
    if (strstr(name, wanted) != NULL) x.distance = x.distance < 4 ? x.distance : 4;
    for (int i = 0; i < NEAR; i++)
        if (strcmp(list[i].name, x.name) == 0) return;
    for (int i = 0; i < NEAR; i++) {
        if (list[i].name[0] != '\0' && list[i].distance <= x.distance) continue;
        near out = list[i];
        list[i] = x;
        x = out;
        if (x.name[0] == '\0') return;
    }
}

static wr_status refuse_node(const wr__picture *p, const char *wanted, wr_error *err) {
    near list[NEAR] = {0};
    wr_str name = {0}, text = {0};
    for (uint32_t id = 1; id < p->n_nodes && !name.oom; id++) {
        if (!p->drawn[id] || wr_node_at(p->g, id)->op == &wr_op_output) continue;
        wr_str_clear(&name);
        print_name(p->g, id, &name);
        add_near(list, wanted, wr_str_text(&name));
    }
    for (int i = 0; i < NEAR && list[i].name[0] != '\0'; i++)
        wr_str_add(&text, "%s%s", i > 0 ? ", " : "", list[i].name);
    wr_status status = name.oom || text.oom
                           ? wr_fail_memory(err, "the names of nodes", name.len)
                           : wr_fail(err, WR_ERR_INPUT,
                                     "no node '%.200s' in the picture; near names: %s; a node's "
                                     "number (1 to %u) will do, too",
                                     wanted, text.len > 0 ? wr_str_text(&text) : "none",
                                     (unsigned)(p->n_nodes - 1));
    wr_str_free(&name);
    wr_str_free(&text);
    return status;
}

/* Mark the nodes of that name, or the one of that number, in `chosen`. */
static wr_status find_nodes(const wr__picture *p, const char *wanted, bool *chosen, wr_error *err) {
    uint32_t number = node_number(p, wanted), found = 0;
    wr_str name = {0};
    for (uint32_t id = 1; id < p->n_nodes && !name.oom; id++) {
        chosen[id] = false;
        if (!p->drawn[id]) continue;
        wr_str_clear(&name);
        print_name(p->g, id, &name);
        chosen[id] = id == number || strcmp(wr_str_text(&name), wanted) == 0;
        found += chosen[id];
    }
    bool oom = name.oom;
    wr_str_free(&name);
    if (oom) return wr_fail_memory(err, "the name of a node", 64);
    return found > 0 ? WR_OK : refuse_node(p, wanted, err);
}

/* ---- filters ---- */

static void spread_up(const wr_graph *g, bool *chosen) {
    for (uint32_t id = wr_node_count(g) - 1; id > 0; id--)
        for (int k = 0; chosen[id] && k < wr_node_at(g, id)->n_in; k++)
            chosen[wr_node_inputs(g, id)[k]] = true;
}

static void spread_down(const wr_graph *g, bool *chosen) {
    for (uint32_t id = 1; id < wr_node_count(g); id++)
        for (int k = 0; !chosen[id] && k < wr_node_at(g, id)->n_in; k++)
            chosen[id] = wr_node_inputs(g, id)[k] != 0 && chosen[wr_node_inputs(g, id)[k]];
}

/* Keep what a node is made from (`up`) or what is made from it. */
static wr_status keep_relatives(wr__picture *p, const char *wanted, bool up, bool *keep,
                                wr_error *err) {
    if (wanted == NULL || wanted[0] == '\0') return WR_OK;
    bool *chosen = calloc(p->n_nodes, sizeof *chosen);
    if (chosen == NULL) return wr_fail_memory(err, "nodes of a picture", p->n_nodes);
    wr_status status = find_nodes(p, wanted, chosen, err);
    if (status == WR_OK && up) spread_up(p->g, chosen);
    if (status == WR_OK && !up) spread_down(p->g, chosen);
    for (uint32_t id = 1; status == WR_OK && id < p->n_nodes; id++)
        keep[id] = keep[id] && chosen[id];
    free(chosen);
    return status;
}

/* Outputs stand with the node that makes them, also where only one of them is live. */
static void add_makers(wr__picture *p) {
    for (uint32_t id = 1; id < p->n_nodes; id++)
        if (p->drawn[id] && wr_node_at(p->g, id)->op == &wr_op_output)
            p->drawn[wr_node_inputs(p->g, id)[0]] = true;
}

static wr_status filter(wr__picture *p, wr_error *err) {
    const wr_draw_options *o = p->o;
    bool *keep = calloc(p->n_nodes, sizeof *keep);
    if (keep == NULL) return wr_fail_memory(err, "nodes of a picture", p->n_nodes);
    for (uint32_t id = 1; id < p->n_nodes; id++)
        keep[id] = !o->only_parameters || wr_node_at(p->g, id)->op == &wr_op_param;
    wr_status status = keep_relatives(p, o->ancestors, true, keep, err);
    if (status == WR_OK) status = keep_relatives(p, o->descendants, false, keep, err);
    for (uint32_t id = 1; id < p->n_nodes; id++)
        p->drawn[id] = p->drawn[id] && keep[id];
    free(keep);
    return status;
}

wr_status wr__picture_select(wr__picture *p, wr_error *err) {
    for (uint32_t id = 1; id < p->n_nodes; id++) {
        p->same[id] = id;
        p->drawn[id] = (p->o->live == NULL || p->o->live[id]) &&
                       !(p->o->forward_only && wr__node_is_derived(wr_node_at(p->g, id)));
    }
    add_makers(p);
    wr_status status = filter(p, err);
    add_makers(p);
    bool out_of_memory = false;
    for (uint32_t id = 1; id < p->n_nodes && p->o->binding != NULL && !out_of_memory; id++)
        if (p->drawn[id])
            wr__node_cost(p->g, id, p->o->binding, &p->flops[id], &p->bytes[id], &out_of_memory);
    if (status == WR_OK && out_of_memory)
        status = wr_fail_memory(err, "the costs of nodes", p->n_nodes);
    return status;
}
