/* table.h: the list of all rows, for tests, pictures and doctors. */
#ifndef WEIR_OPS_TABLE_H
#define WEIR_OPS_TABLE_H

#include "graph/op.h"

int wr_op_count(void);
const wr_op *wr_op_at(int index);
const wr_op *wr_op_find(const char *name); /* NULL: none */

#endif
