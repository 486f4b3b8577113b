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

bool lies_in(const Ranges &ranges, const char *address) {
    for (const Range &range : ranges)
        if (address >= range.begin && address < range.begin + range.bytes) return true;
    return false;
}

} // namespace

std::shared_ptr<const Ranges> restricted_ranges() { return now; }

Restriction::Restriction(const char *kernel, std::shared_ptr<const Ranges> ranges)
    : kernel_(kernel), ranges_(std::move(ranges)) {
    if (!ranges_) return;
    memory_ = device_memory();
    size_t bytes = 0;
    for (const Range &part : memory_)
        bytes += part.bytes;
    if (bytes > (has_asan() ? most_poisoned : most_compared)) {
        memory_.clear();
        return;
    }
    if (has_asan()) {
        for (const Range &part : memory_)
            asan_poison(part.begin, part.bytes);
        for (const Range &range : *ranges_)
            asan_unpoison(range.begin, range.bytes);
        return;
    }
    before_.reserve(bytes);
    for (const Range &part : memory_)
        before_.insert(before_.end(), part.begin, part.begin + part.bytes);
}

Restriction::~Restriction() {
    if (!has_asan()) return;
    for (const Range &part : memory_)
        asan_unpoison(part.begin, part.bytes);
}

cudaError_t Restriction::check() const {
    size_t at = 0;
    if (before_.empty()) return cudaSuccess;
    for (const Range &part : memory_) {
        for (size_t i = 0; i < part.bytes; i++, at++) {
            if (part.begin[i] == before_[at] || lies_in(*ranges_, part.begin + i)) continue;
            return fail(cudaErrorIllegalAddress,
                        "%s: something was written at %p, which is no operand's", kernel_,
                        static_cast<void *>(part.begin + i));
        }
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
    now = std::make_shared<const Ranges>(std::move(copied));
}
