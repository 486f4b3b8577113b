/* elementwise.cu: arithmetic rows and chains of them by one kernel that runs a small program.
 *
 * A thread computes four elements. It keeps the last result in registers and what is used later in
 * shared memory, a slot per live value; operands come from memory once for each use (the caches
 * have them for the second). All threads of a grid run the same instructions, so that nothing
 * diverges and the time is that of the memory. */
#include "ops/cuda/cuda.h"

extern "C" {
#include "ops/elementwise.h"
#include "ops/leaf.h"
}

#include <cmath>
#include <cstdlib>
#include <cstring>

namespace {

enum { THREADS = 256, SHARED_MOST = 48 * 1024 };

/* ---- functions of both float types ---- */

#define FUNCTION(name, f32, f64)                                                                   \
    __device__ inline float do_##name(float x) { return f32(x); }                                  \
    __device__ inline double do_##name(double x) { return f64(x); }
FUNCTION(exp, expf, exp)
FUNCTION(expm1, expm1f, expm1)
FUNCTION(log, logf, log)
FUNCTION(log1p, log1pf, log1p)
FUNCTION(sqrt, sqrtf, sqrt)
FUNCTION(abs, fabsf, fabs)
FUNCTION(tanh, tanhf, tanh)
FUNCTION(atanh, atanhf, atanh)
FUNCTION(erf, erff, erf)
FUNCTION(erfc, erfcf, erfc)
#undef FUNCTION
__device__ inline float do_pow(float x, float k) { return powf(x, k); }
__device__ inline double do_pow(double x, double k) { return pow(x, k); }

/* Row and value for operands a, b, c and attribute k; each as ops/elementwise.c defines it. */
#define ROWS(X)                                                                                    \
    X(add, a + b)                                                                                  \
    X(sub, a - b)                                                                                  \
    X(mul, a *b)                                                                                   \
    X(div, a / b)                                                                                  \
    X(maximum, a >= b || a != a ? a : b)                                                           \
    X(minimum, a <= b || a != a ? a : b)                                                           \
    X(less, a < b ? T(1) : T(0))                                                                   \
    X(equal, a == b ? T(1) : T(0))                                                                 \
    X(select, a != T(0) ? b : c)                                                                   \
    X(neg, -a)                                                                                     \
    X(exp, do_exp(a))                                                                              \
    X(expm1, do_expm1(a))                                                                          \
    X(log, do_log(a))                                                                              \
    X(log1p, do_log1p(a))                                                                          \
    X(sqrt, do_sqrt(a))                                                                            \
    X(rsqrt, T(1) / do_sqrt(a))                                                                    \
    X(square, a *a)                                                                                \
    X(abs, do_abs(a))                                                                              \
    X(reciprocal, T(1) / a)                                                                        \
    X(tanh, do_tanh(a))                                                                            \
    X(atanh, do_atanh(a))                                                                          \
    X(sigmoid, T(1) / (T(1) + do_exp(-a)))                                                         \
    X(log_sigmoid, (a < T(0) ? a : T(0)) - do_log1p(do_exp(-do_abs(a))))                           \
    X(softplus, (a > T(0) ? a : T(0)) + do_log1p(do_exp(-do_abs(a))))                              \
    X(relu, a > T(0) || a != a ? a : T(0))                                                         \
    X(gelu, T(0.5) * a * do_erfc(a * T(-0.70710678118654752440)))                                  \
    X(erf, do_erf(a))                                                                              \
    X(scale, a *k)                                                                                 \
    X(shift, a + k)                                                                                \
    X(power, do_pow(a, k))

enum code {
    COPY,
#define X(name, value) DO_##name,
    ROWS(X)
#undef X
};

struct leaf {
    const void *data;
    wr_leaf plan;
    int wide; /* four elements in a row may be read at once */
};

/* Operands: 0 .. WR_CHAIN_LEAVES - 1 leaves, from there on slots, LAST the result before. */
enum { LAST = -1 };
struct instruction {
    double k;
    int code;
    signed char in[3], to; /* `to`: the slot, -1: nobody reads it but the next */
};

struct program {
    int64_t n, dim[WR_MAX_RANK];
    void *out;
    int rank, n_code, n_slots, wide;
    leaf leaves[WR_CHAIN_LEAVES];
    instruction code[WR_CHAIN_LENGTH];
};

__device__ inline int64_t position(const program &p, const leaf &l, int64_t i) {
    switch (l.plan.mode) {
    case WR_LEAF_FULL:
        return i;
    case WR_LEAF_SCALAR:
        return 0;
    case WR_LEAF_SUFFIX:
        return i % l.plan.period;
    case WR_LEAF_PREFIX:
        return i / l.plan.inner;
    default:
        break;
    }
    int64_t at = 0;
    for (int d = p.rank - 1; d >= 0; d--) {
        at += i % p.dim[d] * l.plan.stride[d];
        i /= p.dim[d];
    }
    return at;
}

template <class T>
__device__ inline wr_cuda_four<T> read_leaf(const program &p, const leaf &l, int64_t i, int n) {
    const T *x = static_cast<const T *>(l.data);
    if (l.wide && n == 4) {
        const int64_t at = l.plan.mode == WR_LEAF_FULL ? i : i % l.plan.period;
        return *reinterpret_cast<const wr_cuda_four<T> *>(x + at);
    }
    wr_cuda_four<T> q;
    for (int j = 0; j < 4; j++)
        q.v[j] = j < n ? x[position(p, l, i + j)] : T(1);
    return q;
}

template <class T> __device__ inline T apply(int code, T a, T b, T c, T k) {
    switch (code) {
#define X(name, value)                                                                             \
    case DO_##name:                                                                                \
        return value;
        ROWS(X)
#undef X
    default:
        return a;
    }
}

template <class T>
__global__ void __launch_bounds__(THREADS) run_program(const __grid_constant__ program p) {
    WR_DYNAMIC_SHARED(wr_cuda_four<T>, slots);
    const int64_t i = 4 * wr_cuda_thread();
    if (i >= p.n) return;
    const int n = p.n - i < 4 ? static_cast<int>(p.n - i) : 4;
    wr_cuda_four<T> last = {};
    for (int s = 0; s < p.n_code; s++) {
        const instruction &x = p.code[s];
        wr_cuda_four<T> in[3] = {last, last, last};
#pragma unroll
        for (int j = 0; j < 3; j++) {
            if (x.in[j] >= WR_CHAIN_LEAVES)
                in[j] = slots[(x.in[j] - WR_CHAIN_LEAVES) * blockDim.x + threadIdx.x];
            else if (x.in[j] >= 0)
                in[j] = read_leaf<T>(p, p.leaves[static_cast<int>(x.in[j])], i, n);
        }
        const T k = static_cast<T>(x.k);
#pragma unroll
        for (int j = 0; j < 4; j++)
            last.v[j] = apply<T>(x.code, in[0].v[j], in[1].v[j], in[2].v[j], k);
        if (x.to >= 0) slots[x.to * blockDim.x + threadIdx.x] = last;
    }
    T *out = static_cast<T *>(p.out);
    if (p.wide && n == 4) {
        *reinterpret_cast<wr_cuda_four<T> *>(out + i) = last;
        return;
    }
    for (int j = 0; j < n; j++)
        out[i + j] = last.v[j];
}

/* ---- preparing ---- */

program *new_program(const wr_call *c) {
    program *p = static_cast<program *>(calloc(1, sizeof(program)));
    if (p == NULL) return NULL;
    p->n = c->out[0].n;
    p->rank = c->out[0].rank;
    for (int i = 0; i < p->rank; i++)
        p->dim[i] = c->out[0].dim[i];
    for (int k = 0; k < c->n_in; k++)
        p->leaves[k].plan = wr_leaf_plan(&c->in[k], &c->out[0]);
    return p;
}

wr_status no_memory(const wr_call *c) {
    return wr_cuda(c)->services->fail(c->env->err, WR_ERR_MEMORY, "out of memory: a chain");
}

/* One row as a program of one instruction. */
wr_status make_one(const wr_call *c, int code, double k, void **prepared) {
    program *p = new_program(c);
    if (p == NULL) return no_memory(c);
    instruction one = {k, code, {LAST, LAST, LAST}, -1};
    for (int i = 0; i < c->n_in; i++)
        one.in[i] = static_cast<signed char>(i);
    p->code[0] = one;
    p->n_code = 1;
    *prepared = p;
    return WR_OK;
}

template <int CODE> wr_status make_row(const wr_call *c, void **prepared) {
    return make_one(c, CODE, 0, prepared);
}
template <int CODE> wr_status make_real(const wr_call *c, void **prepared) {
    return make_one(c, CODE, c->attr[0].r, prepared);
}
wr_status make_scale_by_dim(const wr_call *c, void **prepared) {
    return make_one(c, DO_scale, pow(static_cast<double>(c->attr[0].i), c->attr[1].r), prepared);
}

int code_of(const char *row) {
    static const char *const NAMES[] = {"",
#define X(name, value) #name,
                                        ROWS(X)
#undef X
    };
    for (int i = 1; i < static_cast<int>(sizeof NAMES / sizeof *NAMES); i++)
        if (strcmp(NAMES[i], row) == 0) return i;
    return -1;
}

/* Give each result that is read later than by the next instruction the lowest free slot. */
void assign_slots(program *p, int n_leaves, int n_code, const wr_chain_code *code) {
    int last[WR_CHAIN_LENGTH] = {0}, busy_until[WR_CHAIN_LENGTH] = {0}, slot[WR_CHAIN_LENGTH];
    for (int s = 0; s < n_code; s++)
        for (int k = 0; k < code[s].n_in; k++)
            if (code[s].in[k] >= n_leaves) last[code[s].in[k] - n_leaves] = s;
    for (int s = 0; s < n_code; s++) {
        slot[s] = -1;
        if (last[s] > s + 1) {
            slot[s] = 0;
            while (busy_until[slot[s]] > s)
                slot[s]++;
            busy_until[slot[s]] = last[s];
            if (slot[s] >= p->n_slots) p->n_slots = slot[s] + 1;
        }
        p->code[s].to = static_cast<signed char>(slot[s]);
        for (int k = 0; k < 3; k++) {
            int from = k < code[s].n_in ? code[s].in[k] : n_leaves + s - 1;
            p->code[s].in[k] = static_cast<signed char>(
                from < n_leaves            ? (k < code[s].n_in ? from : LAST)
                : from - n_leaves == s - 1 ? LAST
                                           : WR_CHAIN_LEAVES + slot[from - n_leaves]);
        }
    }
}

wr_status make_chain(const wr_call *c, void **prepared) {
    const wr_chain_code *code = static_cast<const wr_chain_code *>(c->blob[0]);
    program *p = new_program(c);
    if (p == NULL) return no_memory(c);
    p->n_code = static_cast<int>(c->attr[2].i);
    for (int s = 0; s < p->n_code; s++) {
        p->code[s].code = code_of(code[s].op->name);
        p->code[s].k = code[s].op->attrs[0].name != NULL ? code[s].attr[0].r : 0;
        if (p->code[s].code < 0) {
            free(p);
            return wr_cuda(c)->services->fail(c->env->err, WR_ERR_LIBRARY,
                                              "a chain holds %s, which has no CUDA code",
                                              code[s].op->name);
        }
    }
    assign_slots(p, c->n_in, p->n_code, code);
    *prepared = p;
    return WR_OK;
}

/* ---- launching ---- */

template <class T> wr_status launch(const wr_call *c, const program &p) {
    const size_t slot = sizeof(wr_cuda_four<T>) * static_cast<size_t>(p.n_slots);
    int threads = THREADS;
    while (threads > 32 && slot * static_cast<size_t>(threads) > SHARED_MOST)
        threads /= 2;
    return WR_CUDA_LAUNCH(c, run_program<T>, wr_cuda_blocks(p.n, 4 * threads), threads,
                          slot * static_cast<size_t>(threads), p);
}

wr_status elementwise(const wr_call *c) {
    program p = *static_cast<const program *>(c->prepared);
    if (p.n == 0) return WR_OK;
    if (c->out[0].dtype == WR_I32 && p.code[0].code != COPY)
        return wr_cuda(c)->services->fail(
            c->env->err, WR_ERR_INPUT,
            "arithmetic works on f32 and f64; convert whole numbers with wr_cast");
    for (int k = 0; k < c->n_in; k++) {
        leaf &l = p.leaves[k];
        l.data = c->in[k].data;
        l.wide = wr_cuda_aligned(l.data, 16) &&
                 (l.plan.mode == WR_LEAF_FULL ||
                  (l.plan.mode == WR_LEAF_SUFFIX && l.plan.period % 4 == 0));
    }
    p.out = c->out[0].data;
    p.wide = wr_cuda_aligned(p.out, 16);
    /* whole numbers are copied as the four bytes they are */
    return c->out[0].dtype == WR_F64 ? launch<double>(c, p) : launch<float>(c, p);
}

#define PREPARE(name, make) const wr_prepare prepare_##name = {make, free, NULL};
#define X(name, value)      PREPARE(name, make_row<DO_##name>)
#define ONLY_REAL(X)        X(scale) X(shift) X(power)
#define REAL(name)          PREPARE(real_##name, make_real<DO_##name>)
ROWS(X)
#undef X
ONLY_REAL(REAL)
PREPARE(chain, make_chain)
PREPARE(broadcast, make_row<COPY>)
PREPARE(scale_by_dim, make_scale_by_dim)

} // namespace

#define ROW(name, prepared) {name, elementwise, &prepared, NULL},
#define REAL_ROW(name)      ROW(#name, prepare_real_##name)
#define X(name, value)      ROW(#name, prepare_##name)
/* The first row of a name counts: those with an attribute stand in front. */
const wr_cuda_row wr_cuda_rows_elementwise[] = {
    ONLY_REAL(REAL_ROW) ROWS(X) ROW("chain", prepare_chain) ROW("broadcast", prepare_broadcast)
        ROW("scale_by_dim", prepare_scale_by_dim) WR_CUDA_ROWS_END};
