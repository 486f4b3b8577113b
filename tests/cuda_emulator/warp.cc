/* Warp operations: each is done when all lanes that its mask names have come to it. What CUDA
   leaves undefined is an error: a mask without the caller, a lane that does not come or does not
   exist, lanes of one mask at different operations, a value taken from a lane outside the mask. */
#include "block.h"
#include "sanitizers.h"

namespace cu_emu {

static unsigned lanes_of_warp(unsigned base) {
    return block.count - base >= 32 ? 32 : block.count - base;
}

static void check_call(const Thread *self, unsigned lane, unsigned lanes) {
    const unsigned existing = lanes == 32 ? 0xffffffffu : (1u << lanes) - 1;
    const char *trouble = nullptr;
    if (!(self->mask >> lane & 1)) trouble = "which does not name the calling lane";
    if (self->mask & ~existing)
        trouble = "which names lanes that the block does not have: let blocks have a multiple of "
                  "32 threads";
    if (self->width < 1 || self->width > 32 || (self->width & (self->width - 1)))
        trouble = "and a width that is no power of two from 1 to 32";
    if (!trouble) return;
    fail_block("thread %u (lane %u) calls %s (%s:%d) with mask 0x%08x, %s", self->index, lane,
               self->site.what, self->site.file, self->site.line, self->mask, trouble);
    stop_thread();
}

static bool same_call(const Thread *a, const Thread *b) {
    return a->mask == b->mask && a->op == b->op && same_site(a->site, b->site);
}

/* No other lane that waits may share a lane with this mask unless it makes the same call. Those
   that wait together do, so that one of them speaks for all. */
static void check_company(const Thread *self, unsigned base) {
    const Thread *other = nullptr;
    for (unsigned rest = block.lanes_waiting[base / 32]; rest; rest &= ~other->mask) {
        other = &block.threads[base + static_cast<unsigned>(__builtin_ctz(rest))];
        if (!(other->mask & self->mask) || same_call(other, self)) continue;
        fail_block("thread %u calls %s (%s:%d) with mask 0x%08x, but thread %u of the same warp "
                   "waits at %s (%s:%d) with mask 0x%08x: all lanes of a mask must make the same "
                   "call",
                   self->index, self->site.what, self->site.file, self->site.line, self->mask,
                   other->index, other->site.what, other->site.file, other->site.line, other->mask);
        stop_thread();
    }
}

/* The lane whose value a shuffle gives to `lane`. */
static unsigned source_lane(const Thread *thread, unsigned lane) {
    const unsigned width = static_cast<unsigned>(thread->width), first = lane & ~(width - 1);
    const unsigned arg = static_cast<unsigned>(thread->arg);
    unsigned source = lane;
    switch (thread->op) {
    case Warp::shfl:
        return first + (arg & (width - 1));
    case Warp::shfl_up:
        return arg <= lane - first ? lane - arg : lane;
    case Warp::shfl_down:
        return arg < width - (lane - first) ? lane + arg : lane;
    default:
        source = lane ^ arg;
        return source < first + width ? source : lane;
    }
}

static uint64_t shuffle(const Thread *thread, unsigned base) {
    const unsigned lane = thread->index - base, source = source_lane(thread, lane);
    if (thread->mask >> source & 1) return block.threads[base + source].value;
    fail_block("thread %u (lane %u) takes at %s (%s:%d) the value of lane %u, which its mask "
               "0x%08x does not name",
               thread->index, lane, thread->site.what, thread->site.file, thread->site.line, source,
               thread->mask);
    stop_thread();
}

static unsigned vote(const Thread *thread, unsigned base) {
    unsigned ballot = 0;
    for (unsigned lane = 0; lane < 32; lane++) {
        if (!(thread->mask >> lane & 1)) continue;
        const uint64_t value = block.threads[base + lane].value;
        const bool holds = thread->op == Warp::match_any ? value == thread->value : value != 0;
        if (holds) ballot |= 1u << lane;
    }
    return ballot;
}

static uint32_t combine(Warp op, uint32_t a, uint32_t b) {
    const int x = static_cast<int>(a), y = static_cast<int>(b);
    switch (op) {
    case Warp::add:
        return a + b;
    case Warp::min_signed:
        return y < x ? b : a;
    case Warp::min_unsigned:
        return b < a ? b : a;
    case Warp::max_signed:
        return y > x ? b : a;
    case Warp::max_unsigned:
        return b > a ? b : a;
    case Warp::bit_and:
        return a & b;
    case Warp::bit_or:
        return a | b;
    default:
        return a ^ b;
    }
}

static uint32_t reduce(const Thread *thread, unsigned base) {
    uint32_t result = 0;
    bool first = true;
    for (unsigned rest = thread->mask; rest; rest &= rest - 1) {
        const unsigned lane = static_cast<unsigned>(__builtin_ctz(rest));
        const uint32_t value = static_cast<uint32_t>(block.threads[base + lane].value);
        result = first ? value : combine(thread->op, result, value);
        first = false;
    }
    return result;
}

static uint64_t result_of(const Thread *thread, unsigned base) {
    switch (thread->op) {
    case Warp::sync:
        return 0;
    case Warp::shfl:
    case Warp::shfl_up:
    case Warp::shfl_down:
    case Warp::shfl_xor:
        return shuffle(thread, base);
    case Warp::ballot:
    case Warp::match_any:
        return vote(thread, base);
    case Warp::any:
        return vote(thread, base) != 0;
    case Warp::all:
        return vote(thread, base) == thread->mask;
    default:
        return reduce(thread, base);
    }
}

static bool differs_by_lane(Warp op) {
    return op == Warp::shfl || op == Warp::shfl_up || op == Warp::shfl_down ||
           op == Warp::shfl_xor || op == Warp::match_any;
}

static void finish_warp(const Thread *last, unsigned base) {
    const unsigned mask = last->mask;
    const bool differs = differs_by_lane(last->op);
    const uint64_t result = differs ? 0 : result_of(last, base);
    for (unsigned rest = mask; rest; rest &= rest - 1) {
        Thread *thread = &block.threads[base + static_cast<unsigned>(__builtin_ctz(rest))];
        thread->result = differs ? result_of(thread, base) : result;
        thread->state = State::ready;
    }
    block.lanes_waiting[base / 32] &= ~mask;
    race_warp_done(base + static_cast<unsigned>(__builtin_ctz(mask)));
}

uint64_t warp(Warp op, unsigned mask, uint64_t value, int arg, int width, Site site) {
    Thread *self = block.current;
    if (!self) {
        fprintf(stderr, "cuda emulator: %s was called outside a kernel\n", site.what);
        abort();
    }
    const unsigned lane = self->index % 32, base = self->index - lane;
    self->site = site;
    self->op = op;
    self->mask = mask;
    self->value = value;
    self->arg = arg;
    self->width = width;
    check_call(self, lane, lanes_of_warp(base));
    check_company(self, base);
    void *token = nullptr;
    if (op == Warp::sync)
        token = race_warp_token(base + static_cast<unsigned>(__builtin_ctz(mask)));
    if (token) tsan_release(token);
    self->state = State::at_warp;
    block.lanes_waiting[base / 32] |= 1u << lane;
    if ((block.lanes_waiting[base / 32] & mask) == mask) finish_warp(self, base);
    wait_for_turn(self, self->state);
    if (token) tsan_acquire(token);
    return self->result;
}

void explain_warp(const Thread *waiting) {
    const unsigned base = waiting->index / 32 * 32;
    const Site &site = waiting->site;
    for (unsigned rest = waiting->mask; rest; rest &= rest - 1) {
        const unsigned lane = static_cast<unsigned>(__builtin_ctz(rest));
        const Thread *other = &block.threads[base + lane];
        if (other->state == State::at_warp && same_call(other, waiting)) continue;
        char where[256] = "has returned";
        if (other->state != State::done)
            snprintf(where, sizeof where, "waits at %s (%s:%d)", other->site.what, other->site.file,
                     other->site.line);
        fail_block("thread %u waits at %s (%s:%d) with mask 0x%08x, but lane %u of that mask "
                   "(thread %u) %s",
                   waiting->index, site.what, site.file, site.line, waiting->mask, lane,
                   other->index, where);
        return;
    }
}

} // namespace cu_emu
