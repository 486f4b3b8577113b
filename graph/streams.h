/* streams.h: a part of a model made a second time with the dropout and noise of the first.
 *
 * Random rows take numbered streams in the order in which they are made (ops/random_ops.h). Note
 * the number in front of the first part, and replay from there in front of the second, which must
 * make random rows of the same kinds and sizes in the same order. Afterwards replay from the last
 * stream that was taken before, so that no other row shares its numbers. */
#ifndef WEIR_STREAMS_H
#define WEIR_STREAMS_H

#include "graph/graph.h"

/* The number of the last stream taken. */
int64_t wr_streams_now(const wr_graph *g);

/* Take the streams behind `from` again. */
void wr_streams_replay(wr_graph *g, int64_t from);

#endif
