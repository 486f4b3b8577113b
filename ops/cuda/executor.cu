/* executor.cu: runs plans on the device: launches in the order of one stream, captured as a graph
 * when a plan runs again with everything where it was, and replayed from then on.
 *
 * A plan's launches depend on its sizes, on the addresses of its tensors and on nothing else: feeds
 * come to fixed places in the arena, and (seed, step) lie in device memory. A hash of the addresses
 * tells when the arena or a state has moved; the plan then runs launch by launch, and is captured
 * anew when the next run finds everything in the same places. */
#include "ops/cuda/machine.h"
#include "ops/cuda/watch.cuh"

#include <cstdio>
#include <cstring>
#include <new>

namespace {

enum { STEP_BITS = 24, BLOCK = 256 };

__global__ void set_key(wr_cuda_key *key, uint64_t seed, uint64_t step) {
    key->seed = seed;
    key->step = step;
}

/* ---- records ---- */

wr_cuda_record *record_of(wr_cuda_machine *m, wr_plan *plan) {
    if (plan->on_device != NULL) return static_cast<wr_cuda_record *>(plan->on_device);
    wr_cuda_record *r = new (std::nothrow) wr_cuda_record{};
    if (r == NULL) return NULL;
    r->plan = plan;
    r->serial = ++m->serials;
    r->next = m->records;
    m->records = r;
    plan->on_device = r;
    return r;
}

void drop_graph(wr_cuda_record *r) {
    if (r->exec != NULL) cudaGraphExecDestroy(r->exec);
    r->exec = NULL;
}

uint64_t mix(uint64_t hash, const void *pointer) {
    const uint64_t x = (hash ^ reinterpret_cast<uintptr_t>(pointer)) * 0x9e3779b97f4a7c15ull;
    return x ^ (x >> 29);
}

/* Where everything is; never 0. */
uint64_t places_of(const wr_plan *plan) {
    uint64_t hash = 1;
    for (size_t i = 0; i < plan->n_tensors; i++)
        hash = mix(hash, plan->tensor[i].data);
    for (int i = 0; i < plan->n_steps; i++)
        hash = mix(hash, plan->step[i].call.workspace);
    return hash | 1;
}

/* ---- failures that kernels tell ---- */

const char *fault_text(int kind) {
    switch (kind) {
#define X(name, text)                                                                              \
    case WR_CUDA_FAULT_##name:                                                                     \
        return text;
        WR_CUDA_FAULTS(X)
#undef X
    default:
        return "a kernel failed (%lld, %lld)";
    }
}

/* The message in `err` with the node of the step behind it. */
wr_status tell_site(wr_cuda_machine *m, unsigned long long site, wr_status status, wr_error *err) {
    const unsigned long long serial = site >> STEP_BITS;
    const int step = static_cast<int>(site & ((1ull << STEP_BITS) - 1)) - 1;
    for (const wr_cuda_record *r = m->records; r != NULL; r = r->next)
        if (r->serial == serial && step >= 0 && step < r->plan->n_steps)
            return m->services->step_failed(r->plan, &r->plan->step[step], status, err);
    return status;
}

wr_status tell_fault(wr_cuda_machine *m, const wr_cuda_fault *f, wr_error *err) {
    char text[160];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(text, sizeof text, fault_text(f->kind), f->value, f->limit);
#pragma GCC diagnostic pop
    m->services->fail(err, WR_ERR_INPUT, "%s", text);
    return tell_site(m, f->site, WR_ERR_INPUT, err);
}

wr_status tell_host_failure(wr_cuda_machine *m, wr_error *err) {
    const wr_cuda_host_failure f = m->failed_on_host;
    m->failed_on_host = wr_cuda_host_failure{};
    m->services->fail(err, f.status, "%s", f.error.text);
    return tell_site(m, f.site, f.status, err);
}

/* After everything is done: what kernels and host functions told since the last time. Without `err`
 * it is kept. */
wr_status look_at_fault(wr_cuda_machine *m, wr_error *err) {
    if (m->failed_on_host.site != 0)
        return err != NULL ? tell_host_failure(m, err) : m->failed_on_host.status;
    const wr_cuda_fault f = *m->seen_fault;
    if (f.site == 0) return WR_OK;
    if (err == NULL) return WR_ERR_INPUT;
    *m->seen_fault = wr_cuda_fault{};
    wr_status status = wr_cuda_check(m, cudaMemsetAsync(m->fault, 0, sizeof f, m->stream),
                                     "cannot forget a failure", err);
    if (status == WR_OK)
        status = wr_cuda_check(m, cudaStreamSynchronize(m->stream), "cannot wait", err);
    return status == WR_OK ? tell_fault(m, &f, err) : status;
}

cudaError_t ask_for_fault(wr_cuda_machine *m) {
    return cudaMemcpyAsync(m->seen_fault, m->fault, sizeof *m->fault, cudaMemcpyDeviceToHost,
                           m->stream);
}

/* ---- steps ---- */

wr_status launch_step(wr_cuda_machine *m, wr_plan *plan, int i, wr_run_env *env,
                      unsigned long long serial) {
    wr_step *s = &plan->step[i];
    s->call.env = env;
    /* a loop's body tells failures as those of the loop */
    if (m->depth == 1) m->site = serial << STEP_BITS | static_cast<unsigned>(i + 1);
    wr_cuda_watch(m, s);
    wr_status status = s->kernel(&s->call);
    wr_cuda_watch_no_more();
    return status == WR_OK ? WR_OK : m->services->step_failed(plan, s, status, env->err);
}

wr_status launch_steps(wr_cuda_machine *m, wr_plan *plan, wr_run_env *env,
                       unsigned long long serial) {
    for (int i = 0; i < plan->n_steps; i++) {
        wr_status status = launch_step(m, plan, i, env, serial);
        if (status != WR_OK) return status;
    }
    return WR_OK;
}

/* ---- steps, timed ---- */

/* Keeps the stream busy for so many cycles. */
__global__ void hold(long long cycles) {
    const long long start = clock64();
    while (clock64() - start < cycles) {}
}

/* Steps are timed on the device, by events between them, in groups: behind a kernel that holds the
 * stream until the group's launches have all been given, so that no time is spent in waiting for
 * the host. A group is far below the number of launches that CUDA keeps waiting. */
struct stopwatch {
    enum { GROUP = 128 };
    static constexpr long long CYCLES = 4000000; /* 2 ms; a launch takes some microseconds */
    cudaEvent_t at[GROUP + 1] = {};

    cudaError_t make() {
        cudaError_t error = cudaSuccess;
        for (cudaEvent_t &event : at)
            if (error == cudaSuccess) error = cudaEventCreate(&event);
        return error;
    }
    cudaError_t begin(cudaStream_t stream) {
        WR_LAUNCH(hold, 1, 1, 0, stream, CYCLES);
        return cudaEventRecord(at[0], stream);
    }
    ~stopwatch() {
        for (cudaEvent_t event : at)
            if (event != NULL) cudaEventDestroy(event);
    }
};

cudaError_t read_times(stopwatch *w, wr_step *step, int n) {
    for (int k = 0; k < n; k++) {
        float ms = 0;
        cudaError_t error = cudaEventElapsedTime(&ms, w->at[k], w->at[k + 1]);
        if (error != cudaSuccess) return error;
        step[k].seconds += static_cast<double>(ms) * 1e-3;
    }
    return cudaSuccess;
}

wr_status run_profiled(wr_cuda_machine *m, wr_plan *plan, wr_run_env *env,
                       unsigned long long serial) {
    static const char what[] = "steps cannot be timed";
    stopwatch w;
    wr_status status = wr_cuda_check(m, w.make(), what, env->err);
    for (int first = 0; status == WR_OK && first < plan->n_steps; first += stopwatch::GROUP) {
        int n = plan->n_steps - first;
        if (n > stopwatch::GROUP) n = stopwatch::GROUP;
        status = wr_cuda_check(m, w.begin(m->stream), what, env->err);
        for (int k = 0; status == WR_OK && k < n; k++) {
            status = launch_step(m, plan, first + k, env, serial);
            if (status == WR_OK)
                status = wr_cuda_check(m, cudaEventRecord(w.at[k + 1], m->stream), what, env->err);
        }
        if (status == WR_OK)
            status =
                wr_cuda_check(m, cudaStreamSynchronize(m->stream), "a kernel failed", env->err);
        if (status == WR_OK)
            status = wr_cuda_check(m, read_times(&w, &plan->step[first], n), what, env->err);
    }
    return status;
}

/* ---- capturing ---- */

/* The plan's launches as a graph. Not being able to is no failure: it then runs launch by launch.
 */
void capture(wr_cuda_machine *m, wr_cuda_record *r, wr_run_env *env) {
    cudaGraph_t graph = NULL;
    wr_run_env quiet = *env;
    quiet.err = NULL;
    drop_graph(r);
    if (cudaStreamBeginCapture(m->stream, cudaStreamCaptureModeThreadLocal) != cudaSuccess) {
        r->eager = true;
        return;
    }
    wr_status status = launch_steps(m, r->plan, &quiet, r->serial);
    cudaError_t error = cudaStreamEndCapture(m->stream, &graph);
    size_t nodes = 0;
    if (status == WR_OK && error == cudaSuccess) error = cudaGraphGetNodes(graph, NULL, &nodes);
    if (status == WR_OK && error == cudaSuccess) error = cudaGraphInstantiate(&r->exec, graph, 0);
    r->launches = static_cast<int>(nodes);
    if (graph != NULL) cudaGraphDestroy(graph);
    if (status == WR_OK && error == cudaSuccess) return;
    drop_graph(r);
    cudaGetLastError(); /* told and done with */
    r->eager = true;
}

wr_status run_launches(wr_cuda_machine *m, wr_cuda_record *r, wr_run_env *env) {
    m->waited = false;
    if (r->plan->profile) return run_profiled(m, r->plan, env, r->serial);
    wr_status status = launch_steps(m, r->plan, env, r->serial);
    r->eager = r->eager || m->waited;
    return status;
}

wr_status run_record(wr_cuda_machine *m, wr_cuda_record *r, wr_run_env *env) {
    const uint64_t places = places_of(r->plan);
    const bool again = r->seen == places;
    r->seen = places;
    if (m->no_replay || r->eager || r->plan->profile || !again) return run_launches(m, r, env);
    if (r->exec == NULL || r->captured != places) {
        capture(m, r, env);
        r->captured = places;
    }
    if (r->exec == NULL) return run_launches(m, r, env);
    return wr_cuda_check(m, cudaGraphLaunch(r->exec, m->stream), "a captured plan does not start",
                         env->err);
}

} // namespace

/* ---- the device's functions ---- */

wr_status wr_cuda_run_steps(wr_device *d, wr_plan *plan, wr_run_env *env) {
    wr_cuda_machine *m = wr_cuda_machine_of(d);
    m->depth++;
    wr_status status = launch_steps(m, plan, env, 0);
    m->depth--;
    return status;
}

wr_status wr_cuda_run_plan(wr_device *d, wr_plan *plan, wr_run_env *env) {
    wr_cuda_machine *m = wr_cuda_machine_of(d);
    wr_cuda_record *r = record_of(m, plan);
    if (r == NULL) return m->services->fail(env->err, WR_ERR_MEMORY, "out of memory: a plan");
    if (m->seen_fault->site != 0) { /* of an earlier run that nobody waited for */
        wr_status late = wr_cuda_wait(d, env->err);
        if (late != WR_OK) return late;
    }
    WR_LAUNCH(set_key, 1, 1, 0, m->stream, m->key, env->seed, env->step);
    wr_status status =
        wr_cuda_check(m, cudaGetLastError(), "the key of random numbers is not set", env->err);
    m->depth++;
    if (status == WR_OK) status = run_record(m, r, env);
    m->depth--;
    if (status == WR_OK)
        status = wr_cuda_check(m, ask_for_fault(m), "cannot ask for failures", env->err);
    return status;
}

wr_status wr_cuda_wait(wr_device *d, wr_error *err) {
    wr_cuda_machine *m = wr_cuda_machine_of(d);
    wr_status status =
        wr_cuda_check(m, cudaStreamSynchronize(m->stream), "the work given to it failed", err);
    return status == WR_OK ? look_at_fault(m, err) : status;
}

int wr_cuda_launches(wr_device *, const wr_plan *plan) {
    const wr_cuda_record *r = static_cast<const wr_cuda_record *>(plan->on_device);
    return r == NULL ? 0 : r->launches;
}

void wr_cuda_forget(wr_device *d, wr_plan *plan) {
    wr_cuda_machine *m = wr_cuda_machine_of(d);
    wr_cuda_record *r = static_cast<wr_cuda_record *>(plan->on_device);
    cudaStreamSynchronize(m->stream);
    for (wr_cuda_record **at = &m->records; *at != NULL; at = &(*at)->next)
        if (*at == r) {
            *at = r->next;
            break;
        }
    drop_graph(r);
    delete r;
    plan->on_device = NULL;
}

/* ---- feeding ---- */

namespace {

void free_stage(wr_cuda_stage *s) {
    if (s->pinned != NULL) cudaFreeHost(s->pinned);
    if (s->memory != NULL) cudaFree(s->memory);
    s->pinned = s->memory = NULL;
    s->bytes = 0;
}

cudaError_t reserve_stage(wr_cuda_machine *m, wr_cuda_stage *s, size_t bytes) {
    if (bytes <= s->bytes) return cudaEventSynchronize(s->consumed);
    cudaError_t error = cudaStreamSynchronize(m->stream);
    if (error != cudaSuccess) return error;
    free_stage(s);
    bytes = (bytes + bytes / 2 + 4095) / 4096 * 4096; /* batches differ: leave room */
    error = cudaMallocHost(reinterpret_cast<void **>(&s->pinned), bytes);
    if (error == cudaSuccess) error = cudaMalloc(reinterpret_cast<void **>(&s->memory), bytes);
    if (error == cudaSuccess)
        s->bytes = bytes;
    else
        free_stage(s);
    return error;
}

/* `bytes` from the stage to `to`, behind what the stream does already. */
cudaError_t send(wr_cuda_machine *m, wr_cuda_stage *s, void *to, size_t bytes) {
    cudaError_t error =
        cudaMemcpyAsync(s->memory, s->pinned, bytes, cudaMemcpyHostToDevice, m->copies);
    if (error == cudaSuccess) error = cudaEventRecord(s->copied, m->copies);
    if (error == cudaSuccess) error = cudaStreamWaitEvent(m->stream, s->copied, 0);
    if (error == cudaSuccess)
        error = cudaMemcpyAsync(to, s->memory, bytes, cudaMemcpyDeviceToDevice, m->stream);
    return error == cudaSuccess ? cudaEventRecord(s->consumed, m->stream) : error;
}

} // namespace

wr_status wr_cuda_feed(wr_device *d, int n, const wr_transfer *t, wr_error *err) {
    wr_cuda_machine *m = wr_cuda_machine_of(d);
    char *base = static_cast<char *>(t[0].to);
    const size_t bytes =
        static_cast<size_t>(static_cast<char *>(t[n - 1].to) - base) + t[n - 1].bytes;
    m->turn = 1 - m->turn;
    wr_cuda_stage *s = &m->stage[m->turn];
    wr_status status =
        wr_cuda_check(m, reserve_stage(m, s, bytes), "no memory for a batch on its way", err);
    if (status != WR_OK) return status;
    for (int k = 0; k < n; k++)
        memcpy(s->pinned + (static_cast<char *>(t[k].to) - base), t[k].from, t[k].bytes);
    return wr_cuda_check(m, send(m, s, base, bytes), "a batch cannot be copied", err);
}

void wr_cuda_free_stages(wr_cuda_machine *m) {
    for (wr_cuda_stage &s : m->stage) {
        free_stage(&s);
        if (s.copied != NULL) cudaEventDestroy(s.copied);
        if (s.consumed != NULL) cudaEventDestroy(s.consumed);
    }
}
