/* What ThreadSanitizer must know: which thread runs, and what orders threads. Only barriers,
   __syncwarp(), fences, and the begin and end of a launch order memory; shuffles and votes do not,
   as in CUDA.

   Each barrier and each group of lanes has two tokens that take turns, so that a thread which runs
   ahead to the next barrier cannot order its writes before somebody who has yet to leave this one.
   Two sets of ThreadSanitizer's fibers take turns from block to block: the same thread of two
   blocks in sequence is two threads for it, and blocks that write the same place race. */
#include "block.h"
#include "sanitizers.h"
#include <sys/mman.h>

namespace cu_emu {

namespace {

constexpr size_t token_bytes = (2 + 2 * max_threads) * 8;

struct Races {
    void *host, *fibers[2][max_threads];
    unsigned set;
    char *tokens;
    unsigned char barrier_turn, warp_turn[max_threads];
    bool tokens_used;
    char begin, end, fence;
};
Races races;

char *map_tokens() {
    void *map =
        mmap(nullptr, token_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) {
        fputs("cuda emulator: no memory for ThreadSanitizer's tokens\n", stderr);
        abort();
    }
    return static_cast<char *>(map);
}

} // namespace

void race_begin_launch(unsigned threads) {
    if (!has_tsan()) return;
    check_shared_layout();
    races.host = __tsan_get_current_fiber();
    /* Made by the host: a fiber inherits what its maker knows, which would hide races. */
    for (unsigned set = 0; set < 2; set++)
        for (unsigned i = 0; i < threads; i++)
            if (!races.fibers[set][i]) races.fibers[set][i] = __tsan_create_fiber(0);
}

void race_begin_block() {
    if (!has_tsan()) return;
    forget_shared_accesses();
    if (!races.tokens || races.tokens_used) {
        if (races.tokens) munmap(races.tokens, token_bytes);
        races.tokens = map_tokens();
        races.tokens_used = false;
        races.barrier_turn = 0;
        memset(races.warp_turn, 0, sizeof races.warp_turn);
    }
    races.set ^= 1;
    __tsan_release(&races.begin);
}

void race_end_launch() { tsan_acquire(&races.end); }

/* Threads use the same stack one after another, which is no race; it would only be one if a thread
   passed an address of its stack to another. */
void race_ignore(const void *memory, size_t bytes) {
    if (has_tsan())
        AnnotateBenignRaceSized(__FILE__, __LINE__, memory, bytes, "the stack of a CUDA thread");
}

void race_forget_threads() {
    if (!has_tsan()) return;
    for (auto &set : races.fibers) {
        for (void *&fiber : set) {
            if (fiber) __tsan_destroy_fiber(fiber);
            fiber = nullptr;
        }
    }
}

void race_enter(const Thread *thread) {
    if (has_tsan()) __tsan_switch_to_fiber(races.fibers[races.set][thread->index], 1);
}

void race_leave() {
    if (has_tsan()) __tsan_switch_to_fiber(races.host, 1);
}

void race_thread_begins() { tsan_acquire(&races.begin); }

void race_thread_ends() { tsan_release(&races.end); }

void race_fence() {
    tsan_release(&races.fence);
    tsan_acquire(&races.fence);
}

void *race_barrier_token() {
    races.tokens_used = true;
    return races.tokens ? races.tokens + 8 * races.barrier_turn : nullptr;
}

void race_barrier_done() { races.barrier_turn ^= 1; }

void *race_warp_token(unsigned first_thread) {
    if (!races.tokens) return nullptr;
    races.tokens_used = true;
    return races.tokens + 8 * (2 + 2 * first_thread + races.warp_turn[first_thread]);
}

void race_warp_done(unsigned first_thread) { races.warp_turn[first_thread] ^= 1; }

} // namespace cu_emu
