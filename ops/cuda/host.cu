/* host.cu: rows that run on the host: their operands are copied to pinned memory, the function is
 * called when the stream comes to it, the results are copied back.
 *
 * Nothing of this waits, so that a plan with such a row is captured and replayed like others. A
 * function that fails cannot stop what stands behind it in the stream: its real results are NaN
 * then, which no optimizer applies, and the session's next wait tells why. */
#include "ops/cuda/cuda.h"

extern "C" {
#include "ops/host.h"
}

#include <cmath>
#include <cstring>
#include <new>

namespace {

size_t bytes_of(const wr_tensor *x) {
    return static_cast<size_t>(x->n) * (x->dtype == WR_F64 ? 8 : 4);
}
size_t room_of(const wr_tensor *x) { return (bytes_of(x) + 15) / 16 * 16; }

/* A step's call on the host: made once, used by every run of the plan, in the stream's order. */
struct host_call {
    const wr_host_fn *fn;
    wr_cuda_state *state;
    unsigned long long site;
    int n_in, n_out, threads;
    wr_tensor *in; /* [n_in] in `memory`, as are those behind */
    wr_tensor out[WR_HOST_OUTPUTS];
    char *memory; /* pinned */
};

const wr_host_fn *function_of(const wr_call *c) {
    uintptr_t address;
    memcpy(&address, c->blob[0], sizeof address);
    return reinterpret_cast<const wr_host_fn *>(address);
}

/* The next piece of `at` as a tensor of the host. */
wr_tensor placed(const wr_tensor &like, char **at) {
    wr_tensor x = like;
    x.data = *at;
    *at += room_of(&like);
    return x;
}

void release(void *prepared) {
    host_call *h = static_cast<host_call *>(prepared);
    if (h->memory != NULL) cudaFreeHost(h->memory);
    delete[] h->in;
    delete h;
}

wr_status make(const wr_call *c, void **prepared) {
    const wr_device_services *services = wr_cuda(c)->services;
    host_call *h = new (std::nothrow) host_call{};
    if (h == NULL) return services->fail(c->env->err, WR_ERR_MEMORY, "out of memory: a host row");
    h->fn = function_of(c);
    h->state = wr_cuda(c);
    h->n_in = c->n_in;
    h->n_out = c->n_out;
    h->in = new (std::nothrow) wr_tensor[static_cast<size_t>(c->n_in)];
    size_t total = 16;
    for (int k = 0; k < c->n_in; k++)
        total += room_of(&c->in[k]);
    for (int k = 0; k < c->n_out; k++)
        total += room_of(&c->out[k]);
    cudaError_t error = cudaErrorMemoryAllocation;
    if (h->in != NULL) error = cudaMallocHost(reinterpret_cast<void **>(&h->memory), total);
    if (error != cudaSuccess) {
        h->memory = NULL;
        release(h);
        return services->fail(c->env->err, WR_ERR_MEMORY, "pinned memory for a row on the host: %s",
                              cudaGetErrorString(error));
    }
    char *at = h->memory;
    for (int k = 0; k < c->n_in; k++)
        h->in[k] = placed(c->in[k], &at);
    for (int k = 0; k < c->n_out; k++)
        h->out[k] = placed(c->out[k], &at);
    *prepared = h;
    return WR_OK;
}

void spoil(const wr_tensor *x) {
    if (x->data == NULL) return;
    if (x->dtype == WR_F64)
        for (int64_t i = 0; i < x->n; i++)
            static_cast<double *>(x->data)[i] = NAN;
    else if (x->dtype == WR_F32)
        for (int64_t i = 0; i < x->n; i++)
            static_cast<float *>(x->data)[i] = NAN;
    else
        memset(x->data, 0, bytes_of(x));
}

/* Called by a thread of CUDA's, which may not call CUDA. */
void call(void *prepared) {
    host_call *h = static_cast<host_call *>(prepared);
    wr_cuda_host_failure *told = h->state->host_failure;
    wr_error err = {};
    wr_status status =
        h->fn->run(h->fn->context, h->n_in, h->in, h->n_out, h->out, h->threads, &err);
    if (status == WR_OK) return;
    h->state->services->fail(&err, status, "host function \"%s\" failed", h->fn->name);
    for (int k = 0; k < h->n_out; k++)
        spoil(&h->out[k]);
    if (told->site != 0) return; /* the first one is told */
    told->error = err;
    told->status = status;
    told->site = h->site;
}

wr_status host_row(const wr_call *c) {
    host_call *h = static_cast<host_call *>(c->prepared);
    const cudaStream_t stream = wr_cuda(c)->stream;
    cudaError_t error = cudaSuccess;
    h->site = wr_cuda(c)->site;
    h->threads = c->env->threads;
    for (int k = 0; k < c->n_in && error == cudaSuccess; k++)
        if (c->in[k].n > 0)
            error = cudaMemcpyAsync(h->in[k].data, c->in[k].data, bytes_of(&c->in[k]),
                                    cudaMemcpyDeviceToHost, stream);
    for (int k = 0; k < c->n_out; k++)
        if (c->out[k].data == NULL) h->out[k].data = NULL;
    if (error == cudaSuccess) error = cudaLaunchHostFunc(stream, call, h);
    for (int k = 0; k < c->n_out && error == cudaSuccess; k++)
        if (c->out[k].data != NULL && c->out[k].n > 0)
            error = cudaMemcpyAsync(c->out[k].data, h->out[k].data, bytes_of(&c->out[k]),
                                    cudaMemcpyHostToDevice, stream);
    if (error == cudaSuccess) return WR_OK;
    return wr_cuda(c)->services->fail(c->env->err, WR_ERR_LIBRARY, "a row on the host: %s",
                                      cudaGetErrorString(error));
}

const wr_prepare prepared = {make, release, NULL};

} // namespace

const wr_cuda_row wr_cuda_rows_host[] = {{"host", host_row, &prepared, NULL},
                                         {"host2", host_row, &prepared, NULL},
                                         {"host3", host_row, &prepared, NULL},
                                         {"host4", host_row, &prepared, NULL},
                                         WR_CUDA_ROWS_END};
