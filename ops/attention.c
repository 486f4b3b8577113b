/* attention.c: the rows of attention; ops/cpu/attention.h has the kernels. */
#include "ops/attention.h"

#include "ops/cpu/attention.h"
#include "ops/elementwise.h"
#include "ops/index.h"
#include "ops/layout.h"
#include "ops/matmul.h"
#include "ops/random_ops.h"
#include "ops/reduce.h"
#include "ops/shape.h"
#include "ops/slice.h"
#include "ops/softmax.h"

#include <math.h>
#include <omp.h>

enum { HEADS, CAUSAL, SCALE, DROPOUT, STREAM, N_ATTRS, JOINED = N_ATTRS };
#define ATTRS                                                                                      \
    {"heads", WR_ATTR_INT}, {"causal", WR_ATTR_BOOL}, {"scale", WR_ATTR_REAL},                     \
        {"dropout", WR_ATTR_REAL}, {                                                               \
        "stream", WR_ATTR_INT                                                                      \
    }

enum { PARALLEL_FLOPS = 200000 };
static const double LOWEST = -1e30; /* stands for minus infinity where 0 times it must be 0 */

wr wr_attention_with_at(wr_loc loc, wr q, wr k, wr v, const wr *lengths,
                        const wr_attention_options *o) {
    wr in[4] = {q, k, v, lengths == NULL ? q : *lengths};
    wr_attr attr[N_ATTRS] = {{.i = o->heads}, {.i = o->causal}, {.r = o->scale}, {.r = o->dropout}};
    if (wr_is_poison(q)) return q;
    wr_dim d = wr_dim_of(q, -1);
    if (o->scale == 0 && wr_dim_is_literal(d) && o->heads > 0)
        attr[SCALE].r = 1 / sqrt((double)wr_dim_literal(d) / o->heads);
    attr[STREAM].i = o->dropout > 0 ? wr_next_stream(q.g) : 0;
    return wr_emit(loc, &wr_op_attention, lengths == NULL ? 3 : 4, in, attr);
}

/* ---- shapes ---- */

static bool options_fit(wr_shape_ctx *c, wr_dim width) {
    int64_t heads = c->attr[HEADS].i;
    double p = c->attr[DROPOUT].r;
    if (!wr_dim_is_literal(width) || heads < 1 || wr_dim_literal(width) % heads != 0)
        return wr_shape_fail(c, "D is a fixed multiple of the number of heads", NULL, "%lld heads",
                             (long long)heads);
    if (!(p >= 0 && p * 65536.0 + 0.5 < 65536.0))
        return wr_shape_fail(c, "0 <= dropout < 1", NULL, "dropout is %g", p);
    return true;
}

/* q, k and v are the first three operands, lengths [B] the operand of that number, if any. */
static bool operands_fit(wr_shape_ctx *c, int lengths) {
    wr_type q = wr_type_of(c->in[0]), k = wr_type_of(c->in[1]), v = wr_type_of(c->in[2]);
    bool ok = q.rank == 3 && q.dtype != WR_I32 && q.dtype == k.dtype &&
              wr_shape_equal(c->g, &k, &v) && k.rank == 3 && wr_dim_eq(c->g, q.dim[0], k.dim[0]) &&
              wr_dim_eq(c->g, q.dim[2], k.dim[2]);
    if (!ok)
        return wr_shape_fail(c, "q [B, T, D], k [B, S, D], v [B, S, D]", NULL,
                             "sizes or types do not fit");
    if (c->attr[CAUSAL].i && !wr_dim_eq(c->g, q.dim[1], k.dim[1]))
        return wr_shape_fail(c, "causal attention has T = S",
                             "in decoding, pass the number of keys so far as lengths",
                             "there are other queries than keys");
    if (lengths >= 0) {
        wr_type want = {.dtype = WR_I32, .rank = 1, .dim = {q.dim[0]}};
        wr_type t = wr_type_of(c->in[lengths]);
        if (!wr_shape_equal(c->g, &t, &want))
            return wr_shape_fail(c, "key lengths [B] i32", NULL, "operand %c does not fit",
                                 'a' + lengths);
    }
    return options_fit(c, q.dim[2]);
}

static wr_type row_type(const wr_shape_ctx *c) {
    wr_type q = wr_type_of(c->in[0]);
    return (wr_type){
        .dtype = q.dtype, .rank = 3, .dim = {q.dim[0], wr_n(c->attr[HEADS].i), q.dim[1]}};
}

static bool attention_shape(wr_shape_ctx *c) {
    if (!operands_fit(c, c->n_in == 4 ? 3 : -1)) return false;
    c->out[0] = wr_type_of(c->in[0]);
    c->out[1] = row_type(c);
    return true;
}

/* Operands of the gradient row: q, k, v, lse, cot, then lengths (i32) and the cotangent of the
 * log-sum-exp (float), each optional. */
enum { Q, K, V, LSE, COT, FIRST_OPTION };

static int find_option(int n_in, const wr *in, bool whole) {
    for (int k = FIRST_OPTION; k < n_in; k++)
        if ((wr_dtype_of(in[k]) == WR_I32) == whole) return k;
    return -1;
}

static bool attention_grad_shape(wr_shape_ctx *c) {
    int lengths = find_option(c->n_in, c->in, true), extra = find_option(c->n_in, c->in, false);
    if (!operands_fit(c, lengths)) return false;
    wr_type row = row_type(c), q = wr_type_of(c->in[Q]), cot = wr_type_of(c->in[COT]);
    wr_type lse = wr_type_of(c->in[LSE]), cot_lse = extra < 0 ? row : wr_type_of(c->in[extra]);
    if (!wr_shape_equal(c->g, &lse, &row) || !wr_shape_equal(c->g, &cot_lse, &row) ||
        !wr_shape_equal(c->g, &cot, &q) || c->n_in - FIRST_OPTION != (lengths >= 0) + (extra >= 0))
        return wr_shape_fail(c, c->op->doc, NULL, "sizes or types do not fit");
    for (int k = 0; k < 3; k++)
        c->out[k] = wr_type_of(c->in[k]);
    return true;
}

/* ---- operands side by side ---- */

static const char JOINED_RULE[] = "qkv [B, T, 3 D], or q [B, T, D] and kv [B, S, 2 D]";

/* Number of operands before the others; and what they stand for, apart. */
static int n_joined(const wr_attr *attr) { return attr[JOINED].i == 3 ? 1 : 2; }

/* The type of q, or of k and v, by the operands. False when a joined one does not divide. */
static bool types_apart(wr_shape_ctx *c, wr_type *q, wr_type *k) {
    int64_t parts = c->attr[JOINED].i;
    *q = *k = wr_type_of(c->in[parts == 3 ? 0 : 1]);
    if ((parts != 2 && parts != 3) || k->rank != 3 || k->dtype == WR_I32) return false;
    k->dim[2] = wr_dim_div(c->g, k->dim[2], wr_n(parts));
    *q = parts == 3 ? *k : wr_type_of(c->in[0]);
    return k->dim[2].id != 0 && q->rank == 3 && q->dtype == k->dtype &&
           wr_dim_eq(c->g, q->dim[0], k->dim[0]) && wr_dim_eq(c->g, q->dim[2], k->dim[2]);
}

static bool joined_operands_fit(wr_shape_ctx *c, int lengths, wr_type *q) {
    wr_type k;
    if (!types_apart(c, q, &k))
        return wr_shape_fail(c, JOINED_RULE, NULL, "sizes or types do not fit");
    if (c->attr[CAUSAL].i && !wr_dim_eq(c->g, q->dim[1], k.dim[1]))
        return wr_shape_fail(c, JOINED_RULE, NULL, "causal attention has T = S");
    wr_type want = {.dtype = WR_I32, .rank = 1, .dim = {q->dim[0]}};
    wr_type t = lengths < 0 ? want : wr_type_of(c->in[lengths]);
    if (!wr_shape_equal(c->g, &t, &want))
        return wr_shape_fail(c, "key lengths [B] i32", NULL, "operand %c does not fit",
                             'a' + lengths);
    return options_fit(c, q->dim[2]);
}

static wr_type row_of(const wr_shape_ctx *c, const wr_type *q) {
    return (wr_type){
        .dtype = q->dtype, .rank = 3, .dim = {q->dim[0], wr_n(c->attr[HEADS].i), q->dim[1]}};
}

static bool joined_shape(wr_shape_ctx *c) {
    int n = n_joined(c->attr);
    if (c->n_in != n && c->n_in != n + 1)
        return wr_shape_fail(c, JOINED_RULE, NULL, "%d operands", c->n_in);
    if (!joined_operands_fit(c, c->n_in > n ? n : -1, &c->out[0])) return false;
    c->out[1] = row_of(c, &c->out[0]);
    return true;
}

/* Operands of the gradient: the joined ones, lse, cot, then lengths and the cotangent of lse. */
static int find_joined_option(const wr_attr *attr, int n_in, const wr *in, bool whole) {
    for (int k = n_joined(attr) + 2; k < n_in; k++)
        if ((wr_dtype_of(in[k]) == WR_I32) == whole) return k;
    return -1;
}

static bool joined_grad_shape(wr_shape_ctx *c) {
    int n = n_joined(c->attr);
    int lengths = find_joined_option(c->attr, c->n_in, c->in, true);
    int extra = find_joined_option(c->attr, c->n_in, c->in, false);
    wr_type q;
    if (c->n_in != n + 2 + (lengths >= 0) + (extra >= 0))
        return wr_shape_fail(c, JOINED_RULE, NULL, "%d operands", c->n_in);
    if (!joined_operands_fit(c, lengths, &q)) return false;
    wr_type row = row_of(c, &q), lse = wr_type_of(c->in[n]), cot = wr_type_of(c->in[n + 1]);
    wr_type cot_lse = extra < 0 ? row : wr_type_of(c->in[extra]);
    if (!wr_shape_equal(c->g, &lse, &row) || !wr_shape_equal(c->g, &cot_lse, &row) ||
        !wr_shape_equal(c->g, &cot, &q))
        return wr_shape_fail(c, c->op->doc, NULL, "sizes or types do not fit");
    c->n_out = n;
    for (int k = 0; k < n; k++)
        c->out[k] = wr_type_of(c->in[k]);
    return true;
}

/* ---- kernels ---- */

static wr__attention common(const wr_call *c) {
    const wr_tensor *q = &c->in[Q], *k = &c->in[K];
    wr__attention a = {.b = q->dim[0],
                       .t = q->dim[1],
                       .s = k->dim[1],
                       .width = q->dim[2],
                       .heads = c->attr[HEADS].i,
                       .causal = c->attr[CAUSAL].i != 0,
                       .scale = c->attr[SCALE].r,
                       .dropout = c->attr[DROPOUT].r,
                       .q = q->data,
                       .k = k->data,
                       .v = c->in[V].data};
    a.dh = a.width / a.heads;
    a.q_ld = a.k_ld = a.dq_ld = a.dk_ld = a.width;
    return a;
}

/* The same for rows whose operands lie side by side: qkv [B, T, 3 D], or q [B, T, D] and kv
 * [B, S, 2 D]. */
static wr__attention common_joined(const wr_call *c) {
    const wr_tensor *q = &c->in[0], *kv = &c->in[c->attr[JOINED].i == 3 ? 0 : 1];
    int64_t parts = c->attr[JOINED].i, width = kv->dim[2] / parts;
    size_t part = (size_t)width * wr_dtype_bytes(q->dtype);
    const char *keys = (const char *)kv->data;
    if (keys != NULL && parts == 3) keys += part;
    return (wr__attention){.b = q->dim[0],
                           .t = q->dim[1],
                           .s = kv->dim[1],
                           .width = width,
                           .heads = c->attr[HEADS].i,
                           .dh = width / c->attr[HEADS].i,
                           .q_ld = q->dim[2],
                           .k_ld = kv->dim[2],
                           .dq_ld = q->dim[2],
                           .dk_ld = kv->dim[2],
                           .causal = c->attr[CAUSAL].i != 0,
                           .scale = c->attr[SCALE].r,
                           .dropout = c->attr[DROPOUT].r,
                           .q = q->data,
                           .k = keys,
                           .v = keys == NULL ? NULL : keys + part};
}

static size_t scratch_bytes(const wr_call *c, const wr__attention *a) {
    size_t n =
        c->in[0].dtype == WR_F32 ? wr__attention_scratch_f32(a) : wr__attention_scratch_f64(a);
    return (n + 255) / 256 * 256;
}

static wr_cost cost_of(const wr_call *c, wr__attention a, double products) {
    int threads = c->env->threads < 1 ? 1 : c->env->threads;
    return (wr_cost){.flops = products * 2.0 * (double)a.b * (double)(a.t * a.s * a.width),
                     .bytes = wr_bytes_moved(c),
                     .workspace = scratch_bytes(c, &a) * (size_t)threads};
}
static wr_cost attention_cost(const wr_call *c) { return cost_of(c, common(c), 2); }
static wr_cost attention_grad_cost(const wr_call *c) { return cost_of(c, common(c), 5); }
static wr_cost joined_cost(const wr_call *c) { return cost_of(c, common_joined(c), 2); }
static wr_cost joined_grad_cost(const wr_call *c) { return cost_of(c, common_joined(c), 5); }

static wr_status check_lengths(const wr_call *c, const wr__attention *a) {
    for (int64_t b = 0; a->lengths != NULL && b < a->b; b++)
        if (a->lengths[b] < 0 || a->lengths[b] > a->s)
            return wr_fail(c->env->err, WR_ERR_INPUT,
                           "attention: length %d of sequence %lld is outside [0, %lld]",
                           (int)a->lengths[b], (long long)b, (long long)a->s);
    return WR_OK;
}

typedef void (*head_fn)(const wr__attention *a, int64_t b, int64_t h, void *scratch);

static wr_status each_head(const wr_call *c, wr__attention *a, double products, head_fn f) {
    wr_status status = check_lengths(c, a);
    if (status != WR_OK) return status;
    size_t scratch = scratch_bytes(c, a);
    int64_t heads = a->b * a->heads;
    bool parallel = products * 2.0 * (double)(a->b * a->t * a->s * a->width) >= PARALLEL_FLOPS;
    if (a->dropout > 0)
        a->random = wr_random_stream(c->env->seed, c->env->step, (uint64_t)c->attr[STREAM].i);
#pragma omp parallel for num_threads(c->env->threads) schedule(static) if (parallel)
    for (int64_t i = 0; i < heads; i++)
        f(a, i / a->heads, i % a->heads,
          (char *)c->workspace + scratch * (size_t)omp_get_thread_num());
    return WR_OK;
}

static wr_status attention_cpu(const wr_call *c) {
    wr__attention a = common(c);
    a.lengths = c->n_in == 4 ? c->in[3].data : NULL;
    a.out = c->out[0].data;
    a.lse = c->out[1].data;
    return each_head(
        c, &a, 2, c->in[0].dtype == WR_F32 ? wr__attention_forward_f32 : wr__attention_forward_f64);
}

static wr_status attention_grad_cpu(const wr_call *c) {
    wr__attention a = common(c);
    a.lse_in = c->in[LSE].data;
    a.cot = c->in[COT].data;
    for (int k = FIRST_OPTION; k < c->n_in; k++) {
        if (c->in[k].dtype == WR_I32)
            a.lengths = c->in[k].data;
        else
            a.cot_lse = c->in[k].data;
    }
    a.dq = c->out[0].data;
    a.dk = c->out[1].data;
    a.dv = c->out[2].data;
    return each_head(c, &a, 5,
                     c->in[0].dtype == WR_F32 ? wr__attention_backward_f32
                                              : wr__attention_backward_f64);
}

static wr_status joined_cpu(const wr_call *c) {
    wr__attention a = common_joined(c);
    int n = n_joined(c->attr);
    a.lengths = c->n_in > n ? c->in[n].data : NULL;
    a.out = c->out[0].data;
    a.lse = c->out[1].data;
    return each_head(
        c, &a, 2, c->in[0].dtype == WR_F32 ? wr__attention_forward_f32 : wr__attention_forward_f64);
}

static wr_status joined_grad_cpu(const wr_call *c) {
    wr__attention a = common_joined(c);
    int n = n_joined(c->attr);
    size_t part = (size_t)a.width * wr_dtype_bytes(c->in[0].dtype);
    a.lse_in = c->in[n].data;
    a.cot = c->in[n + 1].data;
    for (int k = n + 2; k < c->n_in; k++) {
        if (c->in[k].dtype == WR_I32)
            a.lengths = c->in[k].data;
        else
            a.cot_lse = c->in[k].data;
    }
    a.dq = c->out[0].data;
    char *keys = c->out[n - 1].data;
    if (keys != NULL && n == 1) keys += part;
    a.dk = keys;
    a.dv = keys == NULL ? NULL : keys + part;
    return each_head(c, &a, 5,
                     c->in[0].dtype == WR_F32 ? wr__attention_backward_f32
                                              : wr__attention_backward_f64);
}

/* ---- expansions: heads apart, [B, H, T, dh] ---- */

typedef struct apart {
    wr q, k, v; /* [B, H, T, dh], [B, H, S, dh] */
    wr scores;  /* [B, H, T, S], scaled */
    wr mask;    /* fits the scores; meaningful when `masked` */
    bool masked;
} apart;

static wr split(wr x, int64_t heads) {
    wr_type t = wr_type_of(x);
    wr_dim dh = wr_n(wr_dim_literal(t.dim[2]) / heads);
    return wr_permute(wr_reshape(x, WR_DIMS(t.dim[0], t.dim[1], wr_n(heads), dh)), 0, 2, 1, 3);
}

static wr join(wr x, wr like) {
    wr_type t = wr_type_of(like);
    return wr_reshape(wr_permute(x, 0, 2, 1, 3), t.rank, t.dim);
}

/* 1 where key s <= query t: [T, S] */
static wr causal_mask(wr scores) {
    wr_dim t = wr_dim_of(scores, 2), s = wr_dim_of(scores, 3);
    wr_dtype type = wr_dtype_of(scores);
    wr query = wr_reshape(wr_iota(scores.g, t, type), WR_DIMS(t, wr_n(1)));
    wr key = wr_broadcast(wr_iota(scores.g, s, type), WR_DIMS(t, s));
    return wr_less(key, wr_shift(wr_broadcast(query, WR_DIMS(t, s)), 0.5));
}

static apart take_apart(const wr_expand_ctx *c, const wr *lengths) {
    int64_t heads = c->attr[HEADS].i;
    apart x = {
        .q = split(c->in[Q], heads), .k = split(c->in[K], heads), .v = split(c->in[V], heads)};
    x.scores = wr_scale(wr_matmul_nt(x.q, x.k), c->attr[SCALE].r);
    wr causal = {0};
    if (wr_is_poison(x.scores)) return x;
    if (c->attr[CAUSAL].i) x.mask = causal = causal_mask(x.scores);
    x.masked = c->attr[CAUSAL].i || lengths != NULL;
    if (lengths == NULL) return x;
    wr_dim b = wr_dim_of(x.scores, 0), t = wr_dim_of(x.scores, 2), s = wr_dim_of(x.scores, 3);
    x.mask = wr_reshape(wr_sequence_mask(*lengths, s, wr_dtype_of(x.scores)),
                        WR_DIMS(b, wr_n(1), wr_n(1), s));
    if (c->attr[CAUSAL].i) x.mask = wr_mul(wr_broadcast(x.mask, WR_DIMS(b, wr_n(1), t, s)), causal);
    return x;
}

static wr drop(const wr_expand_ctx *c, wr x) {
    if (c->attr[DROPOUT].r == 0) return x;
    return wr_emit(WR_HERE, &wr_op_dropout, 1, &x, (wr_attr[]){c->attr[DROPOUT], c->attr[STREAM]});
}

static bool attention_expand(wr_expand_ctx *c) {
    apart x = take_apart(c, c->n_in == 4 ? &c->in[3] : NULL);
    wr p = x.masked ? wr_softmax_masked(x.scores, x.mask) : wr_softmax(x.scores);
    c->out[0] = join(wr_matmul(drop(c, p), x.v), c->in[Q]);
    c->out[1] = x.masked ? wr_logsumexp_masked(x.scores, x.mask) : wr_logsumexp(x.scores);
    return !wr_is_poison(c->out[0]);
}

static bool attention_grad_expand(wr_expand_ctx *c) {
    int lengths = find_option(c->n_in, c->in, true), extra = find_option(c->n_in, c->in, false);
    apart x = take_apart(c, lengths < 0 ? NULL : &c->in[lengths]);
    wr cot = split(c->in[COT], c->attr[HEADS].i);
    wr z = wr_sub(x.scores, wr__repeat_last(c->in[LSE], x.scores));
    if (x.masked)
        z = wr_select(wr_broadcast_like(x.mask, z), z, wr_scalar(c->g, wr_dtype_of(z), LOWEST));
    wr p = wr_exp(z), dp = drop(c, wr_matmul_nt(cot, x.v));
    wr delta = wr_sum(wr_mul(p, dp), -1);
    if (extra >= 0) delta = wr_sub(delta, c->in[extra]);
    wr ds = wr_scale(wr_mul(p, wr_sub(dp, wr__repeat_last(delta, dp))), c->attr[SCALE].r);
    c->out[0] = join(wr_matmul(ds, x.k), c->in[Q]);
    c->out[1] = join(wr_matmul_tn(ds, x.q), c->in[K]);
    c->out[2] = join(wr_matmul_tn(drop(c, p), cot), c->in[V]);
    return !wr_is_poison(c->out[0]);
}

static bool attention_grad_rule(wr_grad_ctx *c) {
    wr cot = wr_is_poison(c->cot[0]) ? wr_zeros_like(c->out[0]) : c->cot[0];
    wr in[FIRST_OPTION + 2] = {c->in[Q], c->in[K], c->in[V], c->out[1], cot};
    int n = FIRST_OPTION;
    if (c->n_in == 4) in[n++] = c->in[3];
    if (!wr_is_poison(c->cot[1])) in[n++] = c->cot[1];
    wr d = wr_emit(WR_HERE, &wr_op_attention_grad, n, in, c->attr);
    return wr_contribute(c, Q, d) && wr_contribute(c, K, wr_output(d, 1)) &&
           wr_contribute(c, V, wr_output(d, 2));
}

/* q, k and v of joined operands. */
static bool take_parts(const wr_expand_ctx *c, wr part[3]) {
    if (c->attr[JOINED].i == 3) return wr_split(c->in[0], -1, 3, part);
    part[0] = c->in[0];
    return wr_split(c->in[1], -1, 2, part + 1);
}

static bool joined_expand(wr_expand_ctx *c) {
    wr in[4];
    int n = n_joined(c->attr);
    if (!take_parts(c, in)) return false;
    if (c->n_in > n) in[3] = c->in[n];
    wr y = wr_emit(WR_HERE, &wr_op_attention, 3 + c->n_in - n, in, c->attr);
    c->out[0] = y;
    c->out[1] = wr_output(y, 1);
    return !wr_is_poison(y);
}

static bool joined_grad_expand(wr_expand_ctx *c) {
    wr in[FIRST_OPTION + 2];
    int n = n_joined(c->attr);
    if (!take_parts(c, in)) return false;
    for (int k = n; k < c->n_in; k++)
        in[LSE + k - n] = c->in[k];
    wr d = wr_emit(WR_HERE, &wr_op_attention_grad, LSE + c->n_in - n, in, c->attr);
    if (wr_is_poison(d)) return false;
    wr dk = wr_output(d, 1), dv = wr_output(d, 2);
    c->out[0] = n == 1 ? wr_concat(-1, d, dk, dv) : d;
    if (n == 2) c->out[1] = wr_concat(-1, dk, dv);
    return !wr_is_poison(c->out[n - 1]);
}

/* ---- samples ---- */

typedef struct sample {
    int64_t b, t, s, heads, dh;
    bool causal, lengths;
    double dropout;
} sample;

/* Odd sizes; one query (decoding); whole vectors; several blocks of queries; many heads. */
static const sample SAMPLES[] = {
    {2, 3, 5, 1, 3, false, false, 0},    {3, 4, 7, 2, 5, false, true, 0},
    {2, 6, 6, 2, 3, true, false, 0},     {4, 1, 9, 2, 16, false, true, 0},
    {2, 7, 7, 1, 8, true, true, 0},      {2, 5, 9, 3, 4, false, true, 0.25},
    {1, 70, 70, 1, 4, true, false, 0.1}, {1, 66, 67, 2, 2, false, true, 0},
    {8, 11, 23, 4, 8, false, true, 0},
};
enum { N_SAMPLES = sizeof SAMPLES / sizeof *SAMPLES };

static int sample_operands(wr_sample *s, const sample *z, wr *in, wr_attr *attr) {
    int64_t q[3] = {z->b, z->t, z->heads * z->dh}, k[3] = {z->b, z->s, z->heads * z->dh};
    attr[HEADS].i = z->heads;
    attr[CAUSAL].i = z->causal;
    attr[SCALE].r = 1 / sqrt((double)z->dh);
    attr[DROPOUT].r = z->dropout;
    attr[STREAM].i = z->dropout > 0 ? wr_next_stream(s->g) : 0;
    in[Q] = s->input(s, WR_FILL_REAL, 0, 3, q);
    in[K] = s->input(s, WR_FILL_REAL, 0, 3, k);
    in[V] = s->input(s, WR_FILL_REAL, 0, 3, k);
    return 3;
}

/* Samples of sequences with themselves stay a key short of S, where lengths of the queries'
 * sequences would also say which queries are padding. */
static wr sample_lengths(wr_sample *s, const sample *z, bool of_queries) {
    return s->input(s, WR_FILL_LENGTH, of_queries ? z->s - 1 : z->s, 1, &z->b);
}

static wr attention_sample(wr_sample *s) {
    wr in[4];
    wr_attr attr[N_ATTRS];
    if (s->variant >= N_SAMPLES) return (wr){s->g, 0};
    const sample *z = &SAMPLES[s->variant];
    int n = sample_operands(s, z, in, attr);
    if (z->lengths) in[n++] = sample_lengths(s, z, z->causal);
    return wr_emit(WR_HERE, &wr_op_attention, n, in, attr);
}

static wr attention_grad_sample(wr_sample *s) {
    wr in[FIRST_OPTION + 2];
    wr_attr attr[N_ATTRS];
    if (s->variant >= N_SAMPLES) return (wr){s->g, 0};
    const sample *z = &SAMPLES[s->variant];
    int64_t rows[3] = {z->b, z->heads, z->t}, q[3] = {z->b, z->t, z->heads * z->dh};
    int n = sample_operands(s, z, in, attr);
    in[n++] = s->input(s, WR_FILL_POSITIVE, 0, 3, rows);
    in[n++] = s->input(s, WR_FILL_REAL, 0, 3, q);
    if (z->lengths) in[n++] = sample_lengths(s, z, z->causal);
    if (s->variant % 2 == 1) in[n++] = s->input(s, WR_FILL_REAL, 0, 3, rows);
    return wr_emit(WR_HERE, &wr_op_attention_grad, n, in, attr);
}

/* Joined operands in the place of q, k and v: kv first, then qkv for all samples with T = S. */
static int sample_joined(wr_sample *s, sample *z, wr *in, wr_attr *attr) {
    *z = SAMPLES[s->variant % N_SAMPLES];
    int64_t parts = s->variant < N_SAMPLES ? 2 : 3, width = z->heads * z->dh;
    if (parts == 3) z->s = z->t;
    int64_t q[3] = {z->b, z->t, parts == 3 ? 3 * width : width}, kv[3] = {z->b, z->s, 2 * width};
    attr[HEADS].i = z->heads;
    attr[CAUSAL].i = z->causal;
    attr[SCALE].r = 1 / sqrt((double)z->dh);
    attr[DROPOUT].r = z->dropout;
    attr[STREAM].i = z->dropout > 0 ? wr_next_stream(s->g) : 0;
    attr[JOINED].i = parts;
    in[0] = s->input(s, WR_FILL_REAL, 0, 3, q);
    if (parts == 2) in[1] = s->input(s, WR_FILL_REAL, 0, 3, kv);
    return n_joined(attr);
}

static wr joined_sample(wr_sample *s) {
    wr in[3];
    wr_attr attr[N_ATTRS + 1];
    sample z;
    if (s->variant >= 2 * N_SAMPLES) return (wr){s->g, 0};
    int n = sample_joined(s, &z, in, attr);
    if (z.lengths) in[n++] = sample_lengths(s, &z, z.causal || attr[JOINED].i == 3);
    return wr_emit(WR_HERE, &wr_op_attention_joined, n, in, attr);
}

static wr joined_grad_sample(wr_sample *s) {
    wr in[FIRST_OPTION + 2];
    wr_attr attr[N_ATTRS + 1];
    sample z;
    if (s->variant >= 2 * N_SAMPLES) return (wr){s->g, 0};
    int n = sample_joined(s, &z, in, attr);
    int64_t rows[3] = {z.b, z.heads, z.t}, cot[3] = {z.b, z.t, z.heads * z.dh};
    in[n++] = s->input(s, WR_FILL_POSITIVE, 0, 3, rows);
    in[n++] = s->input(s, WR_FILL_REAL, 0, 3, cot);
    if (z.lengths) in[n++] = sample_lengths(s, &z, z.causal || attr[JOINED].i == 3);
    if (s->variant % 2 == 1) in[n++] = s->input(s, WR_FILL_REAL, 0, 3, rows);
    return wr_emit(WR_HERE, &wr_op_attention_joined_grad, n, in, attr);
}

const wr_op wr_op_attention = {
    .name = "attention",
    .doc = "q [B, T, D], k [B, S, D], v [B, S, D], lengths [B] -> [B, T, D], lse [B, H, T]",
    .traits = WR_MIXED,
    .n_in = 3,
    .n_in_max = 4,
    .n_out = 2,
    .attrs = {ATTRS},
    .shape = attention_shape,
    .cost = attention_cost,
    .cpu = attention_cpu,
    .grad = attention_grad_rule,
    .expand = attention_expand,
    .sample = attention_sample,
    .no_inverse = "averages lose what is averaged"};

const wr_op wr_op_attention_grad = {.name = "attention_grad",
                                    .doc = "q, k, v, lse, cotangent, lengths, lse's -> dq, dk, dv",
                                    .traits = WR_MIXED,
                                    .n_in = FIRST_OPTION,
                                    .n_in_max = FIRST_OPTION + 2,
                                    .n_out = 3,
                                    .attrs = {ATTRS},
                                    .shape = attention_grad_shape,
                                    .cost = attention_grad_cost,
                                    .cpu = attention_grad_cpu,
                                    .expand = attention_grad_expand,
                                    .sample = attention_grad_sample,
                                    .no_inverse = "averages lose what is averaged"};

const wr_op wr_op_attention_joined = {.name = "attention_joined",
                                      .doc = "attention; q, k, v or k, v side by side",
                                      .traits = WR_MIXED,
                                      .n_in = 1,
                                      .n_in_max = 3,
                                      .n_out = 2,
                                      .attrs = {ATTRS, {"joined", WR_ATTR_INT}},
                                      .shape = joined_shape,
                                      .cost = joined_cost,
                                      .cpu = joined_cpu,
                                      .expand = joined_expand,
                                      .sample = joined_sample,
                                      .no_inverse = "averages lose what is averaged"};

const wr_op wr_op_attention_joined_grad = {
    .name = "attention_joined_grad",
    .doc = "joined operands, lse, cotangent, lengths, lse's -> their cotangents",
    .traits = WR_MIXED,
    .n_in = 3,
    .n_in_max = 6,
    .n_out = WR_ANY_OUTPUTS,
    .attrs = {ATTRS, {"joined", WR_ATTR_INT}},
    .shape = joined_grad_shape,
    .cost = joined_grad_cost,
    .cpu = joined_grad_cpu,
    .expand = joined_grad_expand,
    .sample = joined_grad_sample,
    .no_inverse = "averages lose what is averaged"};
