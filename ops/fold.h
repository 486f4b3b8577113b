/* fold.h: rows whose operands are all constants are computed when a program is made. */
#ifndef WEIR_OPS_FOLD_H
#define WEIR_OPS_FOLD_H

#include "graph/program.h"

/* The constant that node `id` is, poison: it is none, or too large to be worth its bytes. */
wr wr_fold_constant(const wr_rewrite *r, uint32_t id);

#endif
