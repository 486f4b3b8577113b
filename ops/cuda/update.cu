/* update.cu: norm of the whole gradient, summed gradients, Adam: all tensors of a model at once.
 *
 * A launch takes a list of tensors by value, as many as 4 KiB of arguments hold, and gives each
 * block a piece of one of them. Sums of squares are in double: a number for each block, then all of
 * them by one block, in an order that the sizes alone set. What Adam's factors depend on (rate,
 * scale, norm, step) lies on the device: one thread makes them first. */
#include "ops/cuda/cuda.h"
#include "ops/cuda/watch.cuh"

extern "C" {
#include "ops/update.h"
}

#include <cmath>
#include <new>

namespace {

enum { THREADS = 256, PIECE = 8192 /* elements of a block, a multiple of 4 THREADS */ };

/* ---- lists of tensors ---- */

/* P tensors of equal size for each entry. */
template <int P> struct list {
    enum { MOST = (4096 - 256) / (8 * P + 8 + 4 + 1) };
    void *data[MOST][P];
    int64_t n[MOST];
    unsigned start[MOST + 1]; /* of each tensor's blocks */
    unsigned char wide[MOST]; /* four elements may be read and written at once */
    int count;
};

/* A block's piece of a list. */
struct piece {
    int tensor;
    int64_t from, end;
};

template <int P> __device__ inline piece piece_of(const list<P> &l) {
    int low = 0, high = l.count;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (l.start[middle] <= blockIdx.x)
            low = middle;
        else
            high = middle;
    }
    const int64_t from = static_cast<int64_t>(blockIdx.x - l.start[low]) * PIECE;
    return piece{low, from, from + PIECE < l.n[low] ? from + PIECE : l.n[low]};
}

int64_t pieces(int64_t n) { return (n + PIECE - 1) / PIECE; }

/* Call f(list, first block of all) for lists of the tensors of type `t`; data[p] are the P groups
 * of n tensors, the sizes those of group 0. `blocks`: how many blocks the lists before had. */
template <int P, class F>
wr_status each_list(int n, const wr_tensor *const (&group)[P], const void *const *first, wr_dtype t,
                    int64_t *blocks, F f) {
    for (int k = 0; k < n;) {
        list<P> l = {};
        for (; k < n && l.count < list<P>::MOST; k++) {
            const wr_tensor *x = &group[0][k];
            if (x->dtype != t || x->n == 0) continue;
            l.wide[l.count] = 1;
            for (int p = 0; p < P; p++) {
                void *data =
                    p == 0 && first != NULL ? const_cast<void *>(first[k]) : group[p][k].data;
                l.data[l.count][p] = data;
                l.wide[l.count] = l.wide[l.count] && wr_cuda_aligned(data, 16);
            }
            l.n[l.count] = x->n;
            l.start[l.count + 1] = l.start[l.count] + static_cast<unsigned>(pieces(x->n));
            l.count++;
        }
        if (l.count == 0) continue;
        wr_status status = f(l, l.start[l.count], *blocks);
        if (status != WR_OK) return status;
        *blocks += l.start[l.count];
    }
    return WR_OK;
}

/* f(data pointers of four elements, how many of them there are) for a thread's share of a piece. */
template <class T> __device__ inline wr_cuda_four<T> read(const T *x, int count, bool wide) {
    if (wide && count == 4) return *reinterpret_cast<const wr_cuda_four<T> *>(x);
    wr_cuda_four<T> y;
#pragma unroll
    for (int j = 0; j < 4; j++)
        y.v[j] = j < count ? x[j] : T(0);
    return y;
}
template <class T>
__device__ inline void write(T *x, const wr_cuda_four<T> &y, int count, bool wide) {
    if (wide && count == 4) {
        *reinterpret_cast<wr_cuda_four<T> *>(x) = y;
        return;
    }
#pragma unroll
    for (int j = 0; j < 4; j++)
        if (j < count) x[j] = y.v[j];
}

__device__ inline int count_at(int64_t i, int64_t end) {
    return end - i < 4 ? static_cast<int>(end - i) : 4;
}

template <class T> __device__ inline double squares(const wr_cuda_four<T> &x) {
    double sum = 0;
#pragma unroll
    for (int j = 0; j < 4; j++)
        sum += static_cast<double>(x.v[j]) * static_cast<double>(x.v[j]);
    return sum;
}

/* ---- scalars on the device ---- */

struct scalar {
    void *data; /* NULL: nobody reads it */
    int is_f64;
};

scalar scalar_of(const wr_tensor &x) { return scalar{x.data, x.dtype == WR_F64}; }

__device__ inline double read_scalar(scalar x) {
    return x.is_f64 ? *static_cast<const double *>(x.data)
                    : static_cast<double>(*static_cast<const float *>(x.data));
}
__device__ inline void write_scalar(scalar x, double value) {
    if (x.data == NULL) return;
    if (x.is_f64)
        *static_cast<double *>(x.data) = value;
    else
        *static_cast<float *>(x.data) = static_cast<float>(value);
}

/* ---- global_norm ---- */

template <class T>
__global__ void __launch_bounds__(THREADS)
    sum_squares(const __grid_constant__ list<1> l, double *partial) {
    __shared__ double scratch[32];
    const piece p = piece_of(l);
    const T *x = static_cast<const T *>(l.data[p.tensor][0]);
    double sum = 0;
#pragma unroll 2
    for (int64_t i = p.from + 4 * threadIdx.x; i < p.end; i += 4 * THREADS)
        sum += squares(read(x + i, count_at(i, p.end), l.wide[p.tensor]));
    sum = wr_cuda_block_sum(sum, scratch);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(THREADS)
    finish_norm(const double *partial, int64_t n, scalar out) {
    __shared__ double scratch[32];
    double sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += THREADS)
        sum += partial[i];
    sum = wr_cuda_block_sum(sum, scratch);
    if (threadIdx.x == 0) write_scalar(out, sqrt(sum));
}

size_t partial_bytes(int n, const wr_tensor *x) {
    int64_t blocks = 0;
    for (int k = 0; k < n; k++)
        blocks += pieces(x[k].n);
    return static_cast<size_t>(blocks) * sizeof(double);
}

wr_status finish(const wr_call *c, int64_t blocks) {
    if (c->out[0].data == NULL) return WR_OK;
    return WR_CUDA_LAUNCH(c, finish_norm, 1, THREADS, 0, static_cast<const double *>(c->workspace),
                          blocks, scalar_of(c->out[0]));
}

template <class T> wr_status square_type(const wr_call *c, wr_dtype t, int64_t *blocks) {
    const wr_tensor *const group[1] = {c->in};
    double *partial = static_cast<double *>(c->workspace);
    return each_list<1>(
        c->n_in, group, NULL, t, blocks, [&](const list<1> &l, unsigned grid, int64_t before) {
            return WR_CUDA_LAUNCH(c, sum_squares<T>, grid, THREADS, 0, l, partial + before);
        });
}

wr_status norm_row(const wr_call *c) {
    int64_t blocks = 0;
    wr_status status = square_type<float>(c, WR_F32, &blocks);
    if (status == WR_OK) status = square_type<double>(c, WR_F64, &blocks);
    return status == WR_OK ? finish(c, blocks) : status;
}

size_t norm_workspace(const wr_call *c) { return partial_bytes(c->n_in, c->in); }

/* ---- accumulate ---- */

/* data: gradient, sum. */
template <class T>
__global__ void __launch_bounds__(THREADS)
    add_gradients(const __grid_constant__ list<2> l, scalar factor, wr_cuda_site site,
                  double *partial) {
    __shared__ double scratch[32];
    const piece p = piece_of(l);
    const bool wide = l.wide[p.tensor];
    const T *g = static_cast<const T *>(l.data[p.tensor][0]);
    T *sum = static_cast<T *>(l.data[p.tensor][1]);
    const double keep = read_scalar(factor);
    const T k = static_cast<T>(keep);
    const bool legal = isfinite(keep);
    double squared = 0;
    if (!legal && threadIdx.x == 0) wr_cuda_tell(site, WR_CUDA_FAULT_KEEP, 0, 0);
#pragma unroll 2
    for (int64_t i = p.from + 4 * threadIdx.x; legal && i < p.end; i += 4 * THREADS) {
        const int count = count_at(i, p.end);
        wr_cuda_four<T> y = read(g + i, count, wide);
        if (k != T(0)) { /* what the sum held is not looked at else: it may be NaN */
            const wr_cuda_four<T> x = read(sum + i, count, wide);
#pragma unroll
            for (int j = 0; j < 4; j++)
                y.v[j] += k * x.v[j];
        }
        write(sum + i, y, count, wide);
        squared += squares(y);
    }
    squared = wr_cuda_block_sum(squared, scratch);
    if (threadIdx.x == 0) partial[blockIdx.x] = squared;
}

int accumulated(const wr_call *c) { return (c->n_in - WR_ACCUMULATE_HEAD) / 2; }

template <class T> wr_status accumulate_type(const wr_call *c, wr_dtype t, int64_t *blocks) {
    const int n = accumulated(c);
    const wr_tensor *const group[2] = {c->in + WR_ACCUMULATE_HEAD, c->in + WR_ACCUMULATE_HEAD + n};
    double *partial = static_cast<double *>(c->workspace);
    return each_list<2>(n, group, NULL, t, blocks,
                        [&](const list<2> &l, unsigned grid, int64_t before) {
                            return WR_CUDA_LAUNCH(c, add_gradients<T>, grid, THREADS, 0, l,
                                                  scalar_of(c->in[WR_ACCUMULATE_KEEP]),
                                                  wr_cuda_place(c), partial + before);
                        });
}

wr_status accumulate_row(const wr_call *c) {
    int64_t blocks = 0;
    wr_status status = accumulate_type<float>(c, WR_F32, &blocks);
    if (status == WR_OK) status = accumulate_type<double>(c, WR_F64, &blocks);
    return status == WR_OK ? finish(c, blocks) : status;
}

size_t accumulate_workspace(const wr_call *c) {
    return partial_bytes(accumulated(c), c->in + WR_ACCUMULATE_HEAD);
}

/* ---- adam ---- */

enum { BETA1, BETA2, EPS, WEIGHT_DECAY, CLIP_NORM, DECOUPLED, RAW_EPS };

struct settings {
    double beta1, beta2, eps, decay, clip, largest;
    int decoupled, raw_eps;
};

/* The numbers of one update, the same for all elements; in device memory. */
struct factors {
    double scale, beta1, beta2, decay, shrink, rate, eps;
    int applied;
};

struct adam_scalars {
    scalar lr, scale, norm, seen;
    int32_t *step, *applied;
};

/* Of update `t`: see factors_of() in ops/update.c. */
__device__ inline factors factors_of(const settings &o, double lr, double scale, double norm,
                                     int32_t t) {
    const double root2 = sqrt(1 - pow(o.beta2, static_cast<double>(t)));
    const double clipped = o.clip / (norm + 1e-6);
    factors f = {scale, o.beta1, o.beta2, 0, 1, 0, 0, 1};
    if (o.clip > 0 && clipped < 1) f.scale *= clipped;
    if (o.decoupled)
        f.shrink = 1 - lr * o.decay;
    else
        f.decay = o.decay;
    f.rate = lr * root2 / (1 - pow(o.beta1, static_cast<double>(t)));
    f.eps = o.raw_eps ? o.eps : o.eps * root2;
    return f;
}

/* One thread. A rate or scale that is not finite is told, and nothing is changed. */
__global__ void begin_adam(settings o, adam_scalars s, wr_cuda_site site, factors *f) {
    const double lr = read_scalar(s.lr), scale = read_scalar(s.scale);
    f->applied = 0;
    if (!isfinite(lr) || lr < 0) {
        wr_cuda_tell(site, WR_CUDA_FAULT_RATE, 0, 0);
        return;
    }
    if (!isfinite(scale)) {
        wr_cuda_tell(site, WR_CUDA_FAULT_SCALE, 0, 0);
        return;
    }
    const double norm = fabs(scale) * read_scalar(s.norm);
    const double clipped = o.clip > 0 && o.clip < norm ? o.clip : norm;
    const bool applied = isfinite(norm) && clipped <= o.largest;
    if (s.applied != NULL) *s.applied = applied;
    write_scalar(s.seen, norm);
    if (!applied) return;
    *s.step += 1;
    *f = factors_of(o, lr, scale, norm, *s.step);
}

__device__ inline float root_of(float x) { return sqrtf(x); }
__device__ inline double root_of(double x) { return sqrt(x); }

/* data: gradient, parameter, moments and, with P = 5, the largest second moment. */
template <class T, int P>
__global__ void __launch_bounds__(THREADS)
    update(const __grid_constant__ list<P> l, const factors *given) {
    if (!given->applied) return;
    const T scale = static_cast<T>(given->scale), decay = static_cast<T>(given->decay);
    const T shrink = static_cast<T>(given->shrink), rate = static_cast<T>(given->rate);
    const T b1 = static_cast<T>(given->beta1), c1 = static_cast<T>(1 - given->beta1);
    const T b2 = static_cast<T>(given->beta2), c2 = static_cast<T>(1 - given->beta2);
    const T eps = static_cast<T>(given->eps);
    const piece at = piece_of(l);
    void *const *data = l.data[at.tensor];
    const bool wide = l.wide[at.tensor];
    for (int64_t i = at.from + 4 * threadIdx.x; i < at.end; i += 4 * THREADS) {
        const int count = count_at(i, at.end);
        const wr_cuda_four<T> g = read(static_cast<const T *>(data[0]) + i, count, wide);
        wr_cuda_four<T> p = read(static_cast<const T *>(data[1]) + i, count, wide);
        wr_cuda_four<T> m = read(static_cast<const T *>(data[2]) + i, count, wide);
        wr_cuda_four<T> v = read(static_cast<const T *>(data[3]) + i, count, wide), top = {};
        if (P == 5) top = read(static_cast<const T *>(data[P - 1]) + i, count, wide);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const T x = scale * g.v[j] + decay * p.v[j];
            m.v[j] = b1 * m.v[j] + c1 * x;
            v.v[j] = b2 * v.v[j] + c2 * x * x;
            if (P == 5) top.v[j] = top.v[j] > v.v[j] ? top.v[j] : v.v[j];
            p.v[j] = shrink * p.v[j] - rate * m.v[j] / (root_of(P == 5 ? top.v[j] : v.v[j]) + eps);
        }
        write(static_cast<T *>(data[1]) + i, p, count, wide);
        write(static_cast<T *>(data[2]) + i, m, count, wide);
        write(static_cast<T *>(data[3]) + i, v, count, wide);
        if (P == 5) write(static_cast<T *>(data[P - 1]) + i, top, count, wide);
    }
}

size_t bytes_of(const wr_tensor *x) {
    return static_cast<size_t>(x->n) * (x->dtype == WR_F64 ? sizeof(double) : sizeof(float));
}

/* Does the gradient lie in the memory of a written tensor? (d(w u) / dw is u itself.) */
bool is_written(const wr_call *c, int n, const wr_tensor *g) {
    const char *at = static_cast<const char *>(g->data);
    for (int k = WR_ADAM_HEAD + n; k < c->n_in; k++) {
        const char *low = static_cast<const char *>(c->in[k].data);
        if (at >= low && at < low + bytes_of(&c->in[k])) return true;
    }
    return false;
}

/* The gradients' addresses, and copies of those that the update would overwrite. */
struct gradients {
    const void **at;
    void *copies;
};

/* Copies are made of next to no gradient of a model, so no plan reserves memory for them. */
wr_status copy_written(const wr_call *c, int n, gradients *g) {
    const wr_tensor *x = c->in + WR_ADAM_HEAD;
    size_t bytes = 0;
    for (int k = 0; k < n; k++) {
        g->at[k] = x[k].data;
        if (x[k].n > 0 && is_written(c, n, &x[k])) bytes += (bytes_of(&x[k]) + 15) / 16 * 16;
    }
    if (bytes == 0) return WR_OK;
    wr_cuda(c)->waited = true;
    wr_cuda_watch_no_more(); /* the copies are no operands */
    cudaError_t error = cudaMalloc(&g->copies, bytes);
    char *to = static_cast<char *>(g->copies);
    for (int k = 0; k < n && error == cudaSuccess; k++) {
        if (x[k].n == 0 || !is_written(c, n, &x[k])) continue;
        error = cudaMemcpyAsync(to, x[k].data, bytes_of(&x[k]), cudaMemcpyDeviceToDevice,
                                wr_cuda(c)->stream);
        g->at[k] = to;
        to += (bytes_of(&x[k]) + 15) / 16 * 16;
    }
    if (error == cudaSuccess) return WR_OK;
    return wr_cuda(c)->services->fail(c->env->err, WR_ERR_MEMORY, "adam: copies of gradients: %s",
                                      cudaGetErrorString(error));
}

template <class T, int P>
wr_status update_type(const wr_call *c, int n, wr_dtype t, const void *const *gradient) {
    const wr_tensor *group[P];
    for (int p = 0; p < P; p++)
        group[p] = c->in + WR_ADAM_HEAD + p * n;
    int64_t blocks = 0;
    return each_list<P>(n, group, gradient, t, &blocks,
                        [&](const list<P> &l, unsigned grid, int64_t) {
                            return WR_CUDA_LAUNCH(c, (update<T, P>), grid, THREADS, 0, l,
                                                  static_cast<const factors *>(c->workspace));
                        });
}

wr_status begin(const wr_call *c) {
    const wr_attr *a = c->attr;
    const bool f32 = c->in[WR_ADAM_HEAD].dtype == WR_F32;
    /* norms up to `largest` have squares that the dtype holds */
    const settings o = {a[BETA1].r,
                        a[BETA2].r,
                        a[EPS].r,
                        a[WEIGHT_DECAY].r,
                        a[CLIP_NORM].r,
                        f32 ? 1e19 : 1e150,
                        static_cast<int>(a[DECOUPLED].i),
                        static_cast<int>(a[RAW_EPS].i)};
    const adam_scalars s = {scalar_of(c->in[WR_ADAM_LR]),
                            scalar_of(c->in[WR_ADAM_SCALE]),
                            scalar_of(c->in[WR_ADAM_NORM]),
                            scalar_of(c->out[1]),
                            wr_cuda_data<int32_t>(c->in[WR_ADAM_STEP]),
                            wr_cuda_data<int32_t>(c->out[0])};
    return WR_CUDA_LAUNCH(c, begin_adam, 1, 1, 0, o, s, wr_cuda_place(c),
                          static_cast<factors *>(c->workspace));
}

template <int P> wr_status adam_row(const wr_call *c) {
    const int n = (c->n_in - WR_ADAM_HEAD) / P;
    gradients g = {new (std::nothrow) const void *[static_cast<size_t>(n)], NULL};
    if (g.at == NULL)
        return wr_cuda(c)->services->fail(c->env->err, WR_ERR_MEMORY, "out of memory: adam");
    wr_status status = copy_written(c, n, &g);
    if (status == WR_OK) status = begin(c);
    if (status == WR_OK) status = update_type<float, P>(c, n, WR_F32, g.at);
    if (status == WR_OK) status = update_type<double, P>(c, n, WR_F64, g.at);
    delete[] g.at;
    if (g.copies != NULL) {
        cudaStreamSynchronize(wr_cuda(c)->stream);
        cudaFree(g.copies);
    }
    return status;
}

size_t adam_workspace(const wr_call *) { return sizeof(factors); }

} // namespace

const wr_cuda_row wr_cuda_rows_update[] = {
    {"global_norm", norm_row, NULL, norm_workspace},
    {"accumulate", accumulate_row, NULL, accumulate_workspace},
    {"adam", adam_row<4>, NULL, adam_workspace},
    {"adam_amsgrad", adam_row<5>, NULL, adam_workspace},
    WR_CUDA_ROWS_END};
