/* Kernels that may touch their operands only: one arena holds all tensors of a plan, so that an
   index that is off by one meets a neighbour, not the end of an allocation. While a restricted
   kernel runs, AddressSanitizer finds the rest of the device's memory poisoned; without it the rest
   must be as it was. Neither is done for more memory than takes a moment. */
#include "restrict.h"
#include "sanitizers.h"
#include <algorithm>

namespace cu_emu {

namespace {

constexpr size_t most_poisoned = size_t{16} << 20, most_compared = size_t{1} << 20;

std::shared_ptr<const Ranges> now;

/* What is left of a part without the ranges, which are in the order of their addresses. */
void add_gaps(const Range &part, const Ranges &ranges, Ranges *gaps) {
    char *at = part.begin, *const end = part.begin + part.bytes;
    for (const Range &range : ranges) {
        char *const stop = std::min(std::max(range.begin, at), end);
        if (stop > at) gaps->push_back({at, static_cast<size_t>(stop - at)});
        at = std::min(std::max(range.begin + range.bytes, at), end);
    }
    if (end > at) gaps->push_back({at, static_cast<size_t>(end - at)});
}

} // namespace

std::shared_ptr<const Ranges> restricted_ranges() { return now; }

Restriction::Restriction(const char *kernel, const std::shared_ptr<const Ranges> &ranges)
    : kernel_(kernel) {
    if (!ranges) return;
    size_t bytes = 0;
    for (const Range &part : device_memory()) {
        bytes += part.bytes;
        add_gaps(part, *ranges, &gaps_);
    }
    if (bytes > (has_asan() ? most_poisoned : most_compared)) gaps_.clear();
    for (const Range &gap : gaps_) {
        asan_poison(gap.begin, gap.bytes);
        if (!has_asan()) before_.insert(before_.end(), gap.begin, gap.begin + gap.bytes);
    }
}

Restriction::~Restriction() {
    for (const Range &gap : gaps_)
        asan_unpoison(gap.begin, gap.bytes);
}

cudaError_t Restriction::check() const {
    const char *before = before_.data();
    if (before_.empty()) return cudaSuccess;
    for (const Range &gap : gaps_) {
        if (memcmp(gap.begin, before, gap.bytes) != 0) {
            const char *at = std::mismatch(before, before + gap.bytes, gap.begin).second;
            return fail(cudaErrorIllegalAddress,
                        "%s: something was written at %p, which is no operand's", kernel_,
                        static_cast<const void *>(at));
        }
        before += gap.bytes;
    }
    return cudaSuccess;
}

} // namespace cu_emu

using namespace cu_emu;

void cu_emu_restrict(const struct cu_emu_range *ranges, size_t n) {
    const Guard guard(false);
    if (n == 0) {
        now = nullptr;
        return;
    }
    Ranges copied;
    for (size_t i = 0; i < n; i++)
        if (ranges[i].begin && ranges[i].bytes)
            copied.push_back({static_cast<char *>(ranges[i].begin), ranges[i].bytes});
    std::sort(copied.begin(), copied.end(),
              [](const Range &a, const Range &b) { return a.begin < b.begin; });
    now = std::make_shared<const Ranges>(std::move(copied));
}
