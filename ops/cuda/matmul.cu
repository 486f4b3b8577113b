/* matmul.cu: product rows over blas.h; the exact GELU follows its product in a kernel of its own.
 */
#include "ops/cuda/blas.h"

extern "C" {
#include "ops/matmul.h"
}

#include <cmath>

namespace {

enum { TRANS_A, TRANS_B, ACT, THREADS = 256 };

wr_cuda_gemm_spec spec_of(const wr_call *c) {
    const wr_tensor *a = &c->in[0], *b = &c->in[1];
    wr_cuda_gemm_spec s = {};
    s.dtype = a->dtype;
    s.precision = wr_cuda(c)->precision;
    s.trans_a = c->attr[TRANS_A].i != 0;
    s.trans_b = c->attr[TRANS_B].i != 0;
    s.m = a->dim[a->rank - (s.trans_a ? 1 : 2)];
    s.k = a->dim[a->rank - (s.trans_a ? 2 : 1)];
    s.n = b->dim[b->rank - (s.trans_b ? 2 : 1)];
    s.batch = 1;
    if (b->rank == 2) {
        s.m *= wr_extent(a, 0, a->rank - 2); /* one tall matrix */
    } else {
        s.batch = wr_extent(a, 0, a->rank - 2);
        s.stride_a = s.m * s.k;
        s.stride_b = s.k * s.n;
        s.stride_c = s.m * s.n;
    }
    return s;
}

wr_status make(const wr_call *c, const wr_cuda_gemm_spec &s, void **prepared) {
    wr_cuda_gemm *g = NULL;
    wr_status status = wr_cuda_gemm_new(wr_cuda(c)->blas, &s, &g, c->env->err);
    *prepared = g;
    return status;
}

wr_status make_matmul(const wr_call *c, void **prepared) { return make(c, spec_of(c), prepared); }

wr_status make_linear(const wr_call *c, void **prepared) {
    wr_cuda_gemm_spec s = spec_of(c);
    s.bias = true;
    s.relu = c->attr[ACT].i == WR_ACT_RELU;
    return make(c, s, prepared);
}

wr_status make_matmul_add(const wr_call *c, void **prepared) {
    wr_cuda_gemm_spec s = spec_of(c);
    s.accumulate = true;
    return make(c, s, prepared);
}

void release(void *prepared) { wr_cuda_gemm_free(static_cast<wr_cuda_gemm *>(prepared)); }

size_t workspace(const wr_call *, const void *prepared) {
    return wr_cuda_gemm_workspace(static_cast<const wr_cuda_gemm *>(prepared));
}

const wr_prepare prepare_matmul = {make_matmul, release, workspace};
const wr_prepare prepare_linear = {make_linear, release, workspace};
const wr_prepare prepare_matmul_add = {make_matmul_add, release, workspace};

wr_status run(const wr_call *c, const void *sum, const void *bias) {
    if (c->out[0].n == 0) return WR_OK;
    return wr_cuda_gemm_run(static_cast<const wr_cuda_gemm *>(c->prepared), wr_cuda(c)->stream,
                            c->in[0].data, c->in[1].data, sum, c->out[0].data, bias, c->workspace,
                            c->env->err);
}

wr_status matmul_row(const wr_call *c) { return run(c, NULL, NULL); }
wr_status matmul_add_row(const wr_call *c) { return run(c, c->in[2].data, NULL); }

__device__ inline float gelu(float x) { return 0.5f * x * erfcf(-0.70710678118654752f * x); }
__device__ inline double gelu(double x) { return 0.5 * x * erfc(-0.70710678118654752440 * x); }

/* Four elements a thread; `x` is aligned to 16 bytes where `wide`. */
template <class T>
__global__ void __launch_bounds__(THREADS) gelu_in_place(int64_t n, bool wide, T *x) {
    const int64_t i = 4 * wr_cuda_thread(), end = i + 4 < n ? i + 4 : n;
    if (wide && i + 4 <= n) {
        wr_cuda_four<T> four = *reinterpret_cast<const wr_cuda_four<T> *>(x + i);
        for (T &each : four.v)
            each = gelu(each);
        *reinterpret_cast<wr_cuda_four<T> *>(x + i) = four;
        return;
    }
    for (int64_t j = i; j < end; j++)
        x[j] = gelu(x[j]);
}

template <class T> wr_status activate(const wr_call *c) {
    const int64_t n = c->out[0].n;
    return WR_CUDA_LAUNCH(c, gelu_in_place<T>, wr_cuda_blocks(n, 4 * THREADS), THREADS, 0, n,
                          wr_cuda_aligned(c->out[0].data, 16), wr_cuda_data<T>(c->out[0]));
}

wr_status linear_row(const wr_call *c) {
    wr_status status = run(c, NULL, c->in[2].data);
    if (status != WR_OK || c->attr[ACT].i != WR_ACT_GELU || c->out[0].n == 0) return status;
    return WR_CUDA_FLOAT(c->out[0].dtype, activate, c);
}

} // namespace

const wr_cuda_row wr_cuda_rows_matmul[] = {
    {"matmul", matmul_row, &prepare_matmul, NULL},
    {"linear", linear_row, &prepare_linear, NULL},
    {"matmul_add", matmul_add_row, &prepare_matmul_add, NULL},
    WR_CUDA_ROWS_END};
