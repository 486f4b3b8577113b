/* The state of the block that runs, shared by block.cc (threads, barriers), warp.cc (warp
   operations) and race.cc (ThreadSanitizer). Plain arrays only: templates of the C++ library
   might come from a file that a sanitizer instruments. */
#ifndef CU_EMU_BLOCK_H
#define CU_EMU_BLOCK_H

#include "fiber.h"
#include "internal.h"

namespace cu_emu {

enum class State : unsigned char { fresh, ready, at_barrier, at_warp, done };

struct Thread {
    uint3 id;
    unsigned index; /* in the block */
    State state;
    unsigned fiber; /* whose stack it runs on */
    Site site;      /* what it waits at */
    void *token;    /* of ThreadSanitizer, what it waits for */
    int predicate;  /* of a barrier */
    /* A warp operation. */
    Warp op;
    unsigned mask;
    uint64_t value, result;
    int arg, width;
};

struct Block {
    const Launch *launch;
    Thread threads[max_threads];
    /* In which threads get their turns, warp after warp; those before `next` have begun, those
       before `limit` may begin now. */
    unsigned order[max_threads];
    unsigned count, next, limit, alive, at_barrier;
    unsigned turn, turn_end; /* of the warp whose threads go on one after another */
    int barrier_result;
    unsigned lanes_waiting[max_warps]; /* in a warp operation */
    Fiber fibers[max_threads];
    unsigned fibers_made, idle[max_threads], idle_count;
    unsigned running_fiber;
    Thread *current; /* null: the host runs */
    bool stopped;    /* an error: all threads unwind */
    Random random;
};
extern Block block;

/* Two calls in the same place. Pointers differ where a header is compiled several times. */
inline bool same_site(const Site &a, const Site &b) {
    if (a.line != b.line) return false;
    return (a.file == b.file || strcmp(a.file, b.file) == 0) &&
           (a.what == b.what || strcmp(a.what, b.what) == 0);
}

/* Fails the launch with the kernel's name and the block before the text. */
void fail_block(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Ends the running thread of a launch that failed: its stack is left as it is and made anew after
   the launch, so that the handler of a signal or of a sanitizer may call this as well. */
[[noreturn]] void stop_thread();

/* Lets others run until the thread is ready; does not return when the launch has failed. */
void wait_for_turn(Thread *thread, State state);

/* Which lanes keep a warp operation from being done; says so by fail_block(). */
void explain_warp(const Thread *waiting);

/* ---- fault.cc: accesses to pages that are not there, while a kernel runs ---- */

void catch_faults();
void leave_faults();

/* ---- race.cc: happens-before for ThreadSanitizer; nothing happens without it ---- */

void race_begin_launch(unsigned threads);
void race_begin_block(); /* memory and synchronisation of the last block are forgotten */
void race_end_launch();
void race_ignore(const void *memory, size_t bytes);
void race_forget_threads(); /* after a launch whose threads did not end */
void race_enter(const Thread *thread);
void race_leave();
void race_thread_begins();
void race_thread_ends();
void race_fence();
void *race_barrier_token();
void race_barrier_done();
void *race_warp_token(unsigned first_thread);
void race_warp_done(unsigned first_thread);

/* ---- shared.cc ---- */

/* Fills static and dynamic shared memory with 0xff: NaN, -1. */
void poison_shared(size_t dynamic_bytes);
void forget_shared_accesses();
void check_shared_layout();

} // namespace cu_emu

#endif
