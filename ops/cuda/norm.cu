/* norm.cu: layer normalisation; formulas in ops/norm.c. The sums over rows for gamma and beta are
 * made in parts, whose number depends on the sizes alone, and added in their order. */
#include "ops/cuda/rows.cuh"

namespace {

enum { COLUMNS = 32, LANES = 8, PART_LEAST = 64, PARTS_MOST = 64 };

template <class T, int TEAM>
__global__ void __launch_bounds__(WR_CUDA_ROW_THREADS)
    norm(int64_t rows, int64_t n, const T *x, const T *gamma, const T *beta, T eps, T *y,
         T *mean_out, T *rstd_out) {
    __shared__ T scratch[32];
    using team = wr_cuda_team<TEAM>;
    const int64_t row = team::row(), end = row < rows ? n : 0;
    T sum = 0, square = 0;
    x += row * n;
    for (int64_t i = team::lane(); i < end; i += TEAM)
        sum += x[i];
    const T mean = team::sum(sum, scratch) / static_cast<T>(n);
    for (int64_t i = team::lane(); i < end; i += TEAM)
        square += (x[i] - mean) * (x[i] - mean);
    const T variance = team::sum(square, scratch) / static_cast<T>(n);
    const T rstd = T(1) / wr_cuda_sqrt(variance + eps);
    if (row < rows && team::lane() == 0 && mean_out != NULL) mean_out[row] = mean;
    if (row < rows && team::lane() == 0 && rstd_out != NULL) rstd_out[row] = rstd;
    for (int64_t i = team::lane(); y != NULL && i < end; i += TEAM)
        y[row * n + i] = (x[i] - mean) * rstd * gamma[i] + beta[i];
}

template <class T> struct grad_operands { const T *x, *gamma, *mean, *rstd, *cot; };

template <class T, int TEAM>
__global__ void __launch_bounds__(WR_CUDA_ROW_THREADS)
    norm_grad(int64_t rows, int64_t n, grad_operands<T> a, T *dx) {
    __shared__ T scratch[32];
    using team = wr_cuda_team<TEAM>;
    const int64_t row = team::row(), end = row < rows ? n : 0, at = row * n;
    const T mean = row < rows ? a.mean[row] : T(0), rstd = row < rows ? a.rstd[row] : T(0);
    T g = 0, gh = 0;
    for (int64_t i = team::lane(); i < end; i += TEAM) {
        const T by = a.cot[at + i] * a.gamma[i];
        g += by;
        gh += by * (a.x[at + i] - mean) * rstd;
    }
    g = team::sum(g, scratch) / static_cast<T>(n);
    gh = team::sum(gh, scratch) / static_cast<T>(n);
    for (int64_t i = team::lane(); i < end; i += TEAM)
        dx[at + i] = rstd * (a.cot[at + i] * a.gamma[i] - g - (a.x[at + i] - mean) * rstd * gh);
}

/* 32 columns of part blockIdx.y: sums[part][0] = sum of cot h, sums[part][1] = sum of cot. */
template <class T>
__global__ void __launch_bounds__(COLUMNS *LANES)
    gain_parts(int64_t rows, int64_t n, int64_t part, grad_operands<T> a, T *sums) {
    __shared__ T scratch[2][LANES][COLUMNS + 1];
    const int column = threadIdx.x % COLUMNS, lane = threadIdx.x / COLUMNS;
    const int64_t at = static_cast<int64_t>(blockIdx.x) * COLUMNS + column;
    const int64_t first = blockIdx.y * part, end = first + part < rows ? first + part : rows;
    T by_h = 0, plain = 0;
    for (int64_t r = first + lane; at < n && r < end; r += LANES) {
        const T cot = a.cot[r * n + at];
        by_h += cot * (a.x[r * n + at] - a.mean[r]) * a.rstd[r];
        plain += cot;
    }
    scratch[0][lane][column] = by_h;
    scratch[1][lane][column] = plain;
    __syncthreads();
    if (lane > 1 || at >= n) return;
    T sum = 0;
    for (int l = 0; l < LANES; l++)
        sum += scratch[lane][l][column];
    sums[(2 * static_cast<int64_t>(blockIdx.y) + lane) * n + at] = sum;
}

template <class T>
__global__ void __launch_bounds__(WR_CUDA_ROW_THREADS)
    gain_sums(int64_t n, int64_t parts, const T *sums, T *dgamma, T *dbeta) {
    const int64_t i = wr_cuda_thread();
    if (i >= n) return;
    T by_h = 0, plain = 0;
    for (int64_t p = 0; p < parts; p++) {
        by_h += sums[2 * p * n + i];
        plain += sums[(2 * p + 1) * n + i];
    }
    if (dgamma != NULL) dgamma[i] = by_h;
    if (dbeta != NULL) dbeta[i] = plain;
}

/* ---- launching ---- */

struct sizes {
    int64_t rows, n, parts, part;
};

sizes sizes_of(const wr_call *c) {
    const wr_tensor *x = &c->in[0];
    sizes z = {wr_extent(x, 0, x->rank - 1), x->dim[x->rank - 1], 0, 0};
    z.parts = z.rows / PART_LEAST;
    if (z.parts > PARTS_MOST) z.parts = PARTS_MOST;
    if (z.parts < 1) z.parts = 1;
    z.part = (z.rows + z.parts - 1) / z.parts;
    return z;
}

template <class T> wr_status launch_norm(const wr_call *c) {
    const sizes z = sizes_of(c);
    if (z.rows == 0 || z.n == 0) return WR_OK;
    return WR_CUDA_ROWS(c, norm, T, z.rows, z.n, z.rows, z.n, wr_cuda_data<T>(c->in[0]),
                        wr_cuda_data<T>(c->in[1]), wr_cuda_data<T>(c->in[2]),
                        static_cast<T>(c->attr[0].r), wr_cuda_data<T>(c->out[0]),
                        wr_cuda_data<T>(c->out[1]), wr_cuda_data<T>(c->out[2]));
}

template <class T> wr_status launch_gains(const wr_call *c, const sizes &z, grad_operands<T> a) {
    T *sums = static_cast<T *>(c->workspace);
    wr_status status = WR_CUDA_LAUNCH(
        c, gain_parts<T>, dim3(wr_cuda_blocks(z.n, COLUMNS), static_cast<unsigned>(z.parts)),
        COLUMNS * LANES, 0, z.rows, z.n, z.part, a, sums);
    if (status != WR_OK) return status;
    return WR_CUDA_LAUNCH(c, gain_sums<T>, wr_cuda_blocks(z.n, WR_CUDA_ROW_THREADS),
                          WR_CUDA_ROW_THREADS, 0, z.n, z.parts, sums, wr_cuda_data<T>(c->out[1]),
                          wr_cuda_data<T>(c->out[2]));
}

template <class T> wr_status launch_norm_grad(const wr_call *c) {
    const sizes z = sizes_of(c);
    const grad_operands<T> a = {wr_cuda_data<T>(c->in[0]), wr_cuda_data<T>(c->in[1]),
                                wr_cuda_data<T>(c->in[2]), wr_cuda_data<T>(c->in[3]),
                                wr_cuda_data<T>(c->in[4])};
    T *dx = wr_cuda_data<T>(c->out[0]);
    if (z.n == 0) return WR_OK;
    const bool gains = c->out[1].data != NULL || c->out[2].data != NULL;
    /* before dx, which may take the cotangent's place */
    wr_status status = gains ? launch_gains<T>(c, z, a) : WR_OK;
    if (status != WR_OK || dx == NULL || z.rows == 0) return status;
    return WR_CUDA_ROWS(c, norm_grad, T, z.rows, z.n, z.rows, z.n, a, dx);
}

size_t workspace(const wr_call *c) {
    const sizes z = sizes_of(c);
    return static_cast<size_t>(2 * z.parts * z.n) * (c->in[0].dtype == WR_F64 ? 8 : 4);
}

wr_status norm_row(const wr_call *c) { return WR_CUDA_FLOAT(c->in[0].dtype, launch_norm, c); }
wr_status norm_grad_row(const wr_call *c) {
    return WR_CUDA_FLOAT(c->in[0].dtype, launch_norm_grad, c);
}

} // namespace

const wr_cuda_row wr_cuda_rows_norm[] = {{"layer_norm", norm_row, NULL, NULL},
                                         {"layer_norm_grad", norm_grad_row, NULL, workspace},
                                         WR_CUDA_ROWS_END};
