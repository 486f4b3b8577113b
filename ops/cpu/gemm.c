/* gemm.c: the checks of a matrix product, the choice of its backend, and the CBLAS backend. */
#include "ops/cpu/gemm.h"
#include "ops/cpu/gemm_impl.h"
#include "ops/cpu/vmath.h"

#include <cblas.h>
#include <limits.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

const char *wr_gemm_backend_name(wr_gemm_backend backend) {
    static const char *const names[WR_GEMM_BACKENDS] = {"auto",   "packed", "rows",
                                                        "direct", "dnnl",   "cblas"};
    return (unsigned)backend < WR_GEMM_BACKENDS ? names[backend] : "unknown";
}

const char *wr_gemm_plan_name(const wr_gemm_plan *plan) {
    return wr_gemm_backend_name(plan->backend);
}

size_t wr_gemm_workspace(const wr_gemm_plan *plan) { return plan->workspace; }

void wr_gemm_plan_free(wr_gemm_plan *plan) { free(plan); }

/* One operand as it is stored: `rows` rows of `cols` elements, `*ld` apart. */
static wr_status check_operand(const char *name, int64_t rows, int64_t cols, int64_t *ld,
                               int64_t stride, int64_t batch, wr_error *err) {
    if (*ld == 0) *ld = cols > 0 ? cols : 1;
    if (*ld < cols)
        return wr_fail(err, WR_ERR_INPUT,
                       "matrix product: rows of %s have %lld elements but lie %lld apart; give at "
                       "least the row length, or 0 for contiguous rows",
                       name, (long long)cols, (long long)*ld);
    int64_t extent = 0, last = 0;
    bool overflow = __builtin_mul_overflow(rows, *ld, &extent) ||
                    __builtin_mul_overflow(batch, stride, &last) ||
                    __builtin_add_overflow(extent, last, &extent) || extent > INT64_MAX / 64;
    if (stride < 0 || overflow)
        return wr_fail(err, WR_ERR_INPUT,
                       "matrix product: %s of %lld x %lld elements, batch %lld, stride %lld, does "
                       "not fit in memory addresses",
                       name, (long long)rows, (long long)cols, (long long)batch, (long long)stride);
    return WR_OK;
}

static wr_status check_spec(wr_gemm_spec *s, wr_error *err) {
    if (s->m < 0 || s->n < 0 || s->k < 0 || s->batch < 0)
        return wr_fail(
            err, WR_ERR_INPUT,
            "matrix product: batch %lld, m %lld, n %lld, k %lld: no size may be negative",
            (long long)s->batch, (long long)s->m, (long long)s->n, (long long)s->k);
    if ((unsigned)s->dtype > WR_GEMM_F64 || (unsigned)s->act > WR_GEMM_GELU ||
        (unsigned)s->backend >= WR_GEMM_BACKENDS)
        return wr_fail(err, WR_ERR_LIBRARY,
                       "matrix product: dtype %d, activation %d or backend %d is unknown",
                       (int)s->dtype, (int)s->act, (int)s->backend);
    wr_status status = check_operand("A", s->trans_a ? s->k : s->m, s->trans_a ? s->m : s->k,
                                     &s->lda, s->stride_a, s->batch, err);
    if (status == WR_OK)
        status = check_operand("B", s->trans_b ? s->n : s->k, s->trans_b ? s->k : s->n, &s->ldb,
                               s->stride_b, s->batch, err);
    if (status == WR_OK)
        status = check_operand("C", s->m, s->n, &s->ldc, s->stride_c, s->batch, err);
    if (status != WR_OK) return status;
    int64_t c_extent = s->m > 0 ? (s->m - 1) * s->ldc + s->n : 0;
    if (s->batch > 1 && s->stride_c < c_extent)
        return wr_fail(err, WR_ERR_INPUT,
                       "matrix product: the %lld results lie %lld elements apart and overlap; each "
                       "takes %lld",
                       (long long)s->batch, (long long)s->stride_c, (long long)c_extent);
    if (s->threads <= 0) s->threads = omp_get_max_threads();
    return WR_OK;
}

static bool fits_int(const wr_gemm_spec *s) {
    return s->m <= INT_MAX && s->n <= INT_MAX && s->k <= INT_MAX && s->lda <= INT_MAX &&
           s->ldb <= INT_MAX && s->ldc <= INT_MAX;
}

static bool able(const wr_gemm_spec *s, wr_gemm_backend backend) {
    switch (backend) {
    case WR_GEMM_PACKED:
    case WR_GEMM_DIRECT:
        return true;
    case WR_GEMM_ROWS:
        return s->dtype == WR_GEMM_F32 && s->m <= WR__GEMM_ROWS;
    case WR_GEMM_DNNL:
        return s->dtype == WR_GEMM_F32 && s->k > 0;
    default:
        return fits_int(s);
    }
}

/* Below this many multiply-adds a thread, starting another thread costs more than it saves. */
enum { THREAD_WORK = 250000 };

/* The limits of the choice, measured: docs/matmul.md. */
enum {
    IN_SECOND_CACHE = 1 << 18, /* elements of an operand read in place again and again */
    IN_LAST_CACHE = 1 << 20,   /* elements of B that need not be streamed from memory */
    FEW_ROWS = 64,             /* rows of A too few to pay for packing B */
    STREAMED_ROWS = 4          /* rows of A too few for a register tile */
};

/* The own kernels are compiled for one processor; the libraries choose theirs at run time. */
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
enum { FAST_KERNELS = 1 };
#else
enum { FAST_KERNELS = 0 };
#endif

static wr_gemm_backend choose(const wr_gemm_spec *s) {
    if (!FAST_KERNELS && s->batch == 1 && able(s, WR_GEMM_DNNL)) return WR_GEMM_DNNL;
    if (!FAST_KERNELS && s->batch == 1 && able(s, WR_GEMM_CBLAS)) return WR_GEMM_CBLAS;
    int64_t a_size = s->m * s->k, b_size = s->k * s->n;
    bool streamed = s->m <= STREAMED_ROWS || s->trans_b || b_size > IN_LAST_CACHE;
    if (s->dtype == WR_GEMM_F32 && s->m <= WR__GEMM_ROWS && streamed) return WR_GEMM_ROWS;
    bool small = a_size <= IN_SECOND_CACHE && b_size <= IN_SECOND_CACHE;
    return small || s->m <= FEW_ROWS ? WR_GEMM_DIRECT : WR_GEMM_PACKED;
}

/* Fold a batch that shares B into the rows of one product where the rows follow each other. */
static void fold_batch(wr_gemm_spec *s) {
    if (s->batch <= 1 || s->stride_b != 0 || s->trans_a) return;
    if (s->stride_a != s->m * s->lda || s->stride_c != s->m * s->ldc) return;
    s->m *= s->batch;
    s->batch = 1;
    s->stride_a = s->stride_c = 0;
}

static void limit_threads(wr_gemm_spec *s) {
    double work = (double)s->batch * (double)s->m * (double)s->n * (double)(s->k + 1);
    if (work < (double)THREAD_WORK * s->threads) s->threads = 1 + (int)(work / THREAD_WORK);
}

static bool is_empty(const wr_gemm_spec *s) { return s->batch == 0 || s->m == 0 || s->n == 0; }

static size_t own_workspace(const wr_gemm_spec *s, wr_gemm_backend backend) {
    if (is_empty(s)) return 0;
    bool f32 = s->dtype == WR_GEMM_F32;
    if (backend == WR_GEMM_PACKED)
        return f32 ? wr__gemm_packed_workspace_f32(s) : wr__gemm_packed_workspace_f64(s);
    if (backend == WR_GEMM_DIRECT)
        return f32 ? wr__gemm_direct_workspace_f32(s) : wr__gemm_direct_workspace_f64(s);
    return backend == WR_GEMM_ROWS ? wr__gemm_rows_workspace(s) : 0;
}

wr_gemm_plan *wr_gemm_plan_new(const wr_gemm_spec *spec, wr_error *err) {
    wr_gemm_spec s = *spec;
    if (check_spec(&s, err) != WR_OK) return NULL;
    fold_batch(&s);
    limit_threads(&s);
    wr_gemm_backend backend = s.backend == WR_GEMM_AUTO ? choose(&s) : s.backend;
    if (!able(&s, backend)) {
        wr_fail(err, WR_ERR_INPUT, "matrix product: backend %s cannot do m %lld, n %lld, k %lld",
                wr_gemm_backend_name(backend), (long long)s.m, (long long)s.n, (long long)s.k);
        return NULL;
    }
    wr_gemm_plan *plan = malloc(sizeof *plan);
    if (plan == NULL) {
        wr_fail_memory(err, "the plan of a matrix product", sizeof *plan);
        return NULL;
    }
    *plan = (wr_gemm_plan){.s = s, .backend = backend, .workspace = own_workspace(&s, backend)};
    return plan;
}

void wr__gemm_cblas(const wr_gemm_spec *s, const void *a, const void *b, void *c) {
    CBLAS_TRANSPOSE ta = s->trans_a ? CblasTrans : CblasNoTrans;
    CBLAS_TRANSPOSE tb = s->trans_b ? CblasTrans : CblasNoTrans;
    int m = (int)s->m, n = (int)s->n, k = (int)s->k;
    int lda = (int)s->lda, ldb = (int)s->ldb, ldc = (int)s->ldc;
    for (int64_t i = 0; i < s->batch; i++) {
        if (s->dtype == WR_GEMM_F32)
            cblas_sgemm(CblasRowMajor, ta, tb, m, n, k, 1.0f, (const float *)a + i * s->stride_a,
                        lda, (const float *)b + i * s->stride_b, ldb, s->accumulate ? 1.0f : 0.0f,
                        (float *)c + i * s->stride_c, ldc);
        else
            cblas_dgemm(CblasRowMajor, ta, tb, m, n, k, 1.0, (const double *)a + i * s->stride_a,
                        lda, (const double *)b + i * s->stride_b, ldb, s->accumulate ? 1.0 : 0.0,
                        (double *)c + i * s->stride_c, ldc);
    }
}

/* Bias and activation of a run of elements; not-a-number stays. `GELU_LOOP` vectorises where the
 * function does. */
#define EPILOGUE(type, suffix, GELU_LOOP)                                                          \
    static void add_bias_##suffix(type *restrict c, int64_t n, const type *restrict bias) {        \
        _Pragma("omp simd") for (int64_t j = 0; j < n; j++) c[j] += bias[j];                       \
    }                                                                                              \
    static void activate_##suffix(type *c, int64_t n, wr_gemm_act act) {                           \
        if (act == WR_GEMM_RELU) {                                                                 \
            _Pragma("omp simd") for (int64_t j = 0; j < n; j++) c[j] = c[j] < 0 ? 0 : c[j];        \
        } else if (act == WR_GEMM_GELU) {                                                          \
            GELU_LOOP for (int64_t j = 0; j < n; j++) c[j] = wr_gelu_##suffix(c[j]);               \
        }                                                                                          \
    }                                                                                              \
    void wr__gemm_epilogue_##suffix(type *c, int64_t ldc, int64_t rows, int64_t n,                 \
                                    const type *bias, wr_gemm_act act) {                           \
        for (int64_t i = 0; i < rows && bias != NULL; i++)                                         \
            add_bias_##suffix(c + i * ldc, n, bias);                                               \
        int64_t together = n == ldc ? rows : 1;                                                    \
        for (int64_t i = 0; i < rows; i += together)                                               \
            activate_##suffix(c + i * ldc, n * together, act);                                     \
    }

EPILOGUE(float, f32, _Pragma("omp simd"))
EPILOGUE(double, f64, )
#undef EPILOGUE

/* The product by a library, with the thread count of this call only, then the epilogue. */
static void run_library(const wr_gemm_plan *plan, const void *a, const void *b, void *c,
                        const void *bias) {
    const wr_gemm_spec *s = &plan->s;
    int before = omp_get_max_threads();
    omp_set_num_threads(s->threads);
    if (plan->backend != WR_GEMM_DNNL || !wr__gemm_dnnl(s, a, b, c)) wr__gemm_cblas(s, a, b, c);
    omp_set_num_threads(before);
    if (bias == NULL && s->act == WR_GEMM_LINEAR) return;
    for (int64_t i = 0; i < s->batch; i++) {
        if (s->dtype == WR_GEMM_F32)
            wr__gemm_epilogue_f32((float *)c + i * s->stride_c, s->ldc, s->m, s->n, bias, s->act);
        else
            wr__gemm_epilogue_f64((double *)c + i * s->stride_c, s->ldc, s->m, s->n, bias, s->act);
    }
}

void wr_gemm_run(const wr_gemm_plan *plan, const void *a, const void *b, void *c, const void *bias,
                 void *workspace) {
    const wr_gemm_spec *s = &plan->s;
    if (is_empty(s)) return;
    if (!s->bias) bias = NULL;
    switch (plan->backend) {
    case WR_GEMM_PACKED:
        if (s->dtype == WR_GEMM_F32)
            wr__gemm_packed_f32(s, a, b, c, bias, workspace);
        else
            wr__gemm_packed_f64(s, a, b, c, bias, workspace);
        return;
    case WR_GEMM_DIRECT:
        if (s->dtype == WR_GEMM_F32)
            wr__gemm_direct_f32(s, a, b, c, bias, workspace);
        else
            wr__gemm_direct_f64(s, a, b, c, bias, workspace);
        return;
    case WR_GEMM_ROWS:
        wr__gemm_rows(s, a, b, c, bias, workspace);
        return;
    default:
        run_library(plan, a, b, c, bias);
        return;
    }
}

/* The best of the rates of single runs within `seconds`. */
static double best_rate(const wr_gemm_plan *plan, const float *a, const float *b, float *c,
                        void *workspace, double seconds) {
    double flops = 2.0 * (double)plan->s.m * (double)plan->s.n * (double)plan->s.k, best = 0;
    double end = wr_now() + seconds;
    do {
        double start = wr_now();
        wr_gemm_run(plan, a, b, c, NULL, workspace);
        double rate = flops / (wr_now() - start) * 1e-9;
        if (rate > best) best = rate;
    } while (wr_now() < end);
    return best;
}

/* The best rate of a square product, 0 when memory is out. */
static double square_rate(int64_t side, wr_gemm_backend backend, int threads, double seconds) {
    wr_gemm_spec s = {
        .batch = 1, .m = side, .n = side, .k = side, .threads = threads, .backend = backend};
    wr_gemm_plan *plan = wr_gemm_plan_new(&s, NULL);
    if (plan == NULL) return 0.0;
    size_t n = (size_t)(side * side), bytes = (wr_gemm_workspace(plan) + 63) / 64 * 64 + 64;
    float *x = calloc(3 * n, sizeof *x);
    void *workspace = aligned_alloc(64, bytes);
    double rate = 0.0;
    if (x != NULL && workspace != NULL)
        rate = best_rate(plan, x, x + n, x + 2 * n, workspace, seconds);
    free(workspace);
    free(x);
    wr_gemm_plan_free(plan);
    return rate;
}

double wr_gemm_peak_gflops(int threads) {
    static const wr_gemm_backend backends[] = {WR_GEMM_AUTO, WR_GEMM_DNNL, WR_GEMM_CBLAS};
    double best = 0.0;
    for (int i = 0; i < 6; i++) {
        double rate = square_rate(i % 2 == 0 ? 512 : 1024, backends[i / 2], threads, 0.05);
        if (rate > best) best = rate;
    }
    return best;
}
