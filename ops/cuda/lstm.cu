/* lstm.cu: LSTM over time; see ops/lstm.c. A position is a product [B, H] x [H, 4H] and one kernel
 * for all gates. How long sentences are is known on the device alone, so that all positions are
 * walked; what is padding keeps its state there. */
#include "ops/cuda/blas.h"
#include "ops/cuda/copy.cuh"

#include <cmath>
#include <cstdlib>

namespace {

enum { THREADS = 256 };
enum { REVERSE = 0, GIVEN = 1 };                     /* attributes */
enum { Z = 0, KEPT = 0, H0, C0, WH, LENGTHS, COTS }; /* operands */
enum { Y = 0, LAST_H, LAST_C, OUT_KEPT, OUTPUTS };   /* outputs of the forward row */
enum { DZ = 0, DH0, DC0, DW };                       /* outputs of the backward row */

__device__ inline float squash(float x) { return tanhf(x); }
__device__ inline double squash(double x) { return tanh(x); }
__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
__device__ inline double sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }

struct sizes {
    int64_t b, t, h;
    const int32_t *length;
};

sizes sizes_of(const wr_call *c) {
    return sizes{c->in[0].dim[0], c->in[0].dim[1], c->in[WH].dim[0],
                 wr_cuda_data<int32_t>(c->in[LENGTHS])};
}

/* ---- forward ---- */

/* What one position reads and writes; y and kept may be NULL. */
template <class T> struct position {
    int64_t t;
    bool first; /* of the walk: lengths are checked */
    const T *z, *gates, *h_before, *c_before;
    T *h, *c, *y, *kept;
    wr_cuda_site site;
};

template <class T>
__global__ void __launch_bounds__(THREADS) forward_position(sizes s, position<T> p) {
    const int64_t at = wr_cuda_thread(), h = s.h;
    if (at >= s.b * h) return;
    const int64_t b = at / h, j = at % h, row = b * s.t + p.t, length = s.length[b];
    if (p.first && j == 0 && (length < 0 || length > s.t))
        wr_cuda_tell(p.site, WR_CUDA_FAULT_INDEX, length, s.t + 1);
    T gate[5] = {}, y = 0;
    if (p.t < length) {
        const T *z = p.z + row * 4 * h + j, *g = p.gates + b * 4 * h + j;
        for (int k = 0; k < 4; k++)
            gate[k] = z[k * h] + g[k * h];
        gate[0] = sigmoid(gate[0]);
        gate[1] = sigmoid(gate[1]);
        gate[2] = squash(gate[2]);
        gate[3] = sigmoid(gate[3]);
        gate[4] = gate[1] * p.c_before[at] + gate[0] * gate[2];
        y = gate[3] * squash(gate[4]);
        p.c[at] = gate[4];
        p.h[at] = y;
    } else if (p.c != p.c_before) { /* what comes first stays */
        p.c[at] = p.c_before[at];
        p.h[at] = p.h_before[at];
    }
    if (p.y != NULL) p.y[row * h + j] = y;
    for (int k = 0; k < 5 && p.kept != NULL; k++)
        p.kept[(row * 5 + k) * h + j] = gate[k];
}

int64_t bytes_each(const wr_tensor *x) { return x->dtype == WR_F64 ? 8 : 4; }
size_t round_up(size_t n) { return (n + 255) / 256 * 256; }

size_t bytes_of(const wr_call *c, int64_t n) {
    return round_up(static_cast<size_t>(n * bytes_each(&c->in[0])));
}

/* The workspace in parts that begin at multiples of 256 bytes. */
template <class T> T *take_part(const wr_call *c, char **at, int64_t n) {
    T *part = reinterpret_cast<T *>(*at);
    *at += bytes_of(c, n);
    return part;
}

wr_cuda_gemm_spec spec_of(const wr_call *c, int64_t m, int64_t n, int64_t k) {
    wr_cuda_gemm_spec s = {};
    s.dtype = c->in[0].dtype;
    s.precision = wr_cuda(c)->precision;
    s.batch = 1;
    s.m = m;
    s.n = n;
    s.k = k;
    return s;
}

wr_status lstm_make(const wr_call *c, void **prepared) {
    const sizes s = sizes_of(c);
    const wr_cuda_gemm_spec spec = spec_of(c, s.b, 4 * s.h, s.h);
    wr_cuda_gemm *g = NULL;
    wr_status status = wr_cuda_gemm_new(wr_cuda(c)->blas, &spec, &g, c->env->err);
    *prepared = g;
    return status;
}

void lstm_release(void *prepared) { wr_cuda_gemm_free(static_cast<wr_cuda_gemm *>(prepared)); }

size_t lstm_gemm_workspace(const wr_call *, const void *prepared) {
    return wr_cuda_gemm_workspace(static_cast<const wr_cuda_gemm *>(prepared));
}

const wr_prepare lstm_prepare = {lstm_make, lstm_release, lstm_gemm_workspace};

/* Products of one position, and the two states where nobody reads the last ones. */
size_t lstm_workspace(const wr_call *c) {
    const sizes s = sizes_of(c);
    return bytes_of(c, 4 * s.b * s.h) + 2 * bytes_of(c, s.b * s.h);
}

wr_status copy_state(const wr_call *c, void *to, const void *from, int64_t n) {
    const int64_t bytes = n * bytes_each(&c->in[0]);
    if (to == NULL) return WR_OK;
    const wr_cuda_runs r = {from, to, 1, 1, bytes, bytes, bytes, bytes, bytes};
    return wr_cuda_copy(c, &r);
}

template <class T> wr_status walk(const wr_call *c, const sizes &s) {
    const int64_t state = s.b * s.h;
    char *at = static_cast<char *>(c->workspace);
    position<T> p = {};
    T *gates = take_part<T>(c, &at, 4 * state);
    p.h = take_part<T>(c, &at, state);
    p.c = take_part<T>(c, &at, state);
    if (c->out[LAST_H].data != NULL) p.h = wr_cuda_data<T>(c->out[LAST_H]);
    if (c->out[LAST_C].data != NULL) p.c = wr_cuda_data<T>(c->out[LAST_C]);
    p.z = wr_cuda_data<T>(c->in[Z]);
    p.gates = gates;
    p.h_before = wr_cuda_data<T>(c->in[H0]);
    p.c_before = wr_cuda_data<T>(c->in[C0]);
    p.y = wr_cuda_data<T>(c->out[Y]);
    p.kept = wr_cuda_data<T>(c->out[OUT_KEPT]);
    p.site = wr_cuda_place(c);
    for (int64_t step = 0; step < s.t; step++) {
        p.t = c->attr[REVERSE].i ? s.t - 1 - step : step;
        p.first = step == 0;
        wr_status status =
            wr_cuda_gemm_run(static_cast<const wr_cuda_gemm *>(c->prepared), wr_cuda(c)->stream,
                             p.h_before, c->in[WH].data, NULL, gates, NULL, at, c->env->err);
        if (status == WR_OK)
            status = WR_CUDA_LAUNCH(c, forward_position<T>, wr_cuda_blocks(state, THREADS), THREADS,
                                    0, s, p);
        if (status != WR_OK) return status;
        p.h_before = p.h;
        p.c_before = p.c;
    }
    return WR_OK;
}

wr_status lstm_row(const wr_call *c) {
    const sizes s = sizes_of(c);
    if (s.b * s.h == 0) return WR_OK;
    if (s.t > 0) return WR_CUDA_FLOAT(c->in[Z].dtype, walk, c, s);
    wr_status status = copy_state(c, c->out[LAST_H].data, c->in[H0].data, s.b * s.h);
    if (status != WR_OK) return status;
    return copy_state(c, c->out[LAST_C].data, c->in[C0].data, s.b * s.h);
}

/* ---- backward ---- */

/* What one position reads and writes. Cotangents of y and kept may be NULL, so may dz. */
template <class T> struct position_back {
    int64_t t, previous; /* the position walked before t, forward */
    bool first;          /* of this walk */
    const T *kept, *h0, *c0, *dy, *dkept;
    T *dh, *dc, *dz, *here, *before; /* here [B, 4H]: dz of this position alone */
    int64_t before_b, before_t;      /* strides of `before` */
    wr_cuda_site site;
};

template <class T> __device__ inline T or_zero(const T *p, int64_t i) {
    return p == NULL ? T(0) : p[i];
}

template <class T>
__global__ void __launch_bounds__(THREADS) backward_position(sizes s, position_back<T> p) {
    const int64_t at = wr_cuda_thread(), h = s.h;
    if (at >= s.b * h) return;
    const int64_t b = at / h, j = at % h, row = b * s.t + p.t, length = s.length[b];
    if (p.first && j == 0 && (length < 0 || length > s.t))
        wr_cuda_tell(p.site, WR_CUDA_FAULT_INDEX, length, s.t + 1);
    T dz[4] = {}, h_before = 0;
    if (p.t < length) {
        const T *kept = p.kept + row * 5 * h + j;
        const T i = kept[0], f = kept[h], g = kept[2 * h], o = kept[3 * h];
        const bool begins = p.previous < 0 || p.previous >= length || p.previous >= s.t;
        const T *past = p.kept + (b * s.t + (begins ? p.t : p.previous)) * 5 * h + j;
        const T c_before = begins ? p.c0[at] : past[4 * h];
        h_before = begins ? p.h0[at] : past[3 * h] * squash(c_before);
        const int64_t more = row * 5 * h + j;
        const T t = squash(kept[4 * h]), y = p.dh[at] + or_zero(p.dy, row * h + j);
        const T cell = p.dc[at] + y * o * (1 - t * t) + or_zero(p.dkept, more + 4 * h);
        dz[0] = (cell * g + or_zero(p.dkept, more)) * i * (1 - i);
        dz[1] = (cell * c_before + or_zero(p.dkept, more + h)) * f * (1 - f);
        dz[2] = (cell * i + or_zero(p.dkept, more + 2 * h)) * (1 - g * g);
        dz[3] = (y * t + or_zero(p.dkept, more + 3 * h)) * o * (1 - o);
        p.dc[at] = cell * f;
        p.dh[at] = 0; /* what it was goes on through dz W_h^T */
    }
    if (p.before != NULL) p.before[b * p.before_b + p.t * p.before_t + j] = h_before;
    for (int k = 0; k < 4; k++) {
        p.here[(b * 4 + k) * h + j] = dz[k];
        if (p.dz != NULL) p.dz[(row * 4 + k) * h + j] = dz[k];
    }
}

/* dh += dz W_h^T; dW_h = before^T dz at once, or (where nobody reads dz) position by position. */
struct products {
    wr_cuda_gemm *state, *weight, *part;
};

void back_release(void *prepared) {
    products *p = static_cast<products *>(prepared);
    if (p == NULL) return;
    wr_cuda_gemm_free(p->state);
    wr_cuda_gemm_free(p->weight);
    wr_cuda_gemm_free(p->part);
    free(p);
}

wr_status back_make(const wr_call *c, void **prepared) {
    const sizes s = sizes_of(c);
    products *p = static_cast<products *>(calloc(1, sizeof *p));
    if (p == NULL)
        return wr_cuda(c)->services->fail(c->env->err, WR_ERR_MEMORY, "out of memory: lstm_grad");
    wr_cuda_gemm_spec state = spec_of(c, s.b, s.h, 4 * s.h);
    state.trans_b = state.accumulate = true;
    wr_cuda_gemm_spec weight = spec_of(c, s.h, 4 * s.h, s.b * s.t);
    weight.trans_a = true;
    wr_cuda_gemm_spec part = spec_of(c, s.h, 4 * s.h, s.b);
    part.trans_a = part.accumulate = true;
    wr_status status = wr_cuda_gemm_new(wr_cuda(c)->blas, &state, &p->state, c->env->err);
    if (status == WR_OK)
        status = wr_cuda_gemm_new(wr_cuda(c)->blas, &weight, &p->weight, c->env->err);
    if (status == WR_OK) status = wr_cuda_gemm_new(wr_cuda(c)->blas, &part, &p->part, c->env->err);
    if (status != WR_OK) {
        back_release(p);
        p = NULL;
    }
    *prepared = p;
    return status;
}

size_t back_gemm_workspace(const wr_call *, const void *prepared) {
    const products *p = static_cast<const products *>(prepared);
    size_t most = wr_cuda_gemm_workspace(p->state);
    const size_t others[2] = {wr_cuda_gemm_workspace(p->weight), wr_cuda_gemm_workspace(p->part)};
    for (size_t bytes : others)
        most = bytes > most ? bytes : most;
    return most;
}

const wr_prepare back_prepare = {back_make, back_release, back_gemm_workspace};

size_t back_workspace(const wr_call *c) {
    const sizes s = sizes_of(c);
    const int64_t state = s.b * s.h;
    return bytes_of(c, 4 * state) + 2 * bytes_of(c, state) + bytes_of(c, state * s.t);
}

wr_status begin_state(const wr_call *c, void *to, const void *cotangent, int64_t n) {
    if (cotangent != NULL) return copy_state(c, to, cotangent, n);
    return wr_cuda_zero(c, to, static_cast<size_t>(n * bytes_each(&c->in[0])));
}

/* The cotangents of y, h, c and kept; NULL where there is none. */
void cotangents_of(const wr_call *c, const void *cot[OUTPUTS]) {
    int at = COTS;
    for (int k = 0; k < OUTPUTS; k++)
        cot[k] = c->attr[GIVEN].i >> k & 1 ? c->in[at++].data : NULL;
}

wr_status run_product(const wr_call *c, const wr_cuda_gemm *g, const void *a, const void *b,
                      void *y, void *workspace) {
    return wr_cuda_gemm_run(g, wr_cuda(c)->stream, a, b, y, y, NULL, workspace, c->env->err);
}

/* All positions, from the last that was walked; `gemm` is the products' workspace. */
template <class T>
wr_status walk_back(const wr_call *c, const sizes &s, position_back<T> p, void *gemm) {
    const products *g = static_cast<const products *>(c->prepared);
    const bool reverse = c->attr[REVERSE].i != 0, in_parts = c->out[DW].data != NULL && !p.dz;
    wr_status status = WR_OK;
    for (int64_t step = s.t - 1; step >= 0 && status == WR_OK; step--) {
        p.t = reverse ? s.t - 1 - step : step;
        p.previous = reverse ? p.t + 1 : p.t - 1;
        p.first = step == s.t - 1;
        status = WR_CUDA_LAUNCH(c, backward_position<T>, wr_cuda_blocks(s.b * s.h, THREADS),
                                THREADS, 0, s, p);
        if (status == WR_OK && (step > 0 || c->out[DH0].data != NULL))
            status = run_product(c, g->state, p.here, c->in[WH].data, p.dh, gemm);
        if (status == WR_OK && in_parts)
            status =
                run_product(c, g->part, p.before + p.t * p.before_t, p.here, c->out[DW].data, gemm);
    }
    return status;
}

template <class T> wr_status back(const wr_call *c, const sizes &s) {
    const int64_t state = s.b * s.h;
    const void *cot[OUTPUTS];
    cotangents_of(c, cot);
    char *at = static_cast<char *>(c->workspace);
    position_back<T> p = {};
    p.here = take_part<T>(c, &at, 4 * state);
    p.dh = take_part<T>(c, &at, state);
    p.dc = take_part<T>(c, &at, state);
    p.before = take_part<T>(c, &at, state * s.t);
    if (c->out[DH0].data != NULL) p.dh = wr_cuda_data<T>(c->out[DH0]);
    if (c->out[DC0].data != NULL) p.dc = wr_cuda_data<T>(c->out[DC0]);
    if (c->out[DW].data == NULL) p.before = NULL;
    p.dz = wr_cuda_data<T>(c->out[DZ]);
    p.before_b = p.dz != NULL ? s.t * s.h : s.h; /* in parts: each position on its own */
    p.before_t = p.dz != NULL ? s.h : state;
    p.kept = wr_cuda_data<T>(c->in[KEPT]);
    p.h0 = wr_cuda_data<T>(c->in[H0]);
    p.c0 = wr_cuda_data<T>(c->in[C0]);
    p.dy = static_cast<const T *>(cot[Y]);
    p.dkept = static_cast<const T *>(cot[OUT_KEPT]);
    p.site = wr_cuda_place(c);
    wr_status status = begin_state(c, p.dh, cot[LAST_H], state);
    if (status == WR_OK) status = begin_state(c, p.dc, cot[LAST_C], state);
    if (status == WR_OK && c->out[DW].data != NULL && (p.dz == NULL || s.t == 0))
        status = begin_state(c, c->out[DW].data, NULL, c->out[DW].n);
    if (status == WR_OK) status = walk_back(c, s, p, at);
    if (status != WR_OK || p.before == NULL || p.dz == NULL || s.t == 0) return status;
    const products *g = static_cast<const products *>(c->prepared);
    return run_product(c, g->weight, p.before, p.dz, c->out[DW].data, at);
}

wr_status lstm_grad_row(const wr_call *c) {
    const sizes s = sizes_of(c);
    if (s.b * s.h == 0)
        return c->out[DW].data == NULL ? WR_OK
                                       : begin_state(c, c->out[DW].data, NULL, c->out[DW].n);
    return WR_CUDA_FLOAT(c->in[0].dtype, back, c, s);
}

} // namespace

const wr_cuda_row wr_cuda_rows_lstm[] = {
    {"lstm", lstm_row, &lstm_prepare, lstm_workspace},
    {"lstm_grad", lstm_grad_row, &back_prepare, back_workspace},
    WR_CUDA_ROWS_END};
