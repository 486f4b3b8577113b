/* assign.h: a parameter or a state gets a new value. */
#ifndef WEIR_OPS_ASSIGN_H
#define WEIR_OPS_ASSIGN_H

#include "graph/op.h"

extern const wr_op wr_op_assign;

/* The stored tensor becomes `value`, which has its type. Writes happen in the order in which nodes
 * are made: a program that reads the old value must read it before, so make all assignments behind
 * everything else. Returns the stored tensor as it is afterwards. */
wr wr_assign_at(wr_loc loc, wr stored, wr value);
#define wr_assign(stored, value) wr_assign_at(WR_HERE, stored, value)

#endif
