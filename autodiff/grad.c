/* grad.c: reverse mode; see grad.h. */
#include "autodiff/grad.h"

#include "graph/trace.h"

#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/reduce.h"

#include <stdlib.h>
#include <string.h>

typedef struct sweep {
    wr_graph *g;
    wr_loc loc;
    uint32_t n;     /* nodes when the sweep began; later ones are the gradient itself */
    uint32_t *cot;  /* per node: its summed cotangent, 0: none */
    bool *needed;   /* per node: does any wrt lie at or below it? */
    wr_str missing; /* nodes without a gradient rule */
    bool ok;
} sweep;

static bool is_output(const wr_graph *g, uint32_t id) {
    return wr_node_at(g, id)->op == &wr_op_output;
}

static void mark_needed(sweep *s, int n, const wr *wrt) {
    for (int i = 0; i < n; i++)
        s->needed[wrt[i].id] = true;
    for (uint32_t id = 1; id < s->n; id++) {
        const uint32_t *in = wr_node_inputs(s->g, id);
        for (int k = 0; k < wr_node_at(s->g, id)->n_in; k++)
            if (s->needed[in[k]]) s->needed[id] = true;
    }
}

static void add_cotangent(sweep *s, uint32_t id, wr x) {
    if (x.id == 0) {
        s->ok = false;
        return;
    }
    wr before = {s->g, s->cot[id]};
    s->cot[id] = before.id == 0 ? x.id : wr_add(before, x).id;
}

bool wr_contribute(wr_grad_ctx *c, int k, wr x) {
    if (!c->needed[k]) return true;
    wr fitted = wr_reduce_to_suffix(x, wr_type_of(c->in[k]));
    c->contribution[k] = c->contribution[k].id == 0 ? fitted : wr_add(c->contribution[k], fitted);
    return fitted.id != 0;
}

static bool vjp_for_expansions(int n_out, const wr *outs, const wr *cots, int n_in, const wr *ins,
                               wr *grads) {
    return wr_vjp(n_out, outs, cots, n_in, ins, grads);
}

static bool expand(wr_graph *g, const wr_op *op, int n_in, const wr *in, const wr_attr *attr,
                   int n_out, wr *outs) {
    if (op->expand == NULL) return false;
    wr_expand_ctx e = {.g = g, .n_in = n_in, .in = in, .attr = attr, .vjp = vjp_for_expansions};
    if (!op->expand(&e)) return false;
    memcpy(outs, e.out, sizeof(wr) * (size_t)n_out);
    return true;
}

/* The attributes of a node, apart from the graph whose arrays may move while nodes are made. */
static void copy_attrs(const wr_graph *g, uint32_t id, wr_attr *out) {
    int n = wr_op_attr_count(wr_node_at(g, id)->op);
    if (n > 0) memcpy(out, wr_node_attrs(g, id), sizeof(wr_attr) * (size_t)n);
}

bool wr_expand_node(wr x, wr *outs) {
    const wr_node *n = wr_node_at(x.g, x.id);
    const wr_op *op = n->op;
    int n_in = n->n_in, n_out = n->n_out;
    wr_attr attr[WR_MAX_ATTRS];
    wr *in = malloc(sizeof *in * (size_t)(n_in + 1));
    if (in == NULL) {
        wr_no_memory(x.g);
        return false;
    }
    copy_attrs(x.g, x.id, attr);
    for (int k = 0; k < n_in; k++)
        in[k] = (wr){x.g, wr_node_inputs(x.g, x.id)[k]};
    bool ok = expand(x.g, op, n_in, in, attr, n_out, outs);
    free(in);
    return ok;
}

/* Gradient of a row by its expansion over leaves of its own, so that operands which depend on one
 * another, or are one node, stay apart. */
static bool grad_by_expansion(wr_grad_ctx *c, const wr_op *op) {
    wr *leaf = malloc(sizeof *leaf * 2 * (size_t)(c->n_in + 1)), *grad = leaf + c->n_in + 1;
    if (leaf == NULL) {
        wr_no_memory(c->g);
        return false;
    }
    for (int k = 0; k < c->n_in; k++)
        leaf[k] = wr_leaf(c->in[k]);
    wr outs[WR_MAX_OUTPUTS];
    bool ok = expand(c->g, op, c->n_in, leaf, c->attr, c->n_out, outs);
    int n_out = 0;
    wr with[WR_MAX_OUTPUTS], cots[WR_MAX_OUTPUTS];
    for (int k = 0; ok && k < c->n_out; k++) {
        if (c->cot[k].id == 0) continue;
        with[n_out] = outs[k];
        cots[n_out++] = c->cot[k];
    }
    ok = ok && wr_vjp(n_out, with, cots, c->n_in, leaf, grad);
    for (int k = 0; ok && k < c->n_in; k++)
        ok = !c->needed[k] || wr_contribute(c, k, grad[k]);
    free(leaf);
    return ok;
}

static void note_missing(sweep *s, uint32_t id) {
    wr_str_add(&s->missing, "\n  ");
    wr_node_describe(s->g, id, &s->missing);
    const char *why = wr_node_at(s->g, id)->op->no_grad;
    wr_str_add(&s->missing, ": %s", why != NULL ? why : "its row has no gradient rule");
    wr_str chain = {0};
    wr_trace_of_node(s->g, id, "\n    ", &chain);
    wr_str_bytes(&s->missing, wr_str_text(&chain), chain.len > 0 ? chain.len - 1 : 0);
    wr_str_free(&chain);
}

/* Operands, outputs and cotangents of one node, copied out of the growing graph. */
typedef struct node_view {
    const wr_op *op;
    int n_in, n_out;
    wr out[WR_MAX_OUTPUTS], cot[WR_MAX_OUTPUTS];
    wr_attr attr[WR_MAX_ATTRS];
    wr *in, *contribution;
    bool *needed;
} node_view;

static bool view_node(sweep *s, uint32_t id, node_view *v) {
    const wr_node *x = wr_node_at(s->g, id);
    *v = (node_view){.op = x->op, .n_in = x->n_in, .n_out = x->n_out};
    v->in = calloc((size_t)v->n_in + 1, sizeof *v->in);
    v->contribution = calloc((size_t)v->n_in + 1, sizeof *v->contribution);
    v->needed = calloc((size_t)v->n_in + 1, sizeof *v->needed);
    if (v->in == NULL || v->contribution == NULL || v->needed == NULL) return false;
    for (int k = 0; k < v->n_in; k++) {
        uint32_t in = wr_node_inputs(s->g, id)[k];
        v->in[k] = (wr){s->g, in};
        v->contribution[k] = (wr){s->g, 0};
        v->needed[k] = s->needed[in] && wr_dtype_of(v->in[k]) != WR_I32;
    }
    for (int k = 0; k < v->n_out; k++) {
        v->out[k] = (wr){s->g, id + (uint32_t)k};
        v->cot[k] = (wr){s->g, s->cot[id + (uint32_t)k]};
    }
    copy_attrs(s->g, id, v->attr);
    return true;
}

/* A node without a rule is noted; the sweep goes on behind it, so that all of them are. */
static bool pass_through(sweep *s, uint32_t id, node_view *v) {
    bool ok = true;
    note_missing(s, id);
    for (int k = 0; k < v->n_in && ok; k++) {
        if (v->needed[k]) v->contribution[k] = wr_zeros_like(v->in[k]);
        ok = !v->needed[k] || v->contribution[k].id != 0;
    }
    return ok;
}

static void pull_back(sweep *s, uint32_t id) {
    node_view v;
    if (view_node(s, id, &v)) {
        bool any = false;
        for (int k = 0; k < v.n_in; k++)
            any = any || v.needed[k];
        wr_grad_ctx c = {.g = s->g,
                         .n_in = v.n_in,
                         .n_out = v.n_out,
                         .in = v.in,
                         .out = v.out,
                         .cot = v.cot,
                         .attr = v.attr,
                         .needed = v.needed,
                         .contribution = v.contribution,
                         .vjp = vjp_for_expansions};
        wr_derivation before = wr_derive_begin(s->g, id, WR_GRADIENT);
        bool ok = true;
        if (any && v.op->grad != NULL)
            ok = v.op->grad(&c);
        else if (any && v.op->expand != NULL)
            ok = grad_by_expansion(&c, v.op);
        else if (any)
            ok = pass_through(s, id, &v);
        for (int k = 0; ok && k < v.n_in; k++)
            if (v.needed[k] && v.contribution[k].id != 0)
                add_cotangent(s, v.in[k].id, v.contribution[k]);
        wr_derive_end(s->g, before);
        s->ok = s->ok && ok;
    } else {
        wr_no_memory(s->g);
        s->ok = false;
    }
    free(v.in);
    free(v.contribution);
    free(v.needed);
}

/* Does any output of the node have a cotangent? */
static bool has_cotangent(const sweep *s, uint32_t id) {
    for (uint32_t k = 0; k < wr_node_at(s->g, id)->n_out; k++)
        if (s->cot[id + k] != 0) return true;
    return false;
}

static void walk_back(sweep *s) {
    for (uint32_t id = s->n - 1; id > 0 && s->ok; id--) {
        if (is_output(s->g, id) || (wr_node_at(s->g, id)->op->traits & WR_SOURCE)) continue;
        if (has_cotangent(s, id)) pull_back(s, id);
    }
}

static void collect(sweep *s, int n, const wr *wrt, wr *grads) {
    for (int i = 0; i < n; i++) {
        grads[i] = (wr){s->g, s->ok ? s->cot[wrt[i].id] : 0};
        if (s->ok && grads[i].id == 0) grads[i] = wr_zeros_like(wrt[i]);
        s->ok = s->ok && grads[i].id != 0;
    }
}

static bool report(sweep *s) {
    if (s->missing.len == 0) return s->ok;
    wr_mistake(s->g, s->loc,
               "no gradient through these nodes:%s\n  hint: wr_stop_gradient() says "
               "that none is wanted",
               wr_str_text(&s->missing));
    return false;
}

bool wr_vjp_at(wr_loc loc, int n_out, const wr *outs, const wr *cots, int n, const wr *wrt,
               wr *grads) {
    wr_graph *g = n_out > 0 ? outs[0].g : n > 0 ? wrt[0].g : NULL;
    sweep s = {.g = g, .loc = loc, .ok = true};
    for (int i = 0; i < n; i++)
        grads[i] = (wr){g, 0};
    for (int i = 0; i < n_out; i++)
        if (outs[i].id == 0 || cots[i].id == 0) return false;
    for (int i = 0; i < n; i++)
        if (wrt[i].id == 0) return false;
    if (g == NULL) return n == 0;
    s.n = wr_node_count(g);
    s.cot = calloc(s.n, sizeof *s.cot);
    s.needed = calloc(s.n, sizeof *s.needed);
    s.ok = s.cot != NULL && s.needed != NULL;
    if (!s.ok) wr_no_memory(g);
    if (s.ok) mark_needed(&s, n, wrt);
    for (int i = 0; s.ok && i < n_out; i++)
        add_cotangent(&s, outs[i].id, cots[i]);
    if (s.ok) walk_back(&s);
    bool ok = report(&s);
    s.ok = ok;
    if (s.cot != NULL) collect(&s, n, wrt, grads);
    free(s.cot);
    free(s.needed);
    wr_str_free(&s.missing);
    return s.ok;
}

bool wr_grad_at(wr_loc loc, wr loss, int n, const wr *wrt, wr *grads) {
    for (int i = 0; i < n; i++)
        grads[i] = (wr){loss.g, 0};
    if (loss.id == 0) return false;
    if (wr_rank(loss) != 0) {
        wr_str s = {0};
        wr_node_describe(loss.g, loss.id, &s);
        wr_mistake(loss.g, loc, "the gradient is of a scalar, not of %s\n  hint: wr_sum it first",
                   wr_str_text(&s));
        wr_str_free(&s);
        return false;
    }
    wr one = wr_scalar(loss.g, wr_dtype_of(loss), 1.0);
    return wr_vjp_at(loc, 1, &loss, &one, n, wrt, grads);
}
