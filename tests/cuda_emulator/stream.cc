/* Streams and events. Work waits in its stream until the schedule or somebody who waits has it
   done: reading a result without waiting for it, or changing pinned memory that a copy has yet to
   read, shows under the reversed schedule. */
#include "stream.h"
#include <algorithm>
#include <ctime>

namespace cu_emu {

/* One recording of an event: done when its stream has completed `position` pieces. */
struct EventState {
    cudaStream_t stream = nullptr;
    std::shared_ptr<Capture> capture;
    uint64_t position = 0;
    bool done = false;
    double time = 0;
};

namespace {

CUstream_st default_stream;
Random random_delay;

double now() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

void run_one(cudaStream_t stream) {
    const Work work = std::move(stream->waiting.front());
    stream->waiting.pop_front();
    /* After a kernel has failed, CUDA does nothing more either. */
    if (!take_late_error()) {
        const cudaError_t error = work();
        if (error) remember_late_error(error);
    }
    stream->completed++;
}

void run_as_scheduled(cudaStream_t stream) {
    if (settings.schedule == CU_EMU_IN_ORDER) drain(stream);
    if (settings.schedule != CU_EMU_RANDOM) return;
    random_delay.state ^= settings.seed;
    const unsigned n = static_cast<unsigned>(streams().size());
    for (unsigned turns = random_delay.below(3); turns > 0; turns--) {
        const cudaStream_t any = streams()[random_delay.below(n)];
        if (!any->waiting.empty()) run_one(any);
    }
}

void drain_blocking() {
    for (const cudaStream_t stream : streams())
        if (stream->blocking) drain(stream);
}

} // namespace

std::vector<cudaStream_t> &streams() {
    static std::vector<cudaStream_t> all;
    return all;
}

cudaStream_t known_stream(const char *what, cudaStream_t stream) {
    if (!stream) return &default_stream;
    for (const cudaStream_t known : streams())
        if (known == stream) return stream;
    fail(cudaErrorInvalidResourceHandle, "%s: no such stream", what);
    return nullptr;
}

void run_until(cudaStream_t stream, uint64_t position) {
    while (stream->completed < position && !stream->waiting.empty())
        run_one(stream);
}

void drain(cudaStream_t stream) {
    while (!stream->waiting.empty())
        run_one(stream);
}

void drain_all() {
    drain(&default_stream);
    /* The last first under the reversed schedule: nothing but events orders streams. */
    std::vector<cudaStream_t> all = streams();
    if (settings.schedule == CU_EMU_REVERSED) std::reverse(all.begin(), all.end());
    for (const cudaStream_t stream : all)
        drain(stream);
}

bool is_capturing(cudaStream_t stream) { return stream && stream->capture; }

cudaError_t refuse_in_capture(const char *what) {
    bool any = false;
    for (const cudaStream_t stream : streams()) {
        if (!stream->capture) continue;
        stream->capture->broken = any = true;
    }
    if (!any) return cudaSuccess;
    return fail(cudaErrorStreamCaptureUnsupported, "%s: not allowed while a stream is captured",
                what);
}

cudaError_t give(cudaStream_t stream, Work work) {
    stream = known_stream("stream", stream);
    if (!stream) return cudaErrorInvalidResourceHandle;
    if (stream->capture) {
        stream->capture->work.push_back(std::move(work));
        stream->captured++;
        return cudaSuccess;
    }
    if (stream == &default_stream && refuse_in_capture("work for the default stream"))
        return cudaErrorStreamCaptureUnsupported;
    stream->waiting.push_back(std::move(work));
    stream->given++;
    if (stream == &default_stream) {
        drain_blocking();
        drain(stream);
    } else {
        run_as_scheduled(stream);
    }
    return take_late_error();
}

} // namespace cu_emu

using namespace cu_emu;

struct CUevent_st {
    std::shared_ptr<EventState> state; /* of the last recording */
    bool timing = true;
};

/* ---- streams ---- */

cudaError_t cudaStreamCreate(cudaStream_t *stream) {
    return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
    const Guard guard;
    if (flags > cudaStreamNonBlocking)
        return fail(cudaErrorInvalidValue, "cudaStreamCreateWithFlags: flags %u are not known",
                    flags);
    *stream = new CUstream_st;
    (*stream)->blocking = flags == cudaStreamDefault;
    streams().push_back(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    const Guard guard;
    if (!stream || !known_stream("cudaStreamDestroy", stream))
        return cudaErrorInvalidResourceHandle;
    if (stream->capture)
        return fail(cudaErrorStreamCaptureUnsupported, "cudaStreamDestroy: the stream is captured");
    drain(stream);
    auto &all = streams();
    all.erase(std::find(all.begin(), all.end(), stream));
    delete stream;
    return take_late_error();
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    const Guard guard;
    if (refuse_in_capture("cudaStreamSynchronize")) return cudaErrorStreamCaptureUnsupported;
    stream = known_stream("cudaStreamSynchronize", stream);
    if (!stream) return cudaErrorInvalidResourceHandle;
    if (stream == &default_stream) drain_blocking();
    drain(stream);
    return take_late_error();
}

/* Asking often enough lets the work be done. */
cudaError_t cudaStreamQuery(cudaStream_t stream) {
    const Guard guard;
    if (refuse_in_capture("cudaStreamQuery")) return cudaErrorStreamCaptureUnsupported;
    stream = known_stream("cudaStreamQuery", stream);
    if (!stream) return cudaErrorInvalidResourceHandle;
    if (stream->waiting.empty()) return take_late_error();
    run_one(stream);
    return cudaErrorNotReady;
}

cudaError_t cudaDeviceSynchronize() {
    const Guard guard;
    if (refuse_in_capture("cudaDeviceSynchronize")) return cudaErrorStreamCaptureUnsupported;
    drain_all();
    return take_late_error();
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data) {
    const Guard guard;
    return give(stream, [function, data] {
        close_device_memory();
        function(data);
        return cudaSuccess;
    });
}

/* ---- events ---- */

cudaError_t cudaEventCreate(cudaEvent_t *event) {
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
    const Guard guard;
    if (flags & ~(cudaEventBlockingSync | cudaEventDisableTiming))
        return fail(cudaErrorInvalidValue, "cudaEventCreateWithFlags: flags %u are not known",
                    flags);
    *event = new CUevent_st;
    (*event)->timing = !(flags & cudaEventDisableTiming);
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    const Guard guard;
    if (!event) return fail(cudaErrorInvalidResourceHandle, "cudaEventDestroy: no event");
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    const Guard guard;
    if (!event) return fail(cudaErrorInvalidResourceHandle, "cudaEventRecord: no event");
    const cudaStream_t known = known_stream("cudaEventRecord", stream);
    if (!known) return cudaErrorInvalidResourceHandle;
    const auto state = std::make_shared<EventState>();
    state->stream = known;
    event->state = state;
    if (known->capture) {
        state->capture = known->capture;
        state->position = known->captured;
        return cudaSuccess;
    }
    state->position = known->given + 1;
    return give(stream, [state] {
        state->done = true;
        state->time = now();
        return cudaSuccess;
    });
}

/* An event of a captured stream takes the waiting stream into the capture. */
static cudaError_t join_capture(cudaStream_t stream, const EventState &state) {
    if (stream->capture && stream->capture != state.capture)
        return fail(cudaErrorStreamCaptureUnsupported,
                    "cudaStreamWaitEvent: the event belongs to another capture");
    if (!stream->capture) {
        stream->capture = state.capture;
        stream->captured = stream->joined = 0;
    }
    if (known_stream("cudaStreamWaitEvent", state.stream) && state.position > state.stream->joined)
        state.stream->joined = state.position;
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
    const Guard guard;
    if (!event || flags)
        return fail(cudaErrorInvalidValue, "cudaStreamWaitEvent: no event, or flags");
    const cudaStream_t known = known_stream("cudaStreamWaitEvent", stream);
    if (!known) return cudaErrorInvalidResourceHandle;
    const auto state = event->state;
    if (!state) return cudaSuccess;
    if (state->capture) return join_capture(known, *state);
    if (known->capture)
        return fail(cudaErrorStreamCaptureUnsupported,
                    "cudaStreamWaitEvent: the event was recorded outside the capture");
    return give(stream, [state] {
        if (!state->done) run_until(state->stream, state->position);
        return cudaSuccess;
    });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    const Guard guard;
    if (!event) return fail(cudaErrorInvalidResourceHandle, "cudaEventSynchronize: no event");
    if (!event->state) return cudaSuccess;
    if (event->state->capture)
        return fail(cudaErrorStreamCaptureUnsupported,
                    "cudaEventSynchronize: the event was recorded in a capture");
    if (!event->state->done) run_until(event->state->stream, event->state->position);
    return take_late_error();
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    const Guard guard;
    if (!event) return fail(cudaErrorInvalidResourceHandle, "cudaEventQuery: no event");
    if (!event->state || event->state->done) return take_late_error();
    if (event->state->capture)
        return fail(cudaErrorStreamCaptureUnsupported,
                    "cudaEventQuery: the event was recorded in a capture");
    if (!event->state->stream->waiting.empty()) run_one(event->state->stream);
    return cudaErrorNotReady;
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t begin, cudaEvent_t end) {
    const Guard guard;
    if (!begin || !end || !begin->timing || !end->timing || !begin->state || !end->state)
        return fail(cudaErrorInvalidResourceHandle,
                    "cudaEventElapsedTime: both events must be recorded and take times");
    if (!begin->state->done || !end->state->done) return cudaErrorNotReady;
    *milliseconds = static_cast<float>(1e3 * (end->state->time - begin->state->time));
    return cudaSuccess;
}
