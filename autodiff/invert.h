/* invert.h: the inverse and the log-determinant of a declared computation, as graph functions.
 *
 * The forward direction of a flow is an ordinary piece of graph. Everything that does not depend on
 * its inputs is known: parameters, masks, conditioning. Operands are solved from outputs by the
 * inverse rules of the rows; what depends on solved values only is computed forward, which fills
 * off-diagonal blocks of the Jacobian, so that log |det| is the sum of the terms of the rules (the
 * ledger). What is not a bijection is a diagnostic that names the nodes and the reason.
 *
 * Axis 0 is the batch: log-determinants are [B], one per sentence. */
#ifndef WEIR_INVERT_H
#define WEIR_INVERT_H

#include "graph/op.h"

/* outs = f(ins; everything else). */
typedef struct wr_bijection {
    int n_in;
    const wr *ins;   /* float, axis 0 of size B */
    const wr *masks; /* per input: 1 for valid positions, over its first axes ([B, T]), or poison:
                      * all are valid. NULL: all are, everywhere. A wr_mask_apply in f states the
                      * mask from there on; what it reads has a mask, or is an input */
    int n_out;
    const wr *outs;
} wr_bijection;

/* The inverse at ys (types of outs): xs[i] has the type of ins[i]; *log_det [B] is the log of the
 * absolute determinant of d xs / d ys (may be NULL). False and poison after a diagnostic. */
bool wr_invert_at(wr_loc loc, const wr_bijection *f, const wr *ys, wr *xs, wr *log_det);
#define wr_invert(f, ys, xs, log_det) wr_invert_at(WR_HERE, f, ys, xs, log_det)

/* Let gradients read f's inputs and what lies between them and its outputs from the inverse at ys,
 * computed in the backward part, instead of keeping it: training memory then does not grow with the
 * number of such pieces. ys are the outputs themselves, or for a piece whose outputs feed another
 * such piece the xs of that one, so that only the last outputs are kept. Mark the scope of the
 * piece by wr_scope_recompute, too, for what in it does not depend on its inputs. */
bool wr_rebuild_at(wr_loc loc, const wr_bijection *f, const wr *ys, wr *xs);
#define wr_rebuild(f, ys, xs) wr_rebuild_at(WR_HERE, f, ys, xs)

/* log |det d outs / d ins| [B] of the forward direction, of the nodes as declared. */
wr wr_log_det_at(wr_loc loc, const wr_bijection *f);
#define wr_log_det(f) wr_log_det_at(WR_HERE, f)

#endif
