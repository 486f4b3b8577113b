/* device.h: what runs a plan. The CPU is one; a CUDA device implements the same table in a library
 * of its own, which is loaded when it is asked for (device_load.c). */
#ifndef WEIR_DEVICE_H
#define WEIR_DEVICE_H

#include "graph/op.h"

typedef struct wr_plan wr_plan;
typedef struct wr_step wr_step;

/* How a device computes matrix products of f32; sums are f32 in all of them. */
typedef enum wr_precision {
    WR_PRECISION_F32,
    WR_PRECISION_TF32, /* operands rounded to 10 bits of mantissa */
    WR_PRECISION_BF16  /* operands rounded to 7 bits of mantissa */
} wr_precision;
/* "f32", "tf32" or "bf16"; false: none of them. */
bool wr_precision_find(const char *name, wr_precision *precision);

/* Host memory that a run reads, and where it goes. */
typedef struct wr_transfer {
    void *to;
    const void *from;
    size_t bytes;
} wr_transfer;

/* `n` blocks of `block` bytes; those of `to` begin `to_stride` bytes apart, those of `from`
 * `from_stride`. */
typedef struct wr_blocks {
    void *to;
    const void *from;
    int64_t n;
    size_t block, to_stride, from_stride;
} wr_blocks;

enum { WR_KEPT_SLOTS = 2, WR_KEPT_NUMBERS = 16 };

/* A device is a table of functions with its own state behind it. Memory is 256-byte aligned.
 *
 * A device whose memory the host cannot touch may do its work later than the call that gives it, in
 * the order of the calls; `upload`, `download`, `release` and `wait` wait for all of it. A failure
 * of such work is told by the next of `run`, `upload`, `download` and `wait`. */
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
    /* Scratch bytes of a row's kernel, besides its prepare's; NULL: cost.workspace of the row. */
    size_t (*workspace)(wr_device *d, const wr_op *op, const wr_call *c);
    /* Run the steps of a plan in order; pointers are resolved already. */
    wr_status (*run)(wr_device *d, wr_plan *plan, wr_run_env *env);
    void (*close)(wr_device *d);

    /* ---- for rows that run a plan of their own in each step (loops), inside a run ---- */
    wr_status (*run_steps)(wr_device *d, wr_plan *plan, wr_run_env *env);
    wr_status (*copy)(wr_device *d, const wr_run_env *env, const wr_blocks *b);
    wr_status (*zero)(wr_device *d, const wr_run_env *env, void *to, size_t bytes);
    /* to[i] += x[i], f32 or f64 */
    wr_status (*add)(wr_device *d, const wr_run_env *env, wr_dtype t, int64_t n, void *to,
                     const void *x);

    /* ---- devices without host memory ---- */
    /* Copy what the next run reads; `from` may be reused when this returns. `to` are parts of one
     * range of memory, in ascending order. */
    wr_status (*feed)(wr_device *d, int n, const wr_transfer *t, wr_error *err);
    wr_status (*wait)(wr_device *d, wr_error *err);
    /* Scalars that are read later: they are copied behind the work given so far into a slot;
     * `recall` waits for that alone, not for work given since. Scalar i is at numbers[i]. */
    wr_status (*keep)(wr_device *d, int slot, int n, const wr_transfer *t, wr_error *err);
    wr_status (*recall)(wr_device *d, int slot, const uint64_t **numbers, wr_error *err);
    /* What the device made for a plan (a captured graph) goes with the plan. */
    void (*forget)(wr_device *d, wr_plan *plan);
    /* Of a plan that ran: how many pieces of work (kernels, copies, calls of the host) a run gives
     * to the hardware; 0: not known. NULL: one for each step. */
    int (*launches)(wr_device *d, const wr_plan *plan);
    /* "NVIDIA H100 80GB, sm_90, 79.1 of 79.6 GiB free"; NULL: nothing to tell. */
    void (*describe)(wr_device *d, wr_str *out);
};

wr_device *wr_device_cpu(void); /* NULL when memory is out */

/* ---- devices in libraries of their own ---- */

typedef struct wr_device_options {
    const char *name; /* "cpu", "cuda", or "auto": cuda where it works, else cpu; NULL: cpu */
    wr_precision precision;
    bool no_replay; /* give each kernel to the device anew instead of replaying what was captured */
} wr_device_options;

/* Open a device. Errors (one message: what is missing, where it was looked for, what to install):
 * no such device, its library not found or of another version, no driver, no hardware. With "auto"
 * these are no errors: `note` (may be NULL) gets one line that says why it is the CPU. */
wr_status wr_device_open(const wr_device_options *o, wr_device **device, wr_str *note,
                         wr_error *err);

/* Where the library of a device is looked for, in order; with `found`, the first file there is (""
 * when it is left to the loader's path). For `weir doctor` and for messages. */
void wr_device_places(wr_str *places, wr_str *found);

/* What the library of a device exports: `wr_device_entry` of this type. */
enum { WR_DEVICE_ABI = 1 };

/* Functions of the program that a library uses, so that it need not link with it; and the sizes of
 * the structures they share, which tell a library that was built from other sources. */
typedef struct wr_device_services {
    uint32_t abi, bytes_of_plan, bytes_of_step, bytes_of_call, bytes_of_device, bytes_of_op;
    wr_status (*fail)(wr_error *err, wr_status status, const char *fmt, ...) WR_PRINTF(3, 4);
    /* wr__step_failed: puts the node of a step behind the message. */
    wr_status (*step_failed)(const wr_plan *p, const wr_step *s, wr_status status, wr_error *err);
    const wr_node *(*node_at)(const wr_graph *g, uint32_t id);
    void (*str_add)(wr_str *s, const char *fmt, ...) WR_PRINTF(2, 3);
} wr_device_services;

/* Open the device; `abi` and sizes were filled by the program. Returns WR_ERR_LIBRARY with a
 * message when they are not the library's. */
typedef wr_status (*wr_device_entry)(const wr_device_services *services, const wr_device_options *o,
                                     wr_device **device, wr_error *err);
#define WR_DEVICE_ENTRY "wr_device_entry_v1"

#endif
