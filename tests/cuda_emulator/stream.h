/* Streams, and what is captured from them: shared by stream.cc, graph.cc and memory.cc. */
#ifndef CU_EMU_STREAM_H
#define CU_EMU_STREAM_H

#include "internal.h"
#include <deque>
#include <functional>
#include <memory>
#include <vector>

namespace cu_emu {

/* A piece of work; it may be run several times, by a graph. */
using Work = std::function<cudaError_t()>;

struct Capture {
    std::vector<Work> work; /* in the order of the calls, which fits all events */
    cudaStream_t origin = nullptr;
    bool broken = false;
};

struct EventState;

} // namespace cu_emu

struct CUstream_st {
    std::deque<cu_emu::Work> waiting;
    uint64_t given = 0, completed = 0;
    bool blocking = true; /* ordered with the default stream */
    std::shared_ptr<cu_emu::Capture> capture;
    uint64_t captured = 0, joined = 0; /* of the work captured, what an event handed on */
};

namespace cu_emu {

/* Gives work to a stream, or to what captures it. The default stream's work is done at once, after
   that of all streams that are ordered with it. */
cudaError_t give(cudaStream_t stream, Work work);

/* All streams that exist, the default one not among them. */
std::vector<cudaStream_t> &streams();
cudaStream_t known_stream(const char *what, cudaStream_t stream);

/* Does the stream's work up to the given position. */
void run_until(cudaStream_t stream, uint64_t position);
void drain(cudaStream_t stream);

/* Fails what CUDA does not allow while any stream captures, and spoils the captures. */
cudaError_t refuse_in_capture(const char *what);
bool is_capturing(cudaStream_t stream);

} // namespace cu_emu

#endif
