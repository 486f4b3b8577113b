/* trace.h: the chain of callers of a node: recorded as program counters when the node is made,
 * turned into functions, files and lines only when somebody wants to read it.
 *
 * Recording walks the stack by LLVM's libunwind, but only where the stack differs from one seen
 * before: equal stacks are stored once. Printing reads line tables by elfutils' libdw. In a build
 * without them (WEIR_TRACE=OFF) nothing is recorded and nothing is printed. */
#ifndef WEIR_TRACE_H
#define WEIR_TRACE_H

#include "graph/graph.h"

/* Are traces built in? */
bool wr_trace_available(void);

/* Record traces for the nodes made from now on (a new graph does), or stop. */
void wr_graph_record_traces(wr_graph *g, bool on);

/* Append "called from f file.c:12 <- main main.c:3" for the node, from the caller of the function
 * that made it; nothing when that is not known. `prefix` comes before it and a newline behind. */
void wr_trace_of_node(const wr_graph *g, uint32_t id, const char *prefix, wr_str *out);

typedef struct wr_trace_counts {
    size_t stacks, frames;  /* different stacks kept, and their program counters together */
    uint64_t asked, walked; /* nodes that asked for one; how often the stack had to be walked */
} wr_trace_counts;
wr_trace_counts wr_trace_count(const wr_graph *g);

/* ---- stacks by themselves ---- */

enum { WR_TRACE_FRAMES = 64 };

/* The program counters of the callers of this call, innermost first; returns their number, at most
 * `most`. */
int wr_trace_here(uintptr_t *pc, int most);

/* Append every frame as "f file.c:12 <- g file.c:3", up to main. Frames without line tables are
 * printed by their function or, if that is not known either, left out. */
void wr_trace_print(int n, const uintptr_t *pc, wr_str *out);

#endif
