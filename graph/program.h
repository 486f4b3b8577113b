/* program.h: a graph with chosen outputs, made ready to run: checked, simplified, fused. */
#ifndef WEIR_PROGRAM_H
#define WEIR_PROGRAM_H

#include "graph/plan.h"

/* ---- rewriting: passes that write a new graph ---- */

/* What a rewriting rule sees of node `id` of the old graph. */
typedef struct wr_rewrite {
    const wr_graph *old;
    wr_graph *now;
    const uint32_t *map;   /* old id -> new id, for ids before this one */
    const uint32_t *users; /* per old node: number of live uses (a root counts as one) */
    const bool *live;
    void *pass; /* the pass' own data */
} wr_rewrite;

/* A rule makes what replaces node `id` in `now` and returns it, or poison: not mine. */
typedef wr (*wr_rule)(const wr_rewrite *r, uint32_t id);

/* One pass: set up over the live old graph (may be NULL), rules tried in order per node, done. */
typedef struct wr_pass {
    const char *name;
    bool joins; /* makes one node of several: left out where each is to be told apart */
    void *(*begin)(const wr_rewrite *r, bool *failed);
    void (*end)(void *pass);
    const wr_rule *rules; /* NULL-terminated */
} wr_pass;

/* Copy the live part of `g` through a pass; `roots` are mapped. NULL when memory is out. */
wr_graph *wr_pass_run(const wr_pass *pass, const wr_graph *g, int n_roots, uint32_t *roots);

/* Node `id` of the old graph copied with mapped operands. */
wr wr_rewrite_copy(const wr_rewrite *r, uint32_t id);
/* The new handle of an old node. */
static inline wr wr_rewrite_map(const wr_rewrite *r, uint32_t old_id) {
    return (wr){r->now, r->map[old_id]};
}

/* The backward part reads node `by`, of equal value, in place of `id`, and computes it only then:
 * for values that are cheaper to make again than to keep. `by` = `id` keeps it. False when memory
 * is out. */
bool wr_node_rebuild(wr_graph *g, uint32_t id, uint32_t by);

/* Nodes of scopes marked with wr_scope_recompute that gradients read are made again right before
 * their first reader in the backward part, so their buffers need not be kept. */
wr_graph *wr_pass_recompute(const wr_graph *g, int n_roots, uint32_t *roots);

/* ---- programs ---- */

typedef struct wr_program wr_program;

/* Compile `g` for the outputs. The graph must have no diagnostics: they are all printed into `err`.
 * `passes` ends with a NULL; it may be NULL, and it outlives the program. The program keeps no
 * reference to `g`. */
wr_status wr_program_new(const wr_graph *g, int n_outputs, const wr *outputs,
                         const wr_pass *const *passes, wr_program **program, wr_error *err);
void wr_program_free(wr_program *p);

const wr_graph *wr_program_graph(const wr_program *p);
int wr_program_outputs(const wr_program *p);
uint32_t wr_program_root(const wr_program *p, int k); /* node id of output k */
const bool *wr_program_live(const wr_program *p);

/* The same program without the passes that join nodes, so that each result is a node with a line of
 * its own: what a session runs that looks for NaN. Made when first asked for; freed with `p`. */
wr_status wr_program_apart(wr_program *p, wr_program **apart, wr_error *err);
/* What wr_program_apart made, or NULL. */
const wr_program *wr_program_apart_made(const wr_program *p);

/* Fed tensors, in order of declaration. */
int wr_program_inputs(const wr_program *p);
uint32_t wr_program_input(const wr_program *p, int k);
int wr_program_find_input(const wr_program *p, const char *name); /* -1: none */

#endif
