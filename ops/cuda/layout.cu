/* layout.cu: axes in another order. (Views run nothing; broadcast is in elementwise.cu.)
 *
 * Where the last axis stays, its elements are copied side by side. Otherwise the last axis of the
 * operand and that of the result form tiles that go through shared memory, so that reading and
 * writing are both in runs. */
#include "ops/cuda/cuda.h"

namespace {

enum { THREADS = 256, TILE = 32, TILE_ROWS = 8 };

/* Result axes with their sizes and the strides of the operand; equal neighbours are joined. */
struct axes {
    int rank;
    int64_t dim[WR_MAX_RANK], stride[WR_MAX_RANK];
};

axes axes_of(const wr_call *c) {
    const wr_tensor *x = &c->in[0], *y = &c->out[0];
    int64_t in_stride[WR_MAX_RANK], step = 1;
    axes a = {0, {0}, {0}};
    for (int i = x->rank - 1; i >= 0; i--) {
        in_stride[i] = step;
        step *= x->dim[i];
    }
    for (int i = 0; i < y->rank; i++) {
        const int64_t dim = y->dim[i], stride = in_stride[c->attr[i].i];
        if (dim == 1) continue;
        if (a.rank > 0 && a.stride[a.rank - 1] == stride * dim) {
            a.dim[a.rank - 1] *= dim;
            a.stride[a.rank - 1] = stride;
        } else {
            a.dim[a.rank] = dim;
            a.stride[a.rank++] = stride;
        }
    }
    return a;
}

template <class T>
__global__ void __launch_bounds__(THREADS)
    permute(const __grid_constant__ axes a, int64_t n, const T *x, T *y) {
    const int64_t i = wr_cuda_thread();
    if (i >= n) return;
    int64_t rest = i, at = 0;
    for (int d = a.rank - 1; d >= 0; d--) {
        at += rest % a.dim[d] * a.stride[d];
        rest /= a.dim[d];
    }
    y[i] = x[at];
}

/* What a tile is cut from: axis `across` of the result has stride 1 in the operand; the last axis
 * of the result has stride `stride`; the others are counted by blockIdx.z. */
struct tiles {
    axes others;
    int64_t out_stride[WR_MAX_RANK]; /* of the others in the result */
    int64_t across, across_stride;   /* its size, its stride in the result */
    int64_t last, stride;            /* the last axis' size, its stride in the operand */
};

template <class T>
__global__ void __launch_bounds__(TILE *TILE_ROWS)
    transpose_tiles(const __grid_constant__ tiles t, int64_t first, const T *x, T *y) {
    __shared__ T tile[TILE][TILE + 1];
    int64_t rest = first + blockIdx.z;
    for (int d = t.others.rank - 1; d >= 0; d--) {
        x += rest % t.others.dim[d] * t.others.stride[d];
        y += rest % t.others.dim[d] * t.out_stride[d];
        rest /= t.others.dim[d];
    }
    const int column = threadIdx.x % TILE, lane = threadIdx.x / TILE;
    const int64_t a = static_cast<int64_t>(blockIdx.x) * TILE;
    const int64_t l = static_cast<int64_t>(blockIdx.y) * TILE;
    for (int r = lane; r < TILE; r += TILE_ROWS)
        if (a + column < t.across && l + r < t.last)
            tile[r][column] = x[(l + r) * t.stride + a + column];
    __syncthreads();
    for (int r = lane; r < TILE; r += TILE_ROWS)
        if (l + column < t.last && a + r < t.across)
            y[(a + r) * t.across_stride + l + column] = tile[column][r];
}

tiles tiles_of(const axes &a) {
    tiles t = {};
    int64_t out_stride = 1;
    for (int d = a.rank - 1; d >= 0; d--) {
        if (d == a.rank - 1) {
            t.last = a.dim[d];
            t.stride = a.stride[d];
        } else if (a.stride[d] == 1) {
            t.across = a.dim[d];
            t.across_stride = out_stride;
        } else {
            t.others.dim[t.others.rank] = a.dim[d];
            t.others.stride[t.others.rank] = a.stride[d];
            t.out_stride[t.others.rank++] = out_stride;
        }
        out_stride *= a.dim[d];
    }
    return t;
}

template <class T> wr_status transpose(const wr_call *c) {
    constexpr int64_t MOST = 65535;
    const axes a = axes_of(c);
    const int64_t n = c->out[0].n;
    const T *x = wr_cuda_data<T>(c->in[0]);
    T *y = wr_cuda_data<T>(c->out[0]);
    if (n == 0) return WR_OK;
    const tiles t = tiles_of(a);
    const int64_t rows = (t.last + TILE - 1) / TILE;
    if (a.rank < 2 || a.stride[a.rank - 1] == 1 || t.across < 8 || t.last < 8 || rows > MOST)
        return WR_CUDA_LAUNCH(c, permute<T>, wr_cuda_blocks(n, THREADS), THREADS, 0, a, n, x, y);
    const int64_t others = n / (t.across * t.last);
    for (int64_t first = 0; first < others; first += MOST) {
        const unsigned z = static_cast<unsigned>(others - first < MOST ? others - first : MOST);
        wr_status status =
            WR_CUDA_LAUNCH(c, transpose_tiles<T>,
                           dim3(wr_cuda_blocks(t.across, TILE), static_cast<unsigned>(rows), z),
                           TILE * TILE_ROWS, 0, t, first, x, y);
        if (status != WR_OK) return status;
    }
    return WR_OK;
}

/* Whole numbers move as the four bytes they are. */
wr_status transpose_row(const wr_call *c) {
    return c->out[0].dtype == WR_F64 ? transpose<double>(c) : transpose<float>(c);
}

} // namespace

const wr_cuda_row wr_cuda_rows_layout[] = {{"transpose", transpose_row, NULL, NULL},
                                           WR_CUDA_ROWS_END};
