/* alloc.c: see alloc.h. */
#include "helpers/alloc.h"

#include <stdatomic.h>
#include <stddef.h>

/* Allocations left until the one that fails; 0: off. Threads may allocate at the same time. */
static atomic_long left;
static atomic_bool failed;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);

void wr_test_fail_allocation(long n) {
    atomic_store(&failed, false);
    atomic_store(&left, n);
}

bool wr_test_allocation_failed(void) {
    atomic_store(&left, 0);
    return atomic_exchange(&failed, false);
}

static bool fails_now(void) {
    if (atomic_load(&left) <= 0) return false;
    if (atomic_fetch_sub(&left, 1) != 1) return false;
    atomic_store(&failed, true);
    return true;
}

void *__wrap_malloc(size_t size) { return fails_now() ? NULL : __real_malloc(size); }

void *__wrap_calloc(size_t n, size_t size) { return fails_now() ? NULL : __real_calloc(n, size); }

void *__wrap_realloc(void *old, size_t size) {
    return fails_now() ? NULL : __real_realloc(old, size);
}
