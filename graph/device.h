/* device.h: what runs a plan. The CPU is one; a CUDA device implements the same table. */
#ifndef WEIR_DEVICE_H
#define WEIR_DEVICE_H

#include "graph/op.h"

typedef struct wr_device wr_device;
typedef struct wr_plan wr_plan;

/* A device is a table of functions with its own state behind it. Memory is 256-byte aligned. */
struct wr_device {
    const char *name;
    void *state;
    bool host_memory; /* tensors can be read and written by the host directly */
    wr_status (*alloc)(wr_device *d, size_t bytes, void **memory, wr_error *err);
    void (*release)(wr_device *d, void *memory);
    wr_status (*upload)(wr_device *d, void *to, const void *from, size_t bytes, wr_error *err);
    wr_status (*download)(wr_device *d, void *to, const void *from, size_t bytes, wr_error *err);
    /* The kernel for a row, NULL when this device has none. */
    wr_kernel (*kernel)(wr_device *d, const wr_op *op);
    const wr_prepare *(*prepare)(wr_device *d, const wr_op *op);
    /* Run the steps of a plan in order; pointers are resolved already. */
    wr_status (*run)(wr_device *d, wr_plan *plan, wr_run_env *env);
    void (*close)(wr_device *d);
};

wr_device *wr_device_cpu(void); /* NULL when memory is out */

#endif
