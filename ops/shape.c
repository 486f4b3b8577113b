/* shape.c: see shape.h. */
#include "ops/shape.h"

bool wr_shape_same(wr_shape_ctx *c) {
    c->out[0] = wr_type_of(c->in[0]);
    return true;
}

bool wr_shape_suffix(const wr_graph *g, const wr_type *longer, const wr_type *shorter) {
    int skip = longer->rank - shorter->rank;
    if (skip < 0) return false;
    for (int i = 0; i < shorter->rank; i++)
        if (!wr_dim_eq(g, longer->dim[skip + i], shorter->dim[i])) return false;
    return true;
}

bool wr_shape_equal(const wr_graph *g, const wr_type *a, const wr_type *b) {
    return a->dtype == b->dtype && a->rank == b->rank && wr_shape_suffix(g, a, b);
}

void wr_shape_explain(const wr_graph *g, wr_dim d, wr_str *out) {
    int64_t min, max;
    wr_dims_print(wr_graph_dims(g), d, out);
    wr_dims_range(wr_graph_dims(g), d, &min, &max);
    if (!wr_dim_is_literal(d) && min == max) wr_str_add(out, " = %lld", (long long)min);
}

/* Name the first pair of dims that differ, from the right. */
static bool sizes_differ(wr_shape_ctx *c, const wr_type *a, const wr_type *b, int k) {
    wr_str s = {0};
    for (int i = 1; i <= a->rank && i <= b->rank; i++) {
        wr_dim da = a->dim[a->rank - i], db = b->dim[b->rank - i];
        if (wr_dim_eq(c->g, da, db)) continue;
        wr_str_add(&s, "axis -%d: ", i);
        wr_shape_explain(c->g, da, &s);
        wr_str_add(&s, " and ");
        wr_shape_explain(c->g, db, &s);
        break;
    }
    wr_shape_fail(c, "sizes are equal, or the shorter operand is a suffix: [B, T, D] with [D]",
                  "wr_broadcast repeats an operand along other axes",
                  "sizes of operand %c do not fit (%s)", 'a' + k, wr_str_text(&s));
    wr_str_free(&s);
    return false;
}

bool wr_shape_trailing(wr_shape_ctx *c) {
    int longest = 0;
    for (int k = 1; k < c->n_in; k++)
        if (wr_rank(c->in[k]) > wr_rank(c->in[longest])) longest = k;
    c->out[0] = wr_type_of(c->in[longest]);
    for (int k = 0; k < c->n_in; k++) {
        wr_type t = wr_type_of(c->in[k]);
        if (!wr_shape_suffix(c->g, &c->out[0], &t)) return sizes_differ(c, &c->out[0], &t, k);
    }
    return true;
}

int wr_shape_axis(wr_shape_ctx *c, int64_t axis, int rank) {
    int64_t at = axis < 0 ? axis + rank : axis;
    if (at >= 0 && at < rank) return (int)at;
    wr_shape_fail(c, "-rank <= axis < rank", NULL, "axis %lld of a tensor with %d axes",
                  (long long)axis, rank);
    return -1;
}

bool wr_shape_needs_i32(wr_shape_ctx *c, int k) {
    if (wr_dtype_of(c->in[k]) == WR_I32) return true;
    return wr_shape_fail(c, c->op->doc, "indices and lengths are i32", "operand %c is %s, not i32",
                         'a' + k, wr_dtype_name(wr_dtype_of(c->in[k])));
}

bool wr_shape_needs_float(wr_shape_ctx *c, int k) {
    if (wr_dtype_of(c->in[k]) != WR_I32) return true;
    return wr_shape_fail(c, c->op->doc, "wr_cast makes floats of whole numbers",
                         "operand %c is i32, not f32 or f64", 'a' + k);
}

double wr_bytes_moved(const wr_call *c) {
    double bytes = 0;
    for (int k = 0; k < c->n_in; k++)
        bytes += (double)c->in[k].n * (double)wr_dtype_bytes(c->in[k].dtype);
    for (int k = 0; k < c->n_out; k++)
        bytes += (double)c->out[k].n * (double)wr_dtype_bytes(c->out[k].dtype);
    return bytes;
}
