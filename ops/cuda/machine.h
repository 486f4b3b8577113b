/* machine.h: the CUDA device's own parts; for device.cu and executor.cu. */
#ifndef WEIR_CUDA_MACHINE_H
#define WEIR_CUDA_MACHINE_H

#include "ops/cuda/blas.h"
#include "ops/cuda/cuda.h"

/* What is kept for a plan that ran. */
struct wr_cuda_record {
    wr_plan *plan;
    unsigned long long serial;
    uint64_t seen;        /* where everything was in the last run, as a hash */
    uint64_t captured;    /* .. when `exec` was captured */
    cudaGraphExec_t exec; /* NULL: not captured */
    int launches;         /* nodes of the captured graph; 0: it was not captured */
    bool eager;           /* it waits for the host, or cannot be captured */
    wr_cuda_record *next;
};

/* Fed tensors on their way: pinned memory, the same on the device, from there to the arena. There
 * are two, so that a batch is copied while the step before it runs. */
struct wr_cuda_stage {
    char *pinned, *memory;
    size_t bytes;
    cudaEvent_t copied, consumed;
};

/* Scalars on their way to the host, to be read later. */
struct wr_cuda_kept {
    uint64_t *number; /* pinned, [WR_KEPT_NUMBERS] */
    cudaEvent_t there;
};

struct wr_cuda_machine : wr_cuda_state {
    wr_device_services given; /* what `services` points to */
    wr_device table;
    char name[160];          /* of the GPU */
    const wr_cuda_row **row; /* by name */
    int n_rows;
    cudaStream_t copies;
    wr_cuda_stage stage[2];
    wr_cuda_kept kept[WR_KEPT_SLOTS];
    int turn, depth;                     /* of stages; of plans inside plans */
    wr_cuda_fault *seen_fault;           /* pinned: what `fault` was */
    wr_cuda_host_failure failed_on_host; /* what `host_failure` points to */
    wr_cuda_record *records;
    unsigned long long serials;
    bool no_replay;
};

static inline wr_cuda_machine *wr_cuda_machine_of(wr_device *d) {
    return static_cast<wr_cuda_machine *>(static_cast<wr_cuda_state *>(d->state));
}

/* WR_OK, or a failure with what was tried and CUDA's words. */
wr_status wr_cuda_check(wr_cuda_machine *m, cudaError_t error, const char *what, wr_error *err);

/* executor.cu */
wr_status wr_cuda_run_plan(wr_device *d, wr_plan *plan, wr_run_env *env);
wr_status wr_cuda_run_steps(wr_device *d, wr_plan *plan, wr_run_env *env);
wr_status wr_cuda_feed(wr_device *d, int n, const wr_transfer *t, wr_error *err);
wr_status wr_cuda_wait(wr_device *d, wr_error *err);
int wr_cuda_launches(wr_device *d, const wr_plan *plan);
void wr_cuda_forget(wr_device *d, wr_plan *plan);
void wr_cuda_free_stages(wr_cuda_machine *m);

#endif
