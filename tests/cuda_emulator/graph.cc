/* Captured graphs: the work of a stream, kept and given again as often as one likes. */
#include "stream.h"

using namespace cu_emu;

struct CUgraph_st {
    std::vector<Work> work;
};
struct CUgraphExec_st {
    std::vector<Work> work;
};

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    const Guard guard;
    if (!stream)
        return fail(cudaErrorStreamCaptureUnsupported,
                    "cudaStreamBeginCapture: the default stream cannot be captured");
    if (!known_stream("cudaStreamBeginCapture", stream)) return cudaErrorInvalidResourceHandle;
    if (stream->capture)
        return fail(cudaErrorStreamCaptureUnsupported,
                    "cudaStreamBeginCapture: the stream is captured already");
    stream->capture = std::make_shared<Capture>();
    stream->capture->origin = stream;
    stream->captured = stream->joined = 0;
    return cudaSuccess;
}

/* Ends the capture in all its streams. Returns whether each one's work was handed on by an event
   to another. */
static bool end_capture(const std::shared_ptr<Capture> &capture) {
    bool joined = true;
    for (const cudaStream_t stream : streams()) {
        if (stream->capture != capture) continue;
        stream->capture = nullptr;
        if (stream != capture->origin && stream->joined < stream->captured) joined = false;
    }
    return joined;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    const Guard guard;
    *graph = nullptr;
    if (!known_stream("cudaStreamEndCapture", stream)) return cudaErrorInvalidResourceHandle;
    if (!is_capturing(stream) || stream->capture->origin != stream)
        return fail(cudaErrorStreamCaptureUnmatched,
                    "cudaStreamEndCapture: no capture began in this stream");
    const std::shared_ptr<Capture> capture = stream->capture;
    const bool joined = end_capture(capture);
    if (capture->broken)
        return fail(cudaErrorStreamCaptureInvalidated,
                    "cudaStreamEndCapture: an earlier call spoilt the capture");
    if (!joined)
        return fail(cudaErrorStreamCaptureUnjoined,
                    "cudaStreamEndCapture: the work of another stream was not handed back: record "
                    "an event there and let this stream wait for it");
    *graph = new CUgraph_st{std::move(capture->work)};
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status) {
    const Guard guard;
    const cudaStream_t known = known_stream("cudaStreamIsCapturing", stream);
    if (!known) return cudaErrorInvalidResourceHandle;
    *status = !known->capture          ? cudaStreamCaptureStatusNone
              : known->capture->broken ? cudaStreamCaptureStatusInvalidated
                                       : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

/* Counts the nodes; the nodes themselves are not given. */
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count) {
    const Guard guard;
    if (!graph || nodes)
        return fail(cudaErrorInvalidValue, "cudaGraphGetNodes: only the count is given here");
    *count = graph->work.size();
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph,
                                 unsigned long long flags) {
    const Guard guard;
    if (!graph || flags)
        return fail(cudaErrorInvalidValue, "cudaGraphInstantiate: no graph, or flags");
    *exec = new CUgraphExec_st{graph->work};
    return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t stream) {
    const Guard guard;
    if (!exec) return fail(cudaErrorInvalidValue, "cudaGraphUpload: no graph");
    return known_stream("cudaGraphUpload", stream) ? cudaSuccess : cudaErrorInvalidResourceHandle;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    const Guard guard;
    if (!exec) return fail(cudaErrorInvalidValue, "cudaGraphLaunch: no graph");
    settings.counts.graphs++;
    for (const Work &work : exec->work) {
        const cudaError_t error = give(stream, work);
        if (error) return error;
    }
    return take_late_error();
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    const Guard guard;
    if (!exec) return fail(cudaErrorInvalidValue, "cudaGraphExecDestroy: no graph");
    delete exec;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    const Guard guard;
    if (!graph) return fail(cudaErrorInvalidValue, "cudaGraphDestroy: no graph");
    delete graph;
    return cudaSuccess;
}
