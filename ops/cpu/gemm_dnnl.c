/* gemm_dnnl.c: the oneDNN backend of matrix products: dnnl_sgemm, which needs no primitive and so
 * costs nothing to plan. */
#include "ops/cpu/gemm_impl.h"

#include <dnnl.h>

bool wr__gemm_dnnl(const wr_gemm_spec *s, const float *a, const float *b, float *c) {
    char trans_a = s->trans_a ? 'T' : 'N', trans_b = s->trans_b ? 'T' : 'N';
    float beta = s->accumulate ? 1.0f : 0.0f;
    for (int64_t i = 0; i < s->batch; i++) {
        dnnl_status_t status =
            dnnl_sgemm(trans_a, trans_b, s->m, s->n, s->k, 1.0f, a + i * s->stride_a, s->lda,
                       b + i * s->stride_b, s->ldb, beta, c + i * s->stride_c, s->ldc);
        if (status != dnnl_success) return false;
    }
    return true;
}
