/* autoregressive.c: see autoregressive.h.
 *
 * The row stands behind the layer's nodes and names them: operands are y as computed, x, the
 * parameters, and the mask if there is one. Forward it is y. Its inverse rule finds the conditioner
 * between x and the parameters and the transform between those and y, and makes a loop of them. */
#include "autodiff/autoregressive.h"

#include "autodiff/invert_internal.h"
#include "autodiff/stream.h"
#include "ops/elementwise.h"
#include "ops/index.h"
#include "ops/layout.h"
#include "ops/mask.h"
#include "ops/matmul.h"
#include "ops/scan_internal.h"
#include "ops/shape.h"
#include "ops/slice.h"

#include <stdlib.h>
#include <string.h>

enum { Y, X, PARAMS };  /* operands */
enum { MASKED, WHOLE }; /* attributes */
enum { MOST = WR_AUTOREGRESSIVE_MOST };

/* ---- looking at a layer ---- */

typedef struct layer {
    wr_graph *g;
    wr_loc loc;
    wr y, x, mask; /* mask: poison, or [B, T] */
    int n_params;
    wr param[MOST];
    wr__stream conditioner, transform;
    int n_from; /* x and the parameters that depend on it */
    wr from[MOST + 1];
} layer;

static void layer_free(layer *l) {
    wr__stream_free(&l->conditioner);
    wr__stream_free(&l->transform);
}

static bool refuse(const layer *l, uint32_t id, const char *what, const char *why) {
    wr_str s = {0};
    wr_node_describe(l->g, id, &s);
    wr_mistake(l->g, l->loc, "autoregressive: %s\n  %s%s%s", what, wr_str_text(&s),
               why != NULL ? ": " : "", why != NULL ? why : "");
    wr_str_free(&s);
    return false;
}

static bool params_fit(const layer *l) {
    const wr__stream *s = &l->conditioner;
    WR_ASSERT(s->region.varies != NULL && s->seen != NULL);
    if (s->reach == WR__LATER)
        return refuse(l, s->culprit, "the conditioner reads later positions", s->reason);
    for (int i = 0; i < l->n_params && s->reach == WR__STEPS; i++) {
        uint32_t id = l->param[i].id;
        if (!s->region.varies[id]) continue;
        if (s->seen[id].axis != WR__STREAM_AXIS || s->seen[id].head != 0)
            return refuse(l, id, "time is not axis 1 of a parameter", NULL);
        if (s->seen[id].lag < 1)
            return refuse(l, id, "a parameter at position t depends on x at t",
                          "make parameters from `before`, the shifted input");
    }
    return true;
}

static bool transform_fits(const layer *l) {
    const wr__stream *s = &l->transform;
    WR_ASSERT(l->conditioner.region.varies != NULL && s->region.varies != NULL && s->seen != NULL);
    if (s->reach != WR__STEPS)
        return refuse(l, s->culprit, "the transform does not work position by position", s->reason);
    for (uint32_t id = 1; id < s->region.n; id++)
        if (s->region.live[id] && s->region.varies[id] && s->seen[id].remembers)
            return refuse(l, id, "the transform reads other positions", NULL);
    if (!s->region.varies[l->y.id] || s->seen[l->y.id].lag != 0)
        return refuse(l, l->y.id, "the transform does not depend on x", NULL);
    if (s->seen[l->y.id].axis != WR__STREAM_AXIS)
        return refuse(l, l->y.id, "time is not axis 1 of what the transform gives", NULL);
    return true;
}

/* Find both regions. With values for their borders (see border_values) steps can be made. */
static bool look_at_conditioner(layer *l, const wr *given) {
    return wr__stream_look(&l->conditioner, l->loc, l->g, 1, &l->x, l->n_params, l->param, 1,
                           given);
}

static bool look_at_transform(layer *l, const wr *given) {
    WR_ASSERT(l->conditioner.region.varies != NULL);
    l->n_from = 0;
    l->from[l->n_from++] = l->x;
    for (int i = 0; i < l->n_params; i++)
        if (l->conditioner.region.varies[l->param[i].id]) l->from[l->n_from++] = l->param[i];
    return wr__stream_look(&l->transform, l->loc, l->g, l->n_from, l->from, 1, &l->y, 1, given);
}

/* ---- declaring ---- */

static wr affine(const layer *l) { return wr_add(wr_mul(l->x, wr_exp(l->param[0])), l->param[1]); }

static bool declare(layer *l, const wr_autoregressive_layer *o) {
    wr before = wr_pad(wr_slice(l->x, 1, 0, -1), 1, 1, 0);
    size_t diagnostics = wr_graph_diagnostics(l->g);
    bool ok = !wr_is_poison(before) && o->conditioner(o->context, before, l->param);
    for (int i = 0; ok && i < l->n_params; i++)
        ok = l->param[i].g == l->g && !wr_is_poison(l->param[i]);
    if (ok) {
        l->y = o->transform == NULL ? affine(l) : o->transform(o->context, l->x, l->param);
        ok = l->y.g == l->g && !wr_is_poison(l->y);
    }
    if (!ok && wr_graph_diagnostics(l->g) == diagnostics && wr_graph_ok(l->g))
        wr_mistake(l->g, l->loc,
                   "autoregressive: the conditioner or the transform left a result unset");
    return ok;
}

static bool check(layer *l) {
    return look_at_conditioner(l, NULL) && params_fit(l) && look_at_transform(l, NULL) &&
           transform_fits(l);
}

static wr emit_row(const layer *l, bool whole) {
    wr in[PARAMS + MOST + 1] = {l->y, l->x};
    int n = PARAMS;
    for (int i = 0; i < l->n_params; i++)
        in[n++] = l->param[i];
    bool masked = !wr_is_poison(l->mask);
    if (masked) in[n++] = l->mask;
    wr y = wr_emit_in(l->g, l->loc, &wr_op_autoregressive, n, in,
                      (wr_attr[]){{.i = masked}, {.i = whole}}, false);
    return masked && !wr_is_poison(y) ? wr_mask_apply(y, l->mask) : y;
}

wr wr_autoregressive_at(wr_loc loc, const wr_autoregressive_layer *o) {
    wr_graph *g = o->x.g;
    bool masked = o->lengths.g != NULL;
    int n_params = o->n_params == 0 ? 2 : o->n_params;
    if (wr_is_poison(o->x) || (masked && wr_is_poison(o->lengths))) return (wr){g, 0};
    if (wr_rank(o->x) < 2 || wr_dtype_of(o->x) == WR_I32 || n_params < 1 || n_params > MOST ||
        (o->transform == NULL && n_params != 2))
        return wr_mistake(g, loc,
                          "autoregressive: x is float [B, T, ..], with 1 to %d parameters (2 for "
                          "the affine transform); here it has %d axes and %d parameters",
                          MOST, wr_rank(o->x), n_params);
    layer l = {.g = g, .loc = loc, .x = o->x, .n_params = n_params, .mask = {g, 0}};
    if (masked) {
        l.mask = wr_sequence_mask(o->lengths, wr_dim_of(o->x, 1), wr_dtype_of(o->x));
        l.x = wr_mask_apply(o->x, l.mask);
    }
    bool ok = !wr_is_poison(l.x) && declare(&l, o) && check(&l);
    layer_free(&l);
    return ok ? emit_row(&l, o->whole) : (wr){g, 0};
}

/* ---- the inverse: one position after the other ---- */

enum { STEP_Y, STEP_HERE, STEP_BEHIND, STEP_MASK, STEP_FIXED };

typedef struct solver {
    layer *l;
    wr y, mask; /* values in the inverse; mask: poison or [B, T] */
    wr_dim steps;
    wr *given_h, *given_g; /* values of the borders */
} solver;

static wr insert_axis(wr x) {
    wr_dim dims[WR_MAX_RANK + 1];
    for (int d = 0; d <= wr_rank(x); d++)
        dims[d] = d == 0 ? wr_dim_of(x, 0) : d == 1 ? wr_n(1) : wr_dim_of(x, d - 1);
    return wr_reshape(x, wr_rank(x) + 1, dims);
}

static wr remove_axis(wr x) {
    wr_dim dims[WR_MAX_RANK];
    for (int d = 1; d < wr_rank(x); d++)
        dims[d - 1] = wr_dim_of(x, d == 1 ? 0 : d);
    return wr_reshape(x, wr_rank(x) - 1, dims);
}

static wr solve_transform(const solver *w, wr leaf, wr y_of_leaf, wr y) {
    wr_bijection f = {.n_in = 1, .ins = &leaf, .n_out = 1, .outs = &y_of_leaf};
    wr x;
    return wr_invert_at(w->l->loc, &f, &y, &x, NULL) ? x : (wr){w->l->g, 0};
}

/* x at this position from y at it and the parameters, which are made already. */
static wr solve_position(const solver *w, wr y) {
    wr__stream *h = &w->l->conditioner, *g = &w->l->transform;
    wr_type t = wr_type_of(w->l->x);
    t.dim[1] = wr_n(1);
    wr leaf = wr__loop_value(w->l->g, w->l->loc, t, "x", 0);
    g->value[w->l->x.id] = leaf;
    for (int i = 1; i < w->l->n_from; i++)
        g->value[w->l->from[i].id] = h->value[w->l->from[i].id];
    if (!wr__stream_make(g, true) || !wr__stream_make(g, false)) return (wr){w->l->g, 0};
    return solve_transform(w, leaf, g->value[w->l->y.id], y);
}

static bool step_body(wr_scan_step *s) {
    solver *w = s->context;
    wr__stream *h = &w->l->conditioner, *g = &w->l->transform;
    bool masked = !wr_is_poison(w->mask);
    const wr *steps = s->step + (masked ? STEP_FIXED : STEP_MASK);
    wr here = s->step[STEP_HERE], behind = s->step[STEP_BEHIND];
    wr__stream_begin(h, steps, s->carry, here, behind);
    wr__stream_begin(g, steps + h->n_step, NULL, here, behind);
    if (!wr__stream_make(h, true)) return false;
    wr x = solve_position(w, insert_axis(s->step[STEP_Y]));
    if (wr_is_poison(x)) return false;
    if (masked) x = wr_mask_apply(x, insert_axis(s->step[STEP_MASK]));
    h->value[w->l->x.id] = x;
    s->out[0] = remove_axis(x);
    return wr__stream_make(h, false) && wr__stream_finish(h, s->next);
}

static wr solve_by_steps(solver *w) {
    wr__stream *h = &w->l->conditioner, *g = &w->l->transform;
    wr step[2 * WR__STREAM_MOST + STEP_FIXED], carry[WR__STREAM_MOST], x;
    int axis[2 * WR__STREAM_MOST + STEP_FIXED] = {[STEP_Y] = 1, [STEP_MASK] = 1};
    bool masked = !wr_is_poison(w->mask);
    wr count = wr_iota(w->l->g, wr_dim_add(w->l->g, w->steps, wr_n(1)), WR_I32);
    step[STEP_Y] = w->y;
    step[STEP_HERE] = wr_slice_dims(count, 0, wr_n(0), w->steps, 1);
    step[STEP_BEHIND] = wr_slice_dims(count, 0, wr_n(1), w->steps, 1);
    int n = STEP_MASK;
    if (masked) step[n++] = w->mask;
    for (int k = 0; k < h->n_step; k++, n++)
        step[n] = wr__stream_sequence(h, k, &axis[n]);
    for (int k = 0; k < g->n_step; k++, n++)
        step[n] = wr__stream_sequence(g, k, &axis[n]);
    for (int k = 0; k < h->n_state; k++)
        carry[k] = h->state[k].first;
    wr_scan_spec spec = {.body = step_body,
                         .context = w,
                         .n_carry = h->n_state,
                         .carry = carry,
                         .n_step = n,
                         .step = step,
                         .step_axis = axis,
                         .n_out = 1,
                         .axis = 1,
                         .steps = w->steps};
    wr_scan_at(w->l->loc, &spec, NULL, &x, NULL);
    return x;
}

/* ---- the inverse: all positions in each step ---- */

/* The transform as a function of a leaf, at parameters given as values. */
static wr transform_of(const solver *w, wr leaf, const wr *params) {
    wr values[MOST + 1] = {leaf}, y;
    int n = 1;
    for (int i = 0; i < w->l->n_params; i++)
        if (w->l->conditioner.region.varies[w->l->param[i].id]) values[n++] = params[i];
    bool ok = wr_region_paste(&w->l->transform.region, values, w->given_g, &y);
    return ok ? y : (wr){w->l->g, 0};
}

/* 1 at this position: over the sizes of x. */
static wr only_here(const solver *w, wr here, wr x) {
    wr_type t = wr_type_of(x);
    wr at = wr_equal(wr_iota(x.g, w->steps, t.dtype), wr_cast(here, t.dtype));
    wr_dim dims[WR_MAX_RANK];
    for (int d = 1; d < t.rank; d++)
        dims[d - 1] = d == 1 ? w->steps : wr_n(1);
    return wr_broadcast(wr_reshape(at, t.rank - 1, dims), t.rank, t.dim);
}

static bool whole_body(wr_scan_step *s) {
    solver *w = s->context;
    wr params[MOST], x = s->carry[0];
    wr leaf = wr__loop_value(w->l->g, w->l->loc, wr_type_of(x), "x", 0);
    if (!wr_region_paste(&w->l->conditioner.region, &x, w->given_h, params)) return false;
    wr all = solve_transform(w, leaf, transform_of(w, leaf, params), w->y);
    if (!wr_is_poison(w->mask) && !wr_is_poison(all)) all = wr_mask_apply(all, w->mask);
    s->next[0] = wr_select(only_here(w, s->step[0], x), all, x);
    return !wr_is_poison(s->next[0]);
}

static wr solve_whole(solver *w) {
    wr first = wr_zeros_like(w->l->x), x;
    wr here = wr_iota(w->l->g, w->steps, WR_I32);
    wr_scan_spec spec = {.body = whole_body,
                         .context = w,
                         .n_carry = 1,
                         .carry = &first,
                         .n_step = 1,
                         .step = &here};
    wr_scan_at(w->l->loc, &spec, &x, NULL, NULL);
    return x;
}

/* ---- the rule ---- */

static layer layer_of(const wr_inverse_ctx *c) {
    bool masked = c->attr[MASKED].i != 0;
    layer l = {.g = c->g,
               .loc = *wr_loc_at(c->g, wr_node_at(c->g, c->id)->loc),
               .y = c->in[Y],
               .x = c->in[X],
               .mask = masked ? c->in[c->n_in - 1] : (wr){c->g, 0},
               .n_params = c->n_in - PARAMS - (masked ? 1 : 0)};
    for (int i = 0; i < l.n_params; i++)
        l.param[i] = c->in[PARAMS + i];
    return l;
}

/* The values of a region's border; *known: all of them are. NULL: no memory. */
static wr *border_values(const wr_inverse_ctx *c, const wr_region *r, bool *known) {
    wr *values = calloc((size_t)r->n_border + 1, sizeof *values);
    if (values == NULL) wr_no_memory(c->g);
    for (int i = 0; values != NULL && i < r->n_border; i++) {
        values[i] = wr_inverse_value(c, (wr){c->g, r->border[i]});
        *known = *known && !wr_is_poison(values[i]);
    }
    return values;
}

/* Look again with the values of the borders, so that first states can be made. */
static bool look_with_values(const wr_inverse_ctx *c, solver *w, bool *known) {
    layer *l = w->l;
    if (!look_at_conditioner(l, NULL) || !look_at_transform(l, NULL)) return false;
    *known = true;
    w->given_h = border_values(c, &l->conditioner.region, known);
    w->given_g = border_values(c, &l->transform.region, known);
    if (w->given_h == NULL || w->given_g == NULL) return false;
    if (!*known) return true;
    layer_free(l);
    return look_at_conditioner(l, w->given_h) && look_at_transform(l, w->given_g);
}

/* log |d y / d x| of each sentence, at x: the transform's alone, at the parameters there. */
static wr slope(solver *w, wr x, const wr *known_params) {
    wr params[MOST], leaf = wr_leaf(x);
    if (known_params != NULL)
        memcpy(params, known_params, sizeof *params * (size_t)w->l->n_params);
    else if (!wr_region_paste(&w->l->conditioner.region, &x, w->given_h, params))
        return (wr){w->l->g, 0};
    wr y = transform_of(w, leaf, params);
    wr_bijection f = {.n_in = 1,
                      .ins = &leaf,
                      .masks = wr_is_poison(w->mask) ? NULL : &w->mask,
                      .n_out = 1,
                      .outs = &y};
    return wr_is_poison(y) ? y : wr_log_det_at(w->l->loc, &f);
}

static bool solve_layer(wr_inverse_ctx *c, solver *w) {
    bool in_place = c->inverter->in_place;
    wr x = in_place                                                        ? c->in[X]
           : c->attr[WHOLE].i != 0 || w->l->conditioner.reach != WR__STEPS ? solve_whole(w)
                                                                           : solve_by_steps(w);
    if (wr_is_poison(x)) return false;
    x = wr_inverse_solve(c, X, x);
    if (wr_is_poison(x) || !c->inverter->terms) return !wr_is_poison(x);
    wr term = slope(w, x, in_place ? w->l->param : NULL);
    return !wr_is_poison(term) && wr_inverse_term_leading(c, X, term, 1);
}

static bool autoregressive_inverse(wr_inverse_ctx *c) {
    layer l = layer_of(c);
    solver w = {.l = &l, .y = c->y[0], .mask = l.mask, .steps = wr_dim_of(l.x, 1)};
    bool known = false, ok = look_with_values(c, &w, &known);
    if (ok && known && !wr_is_poison(l.mask)) {
        w.mask = wr_inverse_value(c, l.mask);
        known = !wr_is_poison(w.mask);
    }
    bool done = ok && known && solve_layer(c, &w);
    if (!done && (!ok || known)) c->inverter->ok = false; /* a diagnostic tells why */
    layer_free(&l);
    free(w.given_h);
    free(w.given_g);
    if (ok && !known) return wr_inverse_wait(c, "its conditioner reads what is not determined yet");
    return done;
}

/* ---- the row ---- */

static bool autoregressive_shape(wr_shape_ctx *c) {
    wr_type y = wr_type_of(c->in[Y]), x = wr_type_of(c->in[X]);
    c->out[0] = y;
    return wr_shape_equal(c->g, &x, &y) ||
           wr_shape_fail(c, "y has the sizes of x", NULL, "the transform changes the sizes");
}

static bool autoregressive_grad(wr_grad_ctx *c) { return wr_contribute(c, Y, c->cot[0]); }

/* Scale and shift from one product of the shifted input. */
static bool sample_conditioner(void *context, wr before, wr *params) {
    const wr *w = context;
    params[0] = wr_scale(wr_tanh(wr_matmul(before, w[0])), 0.5);
    params[1] = wr_matmul(before, w[1]);
    return true;
}

static wr autoregressive_sample(wr_sample *s) {
    if (s->variant > 1) return (wr){s->g, 0};
    int64_t dims[3] = {2, wr_sample_int(s, 2, 4), wr_sample_int(s, 1, 3)},
            w_dims[2] = {dims[2], dims[2]};
    wr x = s->input(s, WR_FILL_REAL, 0, 3, dims);
    wr w[2] = {s->input(s, WR_FILL_REAL, 0, 2, w_dims), s->input(s, WR_FILL_REAL, 0, 2, w_dims)};
    return wr_autoregressive(.x = x, .conditioner = sample_conditioner, .context = w,
                             .whole = s->variant == 1);
}

const wr_op wr_op_autoregressive = {.name = "autoregressive",
                                    .doc = "y of a layer that is autoregressive in x",
                                    .traits = WR_VIEW | WR_MIXED,
                                    .n_in = PARAMS + 1,
                                    .n_in_max = PARAMS + MOST + 1,
                                    .attrs = {{"masked", WR_ATTR_BOOL}, {"whole", WR_ATTR_BOOL}},
                                    .shape = autoregressive_shape,
                                    .grad = autoregressive_grad,
                                    .inverse = autoregressive_inverse,
                                    .sample = autoregressive_sample};
