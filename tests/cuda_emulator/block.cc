/* Runs a kernel: blocks one after another, a block's threads on fibers. A fiber takes one thread
   after another; only when a thread must wait does it keep the fiber, and another fiber goes on
   with the threads that have not begun. A kernel without barriers needs a single one.

   Each warp runs as far as it comes, to the next barrier, before another one gets a turn: a warp
   that is far ahead of the others is what a missing barrier needs to show. */
#include "block.h"
#include "sanitizers.h"
#include "cu_emu/math.h"
#include <cstdarg>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace cu_emu {

Block block;

void fail_block(const char *format, ...) {
    char text[768];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fail(cudaErrorLaunchFailure, "%s, block (%u, %u, %u): %s", block.launch->name, blockIdx.x,
         blockIdx.y, blockIdx.z, text);
    block.stopped = true;
}

/* ---- one thread ---- */

/* The place behind the warp of the last thread that has begun. */
static unsigned end_of_warp(unsigned next) {
    const unsigned end = (next + 31) / 32 * 32;
    return end < block.count ? end : block.count;
}

static void run_thread(Thread *thread) {
    block.current = thread;
    thread->fiber = block.running_fiber;
    thread->state = State::ready;
    block.alive++;
    threadIdx = thread->id;
    race_enter(thread);
    race_thread_begins();
    block.launch->call();
    race_thread_ends();
    thread->state = State::done;
    block.alive--;
}

static void fiber_main() {
    const unsigned self = block.running_fiber;
    fiber_started(&block.fibers[self]);
    for (;;) {
        while (block.next < block.limit && !block.stopped)
            run_thread(&block.threads[block.order[block.next++]]);
        block.idle[block.idle_count++] = self;
        race_leave();
        fiber_leave(&block.fibers[self]);
    }
}

/* Lets a fiber run until it leaves: a thread that waited goes on, or fresh ones begin. */
static void enter(unsigned fiber, Thread *thread) {
    block.running_fiber = fiber;
    block.current = thread;
    settings.counts.switches++;
    if (thread) {
        threadIdx = thread->id;
        race_enter(thread);
    }
    fiber_enter(&block.fibers[fiber]);
    block.current = nullptr;
}

static unsigned idle_fiber() {
    if (block.idle_count) return block.idle[--block.idle_count];
    fiber_create(&block.fibers[block.fibers_made], fiber_main);
    race_ignore(block.fibers[block.fibers_made].stack, block.fibers[block.fibers_made].bytes);
    return block.fibers_made++;
}

/* The next thread of the warp that can go on. */
static Thread *next_in_turn() {
    while (++block.turn < block.turn_end) {
        Thread *thread = &block.threads[block.order[block.turn]];
        if (thread->state == State::ready) return thread;
    }
    return nullptr;
}

/* From one thread to another without the host between; false: the host must say who is next. */
static bool pass_on(const Thread *thread) {
    if (has_asan() || has_tsan() || block.stopped) return false;
    unsigned to = 0;
    if (block.next < block.limit) {
        to = idle_fiber();
        block.current = nullptr;
    } else {
        Thread *next = next_in_turn();
        if (!next) return false;
        to = next->fiber;
        block.current = next;
        threadIdx = next->id;
    }
    block.running_fiber = to;
    settings.counts.switches++;
    if (to != thread->fiber) fiber_switch(&block.fibers[thread->fiber], &block.fibers[to]);
    return true;
}

void wait_for_turn(Thread *thread, State state) {
    thread->state = state;
    if (block.limit == block.count) block.limit = end_of_warp(block.next);
    if (!pass_on(thread)) {
        race_leave();
        fiber_leave(&block.fibers[thread->fiber]);
    }
    if (block.stopped) stop_thread();
}

void stop_thread() {
    block.stopped = true;
    block.current->state = State::done;
    race_thread_ends();
    race_leave();
    fiber_abandon(&block.fibers[block.running_fiber]);
}

static Thread *current_thread(const char *what) {
    if (block.current) return block.current;
    fprintf(stderr, "cuda emulator: %s was called outside a kernel\n", what);
    abort();
}

/* ---- barriers ---- */

static void finish_barrier() {
    const Thread *first = &block.threads[0];
    int holds = 0;
    for (unsigned i = 0; i < block.count; i++) {
        Thread *thread = &block.threads[i];
        if (!same_site(thread->site, first->site)) {
            fail_block("thread %u waits at %s (%s:%d), but thread %u at %s (%s:%d): all threads of "
                       "a block must meet at the same barrier",
                       first->index, first->site.what, first->site.file, first->site.line,
                       thread->index, thread->site.what, thread->site.file, thread->site.line);
            stop_thread();
        }
        holds += thread->predicate != 0;
    }
    for (unsigned i = 0; i < block.count; i++) {
        block.threads[i].state = State::ready;
        block.threads[i].result = static_cast<uint64_t>(holds);
    }
    block.at_barrier = 0;
    race_barrier_done();
}

int barrier(Count count, int predicate, Site site) {
    Thread *self = current_thread(site.what);
    self->site = site;
    self->predicate = predicate;
    self->token = race_barrier_token();
    self->state = State::at_barrier;
    tsan_release(self->token);
    if (++block.at_barrier == block.count) finish_barrier();
    wait_for_turn(self, self->state);
    tsan_acquire(self->token);
    const unsigned holds = static_cast<unsigned>(self->result);
    if (count == Count::all) return holds == block.count;
    return count == Count::any ? holds > 0 : static_cast<int>(holds);
}

void fence() { race_fence(); }

long long read_clock() {
    static thread_local long long cycles;
    return cycles += 1000000;
}

unsigned lane_bit() { return 1u << current_thread("__activemask()")->index % 32; }

void trap(const char *message) {
    const Thread *self = current_thread(message);
    fail_block("thread %u: %s", self->index, message);
    stop_thread();
}

void misaligned(const void *address, size_t alignment) {
    if (!block.current) {
        fprintf(stderr, "cuda emulator: misaligned address %p outside a kernel\n", address);
        abort();
    }
    fail_block("thread %u: misaligned address %p for a load or store that needs a multiple of %zu",
               block.current->index, address, alignment);
    stop_thread();
}

/* ---- one block ---- */

static void shuffle(unsigned *values, unsigned n) {
    for (unsigned i = n; i > 1; i--) {
        const unsigned j = block.random.below(i), kept = values[j];
        values[j] = values[i - 1];
        values[i - 1] = kept;
    }
}

/* Whole warps lie side by side in the order; a last one that is short stays last. */
static void draw_order() {
    const unsigned n = block.count, whole = n / 32;
    unsigned warps[max_warps];
    for (unsigned w = 0; w < whole; w++)
        warps[w] = settings.schedule == CU_EMU_REVERSED ? whole - 1 - w : w;
    if (settings.schedule == CU_EMU_RANDOM) shuffle(warps, whole);
    for (unsigned first = 0; first < n; first += 32) {
        const unsigned lanes = n - first < 32 ? n - first : 32;
        const unsigned base = lanes == 32 ? 32 * warps[first / 32] : first;
        for (unsigned lane = 0; lane < lanes; lane++) {
            const unsigned turn = settings.schedule == CU_EMU_REVERSED ? lanes - 1 - lane : lane;
            block.order[first + lane] = base + turn;
        }
        if (settings.schedule == CU_EMU_RANDOM) shuffle(&block.order[first], lanes);
    }
}

static void begin_block() {
    block.next = block.alive = block.at_barrier = 0;
    block.limit = block.count;
    memset(block.lanes_waiting, 0, sizeof block.lanes_waiting);
    uint3 id = {0, 0, 0};
    for (unsigned i = 0; i < block.count; i++) {
        Thread *thread = &block.threads[i];
        thread->index = i;
        thread->id = id;
        thread->state = State::fresh;
        if (++id.x < blockDim.x) continue;
        id.x = 0;
        if (++id.y < blockDim.y) continue;
        id.y = 0;
        id.z++;
    }
    draw_order();
    race_begin_block();
    poison_shared(block.launch->shared_bytes);
}

static bool is_finished() {
    return block.stopped || (block.next == block.count && block.alive == 0);
}

/* A turn for every thread of a warp that can go on; false: none could. Warps begin in order. */
static bool give_turns_to_warp(unsigned first) {
    bool ran = false;
    block.turn_end = 0;
    if (block.next == first) {
        ran = true;
        block.limit = block.alive ? end_of_warp(first + 1) : block.count;
        while (block.next < block.limit && !block.stopped)
            enter(idle_fiber(), nullptr);
    }
    block.turn_end = end_of_warp(first + 1);
    for (block.turn = first; block.turn < block.turn_end && !is_finished(); block.turn++) {
        Thread *thread = &block.threads[block.order[block.turn]];
        if (thread->state != State::ready) continue;
        ran = true;
        enter(thread->fiber, thread);
    }
    return ran;
}

/* Each warp goes on as far as it comes, or, at random, not as far; false: none could. */
static bool give_turns() {
    const bool random = settings.schedule == CU_EMU_RANDOM;
    const unsigned warps = (block.count + 31) / 32, start = random ? block.random.below(warps) : 0;
    bool ran = false;
    for (unsigned i = 0; i < warps && !is_finished(); i++) {
        while (give_turns_to_warp((start + i) % warps * 32)) {
            ran = true;
            if (random && block.random.below(4) == 0) break;
        }
    }
    return ran;
}

/* Nobody can go on: whoever waits, waits for somebody who does not come. */
static void explain_stall() {
    const Thread *waiting = nullptr, *returned = nullptr;
    for (unsigned i = 0; i < block.count; i++) {
        const Thread *thread = &block.threads[i];
        if (thread->state == State::at_warp) {
            explain_warp(thread);
            return;
        }
        if (thread->state == State::at_barrier && !waiting) waiting = thread;
        if (thread->state == State::done && !returned) returned = thread;
    }
    if (!waiting) return;
    fail_block("%u of %u threads wait at %s (%s:%d), but thread %u has returned: every thread of "
               "the block must come to each barrier",
               block.at_barrier, block.count, waiting->site.what, waiting->site.file,
               waiting->site.line, returned ? returned->index : 0);
}

/* Ends all threads of a launch that failed and makes their stacks anew. */
static void unwind() {
    for (unsigned i = 0; i < block.count; i++) {
        Thread *thread = &block.threads[i];
        if (thread->state != State::fresh && thread->state != State::done)
            enter(thread->fiber, thread);
    }
    for (unsigned i = 0; i < block.fibers_made; i++)
        fiber_reset(&block.fibers[i], fiber_main);
    race_forget_threads();
}

static void run_block() {
    begin_block();
    while (!is_finished() && give_turns()) {}
    if (!is_finished()) explain_stall();
    if (block.stopped) unwind();
}

/* ---- all blocks ---- */

static uint64_t common_divisor(uint64_t a, uint64_t b) { return b ? common_divisor(b, a % b) : a; }

/* Block i of n in the schedule's order: random is an affine map that meets each block once. */
struct BlockOrder {
    uint64_t n, factor, offset;
    uint64_t at(uint64_t i) const {
        if (settings.schedule == CU_EMU_IN_ORDER) return i;
        if (settings.schedule == CU_EMU_REVERSED) return n - 1 - i;
        return static_cast<uint64_t>((static_cast<cu_emu_u128>(i) * factor + offset) % n);
    }
};

static BlockOrder make_block_order(uint64_t n) {
    BlockOrder order = {n, block.random.next() % n, block.random.next() % n};
    while (common_divisor(order.factor, n) != 1)
        order.factor = (order.factor + 1) % n;
    return order;
}

cudaError_t run_kernel(const Launch &launch) {
    block.launch = &launch;
    block.stopped = false;
    block.count = launch.block.x * launch.block.y * launch.block.z;
    block.random = {settings.seed ^ (settings.counts.launches + 1) * 0x9e3779b97f4a7c15u};
    gridDim = launch.grid;
    blockDim = launch.block;
    settings.counts.launches++;
    const uint64_t n = static_cast<uint64_t>(gridDim.x) * gridDim.y * gridDim.z;
    const BlockOrder order = make_block_order(n);
    block.idle_count = 0;
    for (unsigned i = block.fibers_made; i > 0; i--)
        block.idle[block.idle_count++] = i - 1;
    race_begin_launch(block.count);
    catch_faults();
    for (uint64_t i = 0; i < n && !block.stopped; i++) {
        const uint64_t at = order.at(i);
        blockIdx.x = static_cast<unsigned>(at % gridDim.x);
        blockIdx.y = static_cast<unsigned>(at / gridDim.x % gridDim.y);
        blockIdx.z = static_cast<unsigned>(at / gridDim.x / gridDim.y);
        run_block();
    }
    leave_faults();
    race_end_launch();
    if (block.fibers_made > settings.counts.fibers) settings.counts.fibers = block.fibers_made;
    const cudaError_t error = block.stopped ? cudaErrorLaunchFailure : cudaSuccess;
    block.launch = nullptr;
    return error;
}

} // namespace cu_emu
