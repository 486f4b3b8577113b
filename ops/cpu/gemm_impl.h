/* gemm_impl.h: what the files behind gemm.h share. */
#ifndef WEIR_OPS_CPU_GEMM_IMPL_H
#define WEIR_OPS_CPU_GEMM_IMPL_H

#include "ops/cpu/gemm.h"

/* A checked product: defaults of the specification are filled in and nothing is empty or zero but
 * k, which may be 0. */
struct wr_gemm_plan {
    wr_gemm_spec s;
    wr_gemm_backend backend;
    size_t workspace; /* bytes */
};

/* Library backends: C = op(A) op(B) (+ C), all matrices of the batch, without the epilogue. */
void wr__gemm_cblas(const wr_gemm_spec *s, const void *a, const void *b, void *c);
bool wr__gemm_dnnl(const wr_gemm_spec *s, const float *a, const float *b, float *c);

/* Add the bias row and apply the activation to `rows` x `n` elements of C in place. */
void wr__gemm_epilogue_f32(float *c, int64_t ldc, int64_t rows, int64_t n, const float *bias,
                           wr_gemm_act act);
void wr__gemm_epilogue_f64(double *c, int64_t ldc, int64_t rows, int64_t n, const double *bias,
                           wr_gemm_act act);

/* Own backends, see gemm_blocked.h. `bias` is NULL when there is none. */
size_t wr__gemm_packed_workspace_f32(const wr_gemm_spec *s);
size_t wr__gemm_packed_workspace_f64(const wr_gemm_spec *s);
void wr__gemm_packed_f32(const wr_gemm_spec *s, const float *a, const float *b, float *c,
                         const float *bias, void *workspace);
void wr__gemm_packed_f64(const wr_gemm_spec *s, const double *a, const double *b, double *c,
                         const double *bias, void *workspace);
size_t wr__gemm_direct_workspace_f32(const wr_gemm_spec *s);
size_t wr__gemm_direct_workspace_f64(const wr_gemm_spec *s);
void wr__gemm_direct_f32(const wr_gemm_spec *s, const float *a, const float *b, float *c,
                         const float *bias, void *workspace);
void wr__gemm_direct_f64(const wr_gemm_spec *s, const double *a, const double *b, double *c,
                         const double *bias, void *workspace);

/* Own backend for 1 <= m <= WR__GEMM_ROWS, float32, see gemv.c. */
enum { WR__GEMM_ROWS = 8 };
size_t wr__gemm_rows_workspace(const wr_gemm_spec *s);
void wr__gemm_rows(const wr_gemm_spec *s, const float *a, const float *b, float *c,
                   const float *bias, void *workspace);

#endif
