/* program.c: running passes over a graph; the compiled program. See program.h. */
#include "graph/program.h"
#include "graph/graph_internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- rewriting ---- */

wr wr_rewrite_copy(const wr_rewrite *r, uint32_t id) {
    const wr_node *x = wr_node_at(r->old, id);
    const uint32_t *in = wr_node_inputs(r->old, id);
    uint32_t small[16], *mapped = small;
    if (x->n_in > 16 && (mapped = malloc(sizeof *mapped * x->n_in)) == NULL) return (wr){r->now, 0};
    for (int k = 0; k < x->n_in; k++)
        mapped[k] = r->map[in[k]];
    uint32_t copy = wr__node_copy(r->now, r->old, id, mapped, false);
    if (mapped != small) free(mapped);
    return (wr){r->now, copy};
}

static uint32_t *count_users(const wr_graph *g, const bool *live, int n_roots,
                             const uint32_t *roots) {
    uint32_t *users = calloc(wr_node_count(g), sizeof *users);
    if (users == NULL) return NULL;
    for (uint32_t id = 1; id < wr_node_count(g); id++)
        for (int k = 0; live[id] && k < wr_node_at(g, id)->n_in; k++)
            users[wr_node_inputs(g, id)[k]]++;
    for (int i = 0; i < n_roots; i++)
        users[roots[i]]++;
    return users;
}

static bool rewrite_node(const wr_pass *pass, wr_rewrite *r, uint32_t *map, uint32_t id) {
    const wr_node *x = wr_node_at(r->old, id);
    if (x->op == &wr_op_output) { /* stands behind its maker, wherever that went */
        map[id] = map[wr_node_inputs(r->old, id)[0]] + (uint32_t)wr_node_attrs(r->old, id)[0].i;
        return true;
    }
    wr made = {r->now, 0};
    uint32_t before = wr_node_count(r->now);
    for (const wr_rule *rule = pass->rules; *rule != NULL && made.id == 0; rule++)
        made = (*rule)(r, id);
    if (made.id == 0) made = wr_rewrite_copy(r, id);
    map[id] = made.id;
    if (made.id >= before) { /* new in this graph: it stands for the old node */
        wr_node *y = &r->now->node[made.id];
        if (x->name != 0) y->name = x->name;
        y->origin = map[x->origin];
        y->role = x->role;
    }
    return made.id != 0;
}

wr_graph *wr_pass_run(const wr_pass *pass, const wr_graph *g, int n_roots, uint32_t *roots) {
    uint32_t n = wr_node_count(g);
    bool *live = wr_live_nodes(g, n_roots, roots), failed = false;
    uint32_t *map = calloc(n, sizeof *map);
    uint32_t *users = live == NULL ? NULL : count_users(g, live, n_roots, roots);
    wr_graph *now = wr_graph_like(g);
    wr_rewrite r = {.old = g, .now = now, .map = map, .users = users, .live = live};
    bool ok = live != NULL && map != NULL && users != NULL && now != NULL;
    if (ok && pass->begin != NULL) r.pass = pass->begin(&r, &failed);
    ok = ok && !failed;
    for (uint32_t id = 1; ok && id < n; id++) {
        if (!live[id]) continue;
        const wr_node *x = wr_node_at(g, id);
        bool again = x->role == WR_RECOMPUTED;
        wr_derivation before = wr_derive_begin(now, 0, again ? WR_RECOMPUTED : WR_FORWARD);
        now->scope = x->scope;
        ok = rewrite_node(pass, &r, map, id);
        wr_derive_end(now, before);
    }
    ok = ok && !now->out_of_memory; /* a rule's poison is then no refusal */
    for (int i = 0; ok && i < n_roots; i++)
        roots[i] = map[roots[i]];
    if (pass->end != NULL && r.pass != NULL) pass->end(r.pass);
    free(live);
    free(map);
    free(users);
    if (ok) return now;
    wr_graph_free(now);
    return NULL;
}

/* ---- programs ---- */

struct wr_program {
    wr_graph *g;
    bool *live;
    uint32_t *root;
    int n_roots;
    uint32_t *input;
    int n_inputs;
};

static const wr_rule NO_RULES[] = {NULL};
static const wr_pass COPY = {.name = "copy", .rules = NO_RULES};

static wr_status refuse(const wr_graph *g, int n, const wr *outputs, wr_error *err) {
    wr_status status = wr_graph_status(g, err);
    if (status != WR_OK) return status;
    for (int i = 0; i < n; i++)
        if (outputs[i].id == 0 || outputs[i].g != g)
            return wr_fail(err, WR_ERR_INPUT, "output %d of the program is %s", i,
                           outputs[i].id == 0 ? "no node (poison)" : "a node of another graph");
    return WR_OK;
}

static bool collect_inputs(wr_program *p) {
    for (int pass = 0; pass < 2; pass++) {
        p->n_inputs = 0;
        for (uint32_t id = 1; id < wr_node_count(p->g); id++) {
            if (!p->live[id] || wr_node_at(p->g, id)->op != &wr_op_input) continue;
            if (pass == 1) p->input[p->n_inputs] = id;
            p->n_inputs++;
        }
        if (pass == 0) p->input = malloc(sizeof *p->input * ((size_t)p->n_inputs + 1));
        if (p->input == NULL) return false;
    }
    return true;
}

static bool run_passes(wr_program *p, const wr_graph *g, const wr_pass *const *passes) {
    p->g = wr__is_any_recomputed(g) ? wr_pass_recompute(g, p->n_roots, p->root)
                                    : wr_pass_run(&COPY, g, p->n_roots, p->root);
    for (; p->g != NULL && passes != NULL && *passes != NULL; passes++) {
        wr_graph *next = wr_pass_run(*passes, p->g, p->n_roots, p->root);
        wr_graph_free(p->g);
        p->g = next;
    }
    return p->g != NULL;
}

wr_status wr_program_new(const wr_graph *g, int n_outputs, const wr *outputs,
                         const wr_pass *const *passes, wr_program **program, wr_error *err) {
    *program = NULL;
    wr_status status = refuse(g, n_outputs, outputs, err);
    if (status != WR_OK) return status;
    wr_program *p = calloc(1, sizeof *p);
    if (p != NULL) p->root = malloc(sizeof *p->root * ((size_t)n_outputs + 1));
    bool ok = p != NULL && p->root != NULL;
    if (ok) {
        p->n_roots = n_outputs;
        for (int i = 0; i < n_outputs; i++)
            p->root[i] = outputs[i].id;
        ok = run_passes(p, g, passes);
    }
    if (ok) {
        p->live = wr_live_nodes(p->g, p->n_roots, p->root);
        ok = p->live != NULL && collect_inputs(p);
    }
    if (!ok) {
        wr_program_free(p);
        return wr_fail_memory(err, "a program", sizeof(wr_node) * wr_node_count(g));
    }
    *program = p;
    return WR_OK;
}

void wr_program_free(wr_program *p) {
    if (p == NULL) return;
    wr_graph_free(p->g);
    free(p->live);
    free(p->root);
    free(p->input);
    free(p);
}

const wr_graph *wr_program_graph(const wr_program *p) { return p->g; }
int wr_program_outputs(const wr_program *p) { return p->n_roots; }
uint32_t wr_program_root(const wr_program *p, int k) { return p->root[k]; }
const bool *wr_program_live(const wr_program *p) { return p->live; }
int wr_program_inputs(const wr_program *p) { return p->n_inputs; }
uint32_t wr_program_input(const wr_program *p, int k) { return p->input[k]; }

int wr_program_find_input(const wr_program *p, const char *name) {
    for (int k = 0; k < p->n_inputs; k++)
        if (strcmp(wr_source_name(p->g, p->input[k]), name) == 0) return k;
    return -1;
}
