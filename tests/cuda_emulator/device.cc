/* Settings, errors, the limits of the device, and launches as they are asked for. */
#include "internal.h"
#include "restrict.h"
#include "stream.h"
#include <cstdarg>
#include <map>
#include <mutex>

namespace cu_emu {

Settings settings;

namespace {

struct Errors {
    char message[1024] = "";
    cudaError_t last = cudaSuccess, late = cudaSuccess;
};
Errors errors;
std::recursive_mutex lock;
int depth;
std::map<const void *, size_t> allowed_shared;

} // namespace

Guard::Guard(bool closes) : closes_(closes) {
    lock.lock();
    depth++;
}

Guard::~Guard() {
    if (--depth == 0 && closes_) close_device_memory();
    lock.unlock();
}

cudaError_t fail(cudaError_t error, const char *format, ...) {
    char text[sizeof errors.message];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (!errors.message[0]) memcpy(errors.message, text, sizeof text);
    if (!settings.quiet) fprintf(stderr, "cuda emulator: %s\n", text);
    errors.last = error;
    return error;
}

void remember_late_error(cudaError_t error) {
    if (errors.late == cudaSuccess) errors.late = error;
}

cudaError_t take_late_error() { return errors.late; }

size_t allowed_shared_bytes(const void *kernel) {
    const auto found = allowed_shared.find(kernel);
    return found == allowed_shared.end() ? default_shared_bytes : found->second;
}

uint64_t Random::next() {
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* ---- launches ---- */

static bool block_is_possible(const Launch &launch) {
    const dim3 &b = launch.block;
    const uint64_t threads = static_cast<uint64_t>(b.x) * b.y * b.z;
    if (threads >= 1 && threads <= max_threads && b.x <= 1024 && b.y <= 1024 && b.z <= 64)
        return true;
    fail(cudaErrorInvalidConfiguration,
         "%s: a block of %u x %u x %u = %llu threads; allowed are 1 to 1024 in all, at most 1024 x "
         "1024 x 64",
         launch.name, b.x, b.y, b.z, static_cast<unsigned long long>(threads));
    return false;
}

static bool grid_is_possible(const Launch &launch) {
    const dim3 &g = launch.grid;
    if (g.x >= 1 && g.y >= 1 && g.z >= 1 && g.x <= 0x7fffffffu && g.y <= 65535 && g.z <= 65535)
        return true;
    fail(cudaErrorInvalidConfiguration,
         "%s: a grid of %u x %u x %u blocks; allowed are 1 to 2147483647 x 65535 x 65535",
         launch.name, g.x, g.y, g.z);
    return false;
}

static bool shared_is_possible(const Launch &launch) {
    const size_t allowed = allowed_shared_bytes(launch.kernel);
    if (launch.shared_bytes <= allowed) return true;
    fail(cudaErrorInvalidValue,
         "%s: %zu bytes of dynamic shared memory; allowed are %zu (cudaFuncSetAttribute with "
         "cudaFuncAttributeMaxDynamicSharedMemorySize raises that to at most %zu)",
         launch.name, launch.shared_bytes, allowed, most_shared_bytes);
    return false;
}

bool pointer_is_of_device(const char *name, int index, const void *pointer) {
    const Guard guard(false);
    if (!pointer || place_of(pointer) != Place::pageable) return true;
    fail(cudaErrorInvalidDevicePointer,
         "%s: argument %d (%p) points to neither the device's memory nor pinned memory", name,
         index, pointer);
    return false;
}

void enqueue(std::shared_ptr<Launch> launch, cudaStream_t stream) {
    const Guard guard(false);
    if (!block_is_possible(*launch) || !grid_is_possible(*launch) || !shared_is_possible(*launch))
        return;
    const auto ranges = restricted_ranges();
    give(stream, [launch, ranges] {
        open_device_memory();
        const Restriction restriction(launch->name, ranges);
        cudaError_t error = run_kernel(*launch);
        if (!error) error = restriction.check();
        return error ? error : check_margins(launch->name);
    });
}

} // namespace cu_emu

using namespace cu_emu;

/* ---- what tests ask ---- */

void cu_emu_set_schedule(cu_emu_schedule schedule, uint64_t seed) {
    const Guard guard;
    drain_all();
    settings.schedule = schedule;
    settings.seed = seed;
}

void cu_emu_set_memory(size_t bytes) {
    const Guard guard;
    settings.memory = bytes;
}

void cu_emu_set_quiet(int quiet) {
    const Guard guard;
    settings.quiet = quiet != 0;
}

const char *cu_emu_message(void) { return errors.message; }

void cu_emu_clear(void) {
    const Guard guard;
    drain_all();
    errors = Errors{};
}

struct cu_emu_counts cu_emu_counts(void) {
    const Guard guard;
    return settings.counts;
}

/* ---- errors ---- */

cudaError_t cudaPeekAtLastError() {
    const Guard guard(false);
    return errors.late ? errors.late : errors.last;
}

cudaError_t cudaGetLastError() {
    const Guard guard(false);
    const cudaError_t error = cudaPeekAtLastError();
    errors.last = cudaSuccess;
    return error;
}

namespace {

struct Text {
    cudaError_t error;
    const char *name, *text;
};
constexpr Text texts[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInvalidDevicePointer, "cudaErrorInvalidDevicePointer", "invalid device pointer"},
    {cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection",
     "invalid copy direction for memcpy"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
     "an illegal memory access was encountered"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched",
     "capture was not initiated in this stream"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined",
     "capturing stream has unjoined work"},
    {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"},
};

const Text &text_of(cudaError_t error) {
    for (const Text &text : texts)
        if (text.error == error) return text;
    return texts[sizeof texts / sizeof texts[0] - 1];
}

} // namespace

const char *cudaGetErrorString(cudaError_t error) { return text_of(error).text; }
const char *cudaGetErrorName(cudaError_t error) { return text_of(error).name; }

/* ---- the device ---- */

static cudaError_t check_device(const char *what, int device) {
    if (device == 0) return cudaSuccess;
    return fail(cudaErrorInvalidDevice, "%s: device %d; there is device 0 only", what, device);
}

cudaError_t cudaGetDeviceCount(int *count) {
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device) {
    *device = 0;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    const Guard guard;
    return check_device("cudaSetDevice", device);
}

cudaError_t cudaDriverGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}

/* Few multiprocessors, so that launches sized by them loop over their grid. */
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device) {
    const Guard guard;
    if (check_device("cudaGetDeviceProperties", device)) return cudaErrorInvalidDevice;
    *properties = cudaDeviceProp{};
    snprintf(properties->name, sizeof properties->name, "emulator");
    properties->totalGlobalMem = settings.memory;
    properties->sharedMemPerBlock = default_shared_bytes;
    properties->sharedMemPerBlockOptin = most_shared_bytes;
    properties->sharedMemPerMultiprocessor = most_shared_bytes + 1024;
    properties->regsPerBlock = 65536;
    properties->warpSize = 32;
    properties->maxThreadsPerBlock = max_threads;
    properties->maxThreadsDim[0] = properties->maxThreadsDim[1] = 1024;
    properties->maxThreadsDim[2] = 64;
    properties->maxGridSize[0] = 0x7fffffff;
    properties->maxGridSize[1] = properties->maxGridSize[2] = 65535;
    properties->major = 8;
    properties->multiProcessorCount = 4;
    properties->maxThreadsPerMultiProcessor = 2048;
    properties->l2CacheSize = 1 << 20;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device) {
    const Guard guard;
    cudaDeviceProp p;
    if (cudaGetDeviceProperties(&p, device)) return cudaErrorInvalidDevice;
    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
        *value = p.maxThreadsPerBlock;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        *value = static_cast<int>(p.sharedMemPerBlock);
        return cudaSuccess;
    case cudaDevAttrWarpSize:
        *value = p.warpSize;
        return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
        *value = p.multiProcessorCount;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
        *value = p.major;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
        *value = p.minor;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = static_cast<int>(p.sharedMemPerBlockOptin);
        return cudaSuccess;
    }
    return fail(cudaErrorInvalidValue, "cudaDeviceGetAttribute: attribute %d is not known here",
                static_cast<int>(attribute));
}

cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute attribute, int value) {
    const Guard guard;
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize)
        return fail(cudaErrorInvalidValue, "cudaFuncSetAttribute: attribute %d is not known here",
                    static_cast<int>(attribute));
    if (value < 0 || static_cast<size_t>(value) > most_shared_bytes)
        return fail(cudaErrorInvalidValue,
                    "cudaFuncSetAttribute: %d bytes of dynamic shared memory; allowed are 0 to %zu",
                    value, most_shared_bytes);
    allowed_shared[kernel] = static_cast<size_t>(value);
    return cudaSuccess;
}
