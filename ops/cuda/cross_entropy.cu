/* cross_entropy.cu: the rows of ops/cross_entropy.c. Forward reads the logits once and keeps the
 * log-sum-exp alone; backward reads and writes them once. */
#include "ops/cuda/rows.cuh"

#include <cmath>

namespace {

/* Operands of rows of logits [rows, v]; results may be NULL. */
template <class T> struct entropy {
    const T *logits, *weight; /* weight [rows] or [rows, k] */
    const int32_t *ids;       /* [rows, k] */
    int64_t rows, v, k;
    T eps;
    T *loss, *nll, *lse, *lp, *mean;
    const T *lse_in, *total, *uniform; /* backward */
    T *dlogits;
    wr_cuda_site site;
};

/* A word's number, 0 where it is none. */
template <class T> __device__ int64_t word(const entropy<T> &a, int64_t i) {
    const int64_t id = a.ids[i];
    if (id >= 0 && id < a.v) return id;
    wr_cuda_tell(a.site, WR_CUDA_FAULT_INDEX, id, a.v);
    return 0;
}

/* The log-sum-exp of a row; its sum in *sum where asked for. */
template <class T, int TEAM>
__device__ T row_lse(const entropy<T> &a, int64_t row, bool with_sum, T *sum, T *scratch) {
    using team = wr_cuda_team<TEAM>;
    const T *z = a.logits + row * a.v;
    const int64_t end = row < a.rows ? a.v : 0;
    wr_cuda_sum_exp<T> own = {T(-INFINITY), T(0)};
    T plain = 0;
    for (int64_t i = team::lane(); i < end; i += TEAM) {
        const T x = z[i];
        own.add(x);
        plain += x;
    }
    if (with_sum) *sum = team::sum(plain, scratch);
    return wr_cuda_join_sum_exp<T, TEAM>(own, scratch);
}

template <class T, int TEAM>
__global__ void __launch_bounds__(WR_CUDA_ROW_THREADS)
    cross_entropy(const __grid_constant__ entropy<T> a) {
    __shared__ T scratch[32];
    const int64_t row = wr_cuda_team<TEAM>::row();
    T sum = 0;
    const T lse = row_lse<T, TEAM>(a, row, a.eps > T(0), &sum, scratch);
    if (row >= a.rows || wr_cuda_team<TEAM>::lane() != 0) return;
    const T w = a.weight[row], nll = lse - a.logits[row * a.v + word(a, row)];
    const T loss =
        a.eps > T(0) ? (T(1) - a.eps) * nll + a.eps * (lse - sum / static_cast<T>(a.v)) : nll;
    if (a.loss != NULL) a.loss[row] = w != T(0) ? w * loss : T(0);
    if (a.nll != NULL) a.nll[row] = w != T(0) ? w * nll : T(0);
    if (a.lse != NULL) a.lse[row] = lse;
}

template <class T, int TEAM>
__global__ void __launch_bounds__(WR_CUDA_ROW_THREADS) pwce(const __grid_constant__ entropy<T> a) {
    __shared__ T scratch[32];
    const int64_t row = wr_cuda_team<TEAM>::row();
    const T lse = row_lse<T, TEAM>(a, row, false, NULL, scratch);
    T loss = 0;
    for (int64_t k = wr_cuda_team<TEAM>::lane(); row < a.rows && k < a.k; k += TEAM) {
        const T w = a.weight[row * a.k + k];
        const int64_t id = word(a, row * a.k + k);
        if (w != T(0)) loss += w * (lse - a.logits[row * a.v + id]);
    }
    loss = wr_cuda_team<TEAM>::sum(loss, scratch);
    if (row >= a.rows || wr_cuda_team<TEAM>::lane() != 0) return;
    if (a.loss != NULL) a.loss[row] = loss;
    if (a.lse != NULL) a.lse[row] = lse;
}

template <class T, int TEAM>
__global__ void __launch_bounds__(WR_CUDA_ROW_THREADS)
    gather_log_softmax(const __grid_constant__ entropy<T> a) {
    __shared__ T scratch[32];
    const int64_t row = wr_cuda_team<TEAM>::row();
    T sum = 0;
    const T lse = row_lse<T, TEAM>(a, row, a.mean != NULL, &sum, scratch);
    if (row >= a.rows) return;
    for (int64_t k = wr_cuda_team<TEAM>::lane(); a.lp != NULL && k < a.k; k += TEAM)
        a.lp[row * a.k + k] = a.logits[row * a.v + word(a, row * a.k + k)] - lse;
    if (wr_cuda_team<TEAM>::lane() != 0) return;
    if (a.lse != NULL) a.lse[row] = lse;
    if (a.mean != NULL) a.mean[row] = sum / static_cast<T>(a.v) - lse;
}

/* The ids of a row may repeat: one thread takes their weights off, in their order. */
template <class T, int TEAM>
__global__ void __launch_bounds__(WR_CUDA_ROW_THREADS)
    entropy_grad(const __grid_constant__ entropy<T> a) {
    const int64_t row = wr_cuda_team<TEAM>::row();
    const bool inside = row < a.rows;
    const T lse = inside ? a.lse_in[row] : T(0), total = inside ? a.total[row] : T(0);
    const T uniform = inside ? a.uniform[row] : T(0);
    const T *z = a.logits + row * a.v;
    T *dz = a.dlogits + row * a.v;
    for (int64_t i = wr_cuda_team<TEAM>::lane(); inside && i < a.v; i += TEAM)
        dz[i] = (total == T(0) ? T(0) : total * wr_cuda_exp(z[i] - lse)) - uniform;
    wr_cuda_team<TEAM>::wait();
    if (!inside || wr_cuda_team<TEAM>::lane() != 0) return;
    for (int64_t k = 0; k < a.k; k++)
        dz[word(a, row * a.k + k)] -= a.weight[row * a.k + k];
}

/* ---- launching ---- */

template <class T> entropy<T> logits_of(const wr_call *c, int ids) {
    const wr_tensor *z = &c->in[0];
    entropy<T> a = {};
    a.logits = wr_cuda_data<T>(*z);
    a.v = z->dim[z->rank - 1];
    a.rows = wr_extent(z, 0, z->rank - 1);
    a.ids = wr_cuda_data<int32_t>(c->in[ids]);
    a.k = c->in[ids].rank == z->rank ? c->in[ids].dim[z->rank - 1] : 1;
    a.site = wr_cuda_place(c);
    return a;
}

#define LAUNCH(kernel, T) WR_CUDA_ROWS(c, kernel, T, a.rows, a.v, a)

template <class T> wr_status launch_cross_entropy(const wr_call *c) {
    entropy<T> a = logits_of<T>(c, 1);
    a.weight = wr_cuda_data<T>(c->in[2]);
    a.eps = static_cast<T>(c->attr[0].r);
    a.loss = wr_cuda_data<T>(c->out[0]);
    a.nll = wr_cuda_data<T>(c->out[1]);
    a.lse = wr_cuda_data<T>(c->out[2]);
    return a.rows == 0 ? WR_OK : LAUNCH(cross_entropy, T);
}

template <class T> wr_status launch_pwce(const wr_call *c) {
    entropy<T> a = logits_of<T>(c, 1);
    a.weight = wr_cuda_data<T>(c->in[2]);
    a.loss = wr_cuda_data<T>(c->out[0]);
    a.lse = wr_cuda_data<T>(c->out[1]);
    return a.rows == 0 ? WR_OK : LAUNCH(pwce, T);
}

template <class T> wr_status launch_gather(const wr_call *c) {
    entropy<T> a = logits_of<T>(c, 1);
    a.lp = wr_cuda_data<T>(c->out[0]);
    a.lse = wr_cuda_data<T>(c->out[1]);
    a.mean = wr_cuda_data<T>(c->out[2]);
    return a.rows == 0 ? WR_OK : LAUNCH(gather_log_softmax, T);
}

template <class T> wr_status launch_grad(const wr_call *c) {
    entropy<T> a = logits_of<T>(c, 4);
    a.lse_in = wr_cuda_data<T>(c->in[1]);
    a.total = wr_cuda_data<T>(c->in[2]);
    a.uniform = wr_cuda_data<T>(c->in[3]);
    a.weight = wr_cuda_data<T>(c->in[5]);
    a.dlogits = wr_cuda_data<T>(c->out[0]);
    return a.rows == 0 || a.v == 0 ? WR_OK : LAUNCH(entropy_grad, T);
}

#define ROW(name, launch)                                                                          \
    wr_status name##_row(const wr_call *c) { return WR_CUDA_FLOAT(c->in[0].dtype, launch, c); }
ROW(cross_entropy, launch_cross_entropy)
ROW(pwce, launch_pwce)
ROW(gather, launch_gather)
ROW(grad, launch_grad)

} // namespace

const wr_cuda_row wr_cuda_rows_cross_entropy[] = {{"cross_entropy", cross_entropy_row, NULL, NULL},
                                                  {"pwce", pwce_row, NULL, NULL},
                                                  {"gather_log_softmax", gather_row, NULL, NULL},
                                                  {"cross_entropy_grad", grad_row, NULL, NULL},
                                                  WR_CUDA_ROWS_END};
