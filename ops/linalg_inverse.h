/* linalg_inverse.h: inverse rules of the rows of linalg.c; internal to ops/. */
#ifndef WEIR_OPS_LINALG_INVERSE_H
#define WEIR_OPS_LINALG_INVERSE_H

#include "graph/op.h"

bool wr__triangular_solve_inverse(wr_inverse_ctx *c);
bool wr__lu_solve_inverse(wr_inverse_ctx *c);
bool wr__matrix_inverse_inverse(wr_inverse_ctx *c);

#endif
