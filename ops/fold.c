/* fold.c: see fold.h. The row's own kernel computes the value. */
#include "ops/fold.h"

#include "ops/layout.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_ELEMENTS = 4096, MOST_INPUTS = 4 };

/* Sizes of a type whose dims are all literal; false otherwise, and for large ones. */
static bool literal_sizes(wr_type t, int64_t *dim, int64_t *n) {
    *n = 1;
    for (int i = 0; i < t.rank; i++) {
        if (!wr_dim_is_literal(t.dim[i])) return false;
        dim[i] = wr_dim_literal(t.dim[i]);
        *n *= dim[i];
        if (*n > MOST_ELEMENTS) return false;
    }
    return true;
}

static bool foldable(const wr_node *x) {
    const wr_op *op = x->op;
    if (op->cpu == NULL || op->prepare != NULL || x->n_out != 1 || x->n_in == 0 ||
        x->n_in > MOST_INPUTS || op == &wr_op_broadcast ||
        (op->traits & (WR_RANDOM | WR_STATEFUL | WR_SOURCE | WR_VIEW)))
        return false;
    for (int i = 0; op->attrs[i].name != NULL; i++)
        if (op->attrs[i].kind == WR_ATTR_DIM || op->attrs[i].kind == WR_ATTR_BLOB) return false;
    return true;
}

/* A constant of the new graph as a tensor. */
static bool constant_tensor(wr x, int64_t *dim, wr_tensor *t) {
    if (wr_node_at(x.g, x.id)->op != &wr_op_const) return false;
    wr_type type = wr_type_of(x);
    *t = (wr_tensor){.dim = dim, .rank = type.rank, .dtype = type.dtype};
    if (!literal_sizes(type, dim, &t->n)) return false;
    const void *data = wr_blob_at(x.g, wr_node_attrs(x.g, x.id)[WR_CONST_BLOB].blob, NULL);
    t->data = (void *)(uintptr_t)data; /* kernels only read their operands */
    return true;
}

/* False when the kernel refuses, or memory is out (the graph is then told). */
static bool compute(wr_graph *g, const wr_op *op, wr_call *call) {
    wr_error err = {0};
    wr_run_env env = {.threads = 1, .err = &err};
    call->env = &env;
    wr_cost cost = op->cost == NULL ? (wr_cost){0} : op->cost(call);
    call->workspace = aligned_alloc(256, (cost.workspace + 511) / 256 * 256);
    if (call->workspace == NULL) {
        call->env = NULL;
        return wr_no_memory(g).id != 0;
    }
    bool ok = op->cpu(call) == WR_OK;
    free(call->workspace);
    call->env = NULL;
    return ok;
}

wr wr_fold_constant(const wr_rewrite *r, uint32_t id) {
    const wr_node *x = wr_node_at(r->old, id);
    wr none = {r->now, 0};
    if (!foldable(x)) return none;
    wr_tensor in[MOST_INPUTS], out;
    int64_t dims[MOST_INPUTS + 1][WR_MAX_RANK];
    for (int k = 0; k < x->n_in; k++)
        if (!constant_tensor(wr_rewrite_map(r, wr_node_inputs(r->old, id)[k]), dims[k], &in[k]))
            return none;
    wr_type type = {.dtype = (wr_dtype)x->dtype, .rank = x->rank};
    memcpy(type.dim, x->dim, sizeof(wr_dim) * x->rank);
    int64_t *dim = dims[MOST_INPUTS];
    out = (wr_tensor){.dim = dim, .rank = type.rank, .dtype = type.dtype};
    if (!literal_sizes(type, dim, &out.n)) return none;
    out.data = malloc((size_t)out.n * wr_dtype_bytes(out.dtype) + 1);
    wr_call call = {
        .in = in, .out = &out, .n_in = x->n_in, .n_out = 1, .attr = wr_node_attrs(r->old, id)};
    if (out.data == NULL) return wr_no_memory(r->now);
    bool ok = compute(r->now, x->op, &call);
    wr made =
        ok ? wr_const_at(*wr_loc_at(r->old, x->loc), r->now, type.dtype, type.rank, dim, out.data)
           : none;
    free(out.data);
    return made;
}
