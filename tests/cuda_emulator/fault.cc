/* A kernel that touches a page which is not there ends its launch with cudaErrorIllegalAddress and
   a message, and the process goes on, as on a device. Sanitizers say more about such an access:
   where one is linked, it is left to them. */
#include "block.h"
#include "sanitizers.h"
#include <csignal>
#include <pthread.h>
#include <ucontext.h>

namespace cu_emu {

namespace {

constexpr int signals[] = {SIGSEGV, SIGBUS};
constexpr size_t handler_stack_bytes = 64 * 1024;

struct Faults {
    struct sigaction before[2];
    stack_t stack_before;
    pthread_t thread;
    const void *address;
    alignas(16) char stack[handler_stack_bytes];
};
Faults faults;

/* Runs on the faulty thread's stack, which nothing needs any more. */
[[noreturn]] void report() {
    char place[160];
    describe_address(place, sizeof place, faults.address);
    const Fiber &fiber = block.fibers[block.current->fiber];
    const char *begin = static_cast<const char *>(fiber.stack);
    const char *at = static_cast<const char *>(faults.address);
    if (at >= begin - 4096 && at < begin)
        fail_block("thread %u needs more than its stack of %zu bytes", block.current->index,
                   fiber.bytes);
    else
        fail_block("thread %u reads or writes %p, %s", block.current->index, faults.address, place);
    stop_thread();
}

void put_back() {
    for (int i = 0; i < 2; i++)
        sigaction(signals[i], &faults.before[i], nullptr);
}

void on_fault(int, siginfo_t *info, void *context) {
    if (!block.current || !pthread_equal(faults.thread, pthread_self())) {
        put_back(); /* the access happens again, and whoever was asked before is asked */
        return;
    }
    faults.address = info->si_addr;
    const Fiber &fiber = block.fibers[block.current->fiber];
    const uintptr_t top = reinterpret_cast<uintptr_t>(fiber.stack) + fiber.bytes - 256;
    mcontext_t &machine = static_cast<ucontext_t *>(context)->uc_mcontext;
#if defined(__x86_64__)
    machine.gregs[REG_RIP] = reinterpret_cast<greg_t>(&report);
    machine.gregs[REG_RSP] = static_cast<greg_t>((top & ~uintptr_t{15}) - 8);
#elif defined(__aarch64__)
    machine.pc = reinterpret_cast<uintptr_t>(&report);
    machine.sp = top & ~uintptr_t{15};
#else
#error "say here how to go on at report()"
#endif
}

} // namespace

void catch_faults() {
    if (has_asan() || has_tsan()) return;
    faults.thread = pthread_self();
    stack_t stack = {};
    stack.ss_sp = faults.stack;
    stack.ss_size = sizeof faults.stack;
    sigaltstack(&stack, &faults.stack_before);
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int i = 0; i < 2; i++)
        sigaction(signals[i], &action, &faults.before[i]);
}

void leave_faults() {
    if (has_asan() || has_tsan()) return;
    put_back();
    sigaltstack(&faults.stack_before, nullptr);
}

} // namespace cu_emu
