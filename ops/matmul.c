/* matmul.c: rows over ops/cpu/gemm.h. */
#include "ops/matmul.h"

#include "ops/cpu/gemm.h"
#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/linalg.h"
#include "ops/reduce.h"
#include "ops/shape.h"

#include <string.h>

enum { TRANS_A, TRANS_B, ACT };

wr wr_matmul_at(wr_loc loc, wr a, wr b, bool trans_a, bool trans_b) {
    return wr_emit(loc, &wr_op_matmul, 2, (wr[]){a, b},
                   (wr_attr[]){{.i = trans_a}, {.i = trans_b}});
}

wr wr_linear_at(wr_loc loc, wr x, wr w, wr bias, bool trans_w, wr_act act) {
    return wr_emit(loc, &wr_op_linear, 3, (wr[]){x, w, bias},
                   (wr_attr[]){{.i = false}, {.i = trans_w}, {.i = act}});
}

wr wr_matmul_add_at(wr_loc loc, wr a, wr b, wr c, bool trans_a, bool trans_b) {
    return wr_emit(loc, &wr_op_matmul_add, 3, (wr[]){a, b, c},
                   (wr_attr[]){{.i = trans_a}, {.i = trans_b}});
}

/* ---- shapes ---- */

static const char RULE[] = "a [.., M, K] x b [K, N], or b [.., K, N] with the same leading sizes";

static bool inner_differ(wr_shape_ctx *c, wr_dim ka, wr_dim kb, wr_dim other) {
    wr_str s = {0};
    wr_shape_explain(c->g, ka, &s);
    wr_str_add(&s, " and ");
    wr_shape_explain(c->g, kb, &s);
    const char *hint = wr_dim_eq(c->g, ka, other)
                           ? (c->attr[TRANS_B].i ? "did you mean wr_matmul without the transpose?"
                                                 : "did you mean wr_matmul_nt (b transposed)?")
                           : NULL;
    wr_shape_fail(c, RULE, hint, "inner dimensions differ (%s)", wr_str_text(&s));
    wr_str_free(&s);
    return false;
}

static bool product_shape(wr_shape_ctx *c) {
    wr_type a = wr_type_of(c->in[0]), b = wr_type_of(c->in[1]);
    bool ta = c->attr[TRANS_A].i, tb = c->attr[TRANS_B].i;
    if (a.rank < 2 || b.rank < 2 || (b.rank != 2 && b.rank != a.rank))
        return wr_shape_fail(c, RULE, NULL, "operands with %d and %d axes", a.rank, b.rank);
    if (ta && b.rank == 2 && a.rank > 2)
        return wr_shape_fail(c, RULE, "reshape a to two axes first",
                             "a transposed stack of matrices with one b");
    if (!wr_shape_needs_float(c, 0)) return false;
    wr_dim m = a.dim[a.rank - (ta ? 1 : 2)], ka = a.dim[a.rank - (ta ? 2 : 1)];
    wr_dim kb = b.dim[b.rank - (tb ? 1 : 2)], n = b.dim[b.rank - (tb ? 2 : 1)];
    if (!wr_dim_eq(c->g, ka, kb)) return inner_differ(c, ka, kb, n);
    for (int i = 0; b.rank > 2 && i < a.rank - 2; i++)
        if (!wr_dim_eq(c->g, a.dim[i], b.dim[i]))
            return wr_shape_fail(c, RULE, NULL, "leading sizes differ on axis %d", i);
    c->out[0] = a;
    c->out[0].dim[a.rank - 2] = m;
    c->out[0].dim[a.rank - 1] = n;
    return true;
}

static bool linear_shape(wr_shape_ctx *c) {
    if (!product_shape(c)) return false;
    wr_type bias = wr_type_of(c->in[2]);
    if (bias.rank == 1 && wr_dim_eq(c->g, bias.dim[0], c->out[0].dim[c->out[0].rank - 1]))
        return true;
    return wr_shape_fail(c, "x [.., K], W [K, N], bias [N]", NULL, "the bias does not fit");
}

static bool matmul_add_shape(wr_shape_ctx *c) {
    if (!product_shape(c)) return false;
    wr_type t = wr_type_of(c->in[2]);
    if (wr_shape_equal(c->g, &t, &c->out[0])) return true;
    return wr_shape_fail(c, RULE, NULL, "the term to add has other sizes than the product");
}

/* ---- kernels ---- */

static wr_gemm_spec spec_of(const wr_call *c, int threads) {
    const wr_tensor *a = &c->in[0], *b = &c->in[1];
    bool ta = c->attr[TRANS_A].i, tb = c->attr[TRANS_B].i, shared = b->rank == 2;
    wr_gemm_spec s = {.dtype = a->dtype == WR_F32 ? WR_GEMM_F32 : WR_GEMM_F64,
                      .trans_a = ta,
                      .trans_b = tb,
                      .threads = threads};
    s.m = a->dim[a->rank - (ta ? 1 : 2)];
    s.k = a->dim[a->rank - (ta ? 2 : 1)];
    s.n = b->dim[b->rank - (tb ? 2 : 1)];
    s.batch = 1;
    if (shared) {
        s.m *= wr_extent(a, 0, a->rank - 2); /* one tall matrix */
    } else {
        s.batch = wr_extent(a, 0, a->rank - 2);
        s.stride_a = s.m * s.k;
        s.stride_b = s.k * s.n;
        s.stride_c = s.m * s.n;
    }
    return s;
}

static wr_status make_plan(wr_gemm_spec s, void **prepared, wr_error *err) {
    *prepared = wr_gemm_plan_new(&s, err);
    return *prepared != NULL ? WR_OK : WR_ERR_MEMORY;
}

static wr_status matmul_make(const wr_call *c, void **prepared) {
    return make_plan(spec_of(c, c->env->threads), prepared, c->env->err);
}

static wr_status linear_make(const wr_call *c, void **prepared) {
    static const wr_gemm_act act[] = {
        [WR_ACT_NONE] = WR_GEMM_LINEAR, [WR_ACT_RELU] = WR_GEMM_RELU, [WR_ACT_GELU] = WR_GEMM_GELU};
    wr_gemm_spec s = spec_of(c, c->env->threads);
    s.bias = true;
    s.act = act[c->attr[ACT].i];
    return make_plan(s, prepared, c->env->err);
}

static wr_status matmul_add_make(const wr_call *c, void **prepared) {
    wr_gemm_spec s = spec_of(c, c->env->threads);
    s.accumulate = true;
    return make_plan(s, prepared, c->env->err);
}

static void release(void *prepared) { wr_gemm_plan_free(prepared); }

static size_t workspace(const wr_call *c, const void *prepared) {
    (void)c;
    return wr_gemm_workspace(prepared);
}

static const wr_prepare matmul_prepare = {matmul_make, release, workspace};
static const wr_prepare linear_prepare = {linear_make, release, workspace};
static const wr_prepare matmul_add_prepare = {matmul_add_make, release, workspace};

static wr_status matmul_cpu(const wr_call *c) {
    wr_gemm_run(c->prepared, c->in[0].data, c->in[1].data, c->out[0].data, NULL, c->workspace);
    return WR_OK;
}

static wr_status linear_cpu(const wr_call *c) {
    wr_gemm_run(c->prepared, c->in[0].data, c->in[1].data, c->out[0].data, c->in[2].data,
                c->workspace);
    return WR_OK;
}

static wr_status matmul_add_cpu(const wr_call *c) {
    if (c->out[0].data != c->in[2].data)
        memcpy(c->out[0].data, c->in[2].data,
               (size_t)c->out[0].n * wr_dtype_bytes(c->out[0].dtype));
    return matmul_cpu(c);
}

static wr_cost product_cost(const wr_call *c) {
    wr_gemm_spec s = spec_of(c, 1);
    return (wr_cost){.flops = 2.0 * (double)s.batch * (double)s.m * (double)s.n * (double)s.k,
                     .bytes = wr_bytes_moved(c)};
}

/* ---- gradients ---- */

/* [.., M, N] as [M', N]. */
static wr flat(wr x) {
    wr_dim rows = wr_n(1);
    for (int i = 0; i < wr_rank(x) - 1; i++)
        rows = wr_dim_mul(x.g, rows, wr_dim_of(x, i));
    return wr_reshape(x, WR_DIMS(rows, wr_dim_of(x, -1)));
}

static bool matmul_grad(wr_grad_ctx *c) {
    wr a = c->in[0], b = c->in[1], y = c->cot[0];
    bool ta = c->attr[TRANS_A].i, tb = c->attr[TRANS_B].i;
    if (c->needed[0]) {
        wr da =
            ta ? wr_matmul_at(WR_HERE, b, y, tb, true) : wr_matmul_at(WR_HERE, y, b, false, !tb);
        if (!wr_contribute(c, 0, da)) return false;
    }
    if (!c->needed[1]) return true;
    if (wr_rank(b) == 2 && wr_rank(a) > 2) { /* one matrix for all: sum over the leading axes */
        a = flat(a);
        y = flat(y);
    }
    wr db = tb ? wr_matmul_at(WR_HERE, y, a, true, ta) : wr_matmul_at(WR_HERE, a, y, !ta, false);
    return wr_contribute(c, 1, db);
}

static bool linear_expand(wr_expand_ctx *c) {
    wr y = wr_matmul_at(WR_HERE, c->in[0], c->in[1], false, c->attr[TRANS_B].i);
    y = wr_add(y, c->in[2]);
    if (c->attr[ACT].i == WR_ACT_RELU) y = wr_relu(y);
    if (c->attr[ACT].i == WR_ACT_GELU) y = wr_gelu(y);
    c->out[0] = y;
    return y.id != 0;
}

static bool matmul_add_expand(wr_expand_ctx *c) {
    wr y = wr_matmul_at(WR_HERE, c->in[0], c->in[1], c->attr[TRANS_A].i, c->attr[TRANS_B].i);
    c->out[0] = wr_add(c->in[2], y);
    return c->out[0].id != 0;
}

/* ---- inverse ---- */

/* A number per matrix [..] for each of its n rows: [.., n]. */
static wr per_row(wr number, wr_dim n) {
    wr_type t = wr_type_of(number);
    t.dim[t.rank] = wr_n(1);
    wr one = wr_reshape(number, t.rank + 1, t.dim);
    t.dim[t.rank] = n;
    return wr_broadcast(one, t.rank + 1, t.dim);
}

/* log |det w| for each row of x, or a share of it for each element where rows are columns. */
static bool enter_rows(wr_inverse_ctx *c, wr w) {
    if (c->attr[TRANS_A].i) return wr_inverse_term(c, 0, wr_matrix_share(w, c->in[0]));
    wr number = wr_matrix_log_det(w);
    if (wr_rank(w) > 2) number = per_row(number, wr_dim_of(c->out[0], -2));
    return wr_inverse_term_leading(c, 0, number, wr_rank(c->in[0]) - 1);
}

/* y = op(x) w: each row of op(x) is solved from a row of y. */
static bool solve_rows(wr_inverse_ctx *c) {
    bool ta = c->attr[TRANS_A].i, tb = c->attr[TRANS_B].i;
    wr w = c->x[1], back = wr_matrix_inverse_of(w);
    wr x = ta ? wr_matmul_at(WR_HERE, back, c->y[0], !tb, true)
              : wr_matmul_at(WR_HERE, c->y[0], back, false, tb);
    return enter_rows(c, w) && wr_inverse_solve(c, 0, x).id != 0;
}

/* y = a op(x): each column of op(x) from a column of y. */
static bool solve_columns(wr_inverse_ctx *c) {
    bool ta = c->attr[TRANS_A].i, tb = c->attr[TRANS_B].i;
    wr a = c->x[0], back = wr_matrix_inverse_of(a);
    wr x = tb ? wr_matmul_at(WR_HERE, c->y[0], back, true, !ta)
              : wr_matmul_at(WR_HERE, back, c->y[0], ta, false);
    return wr_inverse_term(c, 1, wr_matrix_share(a, c->in[1])) && wr_inverse_solve(c, 1, x).id != 0;
}

static bool matmul_inverse(wr_inverse_ctx *c) {
    bool first = wr_is_poison(c->x[0]);
    wr known = c->in[first ? 1 : 0];
    if (first && wr_is_poison(c->x[1]))
        return wr_inverse_wait(c, "neither of its operands is known: it mixes two unknowns");
    if (!wr_dim_eq(c->g, wr_dim_of(known, -1), wr_dim_of(known, -2)))
        return wr_inverse_wait(c, "a product with a matrix that is not square has no inverse");
    if (!first && wr_rank(c->in[1]) < wr_rank(c->in[0]))
        return wr_inverse_wait(c, "the unknown matrix serves the whole stack: over-determined");
    return first ? solve_rows(c) : solve_columns(c);
}

/* ---- samples ---- */

typedef struct operands {
    wr a, b, c;
    bool ta, tb;
} operands;

/* Variants: plain in the four transpositions, batched in the four, one b for a stack of a, large.
 */
static bool sample_operands(wr_sample *s, operands *o) {
    int v = s->variant;
    if (v > 9) return false;
    bool batched = v >= 4 && v < 8, stack = v == 8, large = v == 9;
    int64_t m = wr_sample_int(s, 1, 5), k = wr_sample_int(s, 1, 6), n = wr_sample_int(s, 1, 7);
    if (large) {
        m = 97; /* enough work for two threads */
        k = 65;
        n = 101;
    }
    o->ta = v < 8 && (v & 1);
    o->tb = v < 8 && (v & 2);
    int64_t a[3] = {batched || stack ? 3 : 1, o->ta ? k : m, o->ta ? m : k};
    int64_t b[3] = {3, o->tb ? n : k, o->tb ? k : n}, c[3] = {a[0], m, n};
    int skip_a = batched || stack ? 0 : 1, skip_b = batched ? 0 : 1;
    o->a = s->input(s, WR_FILL_REAL, 0, 3 - skip_a, a + skip_a);
    o->b = s->input(s, WR_FILL_REAL, 0, 3 - skip_b, b + skip_b);
    o->c = s->input(s, WR_FILL_REAL, 0, 3 - skip_a, c + skip_a);
    return true;
}

static wr matmul_sample(wr_sample *s) {
    operands o;
    if (!sample_operands(s, &o)) return (wr){s->g, 0};
    return wr_matmul_at(WR_HERE, o.a, o.b, o.ta, o.tb);
}

static wr matmul_add_sample(wr_sample *s) {
    operands o;
    if (!sample_operands(s, &o)) return (wr){s->g, 0};
    return wr_matmul_add_at(WR_HERE, o.a, o.b, o.c, o.ta, o.tb);
}

static wr linear_sample(wr_sample *s) {
    if (s->variant > 5) return (wr){s->g, 0};
    int64_t x[3] = {2, wr_sample_int(s, 1, 4), wr_sample_int(s, 1, 5)}, n = wr_sample_int(s, 1, 6);
    bool trans = s->variant & 1;
    int64_t w[2] = {trans ? n : x[2], trans ? x[2] : n};
    return wr_linear_at(WR_HERE, s->input(s, WR_FILL_APART, 0, 3, x),
                        s->input(s, WR_FILL_APART, 0, 2, w), s->input(s, WR_FILL_APART, 0, 1, &n),
                        trans, (wr_act)(s->variant / 2));
}

#define PRODUCT_ATTRS                                                                              \
    {"trans_a", WR_ATTR_BOOL}, { "trans_b", WR_ATTR_BOOL }
#define FUSED .no_inverse = "made after inversion, by fusion"

const wr_op wr_op_matmul = {.name = "matmul",
                            .doc = RULE,
                            .n_in = 2,
                            .attrs = {PRODUCT_ATTRS},
                            .shape = product_shape,
                            .cost = product_cost,
                            .cpu = matmul_cpu,
                            .prepare = &matmul_prepare,
                            .grad = matmul_grad,
                            .sample = matmul_sample,
                            .inverse = matmul_inverse};
const wr_op wr_op_linear = {.name = "linear",
                            .doc = "act(x W + bias)",
                            .n_in = 3,
                            .attrs = {PRODUCT_ATTRS, {"act", WR_ATTR_INT}},
                            .shape = linear_shape,
                            .cost = product_cost,
                            .cpu = linear_cpu,
                            .prepare = &linear_prepare,
                            .expand = linear_expand,
                            .sample = linear_sample,
                            FUSED};
const wr_op wr_op_matmul_add = {.name = "matmul_add",
                                .doc = "c + a b",
                                .n_in = 3,
                                .attrs = {PRODUCT_ATTRS},
                                .shape = matmul_add_shape,
                                .cost = product_cost,
                                .cpu = matmul_add_cpu,
                                .prepare = &matmul_add_prepare,
                                .expand = matmul_add_expand,
                                .inplace = 3,
                                .sample = matmul_add_sample,
                                FUSED};
