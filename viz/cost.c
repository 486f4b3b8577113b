/* cost.c: operations and bytes of one node under a binding. */
#include "viz/picture.h"

#include <stdlib.h>

static bool describe(const wr_graph *g, uint32_t id, const wr_binding *b, int64_t *dim,
                     wr_tensor *t) {
    const wr_node *x = wr_node_at(g, id);
    *t = (wr_tensor){.dim = dim, .rank = x->rank, .dtype = (wr_dtype)x->dtype, .n = 1};
    for (int i = 0; i < x->rank; i++) {
        dim[i] = wr_dims_eval(wr_graph_dims(g), x->dim[i], b);
        if (dim[i] < 0) return false;
        t->n *= dim[i];
    }
    return true;
}

static bool evaluate_attrs(const wr_graph *g, uint32_t id, const wr_binding *b, wr_attr *attr,
                           const void **blob) {
    const wr_op *op = wr_node_at(g, id)->op;
    for (int i = 0; op->attrs[i].name != NULL; i++) {
        attr[i] = wr_node_attrs(g, id)[i];
        blob[i] = NULL;
        if (op->attrs[i].kind == WR_ATTR_BLOB) blob[i] = wr_blob_at(g, attr[i].blob, NULL);
        if (op->attrs[i].kind != WR_ATTR_DIM) continue;
        attr[i].i = wr_dims_eval(wr_graph_dims(g), attr[i].d, b);
        if (attr[i].i < 0) return false;
    }
    return true;
}

/* What a row without a cost function costs: one operation and one pass per element. */
static wr_cost plain_cost(const wr_call *c) {
    wr_cost cost = {.flops = (double)c->out[0].n};
    for (int k = 0; k < c->n_in; k++)
        cost.bytes += (double)c->in[k].n * (double)wr_dtype_bytes(c->in[k].dtype);
    cost.bytes += (double)c->out[0].n * (double)wr_dtype_bytes(c->out[0].dtype);
    return cost;
}

bool wr__node_cost(const wr_graph *g, uint32_t id, const wr_binding *b, double *flops,
                   double *bytes, bool *out_of_memory) {
    const wr_node *x = wr_node_at(g, id);
    *flops = *bytes = 0;
    bool renames = (x->op->traits & WR_VIEW) && !(x->op->traits & WR_STATEFUL);
    if ((x->op->traits & WR_SOURCE) || renames || x->op == &wr_op_output) return true;
    size_t n = (size_t)x->n_in + x->n_out;
    wr_tensor *tensor = malloc(n * sizeof *tensor);
    int64_t(*dim)[WR_MAX_RANK] = malloc(n * sizeof *dim);
    bool ok = tensor != NULL && dim != NULL;
    if (!ok) *out_of_memory = true;
    for (size_t k = 0; k < n && ok; k++) {
        uint32_t operand = k < x->n_in ? wr_node_inputs(g, id)[k] : id + (uint32_t)(k - x->n_in);
        ok = describe(g, operand, b, dim[k], &tensor[k]);
    }
    wr_attr attr[WR_MAX_ATTRS + 1];
    const void *blob[WR_MAX_ATTRS + 1];
    wr_run_env env = {.threads = 1};
    if (ok && evaluate_attrs(g, id, b, attr, blob)) {
        wr_call call = {.in = tensor,
                        .out = tensor + x->n_in,
                        .n_in = x->n_in,
                        .n_out = x->n_out,
                        .attr = attr,
                        .blob = blob,
                        .env = &env};
        wr_cost cost = x->op->cost != NULL ? x->op->cost(&call) : plain_cost(&call);
        *flops = cost.flops;
        *bytes = cost.bytes;
    }
    free(tensor);
    free(dim);
    return ok;
}
