/* init.h: first values of parameters and states. */
#ifndef WEIR_INIT_H
#define WEIR_INIT_H

#include "graph/graph.h"

/* Fill `n` elements; the numbers depend on the seed and the name only. */
wr_status wr__init_fill(wr_init init, const char *name, uint64_t seed, wr_dtype t, int rank,
                        const int64_t *dim, void *data, wr_error *err);

#endif
