/* linalg.cu: triangles, diagonals, and rows that factor matrices; see ops/linalg.c.
 *
 * A block factors a matrix in f64, as the CPU does, with the same rule for pivots, and solves for a
 * tile of columns. Matrices that fit are held in shared memory, and each tile's block factors its
 * matrix again, so that there is one launch. Larger ones, and one matrix for many tiles, are
 * factored in the workspace by a launch of their own. */
#include "ops/cuda/cuda.h"

#include <cfloat>
#include <cmath>

namespace {

enum { SIDE = 0, OFFSET = 1, TRANSPOSED = 1, UNIT = 2, LU_TRANSPOSED = 0, UPPER = 1 };
enum { THREADS = 256, LANES = 32, ROWS = 8, MOST_THREADS = 512 };
enum { SHARED_PLAIN = 48 * 1024, SHARED_MOST = 96 * 1024, MOST_N = 30000, TILES_ONCE = 4 };

int64_t last_dim(const wr_tensor *x) { return x->dim[x->rank - 1]; }

/* ---- triangles and diagonals ---- */

/* Rows [rows, m], each a part of a warp's; may work in place. */
template <class T>
__global__ void __launch_bounds__(THREADS)
    triangle(int64_t rows, int64_t n, int64_t m, int64_t k, bool upper, const T *x, T *out) {
    const int64_t r = static_cast<int64_t>(blockIdx.x) * ROWS + threadIdx.y;
    if (r >= rows) return;
    const int64_t diagonal = r % n + k;
    for (int64_t j = threadIdx.x; j < m; j += LANES) {
        const bool keep = upper ? j >= diagonal : j <= diagonal;
        out[r * m + j] = keep ? x[r * m + j] : T(0);
    }
}

template <class T> wr_status launch_triangle(const wr_call *c) {
    const wr_tensor *x = &c->in[0];
    const int64_t rows = wr_extent(x, 0, x->rank - 1);
    if (x->n == 0) return WR_OK;
    return WR_CUDA_LAUNCH(c, triangle<T>, wr_cuda_blocks(rows, ROWS), dim3(LANES, ROWS), 0, rows,
                          x->dim[x->rank - 2], last_dim(x), c->attr[OFFSET].i,
                          c->attr[SIDE].i == UPPER, wr_cuda_data<T>(*x),
                          wr_cuda_data<T>(c->out[0]));
}

template <class T>
__global__ void __launch_bounds__(THREADS) diagonal(int64_t count, int64_t n, const T *x, T *out) {
    const int64_t i = wr_cuda_thread();
    if (i < count) out[i] = x[i * n + i % n];
}

template <class T> wr_status launch_diagonal(const wr_call *c) {
    const int64_t count = c->out[0].n;
    if (count == 0) return WR_OK;
    return WR_CUDA_LAUNCH(c, diagonal<T>, wr_cuda_blocks(count, THREADS), THREADS, 0, count,
                          last_dim(&c->in[0]), wr_cuda_data<T>(c->in[0]),
                          wr_cuda_data<T>(c->out[0]));
}

template <class T>
__global__ void __launch_bounds__(THREADS)
    diagonal_matrix(int64_t rows, int64_t n, const T *x, T *out) {
    const int64_t r = static_cast<int64_t>(blockIdx.x) * ROWS + threadIdx.y;
    if (r >= rows) return;
    const T value = x[r];
    for (int64_t j = threadIdx.x; j < n; j += LANES)
        out[r * n + j] = j == r % n ? value : T(0);
}

template <class T> wr_status launch_diagonal_matrix(const wr_call *c) {
    const int64_t rows = c->in[0].n;
    if (rows == 0) return WR_OK;
    return WR_CUDA_LAUNCH(c, diagonal_matrix<T>, wr_cuda_blocks(rows, ROWS), dim3(LANES, ROWS), 0,
                          rows, last_dim(&c->in[0]), wr_cuda_data<T>(c->in[0]),
                          wr_cuda_data<T>(c->out[0]));
}

/* ---- one matrix, by a block ---- */

/* In shared memory or the workspace. An odd distance of rows keeps columns off one bank. */
struct square {
    int n, ld;
    double *a;     /* [n, ld]: L below the diagonal, U above, or a triangle */
    double *small; /* [n]: pivots up to it count as zero */
    int *order;    /* [n]: row i is row order[i] of the matrix; [0] < 0: it is singular */
};

__host__ __device__ inline size_t doubles_of_square(int64_t n) {
    return static_cast<size_t>(n * (n | 1) + n + n / 2 + 1);
}

__device__ inline square square_at(double *memory, int n) {
    square m = {n, n | 1, memory, NULL, NULL};
    m.small = m.a + static_cast<int64_t>(n) * m.ld;
    m.order = reinterpret_cast<int *>(m.small + n);
    return m;
}

struct pivot {
    int row;
    double value;
};

template <class T>
__device__ inline void load_square(const square &m, const T *from, bool transposed) {
    for (int at = threadIdx.x; at < m.n * m.n; at += blockDim.x) {
        const int i = at / m.n, j = at % m.n;
        m.a[transposed ? j * m.ld + i : i * m.ld + j] = static_cast<double>(from[at]);
    }
    __syncthreads();
}

__device__ inline void begin_pivots(const square &m) {
    for (int j = threadIdx.x; j < m.n; j += blockDim.x) {
        double most = 0;
        for (int i = 0; i < m.n; i++)
            most = fabs(m.a[i * m.ld + j]) > most ? fabs(m.a[i * m.ld + j]) : most;
        m.small[j] = most * (m.n * DBL_EPSILON);
        m.order[j] = j;
    }
    __syncthreads();
}

/* The first of the largest elements of column j from the diagonal on; NaN is larger than any. All
 * lanes of one warp. */
__device__ inline void find_pivot(const square &m, int j, pivot *found) {
    const int lane = threadIdx.x % LANES;
    double most = -1;
    int row = j;
    for (int i = j + lane; i < m.n; i += LANES) {
        const double x = m.a[i * m.ld + j], size = x != x ? DBL_MAX : fabs(x);
        if (size > most) most = size, row = i;
    }
    for (int apart = LANES / 2; apart > 0; apart /= 2) {
        const double other = __shfl_xor_sync(0xffffffffu, most, apart);
        const int its = __shfl_xor_sync(0xffffffffu, row, apart);
        if (other > most || (other == most && its < row)) most = other, row = its;
    }
    if (lane == 0) *found = pivot{row, m.a[row * m.ld + j]};
}

/* Rows j and p.row change places, column j becomes that of L. Nobody reads what another writes. */
__device__ inline void exchange_and_scale(const square &m, int j, pivot p) {
    double *top = m.a + j * m.ld, *bottom = m.a + p.row * m.ld;
    for (int k = threadIdx.x; k < m.n && p.row != j; k += blockDim.x) {
        if (k == j) continue;
        const double x = top[k];
        top[k] = bottom[k];
        bottom[k] = x;
    }
    for (int i = j + 1 + static_cast<int>(threadIdx.x); i < m.n; i += blockDim.x) {
        if (i == p.row) {
            bottom[j] = top[j] / p.value;
            top[j] = p.value;
        } else {
            m.a[i * m.ld + j] /= p.value;
        }
    }
    if (threadIdx.x == 0 && p.row != j) {
        const int row = m.order[j];
        m.order[j] = m.order[p.row];
        m.order[p.row] = row;
    }
}

__device__ inline void eliminate(const square &m, int j) {
    const int lane = threadIdx.x % LANES, warp = threadIdx.x / LANES, warps = blockDim.x / LANES;
    for (int i = j + 1 + warp; i < m.n; i += warps) {
        const double f = m.a[i * m.ld + j];
        for (int k = j + 1 + lane; k < m.n; k += LANES)
            m.a[i * m.ld + k] -= f * m.a[j * m.ld + k];
    }
}

/* True: it is singular, or not finite. The same in all threads. */
__device__ inline bool factor(const square &m, pivot *found) {
    bool bad = false;
    begin_pivots(m);
    for (int j = 0; j < m.n && !bad; j++) {
        if (threadIdx.x < LANES) find_pivot(m, j, found);
        __syncthreads();
        const pivot p = *found;
        bad = !(fabs(p.value) > m.small[j] && fabs(p.value) <= DBL_MAX);
        if (!bad) exchange_and_scale(m, j, p);
        __syncthreads();
        if (!bad) eliminate(m, j);
        __syncthreads();
    }
    return bad;
}

__device__ inline bool check_triangle(const square &m, bool unit) {
    int bad = 0;
    for (int i = threadIdx.x; i < m.n; i += blockDim.x) {
        const double x = m.a[i * m.ld + i];
        m.order[i] = i;
        if (!unit && !(fabs(x) > 0 && fabs(x) <= DBL_MAX)) bad = 1;
    }
    return __syncthreads_or(bad) != 0;
}

/* ---- a tile of columns, a lane each ---- */

/* What a launch does. */
enum { LOAD = 1, SOLVE = 2, DETERMINANT = 4 };

struct job {
    int parts;
    bool triangular, transposed, upper, unit, identity;
    int n;
    int64_t count, width, tiles; /* matrices; columns of a right side, their tiles */
    double *squares, *columns;   /* workspace, NULL: shared memory */
    wr_cuda_site site;
};

/* x := L^-1 x or U^-1 x, but for the division by the diagonal, which is left to the reader. */
__device__ inline void substitute(const square &m, bool upper, bool unit, double *x) {
    const int lane = threadIdx.x % LANES, warp = threadIdx.x / LANES, warps = blockDim.x / LANES;
    for (int step = 0; step < m.n; step++) {
        const int j = upper ? m.n - 1 - step : step;
        double q = x[j * LANES + lane];
        if (!unit) q /= m.a[j * m.ld + j];
        for (int d = 1 + warp; d < m.n - step; d += warps) {
            const int i = upper ? j - d : j + d;
            x[i * LANES + lane] -= m.a[i * m.ld + j] * q;
        }
        __syncthreads();
    }
}

template <class T>
__device__ inline void load_columns(const job &p, const square &m, int64_t from, const T *b,
                                    double *x) {
    const int lane = threadIdx.x % LANES;
    for (int i = threadIdx.x / LANES; i < m.n; i += blockDim.x / LANES) {
        const int row = m.order[i];
        double value = 0;
        if (p.identity)
            value = row == from + lane ? 1.0 : 0.0;
        else if (from + lane < p.width)
            value = static_cast<double>(b[row * p.width + from + lane]);
        x[i * LANES + lane] = value;
    }
    __syncthreads();
}

template <class T>
__device__ inline void solve(const job &p, const square &m, int64_t from, const T *b, T *out,
                             double *x) {
    const int lane = threadIdx.x % LANES;
    const bool singular = m.n > 0 && m.order[0] < 0;
    __syncthreads();
    if (!singular) {
        load_columns(p, m, from, b, x);
        if (!p.triangular) substitute(m, false, true, x);
        substitute(m, p.triangular ? p.upper : true, p.triangular && p.unit, x);
    }
    const bool whole = p.triangular && p.unit;
    for (int i = threadIdx.x / LANES; i < m.n && from + lane < p.width; i += blockDim.x / LANES) {
        const double value = singular ? NAN
                             : whole  ? x[i * LANES + lane]
                                      : x[i * LANES + lane] / m.a[i * m.ld + i];
        out[i * p.width + from + lane] = static_cast<T>(value);
    }
}

template <class T> __device__ inline void determinant(const square &m, T *out) {
    const int lane = threadIdx.x % LANES;
    double sum = 0;
    if (threadIdx.x >= LANES) return;
    for (int i = lane; i < m.n; i += LANES)
        sum += log(fabs(m.a[i * m.ld + i]));
    sum = wr_cuda_warp_sum(sum);
    if (lane == 0) *out = static_cast<T>(m.n > 0 && m.order[0] < 0 ? NAN : sum);
}

/* A block per tile of a right side, or per matrix where nothing is solved. */
template <class T>
__global__ void __launch_bounds__(MOST_THREADS, 2) factored(job p, const T *a, const T *b, T *out) {
    WR_DYNAMIC_SHARED(double, shared);
    __shared__ pivot found;
    const int64_t right = blockIdx.x / p.tiles, tile = blockIdx.x % p.tiles;
    const int64_t matrix = p.count == 1 ? 0 : right, size = static_cast<int64_t>(p.n) * p.n;
    const int64_t doubles = static_cast<int64_t>(doubles_of_square(p.n));
    const square m = square_at(p.squares == NULL ? shared : p.squares + matrix * doubles, p.n);
    double *x = p.columns == NULL ? shared + doubles
                                  : p.columns + static_cast<int64_t>(blockIdx.x) * p.n * LANES;
    if (p.parts & LOAD) {
        load_square(m, a + matrix * size, p.transposed);
        const bool bad = p.triangular ? check_triangle(m, p.unit) : factor(m, &found);
        if (bad && threadIdx.x == 0) {
            m.order[0] = -1;
            wr_cuda_tell(p.site, WR_CUDA_FAULT_SINGULAR, matrix, p.count);
        }
        __syncthreads();
    }
    const int64_t at = right * p.n * p.width;
    if (p.parts & SOLVE) solve(p, m, tile * LANES, b + (p.identity ? 0 : at), out + at, x);
    if (p.parts & DETERMINANT) determinant(m, out + matrix);
}

/* ---- launches ---- */

struct amounts {
    int64_t n, count, jobs;
    size_t square, tile; /* bytes */
    bool at_once;        /* one launch, in shared memory */
};

int64_t tiles_of(int64_t width) { return (width + LANES - 1) / LANES; }

amounts amounts_of(const wr_call *c) {
    const wr_tensor *a = &c->in[0], *out = &c->out[0];
    amounts s = {};
    s.n = last_dim(a);
    s.count = s.jobs = wr_extent(a, 0, a->rank - 2);
    if (out->rank >= 2 && out->rank >= a->rank) /* a solution, not a determinant */
        s.jobs = wr_extent(out, 0, out->rank - 2) * tiles_of(last_dim(out));
    s.square = doubles_of_square(s.n) * sizeof(double);
    s.tile = static_cast<size_t>(s.n * LANES) * sizeof(double);
    s.at_once = s.square + s.tile <= SHARED_MOST && s.jobs <= TILES_ONCE * s.count;
    return s;
}

size_t workspace(const wr_call *c) {
    const amounts s = amounts_of(c);
    if (s.at_once) return 0;
    return static_cast<size_t>(s.count) * s.square + static_cast<size_t>(s.jobs) * s.tile;
}

unsigned threads_for(int64_t n) { return n <= 16 ? 64 : n <= 64 ? 256 : MOST_THREADS; }

template <class T>
wr_status launch(const wr_call *c, const job &p, int64_t blocks, size_t shared, const T *b) {
    if (shared > SHARED_PLAIN &&
        cudaFuncSetAttribute(factored<T>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             SHARED_MOST) != cudaSuccess)
        return wr_cuda_launched(c, "factored: shared memory");
    return WR_CUDA_LAUNCH(c, factored<T>, static_cast<unsigned>(blocks), threads_for(p.n), shared,
                          p, wr_cuda_data<T>(c->in[0]), b, wr_cuda_data<T>(c->out[0]));
}

template <class T> wr_status run(const wr_call *c, job p, const void *right) {
    const amounts s = amounts_of(c);
    const T *b = static_cast<const T *>(right);
    const int last = p.parts;
    if (s.n > MOST_N)
        return wr_cuda(c)->services->fail(c->env->err, WR_ERR_INPUT,
                                          "a matrix of %lld rows; at most %d on this device",
                                          static_cast<long long>(s.n), static_cast<int>(MOST_N));
    p.n = static_cast<int>(s.n);
    p.count = s.count;
    p.width = last & SOLVE ? last_dim(&c->out[0]) : 1;
    p.tiles = tiles_of(p.width);
    p.site = wr_cuda_place(c);
    if (c->out[0].n == 0) return WR_OK;
    if (s.at_once) {
        p.parts |= LOAD;
        return launch(c, p, s.jobs, s.square + (last & SOLVE ? s.tile : 0), b);
    }
    p.squares = static_cast<double *>(c->workspace);
    p.columns = p.squares + static_cast<size_t>(s.count) * (s.square / sizeof(double));
    job first = p;
    first.tiles = 1;
    first.parts = LOAD;
    wr_status status = launch(c, first, s.count, 0, b);
    if (status != WR_OK) return status;
    return launch(c, p, s.jobs, 0, b);
}

wr_status run_typed(const wr_call *c, const job &p, const void *b) {
    return WR_CUDA_FLOAT(c->in[0].dtype, run, c, p, b);
}

/* ---- rows ---- */

wr_status triangle_row(const wr_call *c) {
    return WR_CUDA_FLOAT(c->in[0].dtype, launch_triangle, c);
}
wr_status diagonal_row(const wr_call *c) {
    return WR_CUDA_FLOAT(c->in[0].dtype, launch_diagonal, c);
}
wr_status diagonal_matrix_row(const wr_call *c) {
    return WR_CUDA_FLOAT(c->in[0].dtype, launch_diagonal_matrix, c);
}

wr_status triangular_solve_row(const wr_call *c) {
    job p = {};
    p.parts = SOLVE;
    p.triangular = true;
    p.transposed = c->attr[TRANSPOSED].i != 0;
    p.upper = (c->attr[SIDE].i == UPPER) != p.transposed;
    p.unit = c->attr[UNIT].i != 0;
    return run_typed(c, p, c->in[1].data);
}

wr_status lu_solve_row(const wr_call *c) {
    job p = {};
    p.parts = SOLVE;
    p.transposed = c->attr[LU_TRANSPOSED].i != 0;
    return run_typed(c, p, c->in[1].data);
}

wr_status matrix_inverse_row(const wr_call *c) {
    job p = {};
    p.parts = SOLVE;
    p.identity = true;
    return run_typed(c, p, c->in[0].data);
}

wr_status log_abs_det_row(const wr_call *c) {
    job p = {};
    p.parts = DETERMINANT;
    return run_typed(c, p, c->in[0].data);
}

} // namespace

const wr_cuda_row wr_cuda_rows_linalg[] = {
    {"triangle", triangle_row, NULL, NULL},
    {"diagonal", diagonal_row, NULL, NULL},
    {"diagonal_matrix", diagonal_matrix_row, NULL, NULL},
    {"triangular_solve", triangular_solve_row, NULL, workspace},
    {"lu_solve", lu_solve_row, NULL, workspace},
    {"matrix_inverse", matrix_inverse_row, NULL, workspace},
    {"log_abs_det", log_abs_det_row, NULL, workspace},
    WR_CUDA_ROWS_END};
