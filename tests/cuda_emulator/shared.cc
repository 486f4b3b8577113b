/* Shared memory of the block that runs: the section of all __shared__ variables, and a mapping for
   what launches ask for, which ends at a page that must not be touched. */
#include "block.h"
#include "sanitizers.h"
#include <sys/mman.h>

extern "C" {
extern char __start_cu_shared[] __attribute__((visibility("hidden")));
extern char __stop_cu_shared[] __attribute__((visibility("hidden")));
}

namespace cu_emu {

namespace {

constexpr size_t page = 4096;

/* Makes the section begin at a page, and, as this file is linked last, end at one. */
__attribute__((section("cu_shared"), used, aligned(page))) char last_page[page];

char *dynamic_begin, *dynamic_end;
size_t dynamic_now;

/* Not memset(): sanitizers intercept that, and would tell this from a kernel's own access. */
void fill(char *p, size_t bytes) {
#if defined(__x86_64__)
    __asm__ volatile("rep stosb" : "+D"(p), "+c"(bytes) : "a"(0xff) : "memory");
#else
    for (size_t i = 0; i < bytes; i++) {
        p[i] = static_cast<char>(0xff);
        __asm__ volatile("" ::: "memory");
    }
#endif
}

void map_dynamic() {
    const size_t bytes = (most_shared_bytes + page - 1) / page * page;
    void *map =
        mmap(nullptr, bytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED || mprotect(static_cast<char *>(map) + bytes, page, PROT_NONE) != 0) {
        fputs("cuda emulator: no memory for shared memory\n", stderr);
        abort();
    }
    dynamic_begin = static_cast<char *>(map);
    dynamic_end = dynamic_begin + bytes;
}

void remap(char *begin, char *end) {
    const size_t bytes = static_cast<size_t>(end - begin);
    if (mmap(begin, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
             0) != begin) {
        fputs("cuda emulator: cannot map shared memory anew\n", stderr);
        abort();
    }
}

} // namespace

void *dynamic_shared() { return dynamic_end - (dynamic_now + 15) / 16 * 16; }

void poison_shared(size_t dynamic_bytes) {
    if (!dynamic_begin) map_dynamic();
    dynamic_now = dynamic_bytes;
    fill(__start_cu_shared, static_cast<size_t>(__stop_cu_shared - __start_cu_shared));
    char *begin = static_cast<char *>(dynamic_shared());
    asan_poison(dynamic_begin, static_cast<size_t>(dynamic_end - dynamic_begin));
    asan_unpoison(begin, dynamic_bytes);
    fill(begin, dynamic_bytes);
}

void check_shared_layout() {
    if (__stop_cu_shared == last_page + page) return;
    fputs("cuda emulator: link its objects after those of the kernels\n", stderr);
    abort();
}

/* A mapping made anew has no history: the next block's accesses do not race with the last one's,
   which used the same addresses only because the emulator runs blocks one by one. */
void forget_shared_accesses() {
    remap(__start_cu_shared, __stop_cu_shared);
    if (dynamic_now == 0) return;
    const size_t bytes = (dynamic_now + page - 1) / page * page;
    remap(dynamic_end - bytes, dynamic_end);
}

} // namespace cu_emu
