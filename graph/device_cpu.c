/* device_cpu.c: the host as a device. Large blocks ask for large pages. */
#define _GNU_SOURCE
#include "graph/plan.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGN = 256, LARGE_PAGE = 2 << 20 };

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
                     .close = cpu_close};
    return d;
}
