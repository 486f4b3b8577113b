/* op.h: one row per op. Everything the engine knows of an op stands in its row.
 *
 * A family file in ops/ holds rows with their shape rules, costs, gradients, inverses and CPU
 * kernels. Adding an op touches its row, its kernels and its line in ops/ops.def. */
#ifndef WEIR_OP_H
#define WEIR_OP_H

#include "graph/graph.h"

enum {
    WR_MAX_OUTPUTS = 200,
    WR_MAX_ATTRS = 8,
    WR_ANY_INPUTS = 65535,
    WR_ANY_OUTPUTS = -1 /* the shape rule sets their number */
};

typedef enum wr_trait {
    WR_ELEMENTWISE = 1, /* out[i] depends on in[k][i] only (suffix operands repeat) */
    WR_REDUCE = 2,
    WR_VIEW = 4,      /* output 0 is input 0's bytes under other dims */
    WR_RANDOM = 8,    /* attribute "stream" is unique, so equal nodes never merge */
    WR_STATEFUL = 16, /* writes operands; never merged, never dropped, keeps its place in order */
    WR_SOURCE = 32,   /* input, parameter, state, constant */
    WR_MIXED = 64     /* operands may differ in dtype */
} wr_trait;

typedef enum wr_attr_kind {
    WR_ATTR_INT,
    WR_ATTR_REAL,
    WR_ATTR_DIM, /* a wr_dim in the graph, its value in .i when a kernel runs */
    WR_ATTR_TEXT,
    WR_ATTR_BLOB,
    WR_ATTR_BOOL
} wr_attr_kind;
typedef struct wr_attr_field {
    const char *name; /* NULL behind the last */
    wr_attr_kind kind;
} wr_attr_field;

/* ---- shape rule ---- */

/* What a shape rule sees and fills: one type per output. */
typedef struct wr_shape_ctx {
    wr_graph *g;
    const wr_op *op;
    wr_loc loc;
    int n_in;
    const wr *in;
    const wr_attr *attr;
    int n_out; /* the row's; rows with WR_ANY_OUTPUTS set it */
    wr_type out[WR_MAX_OUTPUTS];
} wr_shape_ctx;

/* Record a broken rule and return false. `rule` is the legal form ("a [.., K] x b [K, N]"), `hint`
 * may be NULL; the format says what is wrong. Operands, lines and scope are added by the graph. */
bool wr_shape_fail(wr_shape_ctx *c, const char *rule, const char *hint, const char *fmt, ...)
    WR_PRINTF(4, 5);

/* ---- kernels ---- */

typedef struct wr_device wr_device; /* device.h */

typedef struct wr_tensor {
    void *data; /* NULL for an output that nobody reads */
    const int64_t *dim;
    int64_t n; /* number of elements */
    int rank;
    wr_dtype dtype;
} wr_tensor;

/* What a run passes to every kernel. */
typedef struct wr_run_env {
    int threads;
    uint64_t seed, step; /* random numbers: key (seed, step, stream), counter = element */
    wr_device *device;   /* that runs it; NULL: the host alone (folding) */
    void *stream;        /* the device's own */
    wr_error *err;
} wr_run_env;

typedef struct wr_call {
    const wr_tensor *in;
    const wr_tensor *out;
    int n_in, n_out;
    const wr_attr *attr;     /* dims evaluated */
    const void *const *blob; /* per attribute: the bytes of a WR_ATTR_BLOB, else NULL */
    void *workspace;         /* `cost.workspace` bytes, 256-byte aligned */
    void *prepared;          /* what `prepare` made, or NULL */
    const wr_run_env *env;
    const wr_graph *g; /* of the node, and the values of its symbols; in `make` and `cost` only, */
    const wr_binding *binding; /* and NULL where there is no plan */
} wr_call;
/* Kernels take contiguous tensors. A failure (an index out of range) goes to env->err. */
typedef wr_status (*wr_kernel)(const wr_call *c);

/* Made once per plan and step, e.g. the chosen matmul. Tensors carry dims but no data. */
typedef struct wr_prepare {
    wr_status (*make)(const wr_call *c, void **prepared);
    void (*release)(void *prepared);
    size_t (*workspace)(const wr_call *c, const void *prepared); /* adds to cost.workspace */
} wr_prepare;

typedef struct wr_cost {
    double flops, bytes;
    size_t workspace;
} wr_cost;

/* ---- gradient ---- */

/* What a gradient rule sees. cot[k] is poison where output k has no cotangent. */
typedef struct wr_grad_ctx {
    wr_graph *g;
    int n_in, n_out;
    const wr *in, *out, *cot;
    const wr_attr *attr;
    const bool *needed; /* per input: is its cotangent asked for? */
    wr *contribution;   /* filled through wr_contribute */
    /* See wr_expand_ctx: for rows whose gradient differentiates a graph of their own. */
    bool (*vjp)(int n_out, const wr *outs, const wr *cots, int n_in, const wr *ins, wr *grads);
} wr_grad_ctx;

/* Add `x` to the cotangent of input k. Sums over leading axes where the operand was repeated. */
bool wr_contribute(wr_grad_ctx *c, int k, wr x);

/* ---- expansion: the same function in simpler rows ---- */

/* A row with `expand` and no `grad` has the gradient of its expansion. `vjp` (given by autodiff)
 * adds the cotangents of `ins` for outputs `outs` with cotangents `cots`, treating ins as leaves.
 */
typedef struct wr_expand_ctx {
    wr_graph *g;
    int n_in;
    const wr *in;
    const wr_attr *attr;
    wr out[WR_MAX_OUTPUTS];
    bool (*vjp)(int n_out, const wr *outs, const wr *cots, int n_in, const wr *ins, wr *grads);
} wr_expand_ctx;

/* ---- inverse ---- */

/* What an inverse rule sees: the values that are known when the node is solved, as nodes of the
 * inverse graph. A rule solves the operands that it can from outputs and other operands, and adds
 * log |d y / d x| of what it solved. It is asked once for each output that becomes known, and again
 * when more operands are known, until it answers true; `output` is the one it is asked about. */
typedef struct wr_inverse_ctx {
    wr_graph *g;
    int n_in, n_out, output;
    const wr *y;   /* values of the outputs, poison where unknown */
    const wr *x;   /* values of the operands, poison where unknown */
    const wr *in;  /* the operands as declared: types, and what made them */
    const wr *out; /* the outputs as declared */
    const wr_attr *attr;
    struct wr__inverter *inverter;
    uint32_t id;
} wr_inverse_ctx;

/* Operand k is `value`. Returns the handle to use in log-determinant terms: in an inverse that is
 * `value`; when only the log-determinant of the forward direction is wanted it is the operand
 * itself, and `value` is dropped. Poison when the operand was known already (a diagnostic). */
wr wr_inverse_solve(wr_inverse_ctx *c, int k, wr value);
/* Positions start, start + step, .. of an axis of operand k are `value`. */
bool wr_inverse_solve_part(wr_inverse_ctx *c, int k, int axis, wr_dim start, int64_t step,
                           wr value);
/* Add log |d y / d x|, elementwise over the solved operand k: of its sizes, or of a suffix of them
 * that is repeated over the leading axes ([C] of an operand [B, T, C]). Padding is left out. */
bool wr_inverse_term(wr_inverse_ctx *c, int k, wr term);
/* The same for a term per leading position: `term` has the first sizes of operand k ([B, T]), or is
 * one number that counts for each position of the first `axes` axes (a scalar, axes = 2: each valid
 * time step). */
bool wr_inverse_term_leading(wr_inverse_ctx *c, int k, wr term, int axes);
/* The value of any declared node, e.g. of what an operand was made from; poison while unknown. */
wr wr_inverse_value(const wr_inverse_ctx *c, wr declared);
/* `value`, of the sizes of output 0 or a suffix of them, with padding replaced by `inside`: for a
 * rule that is not defined for all numbers. Padding may be any number, and NaN there would reach
 * the gradients of parameters. */
wr wr_inverse_padded(wr_inverse_ctx *c, wr value, double inside);
/* Is operand k the same whatever the inputs are: parameters, masks, conditioning? */
bool wr_inverse_given(const wr_inverse_ctx *c, int k);
/* The whole rule of a choice y = operand 1 where operand 0 is not 0, else operand 2: solves the
 * node from which elementwise rows make both, as in select(m, exp(x), x). */
bool wr_inverse_select(wr_inverse_ctx *c);
/* Not yet, or never: `reason` (a literal) stands in the message if nothing changes. Returns false.
 */
bool wr_inverse_wait(wr_inverse_ctx *c, const char *reason);

/* ---- samples for the generated tests ---- */

/* How to fill a sampled input. */
typedef enum wr_fill {
    WR_FILL_REAL,     /* normal */
    WR_FILL_POSITIVE, /* in [0.5, 2] */
    WR_FILL_UNIT,     /* in (0.1, 0.9) */
    WR_FILL_APART, /* distinct values at least 0.05 apart, none near 0: safe for kinks and ties */
    WR_FILL_MASK,  /* 0 or 1 */
    WR_FILL_INDEX, /* whole numbers in [0, limit) */
    WR_FILL_LENGTH /* whole numbers in [0, limit], first one = limit */
} wr_fill;

typedef struct wr_sample wr_sample; /* the tests' generator; see tests/helpers/sample.h */
struct wr_sample {
    wr_graph *g;
    wr_dtype dtype; /* float type wanted */
    uint64_t rng;
    int variant; /* the generator is called with 0, 1, 2, ...; it returns poison behind its last */
    /* Make an input of literal dims with the filling; `limit` for indices and lengths. */
    wr (*input)(wr_sample *s, wr_fill fill, int64_t limit, int rank, const int64_t *dims);
};
/* A whole number in [low, high]. */
int64_t wr_sample_int(wr_sample *s, int64_t low, int64_t high);

/* ---- the row ---- */

/* A hole in the table needs its reason: .no_grad = "indices are not differentiable". */
struct wr_op {
    const char *name, *doc;
    uint32_t traits;
    int n_in, n_in_max; /* n_in_max 0: exactly n_in */
    int n_out;          /* 0 means 1; WR_ANY_OUTPUTS: the shape rule says */
    wr_attr_field attrs[WR_MAX_ATTRS + 1];
    bool (*shape)(wr_shape_ctx *c);
    /* Tensors carry dims, no data. NULL: one flop and one pass per element. */
    wr_cost (*cost)(const wr_call *c);
    wr_kernel cpu;
    const wr_prepare *prepare;
    bool (*grad)(wr_grad_ctx *c);
    bool (*expand)(wr_expand_ctx *c);
    const char *no_grad; /* reason, when there is neither grad nor expand */
    /* Inverse rule: true when the output it was asked about is used up. Rows without one say why.
     */
    bool (*inverse)(wr_inverse_ctx *c);
    const char *no_inverse;
    int inplace;                     /* 1 + the operand whose buffer output 0 may take, 0: none */
    bool (*writes)(int k, int n_in); /* stateful rows: is input k written? */
    const char *label;               /* in pictures; NULL: the name */
    wr (*sample)(wr_sample *s);
    const char *no_sample; /* reason */
    const void *extra;     /* the family's own data, e.g. the tile functions of elementwise rows */
};

/* Make a node (or find the equal one). `loc` is the user's line. Poison when anything is wrong. */
wr wr_emit(wr_loc loc, const wr_op *op, int n_in, const wr *in, const wr_attr *attr);
/* The same for a row without inputs, or one that must not be merged (`unique`). */
wr wr_emit_in(wr_graph *g, wr_loc loc, const wr_op *op, int n_in, const wr *in, const wr_attr *attr,
              bool unique);
/* A fresh stream number for a random op. */
int64_t wr_next_stream(wr_graph *g);
/* Record a mistake that no op's shape rule finds (a layer's argument, say). Returns poison. */
wr wr_mistake(wr_graph *g, wr_loc loc, const char *fmt, ...) WR_PRINTF(3, 4);

/* Record that memory is out: compiling then fails with WR_ERR_MEMORY. Returns poison. */
wr wr_no_memory(wr_graph *g);

int wr_op_outputs(const wr_op *op);
int wr_op_attr_count(const wr_op *op);

/* Rows that are the graph's own structure. */
extern const wr_op wr_op_input, wr_op_param, wr_op_state, wr_op_const, wr_op_output;
/* Attribute positions of parameters and states. */
enum {
    WR_SOURCE_NAME = 0,
    WR_SOURCE_INIT = 1,
    WR_SOURCE_A = 2,
    WR_SOURCE_B = 3,
    WR_CONST_BLOB = 0
};

#endif
