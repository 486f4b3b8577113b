/* Memory, streams, events and captured graphs. */
#include "common.h"
#include "kernels.cuh"
#include <cstring>

namespace {

/* The next call that waits fails so, with a message that has this part; then all is forgotten. */
void expect_error(cudaError_t error, cudaError_t wanted, const char *part) {
    assert_int_equal(error, wanted);
    if (!strstr(cu_emu_message(), part)) fail_msg("'%s' does not say '%s'", cu_emu_message(), part);
    cu_emu_clear();
}

cudaStream_t new_stream() {
    cudaStream_t stream;
    expect_success(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    return stream;
}

cudaEvent_t new_event() {
    cudaEvent_t event;
    expect_success(cudaEventCreateWithFlags(&event, cudaEventDefault));
    return event;
}

float *pinned(size_t n) {
    float *p;
    expect_success(cudaMallocHost(&p, n * sizeof *p));
    return p;
}

float gelu_of(float x) { return static_cast<float>(0.5 * x * (1.0 + erf(x / sqrt(2.0)))); }

/* A step that is captured once: what it reads from pinned memory may change before each replay. */
void test_graph_replay(void **) {
    under_all_schedules([] {
        const int n = 257;
        const size_t bytes = n * sizeof(float);
        float *from = pinned(n), *to = pinned(n);
        const OnDevice<float> x(n), y(n);
        const cudaStream_t stream = new_stream();
        cudaGraph_t graph;
        cudaGraphExec_t exec;
        expect_success(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
        expect_success(cudaMemcpyAsync(x, from, bytes, cudaMemcpyHostToDevice, stream));
        launch_gelu(x, y, n, stream);
        expect_success(cudaMemcpyAsync(to, y, bytes, cudaMemcpyDeviceToHost, stream));
        expect_success(cudaStreamEndCapture(stream, &graph));
        size_t nodes = 0;
        expect_success(cudaGraphGetNodes(graph, nullptr, &nodes));
        assert_int_equal(nodes, 3);
        expect_success(cudaGraphInstantiate(&exec, graph));
        expect_success(cudaGraphDestroy(graph));
        const uint64_t launches = cu_emu_counts().launches;
        for (int replay = 0; replay < 3; replay++) {
            for (int i = 0; i < n; i++)
                from[i] = static_cast<float>(i - replay) / 50.0f;
            expect_success(cudaGraphLaunch(exec, stream));
            expect_success(cudaStreamSynchronize(stream));
            for (int i = 0; i < n; i++)
                expect_close(to[i], static_cast<double>(gelu_of(from[i])), 1e-6);
        }
        assert_int_equal(cu_emu_counts().launches - launches, 3);
        expect_success(cudaGraphExecDestroy(exec));
        expect_success(cudaStreamDestroy(stream));
        expect_success(cudaFreeHost(from));
        expect_success(cudaFreeHost(to));
    });
}

/* A second stream joins a capture by an event and hands its work back by another. */
void test_capture_of_two_streams(void **) {
    under_all_schedules([] {
        const OnDevice<float> x(numbers(100)), y(100), sums(1);
        const cudaStream_t first = new_stream(), second = new_stream();
        const cudaEvent_t fork = new_event(), join = new_event();
        cudaGraph_t graph;
        cudaGraphExec_t exec;
        expect_success(cudaStreamBeginCapture(first, cudaStreamCaptureModeThreadLocal));
        expect_success(cudaMemsetAsync(y, 0, 100 * sizeof(float), first));
        expect_success(cudaEventRecord(fork, first));
        expect_success(cudaStreamWaitEvent(second, fork));
        launch_gelu(x, y, 100, second);
        expect_success(cudaEventRecord(join, second));
        expect_success(cudaStreamWaitEvent(first, join));
        launch_row_sum(y, sums, 1, 100, 64, first);
        expect_success(cudaStreamEndCapture(first, &graph));
        expect_success(cudaGraphInstantiate(&exec, graph));
        expect_success(cudaGraphLaunch(exec, first));
        double wanted = 0.0;
        for (const float value : numbers(100))
            wanted += static_cast<double>(gelu_of(value));
        expect_close(sums.read()[0], wanted, 1e-5);
        cudaGraphExecDestroy(exec);
        cudaGraphDestroy(graph);
        cudaEventDestroy(fork);
        cudaEventDestroy(join);
        cudaStreamDestroy(first);
        cudaStreamDestroy(second);
    });
}

void test_mistakes_in_captures(void **) {
    cu_emu_set_quiet(1);
    const cudaStream_t first = new_stream(), second = new_stream();
    const cudaEvent_t fork = new_event();
    const OnDevice<float> x(numbers(64)), y(64);
    cudaGraph_t graph;
    void *p;
    expect_success(cudaStreamBeginCapture(first, cudaStreamCaptureModeGlobal));
    expect_error(cudaMalloc(&p, 8), cudaErrorStreamCaptureUnsupported, "cudaMalloc");
    expect_error(cudaStreamEndCapture(first, &graph), cudaErrorStreamCaptureInvalidated, "spoilt");
    expect_success(cudaStreamBeginCapture(first, cudaStreamCaptureModeGlobal));
    expect_error(cudaStreamSynchronize(first), cudaErrorStreamCaptureUnsupported, "Synchronize");
    expect_error(cudaStreamEndCapture(first, &graph), cudaErrorStreamCaptureInvalidated, "spoilt");
    expect_success(cudaStreamBeginCapture(first, cudaStreamCaptureModeGlobal));
    expect_success(cudaEventRecord(fork, first));
    expect_success(cudaStreamWaitEvent(second, fork));
    launch_gelu(x, y, 64, second);
    expect_error(cudaStreamEndCapture(first, &graph), cudaErrorStreamCaptureUnjoined, "handed");
    expect_error(cudaStreamEndCapture(first, &graph), cudaErrorStreamCaptureUnmatched, "began");
    cudaEventDestroy(fork);
    cudaStreamDestroy(first);
    cudaStreamDestroy(second);
    cu_emu_set_quiet(0);
}

/* Under the reversed schedule nothing is done before somebody waits, so that a program which reads
   its result too early, or changes its input too early, gets wrong values. */
void test_late_work(void **) {
    float *from = pinned(64), *to = pinned(64);
    const OnDevice<float> x(64), y(64);
    const cudaStream_t stream = new_stream();
    const auto run = [&] {
        from[0] = 1.0f;
        to[0] = -1.0f;
        cudaMemcpyAsync(x, from, 64 * sizeof(float), cudaMemcpyHostToDevice, stream);
        launch_gelu(x, y, 64, stream);
        cudaMemcpyAsync(to, y, 64 * sizeof(float), cudaMemcpyDeviceToHost, stream);
    };
    cu_emu_set_schedule(CU_EMU_IN_ORDER, 0);
    run();
    expect_close(to[0], static_cast<double>(gelu_of(1.0f)), 1e-6);
    cu_emu_set_schedule(CU_EMU_REVERSED, 0);
    run();
    expect_close(to[0], -1.0, 0.0);
    from[0] = 2.0f;
    assert_int_equal(cudaStreamQuery(stream), cudaErrorNotReady);
    expect_success(cudaStreamSynchronize(stream));
    assert_int_equal(cudaStreamQuery(stream), cudaSuccess);
    expect_close(to[0], static_cast<double>(gelu_of(2.0f)), 1e-6);
    cu_emu_set_schedule(CU_EMU_IN_ORDER, 0);
    cudaStreamDestroy(stream);
    cudaFreeHost(from);
    cudaFreeHost(to);
}

/* The sum on a second stream of what a first one makes. */
float sum_by_two_streams(bool with_event) {
    const OnDevice<float> x(numbers(64)), y(std::vector<float>(64, 0.0f)), sums(1);
    const cudaStream_t first = new_stream(), second = new_stream();
    const cudaEvent_t made = new_event();
    launch_gelu(x, y, 64, first);
    expect_success(cudaEventRecord(made, first));
    if (with_event) expect_success(cudaStreamWaitEvent(second, made));
    launch_row_sum(y, sums, 1, 64, 64, second);
    const float sum = sums.read()[0];
    cudaEventDestroy(made);
    cudaStreamDestroy(first);
    cudaStreamDestroy(second);
    return sum;
}

void test_events_between_streams(void **) {
    double wanted = 0.0;
    for (const float value : numbers(64))
        wanted += static_cast<double>(gelu_of(value));
    under_all_schedules([=] { expect_close(sum_by_two_streams(true), wanted, 1e-5); });
    cu_emu_set_schedule(CU_EMU_REVERSED, 0);
    expect_close(sum_by_two_streams(false), 0.0, 0.0);
    cu_emu_set_schedule(CU_EMU_IN_ORDER, 0);
}

void count_call(void *counter) { ++*static_cast<int *>(counter); }

void test_events_and_times(void **) {
    under_all_schedules([] {
        const cudaStream_t stream = new_stream();
        const cudaEvent_t begin = new_event(), end = new_event();
        const OnDevice<float> x(numbers(5000)), y(5000);
        int calls = 0;
        float milliseconds = -1.0f;
        expect_success(cudaEventRecord(begin, stream));
        launch_gelu(x, y, 5000, stream);
        expect_success(cudaLaunchHostFunc(stream, count_call, &calls));
        expect_success(cudaEventRecord(end, stream));
        expect_success(cudaEventSynchronize(end));
        assert_int_equal(calls, 1);
        expect_success(cudaEventQuery(begin));
        expect_success(cudaEventElapsedTime(&milliseconds, begin, end));
        assert_true(milliseconds > 0.0f && milliseconds < 60000.0f);
        cudaEventDestroy(begin);
        cudaEventDestroy(end);
        cudaStreamDestroy(stream);
    });
}

void test_memory(void **) {
    cu_emu_set_quiet(1);
    size_t free_bytes, total_bytes, later;
    void *p, *q;
    cu_emu_set_memory(1 << 20);
    expect_success(cudaMemGetInfo(&free_bytes, &total_bytes));
    assert_int_equal(total_bytes, 1 << 20);
    expect_error(cudaMalloc(&p, (1 << 20) + 1), cudaErrorMemoryAllocation, "free");
    expect_success(cudaMalloc(&p, 1000));
    assert_int_equal(reinterpret_cast<uintptr_t>(p) % 256, 0);
    expect_success(cudaMemGetInfo(&later, &total_bytes));
    assert_int_equal(free_bytes - later, 1000);
    char host[1001];
    expect_error(cudaMemcpy(p, host, 1001, cudaMemcpyHostToDevice), cudaErrorInvalidValue,
                 "the allocation ends after 1000");
    expect_error(cudaMemset(p, 0, 1001), cudaErrorInvalidValue, "1000");
    expect_error(cudaMemcpy(p, host, 1, cudaMemcpyDeviceToHost), cudaErrorInvalidValue,
                 "destination");
    expect_error(cudaMemset(host, 0, 1), cudaErrorInvalidValue, "no memory of the device");
    expect_success(cudaMemset(p, 7, 1000));
    expect_success(cudaMallocHost(&q, 1000));
    expect_success(cudaMemcpy(q, p, 1000, cudaMemcpyDefault));
    for (int i = 0; i < 1000; i++)
        assert_int_equal(static_cast<char *>(q)[i], 7);
    expect_error(cudaFree(q), cudaErrorInvalidValue, "not allocated");
    expect_error(cudaFree(static_cast<char *>(p) + 8), cudaErrorInvalidValue, "not allocated");
    expect_success(cudaFreeHost(q));
    expect_success(cudaFree(p));
    expect_error(cudaFree(p), cudaErrorInvalidValue, "free already");
    expect_success(cudaFree(nullptr));
    cu_emu_set_memory(size_t{4} << 30);
    cu_emu_set_quiet(0);
}

/* What nobody wrote is NaN. */
void test_fresh_memory(void **) {
    const OnDevice<float> x(33);
    for (const float value : x.read())
        assert_true(value != value);
}

void test_device(void **) {
    cu_emu_set_quiet(1);
    int value = 0;
    cudaDeviceProp properties;
    expect_success(cudaGetDeviceCount(&value));
    assert_int_equal(value, 1);
    expect_success(cudaGetDeviceProperties(&properties, 0));
    assert_int_equal(properties.warpSize, 32);
    expect_success(cudaDeviceGetAttribute(&value, cudaDevAttrMaxThreadsPerBlock, 0));
    assert_int_equal(value, 1024);
    expect_error(cudaSetDevice(1), cudaErrorInvalidDevice, "device 0 only");
    assert_string_equal(cudaGetErrorName(cudaErrorNotReady), "cudaErrorNotReady");
    assert_string_equal(cudaGetErrorString(cudaErrorMemoryAllocation), "out of memory");
    cu_emu_set_quiet(0);
}

} // namespace

std::vector<CMUnitTest> tests_of_streams() {
    return {
        cmocka_unit_test(test_graph_replay),
        cmocka_unit_test(test_capture_of_two_streams),
        cmocka_unit_test(test_mistakes_in_captures),
        cmocka_unit_test(test_late_work),
        cmocka_unit_test(test_events_between_streams),
        cmocka_unit_test(test_events_and_times),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_fresh_memory),
        cmocka_unit_test(test_device),
    };
}
