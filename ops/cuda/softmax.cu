/* softmax.cu: the rows of ops/softmax.c; masks as there. */
#include "ops/cuda/rows.cuh"

#include <cmath>

namespace {

/* A mask, repeated to the sizes of x [.., K]: where row r of it begins, and the step along it. */
template <class T> struct mask_of {
    const T *data; /* NULL: all are in */
    int rank;      /* of x, without its last axis */
    int64_t dim[WR_MAX_RANK], stride[WR_MAX_RANK], step;
    __device__ const T *row(int64_t r) const {
        int64_t at = 0;
        if (data == NULL) return NULL;
        for (int i = rank - 1; i >= 0; i--) {
            at += r % dim[i] * stride[i];
            r /= dim[i];
        }
        return data + at;
    }
};

template <class T> mask_of<T> mask_at(const wr_call *c, int k) {
    const wr_tensor *x = &c->in[0];
    mask_of<T> m = {};
    if (k >= c->n_in) return m;
    const wr_tensor *t = &c->in[k];
    int64_t size = 1, stride[WR_MAX_RANK] = {0};
    for (int i = 1; i <= t->rank; i++) {
        stride[x->rank - i] = t->dim[t->rank - i] == 1 ? 0 : size;
        size *= t->dim[t->rank - i];
    }
    m.data = wr_cuda_data<T>(*t);
    m.rank = x->rank - 1;
    for (int i = 0; i < m.rank; i++) {
        m.dim[i] = x->dim[i];
        m.stride[i] = stride[i];
    }
    m.step = stride[x->rank - 1];
    return m;
}

template <class T> __device__ bool is_in(const T *mask, int64_t step, int64_t i) {
    return mask == NULL || mask[i * step] != T(0);
}

template <class T, int TEAM>
__global__ void __launch_bounds__(WR_CUDA_ROW_THREADS)
    softmax(int64_t rows, int64_t n, const T *x, const __grid_constant__ mask_of<T> mask, T *out) {
    __shared__ T scratch[32];
    using team = wr_cuda_team<TEAM>;
    const int64_t row = team::row(), end = row < rows ? n : 0;
    const T *m = row < rows ? mask.row(row) : NULL;
    x += row * n;
    T high = T(-INFINITY), sum = 0;
    for (int64_t i = team::lane(); i < end; i += TEAM)
        if (is_in(m, mask.step, i)) high = wr_cuda_larger(high, x[i]);
    high = team::max(high, scratch);
    for (int64_t i = team::lane(); i < end; i += TEAM)
        if (is_in(m, mask.step, i)) sum += wr_cuda_exp(x[i] - high);
    sum = team::sum(sum, scratch);
    const bool nothing = m != NULL && high == T(-INFINITY);
    for (int64_t i = team::lane(); i < end; i += TEAM)
        out[row * n + i] =
            nothing || !is_in(m, mask.step, i) ? T(0) : wr_cuda_exp(x[i] - high) / sum;
}

template <class T, int TEAM>
__device__ T row_lse(int64_t n, const T *x, const T *mask, int64_t step, T *scratch) {
    wr_cuda_sum_exp<T> own = {T(-INFINITY), T(0)};
    for (int64_t i = wr_cuda_team<TEAM>::lane(); i < n; i += TEAM)
        if (is_in(mask, step, i)) own.add(x[i]);
    return wr_cuda_join_sum_exp<T, TEAM>(own, scratch);
}

template <class T, int TEAM>
__global__ void __launch_bounds__(WR_CUDA_ROW_THREADS)
    log_softmax(int64_t rows, int64_t n, const T *x, const __grid_constant__ mask_of<T> mask,
                T *out) {
    __shared__ T scratch[32];
    using team = wr_cuda_team<TEAM>;
    const int64_t row = team::row(), end = row < rows ? n : 0;
    const T *m = row < rows ? mask.row(row) : NULL;
    x += row * n;
    const T lse = row_lse<T, TEAM>(end, x, m, mask.step, scratch);
    for (int64_t i = team::lane(); i < end; i += TEAM)
        out[row * n + i] = is_in(m, mask.step, i) ? x[i] - lse : T(0);
}

template <class T, int TEAM>
__global__ void __launch_bounds__(WR_CUDA_ROW_THREADS)
    logsumexp(int64_t rows, int64_t n, const T *x, const __grid_constant__ mask_of<T> mask,
              T *out) {
    __shared__ T scratch[32];
    using team = wr_cuda_team<TEAM>;
    const int64_t row = team::row(), end = row < rows ? n : 0;
    const T *m = row < rows ? mask.row(row) : NULL;
    const T lse = row_lse<T, TEAM>(end, x + row * n, m, mask.step, scratch);
    if (row < rows && team::lane() == 0) out[row] = m != NULL && lse == T(-INFINITY) ? T(0) : lse;
}

template <class T, int TEAM>
__global__ void __launch_bounds__(WR_CUDA_ROW_THREADS)
    softmax_grad(int64_t rows, int64_t n, const T *y, const T *cot, T *out) {
    __shared__ T scratch[32];
    using team = wr_cuda_team<TEAM>;
    const int64_t row = team::row(), end = row < rows ? n : 0, at = row * n;
    T mean = 0;
    for (int64_t i = team::lane(); i < end; i += TEAM)
        mean += y[at + i] * cot[at + i];
    mean = team::sum(mean, scratch);
    for (int64_t i = team::lane(); i < end; i += TEAM)
        out[at + i] = y[at + i] * (cot[at + i] - mean);
}

template <class T, int TEAM>
__global__ void __launch_bounds__(WR_CUDA_ROW_THREADS)
    log_softmax_grad(int64_t rows, int64_t n, const T *y, const T *cot,
                     const __grid_constant__ mask_of<T> mask, T *out) {
    __shared__ T scratch[32];
    using team = wr_cuda_team<TEAM>;
    const int64_t row = team::row(), end = row < rows ? n : 0, at = row * n;
    const T *m = row < rows ? mask.row(row) : NULL;
    T sum = 0;
    for (int64_t i = team::lane(); i < end; i += TEAM)
        if (is_in(m, mask.step, i)) sum += cot[at + i];
    sum = team::sum(sum, scratch);
    for (int64_t i = team::lane(); i < end; i += TEAM)
        out[at + i] = is_in(m, mask.step, i) ? cot[at + i] - sum * wr_cuda_exp(y[at + i]) : T(0);
}

/* ---- launching ---- */

int64_t width(const wr_call *c) { return c->in[0].dim[c->in[0].rank - 1]; }
int64_t rows_of(const wr_call *c) { return wr_extent(&c->in[0], 0, c->in[0].rank - 1); }

#define FORWARD(name)                                                                              \
    template <class T> wr_status launch_##name(const wr_call *c) {                                 \
        const int64_t rows = rows_of(c), n = width(c);                                             \
        if (c->out[0].n == 0) return WR_OK;                                                        \
        return WR_CUDA_ROWS(c, name, T, rows, n, rows, n, wr_cuda_data<T>(c->in[0]),               \
                            mask_at<T>(c, 1), wr_cuda_data<T>(c->out[0]));                         \
    }                                                                                              \
    wr_status name##_row(const wr_call *c) {                                                       \
        return WR_CUDA_FLOAT(c->in[0].dtype, launch_##name, c);                                    \
    }
FORWARD(softmax)
FORWARD(log_softmax)
FORWARD(logsumexp)

template <class T> wr_status launch_softmax_grad(const wr_call *c) {
    const int64_t rows = rows_of(c), n = width(c);
    if (c->out[0].n == 0) return WR_OK;
    return WR_CUDA_ROWS(c, softmax_grad, T, rows, n, rows, n, wr_cuda_data<T>(c->in[0]),
                        wr_cuda_data<T>(c->in[1]), wr_cuda_data<T>(c->out[0]));
}

template <class T> wr_status launch_log_softmax_grad(const wr_call *c) {
    const int64_t rows = rows_of(c), n = width(c);
    if (c->out[0].n == 0) return WR_OK;
    return WR_CUDA_ROWS(c, log_softmax_grad, T, rows, n, rows, n, wr_cuda_data<T>(c->in[0]),
                        wr_cuda_data<T>(c->in[1]), mask_at<T>(c, 2), wr_cuda_data<T>(c->out[0]));
}

wr_status softmax_grad_row(const wr_call *c) {
    return WR_CUDA_FLOAT(c->in[0].dtype, launch_softmax_grad, c);
}
wr_status log_softmax_grad_row(const wr_call *c) {
    return WR_CUDA_FLOAT(c->in[0].dtype, launch_log_softmax_grad, c);
}

} // namespace

const wr_cuda_row wr_cuda_rows_softmax[] = {{"softmax", softmax_row, NULL, NULL},
                                            {"softmax_grad", softmax_grad_row, NULL, NULL},
                                            {"log_softmax", log_softmax_row, NULL, NULL},
                                            {"log_softmax_grad", log_softmax_grad_row, NULL, NULL},
                                            {"logsumexp", logsumexp_row, NULL, NULL},
                                            WR_CUDA_ROWS_END};
