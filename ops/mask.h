/* mask.h: padding set to zero. */
#ifndef WEIR_OPS_MASK_H
#define WEIR_OPS_MASK_H

#include "graph/op.h"

extern const wr_op wr_op_mask_apply;

/* x where the mask is not 0, else 0, whatever x is there, also NaN. The mask has the first sizes of
 * x: x [B, T, ..], mask [B, T] of the same dtype -> [B, T, ..]. A row of its own and no product,
 * because it tells the deriver of inverses which positions are data: padding has neither an inverse
 * nor a part in log-determinants. The mask gets no gradient. */
#define wr_mask_apply(x, mask) wr_emit(WR_HERE, &wr_op_mask_apply, 2, (wr[]){x, mask}, NULL)

#endif
