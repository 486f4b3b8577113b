/* device_cpu.c: the host as a device. Large blocks ask for large pages. */
#define _GNU_SOURCE
#include "graph/plan.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGN = 256, LARGE_PAGE = 2 << 20, SUM_PARALLEL = 32768 };

static wr_status cpu_alloc(wr_device *d, size_t bytes, void **memory, wr_error *err) {
    (void)d;
    size_t align = bytes >= 2 * (size_t)LARGE_PAGE ? (size_t)LARGE_PAGE : ALIGN;
    size_t rounded = (bytes + align - 1) / align * align;
    *memory = aligned_alloc(align, rounded == 0 ? align : rounded);
    if (*memory == NULL) return wr_fail_memory(err, "tensors", bytes);
    if (align == (size_t)LARGE_PAGE) madvise(*memory, rounded, MADV_HUGEPAGE);
    return WR_OK;
}

static void cpu_release(wr_device *d, void *memory) {
    (void)d;
    free(memory);
}

static wr_status cpu_copy(wr_device *d, void *to, const void *from, size_t bytes, wr_error *err) {
    (void)d;
    (void)err;
    memcpy(to, from, bytes);
    return WR_OK;
}

static wr_kernel cpu_kernel(wr_device *d, const wr_op *op) {
    (void)d;
    return op->cpu;
}

static const wr_prepare *cpu_prepare(wr_device *d, const wr_op *op) {
    (void)d;
    return op->prepare;
}

static wr_status cpu_run(wr_device *d, wr_plan *plan, wr_run_env *env) {
    (void)d;
    return wr_plan_run_steps(plan, env);
}

static wr_status cpu_blocks(wr_device *d, const wr_run_env *env, const wr_blocks *b) {
    (void)d;
    (void)env;
    for (int64_t i = 0; i < b->n && b->block > 0; i++)
        memcpy((char *)b->to + (size_t)i * b->to_stride,
               (const char *)b->from + (size_t)i * b->from_stride, b->block);
    return WR_OK;
}

static wr_status cpu_zero(wr_device *d, const wr_run_env *env, void *to, size_t bytes) {
    (void)d;
    (void)env;
    if (bytes > 0) memset(to, 0, bytes);
    return WR_OK;
}

static void add_f32(int64_t n, float *sum, const float *x, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static) if (n > SUM_PARALLEL)
    for (int64_t i = 0; i < n; i++)
        sum[i] += x[i];
}

static void add_f64(int64_t n, double *sum, const double *x, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static) if (n > SUM_PARALLEL)
    for (int64_t i = 0; i < n; i++)
        sum[i] += x[i];
}

static wr_status cpu_add(wr_device *d, const wr_run_env *env, wr_dtype t, int64_t n, void *to,
                         const void *x) {
    (void)d;
    if (t == WR_F32)
        add_f32(n, to, x, env->threads);
    else
        add_f64(n, to, x, env->threads);
    return WR_OK;
}

static void cpu_close(wr_device *d) { free(d); }

wr_device *wr_device_cpu(void) {
    wr_device *d = malloc(sizeof *d);
    if (d == NULL) return NULL;
    *d = (wr_device){.name = "cpu",
                     .host_memory = true,
                     .alloc = cpu_alloc,
                     .release = cpu_release,
                     .upload = cpu_copy,
                     .download = cpu_copy,
                     .kernel = cpu_kernel,
                     .prepare = cpu_prepare,
                     .run = cpu_run,
                     .run_steps = cpu_run,
                     .copy = cpu_blocks,
                     .zero = cpu_zero,
                     .add = cpu_add,
                     .close = cpu_close};
    return d;
}
