/* graph.h: the computation graph that users build. Nodes hold no values.
 *
 * A handle `wr` is {graph, id} by value; id 0 is poison. A builder that finds a mistake records one
 * diagnostic and returns poison; poison in, poison out; compiling refuses and prints them all. The
 * node array is append-only, so it is a topological order, and equal nodes are the same node. */
#ifndef WEIR_GRAPH_H
#define WEIR_GRAPH_H

#include "graph/dims.h"

typedef enum wr_dtype { WR_F32, WR_F64, WR_I32, WR_DTYPE_COUNT } wr_dtype;
size_t wr_dtype_bytes(wr_dtype t);
const char *wr_dtype_name(wr_dtype t);

typedef struct wr_graph wr_graph;
typedef struct wr_op wr_op;

typedef struct wr {
    wr_graph *g;
    uint32_t id;
} wr;

/* Where in the user's source a node was made. Builders are macros that pass WR_HERE. */
typedef struct wr_loc {
    const char *file;
    int line;
    const char *func;
} wr_loc;
#define WR_HERE ((wr_loc){__FILE__, __LINE__, __func__})

/* One attribute of a node; the op's row says which member holds and how it prints. */
typedef union wr_attr {
    int64_t i;
    double r;
    wr_dim d;
    uint32_t text; /* interned string */
    uint32_t blob; /* interned bytes */
} wr_attr;

/* dtype and sizes of a tensor. */
typedef struct wr_type {
    wr_dtype dtype;
    int rank;
    wr_dim dim[WR_MAX_RANK];
} wr_type;

/* What a node is to the graph it was derived from. */
typedef enum wr_role { WR_FORWARD, WR_GRADIENT, WR_INVERSE, WR_FUSED, WR_RECOMPUTED } wr_role;

/* A node, read-only outside graph/. Small and immutable. */
typedef struct wr_node {
    const wr_op *op;
    uint32_t in;     /* offset of the first input in the edge pool */
    uint32_t attr;   /* offset of the first attribute in the attribute pool */
    uint32_t name;   /* interned string, 0: none */
    uint32_t scope;  /* index in the scope tree, 0: the root */
    uint32_t loc;    /* index of the source location */
    uint32_t origin; /* the forward node it comes from, 0: none */
    uint16_t n_in;
    uint8_t n_out; /* outputs of the op; output k > 0 is the node with id + k */
    uint8_t dtype, rank, role;
    wr_dim dim[WR_MAX_RANK];
} wr_node;

wr_graph *wr_graph_new(void); /* NULL when memory is out */
void wr_graph_free(wr_graph *g);

/* An empty graph that shares dims, strings, scopes and locations with `g`: what passes write to. */
wr_graph *wr_graph_like(const wr_graph *g);

/* True while no mistake was recorded. */
bool wr_graph_ok(const wr_graph *g);
/* All diagnostics, one paragraph each; free with wr_str_free. */
void wr_graph_report(const wr_graph *g, wr_str *out);
size_t wr_graph_diagnostics(const wr_graph *g);
/* WR_OK, or an error: the report, or that memory was out (mistakes may be its consequences only).
 */
wr_status wr_graph_status(const wr_graph *g, wr_error *err);

/* ---- sizes ---- */

/* Declare a symbol (or get the same one again); a clash of ranges is a diagnostic. */
wr_dim wr_sym_at(wr_loc loc, wr_graph *g, const char *name, int64_t min, int64_t max,
                 int64_t multiple_of);
#define wr_sym(g, name, min, max, multiple_of) wr_sym_at(WR_HERE, g, name, min, max, multiple_of)
wr_dim wr_dim_add(wr_graph *g, wr_dim a, wr_dim b);
wr_dim wr_dim_sub(wr_graph *g, wr_dim a, wr_dim b);
wr_dim wr_dim_mul(wr_graph *g, wr_dim a, wr_dim b);
wr_dim wr_dim_div(wr_graph *g, wr_dim a, wr_dim b);
/* Equal, or proved equal because both can take one and the same value only. */
bool wr_dim_eq(const wr_graph *g, wr_dim a, wr_dim b);

wr_type wr_type_of(wr x);
int wr_rank(wr x);
wr_dtype wr_dtype_of(wr x);
/* Size along an axis; negative axes count from the end. The null dim for poison or no such axis. */
wr_dim wr_dim_of(wr x, int axis);

/* ---- sources ---- */

/* How a parameter begins. */
typedef enum wr_init_kind {
    WR_INIT_ZERO,
    WR_INIT_CONSTANT,       /* a */
    WR_INIT_NORMAL,         /* mean a, standard deviation b */
    WR_INIT_UNIFORM,        /* in [a, b) */
    WR_INIT_GLOROT_UNIFORM, /* +- a sqrt(6 / (fan_in + fan_out)) of the last two axes */
    WR_INIT_ORTHOGONAL      /* a times an orthogonal matrix (last two axes) */
} wr_init_kind;
typedef struct wr_init {
    wr_init_kind kind;
    double a, b;
} wr_init;

/* A tensor fed at every run. */
wr wr_input_at(wr_loc loc, wr_graph *g, const char *name, wr_dtype t, int rank, const wr_dim *dims);
/* A trainable tensor of fixed size. Its full name is the scope path plus `name`; asking again for
 * the same full name gives the same node (weight tying). */
wr wr_param_at(wr_loc loc, wr_graph *g, const char *name, wr_dtype t, int rank, const wr_dim *dims,
               wr_init init);
/* A persistent tensor that is not trained: optimizer moments, caches, running statistics. */
wr wr_state_at(wr_loc loc, wr_graph *g, const char *name, wr_dtype t, int rank, const wr_dim *dims,
               wr_init init);
/* A tensor with fixed contents, copied; literal dims only. */
wr wr_const_at(wr_loc loc, wr_graph *g, wr_dtype t, int rank, const int64_t *dims,
               const void *data);
/* One number, rank 0. */
wr wr_scalar_at(wr_loc loc, wr_graph *g, wr_dtype t, double value);

#define WR_DIMS(...)                                                                               \
    (int)(sizeof((wr_dim[]){__VA_ARGS__}) / sizeof(wr_dim)), (const wr_dim[]) { __VA_ARGS__ }
/* wr_input(g, "x", WR_F32, WR_DIMS(B, T, wr_n(512))) */
#define wr_input(g, name, ...)     wr_input_at(WR_HERE, g, name, __VA_ARGS__)
#define wr_param(g, name, ...)     wr_param_at(WR_HERE, g, name, __VA_ARGS__)
#define wr_state(g, name, ...)     wr_state_at(WR_HERE, g, name, __VA_ARGS__)
#define wr_const(g, ...)           wr_const_at(WR_HERE, g, __VA_ARGS__)
#define wr_scalar(g, dtype, value) wr_scalar_at(WR_HERE, g, dtype, value)

/* Give a node a name for messages and pictures (the first name stays). Returns x. */
wr wr_named(wr x, const char *fmt, ...) WR_PRINTF(2, 3);

/* Output k of a node with several outputs. */
wr wr_output(wr x, int k);

static inline bool wr_is_poison(wr x) { return x.id == 0; }

/* ---- scopes ---- */

void wr_scope_push(wr_graph *g, const char *fmt, ...) WR_PRINTF(2, 3);
void wr_scope_pop(wr_graph *g);
/* From here to the matching pop, keep only this scope's inputs for the gradient and compute the
 * rest again: less memory, more time. */
void wr_scope_recompute(wr_graph *g);
/* The same, and nothing that the scope makes is kept, also not what other scopes read of it: for
 * small work with large results. */
void wr_scope_recompute_all(wr_graph *g);

typedef struct wr__scope_guard {
    wr_graph *g;
    bool done;
} wr__scope_guard;
wr__scope_guard wr__scope_enter(wr_graph *g, const char *fmt, ...) WR_PRINTF(2, 3);
void wr__scope_leave(wr__scope_guard *guard);
/* WR_SCOPE(g, "layer%d", i) { ... }: also left properly by return, break and continue. */
#define WR_SCOPE(g, ...)                                                                           \
    for (wr__scope_guard wr__guard                                                                 \
         __attribute__((cleanup(wr__scope_leave))) = wr__scope_enter(g, __VA_ARGS__);              \
         !wr__guard.done; wr__guard.done = true)

/* ---- reading a graph (passes, planner, pictures) ---- */

uint32_t wr_node_count(const wr_graph *g); /* ids run from 1 to count - 1 */
const wr_node *wr_node_at(const wr_graph *g, uint32_t id);
const uint32_t *wr_node_inputs(const wr_graph *g, uint32_t id);
const wr_attr *wr_node_attrs(const wr_graph *g, uint32_t id);
const char *wr_text_at(const wr_graph *g, uint32_t text);
const void *wr_blob_at(const wr_graph *g, uint32_t blob, size_t *bytes);
uint32_t wr_text_intern(wr_graph *g, const char *text);
uint32_t wr_blob_intern(wr_graph *g, const void *data, size_t bytes); /* 0: no memory */
const wr_loc *wr_loc_at(const wr_graph *g, uint32_t loc);
wr_dims *wr_graph_dims(const wr_graph *g);
/* "dec.layer3"; the root is "". */
void wr_scope_path(const wr_graph *g, uint32_t scope, wr_str *out);
uint32_t wr_scope_parent(const wr_graph *g, uint32_t scope);
const char *wr_scope_name(const wr_graph *g, uint32_t scope);
bool wr_scope_is_recomputed(const wr_graph *g, uint32_t scope);      /* itself or a parent */
bool wr_scope_results_recomputed(const wr_graph *g, uint32_t scope); /* wr_scope_recompute_all */
/* "dec.layer3.W f32 [512, 256] from models/x.c:12 parameter" */
void wr_node_describe(const wr_graph *g, uint32_t id, wr_str *out);
/* Name of a parameter, state or input (full scope path), else "". */
const char *wr_source_name(const wr_graph *g, uint32_t id);
/* Dims as text: "[B, T, 512]". */
void wr_type_print(const wr_graph *g, const wr_type *t, wr_str *out);

/* Nodes made until the matching call carry this origin and role, and its scope and location. */
typedef struct wr_derivation {
    uint32_t origin;
    wr_role role;
} wr_derivation;
wr_derivation wr_derive_begin(wr_graph *g, uint32_t origin, wr_role role);
void wr_derive_end(wr_graph *g, wr_derivation before);

#endif
