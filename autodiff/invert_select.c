/* invert_select.c: choices between two functions of one node: y = select(m, f(x), g(x)).
 *
 * No rule can solve a branch alone, for y tells of it at its own positions only. So both branches
 * are followed up to the node x from which elementwise rows make them, and x is put together from
 * the inverses of both. What the inverse of a branch computes at the positions of the other is not
 * used, but it could be NaN there (the logarithm of a negative y), and gradients would become NaN
 * with it. So these positions are given values from the branch's own range: the branch at the x
 * that a first pass without gradient has found. */
#include "autodiff/invert_internal.h"

#include "ops/elementwise.h"
#include "ops/layout.h"

#include <stdlib.h>

typedef struct wr__inverter inverter;

/* Nodes from the branch up to, but without, the node where the branches meet. */
typedef struct branch {
    uint32_t *node;
    int *unknown; /* which operand of it lies on the way */
    int n, cap;
} branch;

/* Operand of an elementwise node that is unknown and has all of its axes; -1: not the only one. */
static int only_unknown(const inverter *v, uint32_t id) {
    const wr_node *n = wr_node_at(v->g, id);
    int found = -1;
    if (!(n->op->traits & WR_ELEMENTWISE) || n->op->inverse == NULL || v->is_in[id]) return -1;
    if (v->how[id] != WR__UNKNOWN || n->n_out != 1) return -1;
    for (int k = 0; k < n->n_in; k++) {
        uint32_t in = wr_node_inputs(v->g, id)[k];
        if (v->how[in] != WR__UNKNOWN) continue;
        if (found >= 0 || wr_node_at(v->g, in)->rank != n->rank) return -1;
        found = k;
    }
    return found;
}

static bool follow(inverter *v, uint32_t id, branch *b) {
    for (int k = only_unknown(v, id); k >= 0; k = only_unknown(v, id)) {
        if (b->n == b->cap) {
            int cap = b->cap * 2 + 16;
            uint32_t *node = realloc(b->node, sizeof *node * (size_t)cap);
            if (node != NULL) b->node = node;
            int *unknown = realloc(b->unknown, sizeof *unknown * (size_t)cap);
            if (unknown != NULL) b->unknown = unknown;
            if (node == NULL || unknown == NULL) {
                wr_no_memory(v->g);
                return v->ok = false;
            }
            b->cap = cap;
        }
        b->node[b->n] = id;
        b->unknown[b->n++] = k;
        id = wr_node_inputs(v->g, id)[k];
    }
    return true;
}

/* The node that step i of the branch reads; step -1 reads the branch itself. */
static uint32_t reached(const inverter *v, const branch *b, uint32_t top, int i) {
    return i < 0 ? top : wr_node_inputs(v->g, b->node[i])[b->unknown[i]];
}

/* Ids fall along both ways, so the first common node is found by walking the one that is ahead.
 * Shortens both branches to it; 0: they have none. */
static uint32_t meet(const inverter *v, branch *a, uint32_t top_a, branch *b, uint32_t top_b) {
    int i = -1, j = -1;
    while (i < a->n && j < b->n) {
        uint32_t x = reached(v, a, top_a, i), y = reached(v, b, top_b, j);
        if (x == y) {
            a->n = i + 1;
            b->n = j + 1;
            return x;
        }
        if (x > y)
            i++;
        else
            j++;
    }
    return 0;
}

/* ---- values ---- */

/* Ask the rules of a branch, from its top down, for x at `value`; terms are added to *term. */
static wr solve_branch(inverter *v, uint32_t choice, const branch *b, wr value, wr *term,
                       const char **why) {
    for (int i = 0; i < b->n; i++) {
        wr__view w;
        wr__capture capture = {choice, {v->g, 0}, {v->g, 0}, NULL};
        if (!wr__view_begin(v, b->node[i], &w)) return capture.solved;
        w.y[0] = v->in_place ? w.out[0] : value;
        wr_inverse_ctx c = wr__view_context(v, b->node[i], &w, 0);
        v->capture = &capture;
        bool solved = w.op->inverse(&c);
        v->capture = NULL;
        wr__view_end(&w);
        if (!solved) *why = capture.why;
        if (!solved) return (wr){v->g, 0};
        if (!wr_is_poison(capture.term))
            *term = wr_is_poison(*term) ? capture.term : wr_add(*term, capture.term);
        value = capture.solved;
    }
    return value;
}

/* The branch as declared, at x = `value`. */
static wr evaluate_branch(inverter *v, const branch *b, wr value) {
    for (int i = b->n - 1; i >= 0; i--) {
        wr__view w;
        if (!wr__view_begin(v, b->node[i], &w)) return (wr){v->g, 0};
        w.x[b->unknown[i]] = value;
        value = wr_emit_in(v->g, v->loc, w.op, w.n_in, w.x, w.attr, false);
        wr__view_end(&w);
    }
    return value;
}

/* The branches' values where y is, each safe at the positions of the other. */
static bool safe_values(inverter *v, uint32_t choice, wr condition, const branch *b, wr y,
                        wr *value) {
    wr ignored = {v->g, 0}, x[2];
    const char *why = NULL;
    value[0] = value[1] = y;
    if (v->in_place || (b[0].n == 0 && b[1].n == 0)) return true;
    for (int k = 0; k < 2; k++)
        x[k] = solve_branch(v, choice, &b[k], y, &ignored, &why);
    if (wr_is_poison(x[0]) || wr_is_poison(x[1])) return true; /* told by the pass that counts */
    wr found = wr_stop_gradient(wr_select(condition, x[0], x[1]));
    if (b[0].n > 0) value[0] = wr_select(condition, y, evaluate_branch(v, &b[0], found));
    if (b[1].n > 0) value[1] = wr_select(condition, evaluate_branch(v, &b[1], found), y);
    return !wr_is_poison(value[0]) && !wr_is_poison(value[1]);
}

static bool solve_both(wr_inverse_ctx *c, const branch *b, uint32_t meeting) {
    inverter *v = c->inverter;
    wr value[2], x[2], term[2] = {{v->g, 0}, {v->g, 0}}, zero;
    const char *why = NULL;
    if (!safe_values(v, c->id, c->x[0], b, c->y[0], value)) return v->ok = false;
    for (int k = 0; k < 2; k++) {
        x[k] = solve_branch(v, c->id, &b[k], value[k], &term[k], &why);
        if (!wr_is_poison(x[k])) continue;
        return why != NULL ? wr_inverse_wait(c, why) : (v->ok = false);
    }
    wr solved = v->in_place ? (wr){v->g, meeting} : wr_select(c->x[0], x[0], x[1]);
    if (!wr__inverse_learn(v, meeting, solved, WR__SOLVED)) return false;
    v->through[c->id] = meeting;
    if (wr_is_poison(term[0]) && wr_is_poison(term[1])) return true;
    zero = wr_scalar(v->g, wr_dtype_of(c->y[0]), 0.0);
    for (int k = 0; k < 2; k++)
        if (wr_is_poison(term[k])) term[k] = zero;
    wr_inverse_ctx of_meeting = *c;
    wr in = {v->g, meeting};
    of_meeting.in = &in;
    return wr_inverse_term(&of_meeting, 0, wr_select(c->x[0], term[0], term[1]));
}

bool wr_inverse_select(wr_inverse_ctx *c) {
    inverter *v = c->inverter;
    if (wr_is_poison(c->x[0]))
        return wr_inverse_wait(c, "its condition depends on what is solved for");
    if (!wr_is_poison(c->x[1]) || !wr_is_poison(c->x[2]))
        return wr_inverse_wait(c, "one branch is known, and the other one is seen at its own "
                                  "positions only");
    int rank = wr_rank(c->out[0]);
    if (wr_rank(c->in[1]) < rank || wr_rank(c->in[2]) < rank)
        return wr_inverse_wait(c, "an unknown branch was repeated over leading axes");
    branch b[2] = {{0}};
    bool ok = follow(v, c->in[1].id, &b[0]) && follow(v, c->in[2].id, &b[1]);
    uint32_t meeting = ok ? meet(v, &b[0], c->in[1].id, &b[1], c->in[2].id) : 0;
    if (meeting != 0)
        ok = solve_both(c, b, meeting);
    else if (ok)
        ok = wr_inverse_wait(c, "its branches are not made from one node by elementwise rows, so "
                                "neither is seen whole");
    for (int k = 0; k < 2; k++) {
        free(b[k].node);
        free(b[k].unknown);
    }
    return ok;
}
