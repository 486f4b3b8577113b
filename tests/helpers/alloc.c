/* alloc.c: see alloc.h. */
#include "helpers/alloc.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Allocations left until the one that fails; 0: off. Threads may allocate at the same time. */
static atomic_long left;
static atomic_bool failed;

/* Blocks alive while watching: open addressing, NULL is empty. */
enum { SLOTS = 1 << 16 };
static struct {
    atomic_bool on;
    atomic_flag busy;
    bool full;
    size_t n;
    void *slot[SLOTS];
} watched = {.busy = ATOMIC_FLAG_INIT};

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t align, size_t size);
void __real_free(void *block);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);
void __wrap_free(void *block);

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

/* ---- blocks alive ---- */

static void lock(void) {
    while (atomic_flag_test_and_set(&watched.busy))
        ;
}

static void unlock(void) { atomic_flag_clear(&watched.busy); }

static size_t home(const void *block) {
    return (size_t)(((uintptr_t)block >> 4) * 0x9e3779b97f4a7c15u >> 40) % SLOTS;
}

static void *remember(void *block) {
    if (block == NULL || !atomic_load(&watched.on)) return block;
    lock();
    watched.full = watched.full || watched.n >= SLOTS / 2;
    if (!watched.full) {
        size_t at = home(block);
        while (watched.slot[at] != NULL)
            at = (at + 1) % SLOTS;
        watched.slot[at] = block;
        watched.n++;
    }
    unlock();
    return block;
}

/* Blocks from elsewhere (a library's strdup) are not known, which is fine. */
static void forget(const void *block) {
    if (block == NULL || !atomic_load(&watched.on)) return;
    lock();
    size_t at = home(block);
    while (watched.slot[at] != NULL && watched.slot[at] != block)
        at = (at + 1) % SLOTS;
    if (watched.slot[at] != NULL) {
        watched.n--;
        watched.slot[at] = NULL;
        for (size_t i = (at + 1) % SLOTS; watched.slot[i] != NULL; i = (i + 1) % SLOTS) {
            size_t distance = (i + SLOTS - home(watched.slot[i])) % SLOTS;
            if (distance < (i + SLOTS - at) % SLOTS) continue; /* does not reach back to the gap */
            watched.slot[at] = watched.slot[i];
            watched.slot[i] = NULL;
            at = i;
        }
    }
    unlock();
}

void wr_test_watch_allocations(void) {
    memset(watched.slot, 0, sizeof watched.slot);
    watched.n = 0;
    watched.full = false;
    atomic_store(&watched.on, true);
}

long wr_test_unfreed_allocations(void) {
    atomic_store(&watched.on, false);
    return watched.full ? -1 : (long)watched.n;
}

/* ---- the wrappers ---- */

void *__wrap_malloc(size_t size) { return fails_now() ? NULL : remember(__real_malloc(size)); }

void *__wrap_calloc(size_t n, size_t size) {
    return fails_now() ? NULL : remember(__real_calloc(n, size));
}

void *__wrap_realloc(void *old, size_t size) {
    if (fails_now()) return NULL;
    forget(old);
    void *block = __real_realloc(old, size);
    return remember(block == NULL && size > 0 ? old : block) == block ? block : NULL;
}

void *__wrap_aligned_alloc(size_t align, size_t size) {
    return fails_now() ? NULL : remember(__real_aligned_alloc(align, size));
}

void __wrap_free(void *block) {
    forget(block);
    __real_free(block);
}
