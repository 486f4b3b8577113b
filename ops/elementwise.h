/* elementwise.h: arithmetic and functions of single elements, and their driver.
 *
 * Operands of binary ops have equal sizes, or one is a suffix of the other ([B, T, D] with [D]; a
 * rank-0 scalar fits everything). Other repetition is explicit: wr_broadcast. */
#ifndef WEIR_OPS_ELEMENTWISE_H
#define WEIR_OPS_ELEMENTWISE_H

#include "graph/op.h"

/* out[i] = f(in[0][i], ...) for n contiguous elements; out may be in[k]. */
typedef void (*wr_tile_fn)(int64_t n, const void *const *in, void *out, const wr_attr *attr);
typedef struct wr_tile {
    wr_tile_fn f32, f64;
} wr_tile; /* what `extra` of an elementwise row points to */

extern const wr_op wr_op_add, wr_op_sub, wr_op_mul, wr_op_div, wr_op_maximum, wr_op_minimum,
    wr_op_less, wr_op_equal, wr_op_select, wr_op_neg, wr_op_exp, wr_op_log, wr_op_log1p,
    wr_op_expm1, wr_op_sqrt, wr_op_rsqrt, wr_op_square, wr_op_abs, wr_op_reciprocal, wr_op_tanh,
    wr_op_sigmoid, wr_op_softplus, wr_op_relu, wr_op_gelu, wr_op_erf, wr_op_scale, wr_op_shift,
    wr_op_power, wr_op_chain, wr_op_atanh, wr_op_log_sigmoid;

wr wr_unary_at(wr_loc loc, const wr_op *op, wr x);
wr wr_binary_at(wr_loc loc, const wr_op *op, wr a, wr b);
wr wr_real_at(wr_loc loc, const wr_op *op, wr x, double value);
wr wr_select_at(wr_loc loc, wr condition, wr a, wr b);

#define wr_add(a, b)     wr_binary_at(WR_HERE, &wr_op_add, a, b)
#define wr_sub(a, b)     wr_binary_at(WR_HERE, &wr_op_sub, a, b)
#define wr_mul(a, b)     wr_binary_at(WR_HERE, &wr_op_mul, a, b)
#define wr_div(a, b)     wr_binary_at(WR_HERE, &wr_op_div, a, b)
#define wr_maximum(a, b) wr_binary_at(WR_HERE, &wr_op_maximum, a, b)
#define wr_minimum(a, b) wr_binary_at(WR_HERE, &wr_op_minimum, a, b)
/* 1 where the comparison holds, else 0, in the operands' dtype. */
#define wr_less(a, b)  wr_binary_at(WR_HERE, &wr_op_less, a, b)
#define wr_equal(a, b) wr_binary_at(WR_HERE, &wr_op_equal, a, b)
/* a where the condition is not 0, else b; the unchosen operand has no influence, also as NaN. */
#define wr_select(condition, a, b) wr_select_at(WR_HERE, condition, a, b)
#define wr_neg(x)                  wr_unary_at(WR_HERE, &wr_op_neg, x)
#define wr_exp(x)                  wr_unary_at(WR_HERE, &wr_op_exp, x)
#define wr_log(x)                  wr_unary_at(WR_HERE, &wr_op_log, x)
#define wr_log1p(x)                wr_unary_at(WR_HERE, &wr_op_log1p, x)
#define wr_expm1(x)                wr_unary_at(WR_HERE, &wr_op_expm1, x)
#define wr_sqrt(x)                 wr_unary_at(WR_HERE, &wr_op_sqrt, x)
#define wr_rsqrt(x)                wr_unary_at(WR_HERE, &wr_op_rsqrt, x)
#define wr_square(x)               wr_unary_at(WR_HERE, &wr_op_square, x)
#define wr_abs(x)                  wr_unary_at(WR_HERE, &wr_op_abs, x)
#define wr_reciprocal(x)           wr_unary_at(WR_HERE, &wr_op_reciprocal, x)
#define wr_tanh(x)                 wr_unary_at(WR_HERE, &wr_op_tanh, x)
#define wr_atanh(x)                wr_unary_at(WR_HERE, &wr_op_atanh, x)
#define wr_sigmoid(x)              wr_unary_at(WR_HERE, &wr_op_sigmoid, x)
#define wr_log_sigmoid(x)          wr_unary_at(WR_HERE, &wr_op_log_sigmoid, x)
#define wr_softplus(x)             wr_unary_at(WR_HERE, &wr_op_softplus, x)
#define wr_relu(x)                 wr_unary_at(WR_HERE, &wr_op_relu, x)
/* Exact: x (1 + erf(x / sqrt 2)) / 2 (Hendrycks and Gimpel 2016). */
#define wr_gelu(x)     wr_unary_at(WR_HERE, &wr_op_gelu, x)
#define wr_erf(x)      wr_unary_at(WR_HERE, &wr_op_erf, x)
#define wr_scale(x, k) wr_real_at(WR_HERE, &wr_op_scale, x, k) /* k x */
#define wr_shift(x, k) wr_real_at(WR_HERE, &wr_op_shift, x, k) /* x + k */
#define wr_power(x, k) wr_real_at(WR_HERE, &wr_op_power, x, k) /* x^k, x > 0 */

/* ---- the driver, for rows that work element by element ---- */

/* One instruction of a chain: registers 0 .. n_leaves-1 are the operands, n_leaves + i is the
 * result of instruction i. */
typedef struct wr_chain_code {
    const wr_op *op;
    int32_t n_in, in[3];
    wr_attr attr[1];
} wr_chain_code;

enum { WR_CHAIN_LEAVES = 12, WR_CHAIN_LENGTH = 24 };

/* Run the code over out->n elements in cache-sized tiles; leaves may repeat along axes (sizes are
 * matched from the right, 1 repeats). Registers listed in `outs` are written to outputs. */
void wr_chain_run(const wr_run_env *env, int n_leaves, const wr_tensor *leaf, int n_code,
                  const wr_chain_code *code, const wr_tensor *out);

/* The chain row over `leaves`; `like` is a leaf of full size. `code` is copied. */
wr wr_chain_at(wr_loc loc, int n_leaves, const wr *leaves, int like, int n_code,
               const wr_chain_code *code);

#endif
