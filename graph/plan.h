/* plan.h: a program for one binding of the symbols: steps, buffers, memory.
 *
 * Buffers live from the step that makes them to their last use; the planner packs them into one
 * arena by best fit, works in place where the row allows it, and gives workspaces the step they
 * serve. Offsets are relative to the arena, so that the arena may move between runs. */
#ifndef WEIR_PLAN_H
#define WEIR_PLAN_H

#include "graph/device.h"

/* Where a value's bytes are. */
typedef enum wr_place {
    WR_PLACE_NONE,  /* nobody reads it */
    WR_PLACE_ARENA, /* offset in the activation arena */
    WR_PLACE_STORE, /* a persistent tensor of the session: parameter or state */
    WR_PLACE_CONST, /* a constant's bytes */
    WR_PLACE_INPUT  /* fed by the caller */
} wr_place;

typedef struct wr_value {
    wr_place place;
    size_t offset;  /* arena; a constant's or input's in device memory */
    uint32_t index; /* store slot, input slot */
    size_t bytes;
    int first, last; /* steps */
    uint32_t root;   /* the node whose buffer this is (views, in-place) */
    int64_t dim[WR_MAX_RANK];
} wr_value;

struct wr_step {
    uint32_t node;
    wr_kernel kernel;
    wr_call call; /* in/out/attr/blob point into the plan's own arrays */
    size_t workspace_offset, workspace_bytes;
    double flops, bytes;
    const wr_prepare *prepare;
    double seconds; /* summed over profiled runs */
};

struct wr_plan {
    const wr_graph *g;
    wr_binding binding;
    wr_value *value; /* per node id */
    wr_step *step;
    int n_steps;
    wr_tensor *tensor;     /* operands of all steps, one after the other */
    uint32_t *tensor_node; /* the node of each */
    size_t n_tensors;
    wr_attr *attr;
    const void **blob;
    size_t arena_bytes, live_peak; /* live_peak: the most bytes in use at one step */
    int peak_step;
    double flops, seconds; /* seconds: planning time */
    bool profile;
    struct wr__trap *trap; /* stops at NaN (trap.h), or NULL */
    wr_device *device;     /* it is for this one */
    void *on_device;       /* what the device keeps for it, or NULL */
    void *constants;       /* device memory with the constants, NULL: they are the graph's bytes */
    size_t input_bytes;    /* of fed tensors, where the device cannot read the caller's */
    int n_inplace, n_views;
};

/* Live nodes of `g` reachable from the roots, with stateful nodes always live. */
bool *wr_live_nodes(const wr_graph *g, int n_roots, const uint32_t *roots);

/* Maps persistent tensors and inputs to slots; given by the session. */
typedef struct wr_slots {
    const uint32_t *slot; /* per node id: store or input slot */
} wr_slots;

/* Plan the live nodes for a binding. Lists every op without a kernel on the device at once. */
wr_status wr_plan_new(const wr_graph *g, const bool *live, int n_roots, const uint32_t *roots,
                      const wr_binding *b, wr_device *d, const wr_slots *slots, int threads,
                      wr_plan **plan, wr_error *err);
void wr_plan_free(wr_plan *p);

/* Where constant `id` (or a view of one) lies: in device memory, or the graph's bytes. */
void *wr__plan_constant(const wr_plan *p, uint32_t id);
/* What fills the arena at its peak: the largest buffers, one a line. */
void wr__plan_peak_print(const wr_plan *p, int most, wr_str *out);

/* Run on the host, step by step (what the CPU device does). */
wr_status wr_plan_run_steps(wr_plan *p, wr_run_env *env);
/* Put the node of a step behind what its kernel said in `err`; returns `status`. */
wr_status wr__step_failed(const wr_plan *p, const wr_step *s, wr_status status, wr_error *err);

/* Packing of intervals into one range of offsets by best fit; used by the planner and its tests.
 * Interval i needs bytes[i] from step first[i] to last[i]; `offset[i]` is filled. Returns the size
 * of the arena, SIZE_MAX when memory is out. Intervals must be sorted by `first`. */
size_t wr_pack_intervals(size_t n, const size_t *bytes, const int *first, const int *last,
                         size_t *offset);

#endif
