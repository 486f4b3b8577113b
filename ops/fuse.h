/* fuse.h: the passes that make a graph cheaper without changing what it computes. */
#ifndef WEIR_OPS_FUSE_H
#define WEIR_OPS_FUSE_H

#include "graph/program.h"

/* simplify, attention over parts of a product, products with what follows them, elementwise chains;
 * NULL-terminated. */
const wr_pass *const *wr_standard_passes(void);

extern const wr_pass wr_pass_simplify, wr_pass_products, wr_pass_sums, wr_pass_chains;

#endif
