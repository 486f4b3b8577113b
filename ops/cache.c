/* cache.c: rows that update decoding caches in place. */
#include "ops/cache.h"

#include "ops/shape.h"

#include <string.h>

wr wr_cache_write_at(wr_loc loc, wr cache, wr fresh, wr position, wr rows) {
    return wr_emit(loc, &wr_op_cache_write, 4, (wr[]){cache, fresh, position, rows}, NULL);
}

wr wr_cache_select_at(wr_loc loc, wr cache, wr rows) {
    return wr_emit(loc, &wr_op_cache_select, 2, (wr[]){cache, rows}, NULL);
}

static bool is_state(wr_shape_ctx *c) {
    const wr_node *x = wr_node_at(c->g, c->in[0].id);
    if (x->op == &wr_op_state && x->rank == 3) return true;
    return wr_shape_fail(c, c->op->doc, "make the cache with wr_state",
                         "operand a is no state [R, C, D]");
}

static bool has_row_numbers(wr_shape_ctx *c, int k) {
    if (!wr_shape_needs_i32(c, k)) return false;
    if (wr_rank(c->in[k]) == 1) return true;
    return wr_shape_fail(c, c->op->doc, NULL, "operand %c has %d axes, not one", 'a' + k,
                         wr_rank(c->in[k]));
}

static bool select_shape(wr_shape_ctx *c) {
    if (!is_state(c) || !has_row_numbers(c, c->n_in - 1)) return false;
    c->out[0] = wr_type_of(c->in[0]);
    c->out[0].dim[0] = wr_dim_of(c->in[c->n_in - 1], 0);
    return true;
}

static bool write_shape(wr_shape_ctx *c) {
    if (!select_shape(c) || !has_row_numbers(c, 2)) return false;
    wr_type fresh = wr_type_of(c->in[1]);
    bool fits = fresh.rank == 3 && wr_dim_eq(c->g, fresh.dim[0], c->out[0].dim[0]) &&
                wr_dim_eq(c->g, fresh.dim[2], c->out[0].dim[2]) && fresh.dtype == c->out[0].dtype;
    return fits || wr_shape_fail(c, "cache [R, C, D], fresh [B, N, D], position [1], rows [B]",
                                 NULL, "the new positions do not fit the cache");
}

static bool is_identity(const int32_t *rows, int64_t n) {
    for (int64_t b = 0; b < n; b++)
        if (rows[b] != b) return false;
    return true;
}

/* Gather the first `used` positions of rows through the workspace. */
static wr_status reorder(const wr_call *c, const wr_tensor *rows_tensor, int64_t used) {
    const wr_tensor *cache = &c->in[0];
    const int32_t *rows = rows_tensor->data;
    int64_t n = rows_tensor->dim[0], limit = cache->dim[0];
    if (n > limit)
        return wr_fail(c->env->err, WR_ERR_INPUT, "%lld hypotheses for a cache of %lld rows",
                       (long long)n, (long long)limit);
    for (int64_t b = 0; b < n; b++)
        if (rows[b] < 0 || rows[b] >= limit)
            return wr_fail(c->env->err, WR_ERR_INPUT, "row %d of a cache of %lld rows", rows[b],
                           (long long)limit);
    if (used == 0 || is_identity(rows, n)) return WR_OK;
    size_t e = wr_dtype_bytes(cache->dtype);
    size_t row = (size_t)(cache->dim[1] * cache->dim[2]) * e;
    size_t part = (size_t)(used * cache->dim[2]) * e;
    char *base = cache->data, *copy = c->workspace;
#pragma omp parallel for num_threads(c->env->threads) schedule(static)
    for (int64_t b = 0; b < n; b++)
        memcpy(copy + (size_t)b * part, base + (size_t)rows[b] * row, part);
#pragma omp parallel for num_threads(c->env->threads) schedule(static)
    for (int64_t b = 0; b < n; b++)
        memcpy(base + (size_t)b * row, copy + (size_t)b * part, part);
    return WR_OK;
}

static wr_status select_cpu(const wr_call *c) { return reorder(c, &c->in[1], c->in[0].dim[1]); }

static wr_status write_cpu(const wr_call *c) {
    const wr_tensor *cache = &c->in[0], *fresh = &c->in[1];
    int64_t at = ((const int32_t *)c->in[2].data)[0], n = fresh->dim[1];
    if (at < 0 || at + n > cache->dim[1])
        return wr_fail(c->env->err, WR_ERR_INPUT,
                       "positions %lld to %lld of a cache of length %lld", (long long)at,
                       (long long)(at + n - 1), (long long)cache->dim[1]);
    wr_status status = reorder(c, &c->in[3], at);
    if (status != WR_OK) return status;
    size_t e = wr_dtype_bytes(cache->dtype), width = (size_t)cache->dim[2] * e;
    for (int64_t b = 0; b < fresh->dim[0]; b++)
        memcpy((char *)cache->data + (size_t)(b * cache->dim[1] + at) * width,
               (const char *)fresh->data + (size_t)(b * n) * width, (size_t)n * width);
    return WR_OK;
}

static wr_cost cache_cost(const wr_call *c) {
    size_t bytes = (size_t)c->in[0].n * wr_dtype_bytes(c->in[0].dtype);
    return (wr_cost){.bytes = c->n_in == 4 ? wr_bytes_moved(c) - (double)bytes : 0,
                     .workspace = bytes};
}

static bool writes_first(int k, int n_in) {
    (void)n_in;
    return k == 0;
}

#define CACHE_ROW                                                                                  \
    .traits = WR_STATEFUL | WR_VIEW | WR_MIXED, .cost = cache_cost, .writes = writes_first,        \
    .no_grad = "decoding is not differentiated: it writes a state",                                \
    .no_inverse = "writes a state", .no_sample = "needs a state; tests/test_decode.c runs it"

const wr_op wr_op_cache_write = {.name = "cache_write",
                                 .doc = "reorder cache rows, write new positions",
                                 .n_in = 4,
                                 .shape = write_shape,
                                 .cpu = write_cpu,
                                 CACHE_ROW};
const wr_op wr_op_cache_select = {.name = "cache_select",
                                  .doc = "reorder cache rows",
                                  .n_in = 2,
                                  .shape = select_shape,
                                  .cpu = select_cpu,
                                  CACHE_ROW};
