/* gemm.h: matrix products on the CPU behind one small interface.
 *
 *     C[b] = act( (accumulate ? C[b] : 0) + op(A[b]) op(B[b]) + bias ),   b = 0 .. batch-1
 *
 * op(A) is [m, k] (stored [m, k], or [k, m] with trans_a), op(B) is [k, n] (stored [k, n], or
 * [n, k] with trans_b), C is [m, n], all row-major; bias is [n]. A plan is made once per shape and
 * run often; making one costs about a microsecond (nothing is compiled or packed), so a new length
 * bucket with hundreds of products is planned in well under a millisecond.
 *
 * A result does not depend on timing. The own backends ("packed", "rows", "direct") sum each
 * element of C in an order given by the sizes alone, so that it does not depend on the thread count
 * either; the automatic choice takes only them when the program is compiled for a processor with
 * vector FMA (otherwise a library, which chooses its kernels at run time, for single products).
 * docs/matmul.md explains the choice and gives the measurements behind it. */
#ifndef WEIR_OPS_CPU_GEMM_H
#define WEIR_OPS_CPU_GEMM_H

#include "graph/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum wr_gemm_dtype { WR_GEMM_F32, WR_GEMM_F64 } wr_gemm_dtype;

/* Applied to the finished element. GELU is the exact one, x (1 + erf(x / sqrt 2)) / 2. */
typedef enum wr_gemm_act { WR_GEMM_LINEAR, WR_GEMM_RELU, WR_GEMM_GELU } wr_gemm_act;

/* WR_GEMM_AUTO chooses by shape; the others are for measurements and tests. */
typedef enum wr_gemm_backend {
    WR_GEMM_AUTO,
    WR_GEMM_PACKED, /* own blocked kernels, threads over blocks of C */
    WR_GEMM_ROWS,   /* own streaming kernels for few rows of A, m <= 8 */
    WR_GEMM_DIRECT, /* own blocked kernels on operands in place, threads over panels */
    WR_GEMM_DNNL,   /* oneDNN's dnnl_sgemm, float32 only */
    WR_GEMM_CBLAS,  /* the BLAS */
    WR_GEMM_BACKENDS
} wr_gemm_backend;

/* One product. Zero-initialise, then set what differs: a zero stride of C with batch > 1 is an
 * error, a zero leading dimension means contiguous rows, threads <= 0 means omp_get_max_threads(),
 * batch 0 means an empty batch. */
typedef struct wr_gemm_spec {
    wr_gemm_dtype dtype;
    bool trans_a, trans_b;
    bool accumulate; /* add to what C holds */
    bool bias;       /* a bias [n] is given to wr_gemm_run */
    wr_gemm_act act;
    int64_t batch, m, n, k;
    int64_t stride_a, stride_b, stride_c; /* elements between matrices of the batch; 0: shared */
    int64_t lda, ldb, ldc;                /* elements between rows as stored; 0: contiguous */
    int threads;
    wr_gemm_backend backend;
} wr_gemm_spec;

typedef struct wr_gemm_plan wr_gemm_plan;

/* Check a product and choose how it is computed. NULL with `err` set when a size is negative, a
 * leading dimension is shorter than its row, matrices of C overlap, the sizes overflow, or the
 * backend asked for cannot do it. Free with wr_gemm_plan_free. */
wr_gemm_plan *wr_gemm_plan_new(const wr_gemm_spec *spec, wr_error *err);
void wr_gemm_plan_free(wr_gemm_plan *plan);

/* The backend chosen, for printing: "packed", "rows", "direct", "dnnl" or "cblas". */
const char *wr_gemm_plan_name(const wr_gemm_plan *plan);
const char *wr_gemm_backend_name(wr_gemm_backend backend);

/* Bytes of scratch memory that wr_gemm_run needs (may be 0). */
size_t wr_gemm_workspace(const wr_gemm_plan *plan);

/* Run the product. a, b, c point at elements of the plan's type, `bias` is NULL unless the plan
 * has one, `workspace` holds wr_gemm_workspace() bytes aligned to 64 (its content is neither read
 * nor kept; several plans may share it one after the other). C overlaps neither A nor B. A plan is
 * read only: several callers may run it at once with workspaces of their own. */
void wr_gemm_run(const wr_gemm_plan *plan, const void *a, const void *b, void *c, const void *bias,
                 void *workspace);

/* The best float32 rate in GFLOP/s (10^9 multiplications and additions a second) that a large
 * product reaches now on `threads` threads, over shapes and backends. Takes about 0.3 s; 0 when
 * memory is out. */
double wr_gemm_peak_gflops(int threads);

#ifdef __cplusplus
}
#endif
#endif
