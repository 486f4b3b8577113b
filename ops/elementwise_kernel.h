/* elementwise_kernel.h: the kernel that all elementwise rows share. */
#ifndef WEIR_OPS_ELEMENTWISE_KERNEL_H
#define WEIR_OPS_ELEMENTWISE_KERNEL_H

#include "ops/elementwise.h"

wr_cost wr__elementwise_cost(const wr_call *c);
wr_status wr__elementwise_one(const wr_call *c, const wr_tile *tile);

#endif
