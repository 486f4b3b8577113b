/* alloc.h: lets the n-th allocation of our own code fail (the linker's --wrap), to test that every
 * failure is answered with WR_ERR_MEMORY and leaks nothing:
 *
 *     for (long n = 1;; n++) {
 *         wr_test_fail_allocation(n);
 *         wr_status status = work(&err);
 *         if (!wr_test_allocation_failed()) { assert_int_equal(status, WR_OK); break; }
 *         assert_int_equal(status, WR_ERR_MEMORY);
 *     }
 *
 * Allocations inside shared libraries (oneDNN, SentencePiece, libyaml) are not counted. */
#ifndef WEIR_TEST_ALLOC_H
#define WEIR_TEST_ALLOC_H

#include <stdbool.h>

/* From now on the n-th allocation (1 = the next) returns NULL, once. 0: none fails. */
void wr_test_fail_allocation(long n);

/* Whether it has happened; allocations succeed again afterwards. */
bool wr_test_allocation_failed(void);

/* From here on, remember what our own code allocates and frees. */
void wr_test_watch_allocations(void);

/* Blocks allocated since and not freed; -1: more at once than can be remembered. Ends the watch. */
long wr_test_unfreed_allocations(void);

#endif
