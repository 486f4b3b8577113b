/* The device's memory: each allocation is a mapping of its own between pages that must not be
   touched, filled with 0xff, and closed to the host except while a kernel or a copy runs. What is
   left beside an allocation in its pages is poisoned for AddressSanitizer, or, without it, filled
   with a pattern that is checked after each kernel. */
#include "restrict.h"
#include "sanitizers.h"
#include "stream.h"
#include <map>
#include <sys/mman.h>

namespace cu_emu {

namespace {

constexpr size_t page = 4096, alignment = 256;
constexpr unsigned char pattern = 0xcb;

struct Allocation {
    char *map, *user;
    size_t map_bytes, bytes; /* the guard pages not counted; as asked for */
    Place place;
};

std::map<uintptr_t, Allocation> allocations; /* by the end of the user's part */
size_t in_use;
bool is_open;

const Allocation *find(const void *pointer) {
    const uintptr_t at = reinterpret_cast<uintptr_t>(pointer);
    const auto after = allocations.upper_bound(at);
    if (after == allocations.end()) return nullptr;
    const Allocation &found = after->second;
    return at >= reinterpret_cast<uintptr_t>(found.user) ? &found : nullptr;
}

void protect_all(int protection) {
    for (const auto &entry : allocations) {
        const Allocation &a = entry.second;
        if (a.place == Place::device && mprotect(a.map, a.map_bytes, protection) != 0) {
            fputs("cuda emulator: cannot change the protection of device memory\n", stderr);
            abort();
        }
    }
}

char *end_of(const Allocation &a) { return a.user + a.bytes; }

void prepare_margins(const Allocation &a) {
    memset(a.map, pattern, a.map_bytes);
    memset(a.user, 0xff, a.bytes);
    asan_poison(a.map, static_cast<size_t>(a.user - a.map));
    asan_poison(end_of(a), static_cast<size_t>(a.map + a.map_bytes - end_of(a)));
}

bool is_pattern(const char *begin, const char *end) {
    if (begin == end) return true;
    const size_t others = static_cast<size_t>(end - begin) - 1;
    return static_cast<unsigned char>(*begin) == pattern && memcmp(begin, begin + 1, others) == 0;
}

cudaError_t allocate(const char *what, void **pointer, size_t bytes, Place place) {
    if (refuse_in_capture(what)) return cudaErrorStreamCaptureUnsupported;
    *pointer = nullptr;
    if (bytes == 0) return cudaSuccess;
    if (place == Place::device && bytes > settings.memory - in_use)
        return fail(cudaErrorMemoryAllocation, "%s: %zu bytes; %zu of %zu are free", what, bytes,
                    settings.memory - in_use, settings.memory);
    Allocation a = {nullptr, nullptr, 0, bytes, place};
    const size_t aligned = (bytes + alignment - 1) / alignment * alignment;
    a.map_bytes = (aligned + page - 1) / page * page;
    void *map = mmap(nullptr, a.map_bytes + 2 * page, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) return fail(cudaErrorMemoryAllocation, "%s: mmap failed", what);
    a.map = static_cast<char *>(map) + page;
    a.user = a.map + a.map_bytes - aligned;
    if (mprotect(a.map, a.map_bytes, PROT_READ | PROT_WRITE) != 0) {
        munmap(map, a.map_bytes + 2 * page);
        return fail(cudaErrorMemoryAllocation, "%s: mprotect failed", what);
    }
    prepare_margins(a);
    allocations[reinterpret_cast<uintptr_t>(end_of(a))] = a;
    if (place == Place::device) in_use += bytes;
    /* The new mapping is open, so all must be, to be closed together. */
    open_device_memory();
    *pointer = a.user;
    return cudaSuccess;
}

cudaError_t release(const char *what, void *pointer, Place place) {
    if (!pointer) return cudaSuccess;
    if (refuse_in_capture(what)) return cudaErrorStreamCaptureUnsupported;
    const Allocation *found = find(pointer);
    if (!found || found->user != pointer || found->place != place)
        return fail(cudaErrorInvalidValue, "%s: %p was not allocated here, or is free already",
                    what, pointer);
    drain_all();
    open_device_memory();
    const cudaError_t error = check_margins(what);
    const Allocation a = *found;
    allocations.erase(reinterpret_cast<uintptr_t>(end_of(a)));
    if (place == Place::device) in_use -= a.bytes;
    asan_unpoison(a.map, a.map_bytes);
    munmap(a.map - page, a.map_bytes + 2 * page);
    return error ? error : take_late_error();
}

/* ---- copies ---- */

cudaError_t check_kind(const char *what, Place to, Place from, cudaMemcpyKind kind) {
    if (kind == cudaMemcpyDefault) return cudaSuccess;
    if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault)
        return fail(cudaErrorInvalidMemcpyDirection, "%s: no such direction", what);
    const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (to_device != (to == Place::device))
        return fail(cudaErrorInvalidValue, "%s: the destination is %s memory of the device", what,
                    to_device ? "no" : "");
    if (from_device != (from == Place::device))
        return fail(cudaErrorInvalidValue, "%s: the source is %s memory of the device", what,
                    from_device ? "no" : "");
    return cudaSuccess;
}

cudaError_t check_copy(const char *what, void *to, const void *from, size_t bytes,
                       cudaMemcpyKind kind) {
    const cudaError_t error = check_kind(what, place_of(to), place_of(from), kind);
    if (error) return error;
    const cudaError_t destination = check_range(what, to, bytes);
    return destination ? destination : check_range(what, from, bytes);
}

Work copy_work(void *to, const void *from, size_t bytes) {
    return [to, from, bytes] {
        open_device_memory();
        settings.counts.copies++;
        memmove(to, from, bytes);
        return cudaSuccess;
    };
}

/* As CUDA: what comes from pageable memory is taken aside at once. */
Work staged_copy_work(void *to, const void *from, size_t bytes) {
    const char *bytes_from = static_cast<const char *>(from);
    const auto kept = std::make_shared<std::vector<char>>(bytes_from, bytes_from + bytes);
    return [to, kept] {
        open_device_memory();
        settings.counts.copies++;
        memcpy(to, kept->data(), kept->size());
        return cudaSuccess;
    };
}

} // namespace

Place place_of(const void *pointer) {
    const Allocation *found = find(pointer);
    return found ? found->place : Place::pageable;
}

cudaError_t check_range(const char *what, const void *pointer, size_t bytes) {
    const Allocation *found = find(pointer);
    const size_t left =
        found ? static_cast<size_t>(end_of(*found) - static_cast<const char *>(pointer)) : bytes;
    if (bytes <= left) return cudaSuccess;
    return fail(cudaErrorInvalidValue, "%s: %zu bytes, but the allocation ends after %zu", what,
                bytes, left);
}

Ranges device_memory() {
    Ranges ranges;
    for (const auto &entry : allocations)
        if (entry.second.place == Place::device)
            ranges.push_back({entry.second.user, entry.second.bytes});
    return ranges;
}

void describe_address(char *text, size_t size, const void *address) {
    const char *at = static_cast<const char *>(address);
    for (const auto &entry : allocations) {
        const Allocation &a = entry.second;
        if (at < a.map - page || at >= a.map + a.map_bytes + page) continue;
        const bool before = at < a.user;
        snprintf(text, size, "%zd bytes %s the allocation of %zu bytes at %p",
                 before ? a.user - at : at - end_of(a), before ? "before" : "behind the end of",
                 a.bytes, static_cast<void *>(a.user));
        return;
    }
    const bool null = reinterpret_cast<uintptr_t>(address) < page;
    snprintf(text, size, null ? "a null pointer" : "which is no memory of the device");
}

void open_device_memory() {
    if (is_open) return;
    protect_all(PROT_READ | PROT_WRITE);
    is_open = true;
}

void close_device_memory() {
    if (!is_open) return;
    protect_all(PROT_NONE);
    is_open = false;
}

cudaError_t check_margins(const char *what) {
    if (has_asan()) return cudaSuccess;
    open_device_memory();
    for (const auto &entry : allocations) {
        const Allocation &a = entry.second;
        const bool below = is_pattern(a.map, a.user);
        if (below && is_pattern(end_of(a), a.map + a.map_bytes)) continue;
        return fail(cudaErrorIllegalAddress,
                    "%s: something was written %s the allocation of %zu "
                    "bytes at %p",
                    what, below ? "behind" : "before", a.bytes, static_cast<void *>(a.user));
    }
    return cudaSuccess;
}

} // namespace cu_emu

using namespace cu_emu;

cudaError_t cudaMalloc(void **pointer, size_t bytes) {
    const Guard guard;
    return allocate("cudaMalloc", pointer, bytes, Place::device);
}

cudaError_t cudaFree(void *pointer) {
    const Guard guard;
    return release("cudaFree", pointer, Place::device);
}

cudaError_t cudaMallocHost(void **pointer, size_t bytes) {
    const Guard guard;
    return allocate("cudaMallocHost", pointer, bytes, Place::pinned);
}

cudaError_t cudaHostAlloc(void **pointer, size_t bytes, unsigned flags) {
    const Guard guard;
    if (flags & ~(cudaHostAllocPortable | cudaHostAllocMapped))
        return fail(cudaErrorInvalidValue, "cudaHostAlloc: flags %u are not known", flags);
    return allocate("cudaHostAlloc", pointer, bytes, Place::pinned);
}

cudaError_t cudaFreeHost(void *pointer) {
    const Guard guard;
    return release("cudaFreeHost", pointer, Place::pinned);
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
    const Guard guard;
    *total_bytes = settings.memory;
    *free_bytes = settings.memory > in_use ? settings.memory - in_use : 0;
    return cudaSuccess;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind) {
    const Guard guard;
    if (refuse_in_capture("cudaMemcpy")) return cudaErrorStreamCaptureUnsupported;
    const cudaError_t error = check_copy("cudaMemcpy", to, from, bytes, kind);
    return error ? error : give(nullptr, copy_work(to, from, bytes));
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
    const Guard guard;
    const cudaError_t error = check_copy("cudaMemcpyAsync", to, from, bytes, kind);
    if (error) return error;
    if (is_capturing(stream)) return give(stream, copy_work(to, from, bytes));
    if (place_of(from) == Place::pageable) return give(stream, staged_copy_work(to, from, bytes));
    const cudaError_t given = give(stream, copy_work(to, from, bytes));
    if (given || place_of(to) != Place::pageable) return given;
    return cudaStreamSynchronize(stream); /* as CUDA does for pageable memory */
}

cudaError_t cudaMemset(void *to, int value, size_t bytes) {
    const Guard guard;
    return cudaMemsetAsync(to, value, bytes, nullptr);
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream) {
    const Guard guard;
    if (place_of(to) == Place::pageable)
        return fail(cudaErrorInvalidValue, "cudaMemset: %p is no memory of the device", to);
    const cudaError_t error = check_range("cudaMemset", to, bytes);
    if (error) return error;
    return give(stream, [to, value, bytes] {
        open_device_memory();
        memset(to, value, bytes);
        return cudaSuccess;
    });
}
