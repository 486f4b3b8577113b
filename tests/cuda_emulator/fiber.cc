/* Switching stacks, announced to AddressSanitizer. On x86-64 by hand (the system's swapcontext
   asks the kernel for signal masks, twenty times slower), elsewhere by ucontext. */
#include "fiber.h"
#include "sanitizers.h"
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

namespace cu_emu {

namespace {

/* Sanitizers make frames several times larger. */
size_t stack_bytes() { return has_asan() || has_tsan() ? 256 * 1024 : 64 * 1024; }

Fiber host;

void *make_stack(size_t bytes, size_t page) {
    void *map = mmap(nullptr, bytes + page, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED || mprotect(map, page, PROT_NONE) != 0) {
        fputs("cuda emulator: no memory for the stack of a thread\n", stderr);
        abort();
    }
    return static_cast<char *>(map) + page;
}

} // namespace

#if defined(__x86_64__) && !defined(CU_EMU_UCONTEXT)

extern "C" void cu_emu_switch(void **from, void *to);
__asm__(".text\n"
        ".globl cu_emu_switch\n"
        ".hidden cu_emu_switch\n"
        ".type cu_emu_switch,@function\n"
        "cu_emu_switch:\n"
        "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
        "movq %rsp,(%rdi)\n"
        "movq %rsi,%rsp\n"
        "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\n"
        "ret\n"
        ".size cu_emu_switch,.-cu_emu_switch\n");

static void prepare(Fiber *fiber, void (*entry)()) {
    char *end = static_cast<char *>(fiber->stack) + fiber->bytes - fiber->colour;
    uint64_t *top = reinterpret_cast<uint64_t *>(end);
    *--top = 0; /* where entry() would return to */
    *--top = reinterpret_cast<uint64_t>(entry);
    for (int i = 0; i < 6; i++)
        *--top = 0;
    fiber->saved = top;
}

static void change(Fiber *from, Fiber *to) { cu_emu_switch(&from->saved, to->saved); }

#else

static ucontext_t *context_of(Fiber *fiber) {
    if (!fiber->saved) fiber->saved = calloc(1, sizeof(ucontext_t));
    if (!fiber->saved) abort();
    return static_cast<ucontext_t *>(fiber->saved);
}

static void prepare(Fiber *fiber, void (*entry)()) {
    ucontext_t *context = context_of(fiber);
    getcontext(context);
    context->uc_stack.ss_sp = fiber->stack;
    context->uc_stack.ss_size = fiber->bytes;
    context->uc_link = nullptr;
    makecontext(context, entry, 0);
}

static void change(Fiber *from, Fiber *to) { swapcontext(context_of(from), context_of(to)); }

#endif

static void announced_change(Fiber *from, Fiber *to) {
    if (__sanitizer_start_switch_fiber)
        __sanitizer_start_switch_fiber(&from->fake_stack, to->stack, to->bytes);
    change(from, to);
    if (__sanitizer_finish_switch_fiber)
        __sanitizer_finish_switch_fiber(from->fake_stack, nullptr, nullptr);
}

void fiber_create(Fiber *fiber, void (*entry)()) {
    static size_t made;
    fiber->colour = made++ * 64 % 4096;
    fiber->bytes = stack_bytes();
    fiber->stack = make_stack(fiber->bytes, static_cast<size_t>(sysconf(_SC_PAGESIZE)));
    prepare(fiber, entry);
}

void fiber_enter(Fiber *fiber) { announced_change(&host, fiber); }

void fiber_switch(Fiber *from, Fiber *to) { change(from, to); }

/* A launch may come from another thread of the host than the last: whoever entered says where the
   host's stack is. */
void fiber_leave(Fiber *fiber) {
    if (__sanitizer_start_switch_fiber)
        __sanitizer_start_switch_fiber(&fiber->fake_stack, host.stack, host.bytes);
    change(fiber, &host);
    fiber_started(fiber);
}

void fiber_abandon(Fiber *fiber) {
    if (__sanitizer_start_switch_fiber)
        __sanitizer_start_switch_fiber(nullptr, host.stack, host.bytes);
    change(fiber, &host);
    abort(); /* nobody comes back */
}

void fiber_reset(Fiber *fiber, void (*entry)()) {
    asan_unpoison(fiber->stack, fiber->bytes);
    fiber->fake_stack = nullptr;
    prepare(fiber, entry);
}

void fiber_started(Fiber *fiber) {
    if (!__sanitizer_finish_switch_fiber) return;
    const void *stack = nullptr;
    __sanitizer_finish_switch_fiber(fiber->fake_stack, &stack, &host.bytes);
    host.stack = const_cast<void *>(stack);
}

} // namespace cu_emu
