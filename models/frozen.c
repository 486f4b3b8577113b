/* frozen.c: see frozen.h.
 *
 * A node is fixed when it depends on parameters and constants only and its sizes are numbers. Fixed
 * nodes that others read, the largest, become states. */
#include "models/frozen.h"

#include "graph/op.h"
#include "ops/assign.h"
#include "ops/fuse.h"
#include "ops/scan.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is known of a node. */
enum {
    FIXED = 1,    /* depends on parameters and constants only */
    LEARNED = 2,  /* depends on a parameter */
    COMPUTED = 4, /* neither a source nor a view of one */
    WORTH = FIXED | LEARNED | COMPUTED,
    STATE = 8 /* to become a state */
};

typedef struct split {
    unsigned char *kind; /* [nodes] */
    uint64_t *hash;      /* [nodes] of what a fixed node computes */
} split;

static void split_free(void *x) {
    split *s = x;
    if (s == NULL) return;
    free(s->kind);
    free(s->hash);
    free(s);
}

/* ---- hashes: equal for equal computations, in whatever program ---- */

static uint64_t mix(uint64_t h, const void *data, size_t n) { /* FNV-1a */
    const unsigned char *byte = data;
    for (size_t i = 0; i < n; i++)
        h = (h ^ byte[i]) * 0x100000001b3u;
    return h;
}

static uint64_t mix_number(uint64_t h, int64_t x) { return mix(h, &x, sizeof x); }
static uint64_t mix_text(uint64_t h, const char *text) { return mix(h, text, strlen(text) + 1); }

static uint64_t mix_attr(uint64_t h, const wr_graph *g, wr_attr_kind kind, wr_attr a) {
    size_t bytes = 0;
    const void *blob;
    switch (kind) {
    case WR_ATTR_REAL:
        return mix(h, &a.r, sizeof a.r);
    case WR_ATTR_DIM:
        return mix(h, &a.d.id, sizeof a.d.id);
    case WR_ATTR_TEXT:
        return mix_text(h, wr_text_at(g, a.text));
    case WR_ATTR_BLOB:
        blob = wr_blob_at(g, a.blob, &bytes);
        return mix(h, blob, bytes);
    case WR_ATTR_INT:
    case WR_ATTR_BOOL:
        break;
    }
    return mix_number(h, a.i);
}

static uint64_t hash_of(const split *s, const wr_graph *g, uint32_t id) {
    const wr_node *x = wr_node_at(g, id);
    uint64_t h = mix_text(0xcbf29ce484222325u, x->op->name);
    h = mix_number(h, x->dtype);
    for (int i = 0; i < x->rank; i++)
        h = mix_number(h, wr_dim_literal(x->dim[i]));
    if (x->op == &wr_op_param) return mix_text(h, wr_source_name(g, id));
    const wr_attr *attr = wr_node_attrs(g, id);
    for (int i = 0; x->op->attrs[i].name != NULL; i++)
        h = mix_attr(h, g, x->op->attrs[i].kind, attr[i]);
    for (int k = 0; k < x->n_in; k++)
        h = mix_number(h, (int64_t)s->hash[wr_node_inputs(g, id)[k]]);
    return h;
}

/* ---- what is fixed ---- */

static bool literal_sizes(const wr_node *x) {
    for (int i = 0; i < x->rank; i++)
        if (!wr_dim_is_literal(x->dim[i])) return false;
    return true;
}

static unsigned char kind_of(const split *s, const wr_graph *g, uint32_t id) {
    const wr_node *x = wr_node_at(g, id);
    if (x->op == &wr_op_param) return FIXED | LEARNED;
    if (x->op == &wr_op_const) return FIXED;
    bool own = x->op->traits & (WR_SOURCE | WR_RANDOM | WR_STATEFUL);
    own =
        own || x->op == &wr_op_scan || x->op == &wr_op_loop_value; /* their bodies are not hashed */
    if (own || x->op == &wr_op_output || x->n_in == 0 || x->n_out != 1 || !literal_sizes(x))
        return 0;
    unsigned char kind = x->op->traits & WR_VIEW ? FIXED : FIXED | COMPUTED;
    for (int k = 0; k < x->n_in; k++) {
        unsigned char in = s->kind[wr_node_inputs(g, id)[k]];
        if (!(in & FIXED)) return 0;
        kind |= in & (LEARNED | COMPUTED);
    }
    return kind;
}

static void mark_if_worth(split *s, uint32_t id) {
    if ((s->kind[id] & WORTH) == WORTH) s->kind[id] |= STATE;
}

/* Roots are marked by the caller. */
static split *split_new(const wr_graph *g, const bool *live) {
    uint32_t n = wr_node_count(g);
    split *s = calloc(1, sizeof *s);
    if (s == NULL) return NULL;
    s->kind = calloc(n, sizeof *s->kind);
    s->hash = calloc(n, sizeof *s->hash);
    if (s->kind == NULL || s->hash == NULL) {
        split_free(s);
        return NULL;
    }
    for (uint32_t id = 1; id < n; id++) {
        if (!live[id]) continue;
        s->kind[id] = kind_of(s, g, id);
        if (s->kind[id] & FIXED) {
            s->hash[id] = hash_of(s, g, id);
            continue;
        }
        for (int k = 0; k < wr_node_at(g, id)->n_in; k++)
            mark_if_worth(s, wr_node_inputs(g, id)[k]);
    }
    return s;
}

/* ---- the two rewritings ---- */

/* Roots are the nodes with more uses than the graph's own. */
static void mark_roots(split *s, const wr_rewrite *r) {
    uint32_t n = wr_node_count(r->old);
    uint32_t *left = malloc(sizeof *left * n);
    if (left == NULL) {
        wr_no_memory(r->now);
        return;
    }
    memcpy(left, r->users, sizeof *left * n);
    for (uint32_t id = 1; id < n; id++)
        for (int k = 0; r->live[id] && k < wr_node_at(r->old, id)->n_in; k++)
            left[wr_node_inputs(r->old, id)[k]]--;
    for (uint32_t id = 1; id < n; id++)
        if (r->live[id] && left[id] > 0) mark_if_worth(s, id);
    free(left);
}

static void *begin(const wr_rewrite *r, bool *failed) {
    split *s = split_new(r->old, r->live);
    *failed = s == NULL;
    if (s != NULL) mark_roots(s, r);
    return s;
}

/* In the scope of the node that it stands for. */
static wr state_for(const wr_rewrite *r, uint32_t id) {
    const split *s = r->pass;
    const wr_node *x = wr_node_at(r->old, id);
    char name[32];
    snprintf(name, sizeof name, "frozen_%016" PRIx64, s->hash[id]);
    return wr_state(r->now, name, (wr_dtype)x->dtype, x->rank, x->dim,
                    ((wr_init){WR_INIT_ZERO, 0, 0}));
}

static bool becomes_state(const wr_rewrite *r, uint32_t id) {
    const split *s = r->pass;
    return (s->kind[id] & STATE) != 0;
}

static wr read_state(const wr_rewrite *r, uint32_t id) {
    return becomes_state(r, id) ? state_for(r, id) : (wr){r->now, 0};
}

/* The node anew: wr_rewrite_copy() is for rules whose result is the copy itself. */
static wr made_again(const wr_rewrite *r, uint32_t id) {
    const wr_node *x = wr_node_at(r->old, id);
    wr *in = malloc(sizeof *in * x->n_in);
    if (in == NULL) return wr_no_memory(r->now);
    for (int k = 0; k < x->n_in; k++)
        in[k] = wr_rewrite_map(r, wr_node_inputs(r->old, id)[k]);
    wr made = wr_emit(*wr_loc_at(r->old, x->loc), x->op, x->n_in, in, wr_node_attrs(r->old, id));
    free(in);
    return made;
}

static wr write_state(const wr_rewrite *r, uint32_t id) {
    if (!becomes_state(r, id)) return (wr){r->now, 0};
    return wr_assign(state_for(r, id), made_again(r, id));
}

static const wr_pass EACH = {.name = "read frozen",
                             .begin = begin,
                             .end = split_free,
                             .rules = (const wr_rule[]){read_state, NULL}};
static const wr_pass ONCE = {.name = "freeze",
                             .begin = begin,
                             .end = split_free,
                             .rules = (const wr_rule[]){write_state, NULL}};

/* ---- compiling ---- */

static wr_status compile(wr_graph *g, int n, const uint32_t *root, wr_program **p, wr_error *err) {
    if (g == NULL) return wr_fail_memory(err, "a program", sizeof(wr_node));
    wr *output = malloc(sizeof *output * ((size_t)n + 1));
    wr_status status = output == NULL ? wr_fail_memory(err, "a program", sizeof *output) : WR_OK;
    for (int i = 0; status == WR_OK && i < n; i++)
        output[i] = (wr){g, root[i]};
    if (status == WR_OK) status = wr_program_new(g, n, output, wr_standard_passes(), p, err);
    free(output);
    wr_graph_free(g);
    return status;
}

/* The nodes that become states, in order; `at` has room for all nodes. */
static int states_of(const split *s, uint32_t nodes, uint32_t *at) {
    int n = 0;
    for (uint32_t id = 1; id < nodes; id++)
        if (s->kind[id] & STATE) at[n++] = id;
    return n;
}

typedef struct job {
    const wr_graph *g;
    bool *live;
    uint32_t *root, *at;
    split *s;
    int n_outputs;
} job;

static wr_status compile_both(job *j, wr_frozen *out, wr_error *err) {
    for (int i = 0; i < j->n_outputs; i++)
        mark_if_worth(j->s, j->root[i]);
    int n = states_of(j->s, wr_node_count(j->g), j->at);
    wr_status status = WR_OK;
    if (n > 0) { /* writes are never dropped: one of them is output enough */
        wr_graph *once = wr_pass_run(&ONCE, j->g, n, j->at);
        status = compile(once, 1, &j->at[n - 1], &out->once, err);
    }
    if (status != WR_OK) return status;
    wr_graph *each = wr_pass_run(&EACH, j->g, j->n_outputs, j->root);
    return compile(each, j->n_outputs, j->root, &out->each, err);
}

wr_status wr_frozen_new(const wr_graph *g, int n_outputs, const wr *outputs, wr_frozen *out,
                        wr_error *err) {
    *out = (wr_frozen){0};
    wr_status status = wr_graph_status(g, err);
    if (status != WR_OK) return status;
    size_t nodes = wr_node_count(g);
    job j = {.g = g,
             .root = malloc(sizeof *j.root * ((size_t)n_outputs + 1)),
             .at = malloc(sizeof *j.at * nodes),
             .n_outputs = n_outputs};
    if (j.root != NULL) {
        for (int i = 0; i < n_outputs; i++)
            j.root[i] = outputs[i].id;
        j.live = wr_live_nodes(g, n_outputs, j.root);
    }
    if (j.live != NULL && j.at != NULL) j.s = split_new(g, j.live);
    status = j.s == NULL ? wr_fail_memory(err, "a program", sizeof *j.at * nodes)
                         : compile_both(&j, out, err);
    if (status != WR_OK) {
        wr_program_free(out->once);
        wr_program_free(out->each);
        *out = (wr_frozen){0};
    }
    free(j.live);
    free(j.root);
    free(j.at);
    split_free(j.s);
    return status;
}

void wr_frozen_free(wr_frozen *f, wr_session *session) {
    wr_program *program[] = {f->once, f->each};
    for (int i = 0; i < 2; i++) {
        if (program[i] == NULL) continue;
        wr_session_forget(session, program[i]);
        wr_program_free(program[i]);
    }
    *f = (wr_frozen){0};
}
