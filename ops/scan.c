/* scan.c: the row of loops; see scan.h. Its body is built in scan_body.c, runs in scan_kernel.c,
 * and is differentiated in scan_grad.c. */
#include "ops/scan_internal.h"

#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/matmul.h"
#include "ops/shape.h"

#include <stdlib.h>
#include <string.h>

/* ---- the builder ---- */

static bool operands_made(const wr_scan_spec *s) {
    for (int k = 0; k < s->n_carry; k++)
        if (wr_is_poison(s->carry[k])) return false;
    for (int k = 0; k < s->n_step; k++)
        if (wr_is_poison(s->step[k])) return false;
    return true;
}

static wr emit_row(wr_loc loc, const wr_scan_spec *s, int number, int n_const,
                   const wr *constants) {
    int n = s->n_carry + s->n_step + n_const;
    wr_graph *g = s->n_carry > 0 ? s->carry[0].g : s->step[0].g;
    const wr__scan_body *b = wr_graph_kept(g, number);
    wr *in = malloc(sizeof *in * (size_t)(n + 1));
    if (in == NULL) return wr_no_memory(g);
    for (int k = 0; k < s->n_carry; k++)
        in[k] = s->carry[k];
    for (int k = 0; k < s->n_step; k++)
        in[s->n_carry + k] = s->step[k];
    for (int k = 0; k < n_const; k++)
        in[s->n_carry + s->n_step + k] = constants[k];
    wr_attr attr[WR__SCAN_ATTRS];
    memset(attr, 0, sizeof attr);
    attr[WR__SCAN_BODY].i = number;
    attr[WR__SCAN_STEPS].d = b->steps;
    attr[WR__SCAN_REVERSE].i = s->reverse;
    wr y = wr_emit_in(g, loc, &wr_op_scan, n, in, attr, false);
    free(in);
    return y;
}

static void give(wr *to, wr y, int from, int n) {
    for (int k = 0; to != NULL && k < n; k++)
        to[k] = wr_output(y, from + k);
}

bool wr_scan_at(wr_loc loc, const wr_scan_spec *s, wr *last, wr *out, wr *sum) {
    wr y = {0}, *constants = NULL;
    int n_constants = 0;
    if (operands_made(s) && s->n_carry + s->n_step > 0) {
        int number = wr__scan_body_new(loc, s, &constants, &n_constants);
        if (number >= 0) y = emit_row(loc, s, number, n_constants, constants);
        free(constants);
    }
    give(out, y, 0, s->n_out);
    give(last, y, s->n_out, s->n_carry);
    give(sum, y, s->n_out + s->n_carry, s->n_sum);
    return !wr_is_poison(y);
}

/* ---- shape ---- */

/* The type without an axis. */
static wr_type without_axis(wr_type t, int axis) {
    if (axis < 0 || axis >= t.rank) return (wr_type){.rank = -1};
    memmove(&t.dim[axis], &t.dim[axis + 1], sizeof(wr_dim) * (size_t)(t.rank - axis - 1));
    t.rank--;
    return t;
}

static bool add_axis(wr_type *t, int axis, wr_dim size) {
    if (t->rank >= WR_MAX_RANK || axis < 0 || axis > t->rank) return false;
    memmove(&t->dim[axis + 1], &t->dim[axis], sizeof(wr_dim) * (size_t)(t->rank - axis));
    t->dim[axis] = size;
    t->rank++;
    return true;
}

static bool operand_fits(wr_shape_ctx *c, const wr__scan_body *b, int k) {
    wr_type t = wr_type_of(c->in[k]), want = wr_type_of((wr){b->g, b->input[k]});
    int step = k - b->n_carry;
    if (step >= 0 && step < b->n_step) {
        wr_dim steps = wr_dim_of(c->in[k], b->step_axis[step]);
        t = without_axis(t, b->step_axis[step]);
        if (t.rank < 0 || !wr_dim_eq(c->g, steps, c->attr[WR__SCAN_STEPS].d)) t.rank = -1;
    }
    return wr_shape_equal(c->g, &t, &want);
}

static bool scan_shape(wr_shape_ctx *c) {
    const wr__scan_body *b = wr_graph_kept(c->g, c->attr[WR__SCAN_BODY].i);
    wr_dim steps = c->attr[WR__SCAN_STEPS].d;
    if (c->n_in != wr__scan_operands(b))
        return wr_shape_fail(c, NULL, NULL, "%d operands for a body of %d", c->n_in,
                             wr__scan_operands(b));
    for (int k = 0; k < c->n_in; k++)
        if (!operand_fits(c, b, k))
            return wr_shape_fail(c, "operands are those that the body was built over", NULL,
                                 "operand %d does not fit the body", k);
    int n = 0;
    bool ok = true;
    for (int k = 0; k < b->n_out; k++) {
        c->out[n] = b->out_type[k];
        ok = ok && add_axis(&c->out[n++], b->out_axis[k], steps);
    }
    for (int k = 0; k < b->n_carry; k++)
        c->out[n++] = wr_type_of(c->in[k]);
    for (int k = 0; k < b->n_sum; k++) {
        c->out[n] = b->sum_type[k];
        if (c->out[n++].dtype == WR_I32)
            return wr_shape_fail(c, "sums are float", NULL, "sum %d is i32", k);
    }
    for (int k = 0; k < b->n_carry; k++) {
        c->out[n] = wr_type_of(c->in[k]);
        ok = ok && add_axis(&c->out[n++], 0, steps);
    }
    c->n_out = n;
    return ok || wr_shape_fail(c, "a carried state and an output of a step have at most 4 axes",
                               NULL, "no room for the axis of time");
}

/* ---- samples ---- */

/* h' = tanh(x W + h U + b) where the mask is 1, h otherwise; y = h' c; the sum is that of y^2. */
typedef struct cell {
    wr w, u, b, c;
} cell;

static bool cell_body(wr_scan_step *s) {
    const cell *p = s->context;
    wr h = s->carry[0], x = s->step[0], mask = wr_broadcast_like(s->step[1], h);
    wr next = wr_tanh(wr_add(wr_add(wr_matmul(x, p->w), wr_matmul(h, p->u)), p->b));
    s->next[0] = wr_select(mask, next, h);
    s->out[0] = wr_mul(s->next[0], p->c);
    s->sum[0] = wr_square(s->out[0]);
    return true;
}

/* a' = b, b' = a + x: states that change places; the output is a state as it came. */
static bool swap_body(wr_scan_step *s) {
    s->next[0] = s->carry[1];
    s->next[1] = wr_add(s->carry[0], s->step[0]);
    s->out[0] = s->carry[0];
    s->out[1] = wr_mul(s->carry[0], s->step[0]);
    return true;
}

static wr swap_sample(wr_sample *s) {
    int64_t dims[3] = {2, wr_sample_int(s, 1, 5), 3}, state[2] = {2, 3};
    wr carry[2] = {s->input(s, WR_FILL_REAL, 0, 2, state), s->input(s, WR_FILL_REAL, 0, 2, state)};
    wr x = s->input(s, WR_FILL_REAL, 0, 3, dims), out[2];
    wr_scan_spec spec = {.body = swap_body,
                         .n_carry = 2,
                         .carry = carry,
                         .n_step = 1,
                         .step = &x,
                         .n_out = 2,
                         .axis = 1,
                         .reverse = s->variant % 2 == 0};
    wr_scan(&spec, NULL, out, NULL);
    return out[0];
}

static wr scan_sample(wr_sample *s) {
    if (s->variant > 5) return (wr){s->g, 0};
    if (s->variant > 3) return swap_sample(s);
    int64_t b = wr_sample_int(s, 1, 3), t = wr_sample_int(s, 1, 4), d = 3, h = 2;
    if (s->variant == 3) b = 33, t = 3, d = 5, h = 70; /* its products use threads */
    int axis = s->variant % 2;
    int64_t x_dims[3] = {axis == 0 ? t : b, axis == 0 ? b : t, d}, mask_dims[3] = {t, b, 1};
    int64_t w_dims[2] = {d, h}, u_dims[2] = {h, h}, state[2] = {b, h};
    wr step[2] = {s->input(s, WR_FILL_REAL, 0, 3, x_dims),
                  s->input(s, WR_FILL_MASK, 0, 3, mask_dims)};
    cell p = {s->input(s, WR_FILL_REAL, 0, 2, w_dims), s->input(s, WR_FILL_REAL, 0, 2, u_dims),
              s->input(s, WR_FILL_REAL, 0, 1, u_dims), s->input(s, WR_FILL_UNIT, 0, 1, u_dims)};
    p.u = wr_scale(p.u, 0.3);
    wr carry = s->input(s, WR_FILL_REAL, 0, 2, state), out;
    wr_scan_spec spec = {.body = cell_body,
                         .context = &p,
                         .n_carry = 1,
                         .carry = &carry,
                         .n_step = 2,
                         .step = step,
                         .step_axis = (int[]){axis, 0},
                         .n_out = 1,
                         .n_sum = 1,
                         .axis = axis,
                         .reverse = s->variant >= 2};
    wr_scan(&spec, NULL, &out, NULL);
    return out;
}

const wr_op wr_op_scan = {
    .name = "scan",
    .doc = "a loop over time with carried state",
    .traits = WR_MIXED,
    .n_in = 1,
    .n_in_max = WR_ANY_INPUTS,
    .n_out = WR_ANY_OUTPUTS,
    .attrs = {{"body", WR_ATTR_INT}, {"steps", WR_ATTR_DIM}, {"reverse", WR_ATTR_BOOL}},
    .shape = scan_shape,
    .cost = wr__scan_cost,
    .cpu = wr__scan_cpu,
    .prepare = &wr__scan_prepare,
    .grad = wr__scan_grad,
    .expand = wr__scan_expand,
    .no_inverse = "a loop forgets its earlier states; wr_autoregressive declares one that can be "
                  "inverted step by step",
    .sample = scan_sample};
