/* scan_grad.c: the gradient of a loop is a loop in the other direction; see scan.h.
 *
 * Its carried states are the cotangents of the forward loop's; each step computes the forward step
 * again from the saved state before it and pulls the cotangents back through it. */
#include "ops/scan_internal.h"

#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/slice.h"

#include <stdlib.h>
#include <string.h>

/* The backward loop. Lists are in the order of the forward loop's operands or outputs; `..._of` say
 * which forward one an entry is about. */
typedef struct back {
    wr_grad_ctx *c;
    const wr__scan_body *b;
    wr *leaf;               /* per constant: a leaf of its own */
    wr first[WR_SCAN_MOST]; /* cotangents of the last states */
    int n_carry, carry_of[WR_SCAN_MOST];
    int n_out_cot, out_cot_of[WR_SCAN_MOST];     /* outputs with a cotangent: sequences */
    int n_saved_cot, saved_cot_of[WR_SCAN_MOST]; /* saved states with a cotangent: sequences */
    int n_step, step_of[WR_SCAN_MOST];           /* sequences whose gradient is wanted: outputs */
    int n_const, const_of[WR_SCAN_MOST];         /* constants whose gradient is wanted: sums */
    int n_seq, axis[4 * WR_SCAN_MOST], out_axis[WR_SCAN_MOST];
    wr seq[4 * WR_SCAN_MOST];
    wr *values; /* room for the operands of the body */
} back;

static void add_sequence(back *w, wr x, int axis) {
    w->axis[w->n_seq] = axis;
    w->seq[w->n_seq++] = x;
}

static bool is_real(wr x) { return wr_dtype_of(x) != WR_I32; }

/* Sequences of the backward loop: states, then the forward sequences, then cotangents. */
static void list_sequences(back *w) {
    const wr__scan_body *b = w->b;
    const wr_grad_ctx *c = w->c;
    int saved = wr__scan_roots(b);
    for (int k = 0; k < b->n_carry; k++)
        add_sequence(w, c->out[saved + k], 0);
    for (int k = 0; k < b->n_step; k++)
        add_sequence(w, c->in[b->n_carry + k], b->step_axis[k]);
    for (int k = 0; k < b->n_out; k++) {
        if (wr_is_poison(c->cot[k])) continue;
        w->out_cot_of[w->n_out_cot++] = k;
        add_sequence(w, c->cot[k], b->out_axis[k]);
    }
    for (int k = 0; k < b->n_carry; k++) {
        if (wr_is_poison(c->cot[saved + k])) continue;
        w->saved_cot_of[w->n_saved_cot++] = k;
        add_sequence(w, c->cot[saved + k], 0);
    }
}

static void list_rest(back *w) {
    const wr__scan_body *b = w->b;
    const wr_grad_ctx *c = w->c;
    for (int k = 0; k < b->n_carry; k++) {
        if (!is_real(c->in[k])) continue;
        wr cot = c->cot[b->n_out + k];
        w->first[w->n_carry] = wr_is_poison(cot) ? wr_zeros_like(c->in[k]) : cot;
        w->carry_of[w->n_carry++] = k;
    }
    for (int k = 0; k < b->n_step; k++) {
        if (!c->needed[b->n_carry + k]) continue;
        w->out_axis[w->n_step] = b->step_axis[k];
        w->step_of[w->n_step++] = k;
    }
    for (int k = 0; k < b->n_const; k++) {
        int operand = b->n_carry + b->n_step + k;
        w->leaf[k] = is_real(c->in[operand]) ? wr_leaf(c->in[operand]) : c->in[operand];
        if (c->needed[operand]) w->const_of[w->n_const++] = k;
    }
}

/* The results of the forward step that have a cotangent, with it. */
static int pair_cotangents(const back *w, const wr_scan_step *s, const wr *roots, wr *outs,
                           wr *cots) {
    const wr__scan_body *b = w->b;
    int n = 0, at = b->n_carry + b->n_step;
    for (int i = 0; i < w->n_out_cot; i++) {
        outs[n] = roots[w->out_cot_of[i]];
        cots[n++] = s->step[at + i];
    }
    for (int i = 0; i < w->n_carry; i++) {
        outs[n] = roots[b->n_out + w->carry_of[i]];
        cots[n++] = s->carry[i];
    }
    for (int k = 0; k < b->n_sum; k++) {
        wr cot = w->c->cot[b->n_out + b->n_carry + k];
        if (wr_is_poison(cot)) continue;
        outs[n] = roots[b->n_out + b->n_carry + k];
        cots[n++] = cot;
    }
    return n;
}

static bool back_body(wr_scan_step *s) {
    back *w = s->context;
    const wr__scan_body *b = w->b;
    wr roots[3 * WR_SCAN_MOST], outs[3 * WR_SCAN_MOST], cots[3 * WR_SCAN_MOST];
    wr at[3 * WR_SCAN_MOST], grads[3 * WR_SCAN_MOST];
    for (int k = 0; k < b->n_carry + b->n_step; k++)
        w->values[k] = s->step[k];
    for (int k = 0; k < b->n_const; k++)
        w->values[b->n_carry + b->n_step + k] = w->leaf[k];
    if (!wr_body_paste(s->g, b->g, wr__scan_operands(b), b->input, w->values, wr__scan_roots(b),
                       b->root, roots))
        return false;
    int n_outs = pair_cotangents(w, s, roots, outs, cots), n = 0;
    for (int i = 0; i < w->n_carry; i++)
        at[n++] = s->step[w->carry_of[i]];
    for (int i = 0; i < w->n_step; i++)
        at[n++] = s->step[b->n_carry + w->step_of[i]];
    for (int i = 0; i < w->n_const; i++)
        at[n++] = w->leaf[w->const_of[i]];
    if (!w->c->vjp(n_outs, outs, cots, n, at, grads)) return false;
    int saved_at = b->n_carry + b->n_step + w->n_out_cot;
    for (int i = 0; i < w->n_saved_cot; i++)
        for (int j = 0; j < w->n_carry; j++)
            if (w->carry_of[j] == w->saved_cot_of[i])
                grads[j] = wr_add(grads[j], s->step[saved_at + i]);
    memcpy(s->next, grads, sizeof *grads * (size_t)w->n_carry);
    memcpy(s->out, grads + w->n_carry, sizeof *grads * (size_t)w->n_step);
    memcpy(s->sum, grads + w->n_carry + w->n_step, sizeof *grads * (size_t)w->n_const);
    return true;
}

static bool contribute_all(back *w, const wr *last, const wr *out, const wr *sum) {
    const wr__scan_body *b = w->b;
    bool ok = true;
    for (int i = 0; ok && i < w->n_carry; i++)
        ok = wr_contribute(w->c, w->carry_of[i], last[i]);
    for (int i = 0; ok && i < w->n_step; i++)
        ok = wr_contribute(w->c, b->n_carry + w->step_of[i], out[i]);
    for (int i = 0; ok && i < w->n_const; i++)
        ok = wr_contribute(w->c, b->n_carry + b->n_step + w->const_of[i], sum[i]);
    return ok;
}

/* More constants want a gradient than one loop has sums. */
static bool too_many(const wr_grad_ctx *c, const wr__scan_body *b) {
    int n = 0;
    for (int k = 0; k < b->n_const; k++)
        n += c->needed[b->n_carry + b->n_step + k];
    if (n <= WR_SCAN_MOST) return false;
    wr_mistake(c->g, WR_HERE,
               "scan: gradients of %d constants of its body are wanted; at most %d\n  hint: pack "
               "small parameters into larger ones, or stop some gradients",
               n, WR_SCAN_MOST);
    return true;
}

bool wr__scan_grad(wr_grad_ctx *c) {
    int64_t reverse = c->attr[WR__SCAN_REVERSE].i;
    const wr__scan_body *b = wr_graph_kept(c->g, c->attr[WR__SCAN_BODY].i);
    if (too_many(c, b)) return false;
    back *w = calloc(1, sizeof *w);
    wr *room = calloc((size_t)(b->n_const + wr__scan_operands(b)) + 1, sizeof *room);
    wr last[WR_SCAN_MOST], out[WR_SCAN_MOST], sum[WR_SCAN_MOST];
    bool ok = w != NULL && room != NULL;
    if (!ok) wr_no_memory(c->g);
    if (ok) {
        *w = (back){.c = c, .b = b, .leaf = room, .values = room + b->n_const};
        list_sequences(w);
        list_rest(w);
        wr_scan_spec spec = {.body = back_body,
                             .context = w,
                             .n_carry = w->n_carry,
                             .carry = w->first,
                             .n_step = w->n_seq,
                             .step = w->seq,
                             .step_axis = w->axis,
                             .n_out = w->n_step,
                             .out_axis = w->out_axis,
                             .n_sum = w->n_const,
                             .steps = c->attr[WR__SCAN_STEPS].d,
                             .reverse = !reverse};
        ok = wr_scan(&spec, last, out, sum) && contribute_all(w, last, out, sum);
    }
    free(room);
    free(w);
    return ok;
}

/* ---- unrolled ---- */

enum { MOST_UNROLLED = 512 };

typedef struct unrolled {
    wr_expand_ctx *c;
    const wr__scan_body *b;
    int64_t steps;
    wr *values, *roots, *stack; /* stack: [results][steps] */
} unrolled;

/* Step t: the carried states move on, results go to their places. */
static bool unroll_step(unrolled *u, int64_t t) {
    const wr__scan_body *b = u->b;
    int n_carry = b->n_carry, saved = b->n_out;
    for (int k = 0; k < n_carry; k++)
        u->stack[(saved + k) * u->steps + t] = u->values[k];
    for (int k = 0; k < b->n_step; k++)
        u->values[n_carry + k] = wr_index(u->c->in[n_carry + k], b->step_axis[k], t);
    if (!wr_body_paste(u->c->g, b->g, wr__scan_operands(b), b->input, u->values, wr__scan_roots(b),
                       b->root, u->roots))
        return false;
    for (int k = 0; k < b->n_out; k++)
        u->stack[k * u->steps + t] = u->roots[k];
    memcpy(u->values, u->roots + b->n_out, sizeof(wr) * (size_t)n_carry);
    for (int k = 0; k < b->n_sum; k++) {
        wr *sum = &u->c->out[b->n_out + n_carry + k], term = u->roots[b->n_out + n_carry + k];
        *sum = sum->id == 0 ? term : wr_add(*sum, term);
    }
    return true;
}

static bool unroll(unrolled *u, bool reverse) {
    const wr__scan_body *b = u->b;
    int saved = wr__scan_roots(b);
    bool ok = true;
    memcpy(u->values, u->c->in, sizeof(wr) * (size_t)u->c->n_in);
    for (int64_t i = 0; ok && i < u->steps; i++)
        ok = unroll_step(u, reverse ? u->steps - 1 - i : i);
    for (int k = 0; ok && k < b->n_out; k++)
        u->c->out[k] = wr_stack_n(b->out_axis[k], (int)u->steps, u->stack + k * u->steps);
    for (int k = 0; ok && k < b->n_carry; k++) {
        u->c->out[b->n_out + k] = u->values[k];
        u->c->out[saved + k] = wr_stack_n(0, (int)u->steps, u->stack + (b->n_out + k) * u->steps);
    }
    return ok;
}

bool wr__scan_expand(wr_expand_ctx *c) {
    const wr__scan_body *b = wr_graph_kept(c->g, c->attr[WR__SCAN_BODY].i);
    wr_dim steps = c->attr[WR__SCAN_STEPS].d;
    bool reverse = c->attr[WR__SCAN_REVERSE].i != 0;
    if (!wr_dim_is_literal(steps) || wr_dim_literal(steps) < 1 ||
        wr_dim_literal(steps) > MOST_UNROLLED) {
        wr_mistake(c->g, WR_HERE, "scan: only a literal number of steps from 1 to %d is unrolled",
                   MOST_UNROLLED);
        return false;
    }
    unrolled u = {.c = c, .b = b, .steps = wr_dim_literal(steps)};
    size_t n = (size_t)(wr__scan_operands(b) + wr__scan_roots(b)) +
               (size_t)(b->n_out + b->n_carry) * (size_t)u.steps;
    u.values = calloc(n + 1, sizeof *u.values);
    bool ok = u.values != NULL;
    if (ok) {
        u.roots = u.values + wr__scan_operands(b);
        u.stack = u.roots + wr__scan_roots(b);
        ok = unroll(&u, reverse);
    } else {
        wr_no_memory(c->g);
    }
    free(u.values);
    return ok;
}
