/* assign.c: see assign.h. */
#include "ops/assign.h"

#include "ops/shape.h"

#include <string.h>

wr wr_assign_at(wr_loc loc, wr stored, wr value) {
    return wr_emit(loc, &wr_op_assign, 2, (wr[]){stored, value}, NULL);
}

static bool assign_shape(wr_shape_ctx *c) {
    const wr_op *op = wr_node_at(c->g, c->in[0].id)->op;
    wr_type stored = wr_type_of(c->in[0]), value = wr_type_of(c->in[1]);
    if (op != &wr_op_param && op != &wr_op_state)
        return wr_shape_fail(c, c->op->doc, NULL, "operand a is neither a parameter nor a state");
    c->out[0] = stored;
    return (stored.dtype == value.dtype && wr_shape_equal(c->g, &stored, &value)) ||
           wr_shape_fail(c, c->op->doc, NULL, "operand b has not the type of operand a");
}

static wr_status assign_cpu(const wr_call *c) {
    const wr_tensor *to = &c->in[0];
    if (to->n > 0) /* the value may be a view of the tensor itself */
        memmove(to->data, c->in[1].data, (size_t)to->n * wr_dtype_bytes(to->dtype));
    return WR_OK;
}

static wr_cost assign_cost(const wr_call *c) {
    return (wr_cost){.bytes = 2 * (double)c->in[0].n * (double)wr_dtype_bytes(c->in[0].dtype)};
}

static bool assign_writes(int k, int n_in) {
    (void)n_in;
    return k == 0;
}

const wr_op wr_op_assign = {.name = "assign",
                            .doc = "a stored tensor, its new value of the same type",
                            .traits = WR_STATEFUL | WR_VIEW,
                            .n_in = 2,
                            .shape = assign_shape,
                            .cost = assign_cost,
                            .cpu = assign_cpu,
                            .writes = assign_writes,
                            .no_grad = "first values are not differentiated: it writes a state",
                            .no_inverse = "writes a state",
                            .no_sample = "needs a state; tests/test_flowseq.c runs it"};
