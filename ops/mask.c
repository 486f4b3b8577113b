/* mask.c: see mask.h. */
#include "ops/mask.h"

#include "ops/shape.h"

#include <string.h>

enum { PARALLEL_ELEMENTS = 80000 };

static bool mask_apply_shape(wr_shape_ctx *c) {
    if (!wr_shape_needs_float(c, 0)) return false;
    wr_type x = wr_type_of(c->in[0]), mask = wr_type_of(c->in[1]);
    bool first = mask.rank <= x.rank;
    for (int i = 0; first && i < mask.rank; i++)
        first = wr_dim_eq(c->g, x.dim[i], mask.dim[i]);
    if (!first)
        return wr_shape_fail(c, "x [B, T, ..], mask [B, T]", NULL,
                             "the mask's sizes are not the first sizes of x");
    return wr_shape_same(c);
}

static wr_status mask_apply_cpu(const wr_call *c) {
    const wr_tensor *x = &c->in[0], *mask = &c->in[1];
    int64_t outer = mask->n, inner = outer == 0 ? 0 : x->n / outer;
    size_t size = wr_dtype_bytes(x->dtype), row = size * (size_t)inner;
    char *out = c->out[0].data;
    const char *from = x->data;
#pragma omp parallel for num_threads(c->env->threads) schedule(static) if (x->n > PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < outer; i++) {
        bool keep = x->dtype == WR_F32 ? ((const float *)mask->data)[i] != 0.0f
                                       : ((const double *)mask->data)[i] != 0.0;
        size_t at = row * (size_t)i;
        if (!keep)
            memset(out + at, 0, row);
        else if (out != from)
            memcpy(out + at, from + at, row);
    }
    return WR_OK;
}

static bool mask_apply_grad(wr_grad_ctx *c) {
    return wr_contribute(c, 0, wr_mask_apply(c->cot[0], c->in[1]));
}

static bool mask_apply_inverse(wr_inverse_ctx *c) {
    if (!wr_inverse_given(c, 1)) return wr_inverse_wait(c, "its mask depends on the inputs");
    return wr_inverse_solve(c, 0, wr_mask_apply(c->y[0], c->x[1])).id != 0;
}

static wr mask_apply_sample(wr_sample *s) {
    if (s->variant > 2) return (wr){s->g, 0};
    int64_t dims[3] = {wr_sample_int(s, 1, 3), wr_sample_int(s, 1, 5), wr_sample_int(s, 1, 4)};
    if (s->variant == 2) dims[1] = 390, dims[2] = 211;
    wr x = s->input(s, WR_FILL_REAL, 0, 3, dims);
    return wr_mask_apply(x, s->input(s, WR_FILL_MASK, 0, s->variant == 1 ? 3 : 2, dims));
}

const wr_op wr_op_mask_apply = {.name = "mask_apply",
                                .doc = "x where the mask is not 0, else 0",
                                .n_in = 2,
                                .shape = mask_apply_shape,
                                .cpu = mask_apply_cpu,
                                .grad = mask_apply_grad,
                                .inverse = mask_apply_inverse,
                                .inplace = 1,
                                .sample = mask_apply_sample};
