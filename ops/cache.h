/* cache.h: keys and values of earlier positions, kept in states and written in place.
 *
 * R cache rows, C cache length, B <= R hypotheses, N new positions, D width. */
#ifndef WEIR_OPS_CACHE_H
#define WEIR_OPS_CACHE_H

#include "graph/op.h"

extern const wr_op wr_op_cache_write, wr_op_cache_select;

/* cache: state [R, C, D]. Row b becomes what row rows[b] was up to `position`, then new [B, N, D]
 * is written at positions position .. position + N - 1. rows [B] and position [1] are i32. The
 * result is the cache's first B rows, [B, C, D], without a copy. */
wr wr_cache_write_at(wr_loc loc, wr cache, wr fresh, wr position, wr rows);
#define wr_cache_write(cache, fresh, position, rows)                                               \
    wr_cache_write_at(WR_HERE, cache, fresh, position, rows)

/* Row b becomes what row rows[b] was, whole; -> [B, C, D]. Costs nothing while rows are 0, 1, .. */
wr wr_cache_select_at(wr_loc loc, wr cache, wr rows);
#define wr_cache_select(cache, rows) wr_cache_select_at(WR_HERE, cache, rows)

#endif
