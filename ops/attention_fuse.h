/* attention_fuse.h: attention over parts of one product reads them where they lie. */
#ifndef WEIR_OPS_ATTENTION_FUSE_H
#define WEIR_OPS_ATTENTION_FUSE_H

#include "graph/program.h"

/* Attention whose q, k and v, or k and v, are the parts of a split along the last axis, and its
 * gradient where the parts of theirs are only joined again, become rows of joined operands. */
extern const wr_pass wr_pass_attention;

#endif
