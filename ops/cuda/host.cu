/* host.cu: rows that run on the host: their operands are copied there, their results back.
 *
 * A user's function is all that these rows are for; the device waits meanwhile. */
#include "ops/cuda/cuda.h"

extern "C" {
#include "ops/host.h"
}

#include <cstdlib>
#include <cstring>

namespace {

enum { MOST = 32 };

size_t bytes_of(const wr_tensor *x) {
    return static_cast<size_t>(x->n) * (x->dtype == WR_F64 ? 8 : 4);
}

/* Operands and results on the host. */
struct mirror {
    wr_tensor in[MOST], out[WR_HOST_OUTPUTS];
    char *memory;
};

size_t place(wr_tensor *to, const wr_tensor *from, char *memory, size_t at) {
    *to = *from;
    to->data = memory + at;
    return at + (bytes_of(from) + 15) / 16 * 16;
}

wr_status cuda_failed(const wr_call *c, cudaError_t error) {
    if (error == cudaSuccess) return WR_OK;
    return wr_cuda(c)->services->fail(c->env->err, WR_ERR_LIBRARY,
                                      "a row on the host: its tensors cannot be copied: %s",
                                      cudaGetErrorString(error));
}

wr_status bring(const wr_call *c, mirror *m) {
    size_t total = 16, at = 0;
    for (int k = 0; k < c->n_in; k++)
        total += bytes_of(&c->in[k]) + 16;
    for (int k = 0; k < c->n_out; k++)
        total += bytes_of(&c->out[k]) + 16;
    m->memory = static_cast<char *>(calloc(1, total));
    if (m->memory == NULL)
        return wr_cuda(c)->services->fail(c->env->err, WR_ERR_MEMORY,
                                          "out of memory: operands of a row on the host");
    cudaError_t error = cudaSuccess;
    for (int k = 0; k < c->n_in; k++) {
        at = place(&m->in[k], &c->in[k], m->memory, at);
        if (error == cudaSuccess && c->in[k].n > 0)
            error = cudaMemcpyAsync(m->in[k].data, c->in[k].data, bytes_of(&c->in[k]),
                                    cudaMemcpyDeviceToHost, wr_cuda(c)->stream);
    }
    for (int k = 0; k < c->n_out; k++) {
        at = place(&m->out[k], &c->out[k], m->memory, at);
        if (c->out[k].data == NULL) m->out[k].data = NULL;
    }
    if (error == cudaSuccess) error = cudaStreamSynchronize(wr_cuda(c)->stream);
    return cuda_failed(c, error);
}

wr_status take_back(const wr_call *c, const mirror *m) {
    cudaError_t error = cudaSuccess;
    for (int k = 0; error == cudaSuccess && k < c->n_out; k++)
        if (m->out[k].data != NULL && m->out[k].n > 0)
            error = cudaMemcpyAsync(c->out[k].data, m->out[k].data, bytes_of(&m->out[k]),
                                    cudaMemcpyHostToDevice, wr_cuda(c)->stream);
    if (error == cudaSuccess) error = cudaStreamSynchronize(wr_cuda(c)->stream);
    return cuda_failed(c, error);
}

wr_status host_row(const wr_call *c) {
    const wr_host_fn *fn;
    uintptr_t address;
    memcpy(&address, c->blob[0], sizeof address);
    fn = reinterpret_cast<const wr_host_fn *>(address);
    if (c->n_in > MOST)
        return wr_cuda(c)->services->fail(c->env->err, WR_ERR_INPUT, "%d operands on the host",
                                          c->n_in);
    mirror m = {};
    wr_cuda(c)->waited = true;
    wr_status status = bring(c, &m);
    if (status == WR_OK)
        status = fn->run(fn->context, c->n_in, m.in, c->n_out, m.out, c->env->threads, c->env->err);
    if (status == WR_OK) status = take_back(c, &m);
    free(m.memory);
    if (status == WR_OK) return WR_OK;
    return wr_cuda(c)->services->fail(c->env->err, status, "host function \"%s\" failed", fn->name);
}

} // namespace

const wr_cuda_row wr_cuda_rows_host[] = {{"host", host_row, NULL, NULL},
                                         {"host2", host_row, NULL, NULL},
                                         {"host3", host_row, NULL, NULL},
                                         {"host4", host_row, NULL, NULL},
                                         WR_CUDA_ROWS_END};
