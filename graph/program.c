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

/* New nodes of the old node's line have its callers too: a pass has none of interest. */
static void keep_place(wr_rewrite *r, const wr_node *x, uint32_t from) {
    const wr_loc *was = wr_loc_at(r->old, x->loc);
    for (uint32_t id = from; id < wr_node_count(r->now); id++) {
        const wr_loc *is = wr_loc_at(r->now, r->now->node[id].loc);
        if (is->line == was->line && is->file == was->file) r->now->node[id].loc = x->loc;
    }
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
    keep_place(r, x, before);
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
    wr_graph *plain; /* before the passes, which are kept with it */
    uint32_t *plain_root;
    const wr_pass *const *passes;
    wr_program *apart;
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

/* From p->plain to p->g; the plain graph stays. */
static bool run_passes(wr_program *p, bool joining) {
    memcpy(p->root, p->plain_root, sizeof *p->root * (size_t)p->n_roots);
    bool ok = true;
    for (const wr_pass *const *x = p->passes; ok && x != NULL && *x != NULL; x++) {
        if ((*x)->joins && !joining) continue;
        const wr_graph *from = p->g == NULL ? p->plain : p->g;
        wr_graph *next = wr_pass_run(*x, from, p->n_roots, p->root);
        wr_graph_free(p->g);
        p->g = next;
        ok = next != NULL;
    }
    if (ok && p->g == NULL) p->g = wr_pass_run(&COPY, p->plain, p->n_roots, p->root);
    if (p->g == NULL) return false;
    p->live = wr_live_nodes(p->g, p->n_roots, p->root);
    return p->live != NULL && collect_inputs(p);
}

static wr_program *program_of(int n_roots) {
    wr_program *p = calloc(1, sizeof *p);
    if (p == NULL) return NULL;
    p->n_roots = n_roots;
    p->root = malloc(sizeof *p->root * ((size_t)n_roots + 1));
    p->plain_root = malloc(sizeof *p->plain_root * ((size_t)n_roots + 1));
    if (p->root != NULL && p->plain_root != NULL) return p;
    wr_program_free(p);
    return NULL;
}

wr_status wr_program_new(const wr_graph *g, int n_outputs, const wr *outputs,
                         const wr_pass *const *passes, wr_program **program, wr_error *err) {
    *program = NULL;
    wr_status status = refuse(g, n_outputs, outputs, err);
    if (status != WR_OK) return status;
    wr_program *p = program_of(n_outputs);
    bool ok = p != NULL;
    if (ok) {
        for (int i = 0; i < n_outputs; i++)
            p->plain_root[i] = outputs[i].id;
        p->passes = passes;
        p->plain = wr__is_any_recomputed(g) ? wr_pass_recompute(g, n_outputs, p->plain_root)
                                            : wr_pass_run(&COPY, g, n_outputs, p->plain_root);
        ok = p->plain != NULL && run_passes(p, true);
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
    wr_program_free(p->apart);
    wr_graph_free(p->g);
    wr_graph_free(p->plain);
    free(p->plain_root);
    free(p->live);
    free(p->root);
    free(p->input);
    free(p);
}

wr_status wr_program_apart(wr_program *p, wr_program **apart, wr_error *err) {
    *apart = p->plain == NULL ? p : p->apart;
    if (*apart != NULL) return WR_OK;
    wr_program *q = program_of(p->n_roots);
    bool ok = q != NULL;
    if (ok) {
        memcpy(q->plain_root, p->plain_root, sizeof *q->plain_root * (size_t)p->n_roots);
        q->passes = p->passes;
        q->plain = p->plain; /* lent */
        ok = run_passes(q, false);
        q->plain = NULL;
    }
    if (!ok) {
        wr_program_free(q);
        return wr_fail_memory(err, "a program", sizeof(wr_node) * wr_node_count(p->plain));
    }
    *apart = p->apart = q;
    return WR_OK;
}

const wr_program *wr_program_apart_made(const wr_program *p) { return p->apart; }

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
