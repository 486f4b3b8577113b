/* blas_lt.cu: the interface of blas.h by cuBLASLt.
 *
 * cuBLASLt's matrices are stored by columns: a row-major C [m, n] is its C^T [n, m], so that its
 * first operand is our B. Its GELU is the tanh approximation, so that only bias and relu are asked
 * of it. */
#include "ops/cuda/blas.h"

#include <cublasLt.h>

#include <cstdio>
#include <new>

namespace {
enum : size_t { WORKSPACE_MOST = size_t{32} << 20 };
enum { ALIGNED = 16 };
} // namespace

struct wr_cuda_blas {
    const wr_device_services *services;
    cublasLtHandle_t handle;
    char name[48];
};

struct wr_cuda_gemm {
    wr_cuda_blas *blas;
    wr_cuda_gemm_spec spec;
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t first, second, result; /* our b, a and c */
    cublasLtMatmulHeuristicResult_t aligned, any; /* for pointers to 16 bytes, to one element */
    bool has_aligned, has_any;
};

wr_status wr_cuda_blas_open(const wr_device_services *services, wr_cuda_blas **blas,
                            wr_error *err) {
    *blas = new (std::nothrow) wr_cuda_blas{services, NULL, ""};
    if (*blas == NULL) return services->fail(err, WR_ERR_MEMORY, "out of memory: a device");
    cublasStatus_t status = cublasLtCreate(&(*blas)->handle);
    size_t version = cublasLtGetVersion();
    snprintf((*blas)->name, sizeof(*blas)->name, "cuBLASLt %zu.%zu", version / 10000,
             version / 100 % 100);
    if (status == CUBLAS_STATUS_SUCCESS) return WR_OK;
    delete *blas;
    *blas = NULL;
    return services->fail(err, WR_ERR_LIBRARY, "device cuda: cuBLASLt does not start: %s",
                          cublasLtGetStatusString(status));
}

void wr_cuda_blas_close(wr_cuda_blas *blas) {
    if (blas == NULL) return;
    cublasLtDestroy(blas->handle);
    delete blas;
}

const char *wr_cuda_blas_name(const wr_cuda_blas *blas) { return blas->name; }

namespace {

cublasComputeType_t compute_type(const wr_cuda_gemm_spec &s) {
    if (s.dtype == WR_F64) return CUBLAS_COMPUTE_64F;
    if (s.precision == WR_PRECISION_TF32) return CUBLAS_COMPUTE_32F_FAST_TF32;
    if (s.precision == WR_PRECISION_BF16) return CUBLAS_COMPUTE_32F_FAST_16BF;
    return CUBLAS_COMPUTE_32F;
}

cublasStatus_t describe_product(wr_cuda_gemm *g) {
    const wr_cuda_gemm_spec &s = g->spec;
    const cudaDataType_t type = s.dtype == WR_F64 ? CUDA_R_64F : CUDA_R_32F;
    const cublasOperation_t first = s.trans_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t second = s.trans_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasStatus_t status = cublasLtMatmulDescCreate(&g->product, compute_type(s), type);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulDescSetAttribute(g->product, CUBLASLT_MATMUL_DESC_TRANSA, &first,
                                                sizeof first);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulDescSetAttribute(g->product, CUBLASLT_MATMUL_DESC_TRANSB, &second,
                                                sizeof second);
    if (status != CUBLAS_STATUS_SUCCESS || !(s.bias || s.relu)) return status;
    const cublasLtEpilogue_t behind =
        s.bias ? (s.relu ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_BIAS)
               : CUBLASLT_EPILOGUE_RELU;
    return cublasLtMatmulDescSetAttribute(g->product, CUBLASLT_MATMUL_DESC_EPILOGUE, &behind,
                                          sizeof behind);
}

/* A matrix stored by columns without gaps, `batch` of them `stride` elements apart. */
cublasStatus_t describe_matrix(cublasLtMatrixLayout_t *m, cudaDataType_t type, int64_t rows,
                               int64_t columns, int64_t batch, int64_t stride) {
    cublasStatus_t status = cublasLtMatrixLayoutCreate(m, type, static_cast<uint64_t>(rows),
                                                       static_cast<uint64_t>(columns), rows);
    const int32_t count = static_cast<int32_t>(batch);
    if (status != CUBLAS_STATUS_SUCCESS || batch == 1) return status;
    status = cublasLtMatrixLayoutSetAttribute(*m, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count,
                                              sizeof count);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    return cublasLtMatrixLayoutSetAttribute(*m, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                            &stride, sizeof stride);
}

/* The library's choice for pointers of this alignment; false: it has none. */
bool choose(wr_cuda_gemm *g, uint32_t alignment, cublasLtMatmulHeuristicResult_t *chosen) {
    static const cublasLtMatmulPreferenceAttributes_t ALIGNMENTS[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    cublasLtMatmulPreference_t wish;
    const size_t most = WORKSPACE_MOST;
    int n = 0;
    if (cublasLtMatmulPreferenceCreate(&wish) != CUBLAS_STATUS_SUCCESS) return false;
    bool ok = cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                   &most, sizeof most) == CUBLAS_STATUS_SUCCESS;
    for (size_t i = 0; ok && i < sizeof ALIGNMENTS / sizeof *ALIGNMENTS; i++)
        ok = cublasLtMatmulPreferenceSetAttribute(wish, ALIGNMENTS[i], &alignment,
                                                  sizeof alignment) == CUBLAS_STATUS_SUCCESS;
    ok = ok &&
         cublasLtMatmulAlgoGetHeuristic(g->blas->handle, g->product, g->first, g->second, g->result,
                                        g->result, wish, 1, chosen, &n) == CUBLAS_STATUS_SUCCESS;
    cublasLtMatmulPreferenceDestroy(wish);
    return ok && n > 0 && chosen->state == CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t describe(wr_cuda_gemm *g) {
    const wr_cuda_gemm_spec &s = g->spec;
    const cudaDataType_t type = s.dtype == WR_F64 ? CUDA_R_64F : CUDA_R_32F;
    cublasStatus_t status = describe_product(g);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = describe_matrix(&g->first, type, s.trans_b ? s.k : s.n, s.trans_b ? s.n : s.k,
                                 s.batch, s.stride_b);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = describe_matrix(&g->second, type, s.trans_a ? s.m : s.k, s.trans_a ? s.k : s.m,
                                 s.batch, s.stride_a);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = describe_matrix(&g->result, type, s.n, s.m, s.batch, s.stride_c);
    return status;
}

bool is_empty(const wr_cuda_gemm_spec &s) { return s.batch * s.m * s.n * s.k == 0; }

} // namespace

wr_status wr_cuda_gemm_new(wr_cuda_blas *blas, const wr_cuda_gemm_spec *spec, wr_cuda_gemm **gemm,
                           wr_error *err) {
    wr_cuda_gemm *g = new (std::nothrow) wr_cuda_gemm{};
    *gemm = NULL;
    if (g == NULL) return blas->services->fail(err, WR_ERR_MEMORY, "out of memory: a product");
    g->blas = blas;
    g->spec = *spec;
    cublasStatus_t status = is_empty(g->spec) ? CUBLAS_STATUS_SUCCESS : describe(g);
    if (status != CUBLAS_STATUS_SUCCESS) {
        wr_cuda_gemm_free(g);
        return blas->services->fail(err, WR_ERR_LIBRARY, "cuBLASLt: %s",
                                    cublasLtGetStatusString(status));
    }
    if (!is_empty(g->spec)) {
        g->has_aligned = choose(g, ALIGNED, &g->aligned);
        g->has_any = choose(g, g->spec.dtype == WR_F64 ? 8 : 4, &g->any);
    }
    *gemm = g;
    return WR_OK;
}

void wr_cuda_gemm_free(wr_cuda_gemm *g) {
    if (g == NULL) return;
    if (g->product != NULL) cublasLtMatmulDescDestroy(g->product);
    if (g->first != NULL) cublasLtMatrixLayoutDestroy(g->first);
    if (g->second != NULL) cublasLtMatrixLayoutDestroy(g->second);
    if (g->result != NULL) cublasLtMatrixLayoutDestroy(g->result);
    delete g;
}

size_t wr_cuda_gemm_workspace(const wr_cuda_gemm *g) {
    size_t most = g->has_aligned ? g->aligned.workspaceSize : 0;
    return g->has_any && g->any.workspaceSize > most ? g->any.workspaceSize : most;
}

wr_status wr_cuda_gemm_run(const wr_cuda_gemm *g, cudaStream_t stream, const void *a, const void *b,
                           const void *s, void *c, const void *bias, void *workspace,
                           wr_error *err) {
    const wr_cuda_gemm_spec &p = g->spec;
    const bool aligned = wr_cuda_aligned(a, ALIGNED) && wr_cuda_aligned(b, ALIGNED) &&
                         wr_cuda_aligned(c, ALIGNED) &&
                         (!p.accumulate || wr_cuda_aligned(s, ALIGNED)) &&
                         (!p.bias || wr_cuda_aligned(bias, ALIGNED));
    const bool first = aligned && g->has_aligned;
    if (!first && !g->has_any) {
        cudaError_t error = wr_cuda_gemm_plain(&p, stream, a, b, s, c, bias);
        if (error == cudaSuccess) return WR_OK;
        return g->blas->services->fail(err, WR_ERR_LIBRARY, "matrix product: %s",
                                       cudaGetErrorString(error));
    }
    const cublasLtMatmulHeuristicResult_t &chosen = first ? g->aligned : g->any;
    const float one = 1, beta = p.accumulate ? 1 : 0;
    const double one_wide = 1, beta_wide = beta;
    const bool wide = p.dtype == WR_F64;
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    if (p.bias) /* copied by the call below, so that one descriptor serves all runs */
        status = cublasLtMatmulDescSetAttribute(g->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                                &bias, sizeof bias);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmul(g->blas->handle, g->product,
                                wide ? static_cast<const void *>(&one_wide) : &one, b, g->first, a,
                                g->second, wide ? static_cast<const void *>(&beta_wide) : &beta,
                                p.accumulate ? s : c, g->result, c, g->result, &chosen.algo,
                                workspace, chosen.workspaceSize, stream);
    if (status == CUBLAS_STATUS_SUCCESS) return WR_OK;
    return g->blas->services->fail(err, WR_ERR_LIBRARY, "cuBLASLt: %s",
                                   cublasLtGetStatusString(status));
}
