/* sentence_order.h: sentences by length, so that those of a batch are alike. Internal to models/.
 */
#ifndef WEIR_SENTENCE_ORDER_H
#define WEIR_SENTENCE_ORDER_H

#include "data/pairs.h"

/* The numbers 0..n-1, longest source first (ties: longest target, `tgt` may be NULL; then by
 * number). free() it; NULL when memory is out. */
size_t *wr__order_by_length(const wr_sentence *src, const wr_sentence *tgt, size_t n);

#endif
