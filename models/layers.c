/* layers.c: see layers.h. */
#include "models/layers.h"

#include "graph/op.h"
#include "ops/attention.h"
#include "ops/elementwise.h"
#include "ops/index.h"
#include "ops/layout.h"
#include "ops/norm.h"
#include "ops/random_ops.h"
#include "ops/slice.h"

#include <math.h>
#include <stdlib.h>

static const wr_init ZERO = {WR_INIT_ZERO, 0, 0};
static const wr_init ONE = {WR_INIT_CONSTANT, 1, 0};
static const wr_init GLOROT = {WR_INIT_GLOROT_UNIFORM, 1, 0};

wr wr_layer_linear(wr x, const char *name, int n) {
    wr y = x;
    WR_SCOPE (x.g, "%s", name) {
        wr w = wr_param(x.g, "W", wr_dtype_of(x), WR_DIMS(wr_dim_of(x, -1), wr_n(n)), GLOROT);
        wr b = wr_param(x.g, "b", wr_dtype_of(x), WR_DIMS(wr_n(n)), ZERO);
        y = wr_add(wr_matmul(x, w), b);
    }
    return y;
}

wr wr_layer_norm_params(wr x, const char *name) {
    wr y = x;
    WR_SCOPE (x.g, "%s", name) {
        wr gain = wr_param(x.g, "gain", wr_dtype_of(x), WR_DIMS(wr_dim_of(x, -1)), ONE);
        wr bias = wr_param(x.g, "bias", wr_dtype_of(x), WR_DIMS(wr_dim_of(x, -1)), ZERO);
        y = wr_layer_norm(x, gain, bias, 1e-5);
    }
    return y;
}

wr wr_sinusoids(wr_graph *g, wr_dtype t, int max_len, int dim) {
    size_t n = (size_t)max_len * (size_t)dim;
    float *table = malloc(sizeof *table * n);
    double *wide = malloc(sizeof *wide * n);
    wr x;
    if (table != NULL && wide != NULL) {
        for (size_t i = 0; i < n; i++) {
            size_t position = i / (size_t)dim, k = i % (size_t)dim, pair = k / 2 * 2;
            double angle = (double)position / pow(10000.0, (double)pair / dim);
            wide[i] = k % 2 == 0 ? sin(angle) : cos(angle);
            table[i] = (float)wide[i];
        }
        int64_t dims[2] = {max_len, dim};
        x = wr_const(g, t, 2, dims, t == WR_F64 ? (const void *)wide : (const void *)table);
    } else {
        x = wr_no_memory(g);
    }
    free(table);
    free(wide);
    return x;
}

wr wr_add_positions(wr x, wr table) {
    return wr_add(x, wr_slice_dims(table, 0, wr_n(0), wr_dim_of(x, -2), 1));
}

wr wr_embedding_param(wr_graph *g, const char *name, wr_dtype t, int vocab, int dim) {
    wr_init init = {WR_INIT_NORMAL, 0, 1.0 / sqrt((double)dim)};
    return wr_param(g, name, t, WR_DIMS(wr_n(vocab), wr_n(dim)), init);
}

wr wr_layer_attention(wr x, wr memory, wr key_len, const wr_mha *o) {
    int dim = (int)wr_dim_literal(wr_dim_of(x, -1));
    wr q = wr_layer_linear(x, "q", dim);
    wr k = wr_layer_linear(memory, "k", dim);
    wr v = wr_layer_linear(memory, "v", dim);
    wr y = wr_attention(q, k, v, key_len, o->heads, o->causal, o->dropout);
    return wr_layer_linear(y, "out", dim);
}

wr wr_layer_ffn(wr x, int inner, wr_act act, double dropout) {
    int dim = (int)wr_dim_literal(wr_dim_of(x, -1));
    wr h = wr_layer_linear(x, "inner", inner);
    h = act == WR_ACT_GELU ? wr_gelu(h) : wr_relu(h);
    return wr_layer_linear(wr_dropout(h, dropout), "outer", dim);
}
