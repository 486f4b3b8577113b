/* Stacks that the emulator switches between. Fibers are entered from the host's stack and go back
   to it, never from one to another. */
#ifndef CU_EMU_FIBER_H
#define CU_EMU_FIBER_H

#include <cstddef>

namespace cu_emu {

struct Fiber {
    void *saved = nullptr; /* what the switch needs: a stack pointer or a ucontext_t */
    void *stack = nullptr;
    size_t bytes = 0;
    size_t colour =
        0; /* bytes left free at the top, so that not all tops share the same cache lines */
    void *fake_stack = nullptr; /* AddressSanitizer's */
};

/* Makes a stack with a page below it that must not be touched. The first switch calls entry(),
   which must not return. Ends the process with a message when memory is short. */
void fiber_create(Fiber *fiber, void (*entry)());
void fiber_enter(Fiber *fiber); /* from the host */
void fiber_leave(Fiber *fiber); /* to the host */
/* Between two fibers; only without sanitizers, which would have to be told more. */
void fiber_switch(Fiber *from, Fiber *to);
void fiber_started(Fiber *fiber); /* first thing that entry() does */

/* To the host, never to come back: fiber_reset() makes the stack as good as new. */
[[noreturn]] void fiber_abandon(Fiber *fiber);
void fiber_reset(Fiber *fiber, void (*entry)());

} // namespace cu_emu

#endif
