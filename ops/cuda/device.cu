/* device.cu: the CUDA device's table of functions, and what the library exports.
 *
 * CUDA's own state (the current GPU) is the thread's that opened the device: a session runs in the
 * thread that made it. */
#include "ops/cuda/copy.cuh"
#include "ops/cuda/machine.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <new>

namespace {

enum { LEAST_MAJOR = 8 }; /* compute capability: sm_80 */

/* ---- memory ---- */

wr_status cuda_alloc(wr_device *d, size_t bytes, void **memory, wr_error *err) {
    wr_cuda_machine *m = wr_cuda_machine_of(d);
    cudaError_t error = cudaMalloc(memory, bytes == 0 ? 256 : bytes);
    if (error != cudaErrorMemoryAllocation)
        return wr_cuda_check(m, error, "memory cannot be allocated", err);
    cudaGetLastError();
    *memory = NULL;
    return m->services->fail(err, WR_ERR_MEMORY, "out of memory on %s: %.1f MiB were asked for",
                             m->name, static_cast<double>(bytes) / (1 << 20));
}

void cuda_release(wr_device *d, void *memory) {
    cudaStreamSynchronize(wr_cuda_machine_of(d)->stream);
    cudaFree(memory);
}

wr_status copy_and_wait(wr_device *d, void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                        wr_error *err) {
    wr_cuda_machine *m = wr_cuda_machine_of(d);
    if (bytes > 0) {
        cudaError_t error = cudaMemcpyAsync(to, from, bytes, kind, m->stream);
        wr_status status = wr_cuda_check(m, error, "a tensor cannot be copied", err);
        if (status != WR_OK) return status;
    }
    return wr_cuda_wait(d, err);
}

wr_status cuda_upload(wr_device *d, void *to, const void *from, size_t bytes, wr_error *err) {
    return copy_and_wait(d, to, from, bytes, cudaMemcpyHostToDevice, err);
}

wr_status cuda_download(wr_device *d, void *to, const void *from, size_t bytes, wr_error *err) {
    return copy_and_wait(d, to, from, bytes, cudaMemcpyDeviceToHost, err);
}

/* ---- scalars for later ---- */

wr_status cuda_keep(wr_device *d, int slot, int n, const wr_transfer *t, wr_error *err) {
    wr_cuda_machine *m = wr_cuda_machine_of(d);
    wr_cuda_kept *kept = &m->kept[slot];
    cudaError_t error = cudaSuccess;
    for (int k = 0; k < n && error == cudaSuccess; k++)
        error = cudaMemcpyAsync(&kept->number[k], t[k].from, t[k].bytes, cudaMemcpyDeviceToHost,
                                m->stream);
    if (error == cudaSuccess) error = cudaEventRecord(kept->there, m->stream);
    return wr_cuda_check(m, error, "a number cannot be copied", err);
}

wr_status cuda_recall(wr_device *d, int slot, const uint64_t **numbers, wr_error *err) {
    wr_cuda_machine *m = wr_cuda_machine_of(d);
    *numbers = m->kept[slot].number;
    return wr_cuda_check(m, cudaEventSynchronize(m->kept[slot].there),
                         "the work given to it failed", err);
}

/* ---- rows ---- */

bool comes_before(const wr_cuda_row *a, const char *name) { return strcmp(a->name, name) < 0; }

const wr_cuda_row *find_row(wr_device *d, const char *name) {
    wr_cuda_machine *m = wr_cuda_machine_of(d);
    const wr_cuda_row **end = m->row + m->n_rows;
    const wr_cuda_row **at = std::lower_bound(m->row, end, name, comes_before);
    return at != end && strcmp((*at)->name, name) == 0 ? *at : NULL;
}

/* Loops move data through the device's functions alone, so that their one kernel serves all; the
 * kernel of a loop's value is a message. */
bool is_loop(const wr_op *op) {
    return strcmp(op->name, "scan") == 0 || strcmp(op->name, "loop_value") == 0;
}

wr_kernel cuda_kernel(wr_device *d, const wr_op *op) {
    const wr_cuda_row *row = find_row(d, op->name);
    if (is_loop(op)) return op->cpu;
    return row == NULL ? NULL : row->kernel;
}

const wr_prepare *cuda_prepare(wr_device *d, const wr_op *op) {
    const wr_cuda_row *row = find_row(d, op->name);
    if (is_loop(op)) return op->prepare;
    return row == NULL ? NULL : row->prepare;
}

size_t cuda_workspace(wr_device *d, const wr_op *op, const wr_call *c) {
    const wr_cuda_row *row = find_row(d, op->name);
    return row == NULL || row->workspace == NULL ? 0 : row->workspace(c);
}

/* All families' rows by name; the first of a name counts. */
bool collect_rows(wr_cuda_machine *m) {
    static const wr_cuda_row *const FAMILIES[] = {
#define FAMILY(name) wr_cuda_rows_##name,
#include "ops/cuda/families.def"
#undef FAMILY
    };
    int n = 0;
    for (const wr_cuda_row *family : FAMILIES)
        for (const wr_cuda_row *r = family; r->name != NULL; r++)
            n++;
    m->row = new (std::nothrow) const wr_cuda_row *[n + 1];
    if (m->row == NULL) return false;
    for (const wr_cuda_row *family : FAMILIES)
        for (const wr_cuda_row *r = family; r->name != NULL; r++)
            m->row[m->n_rows++] = r;
    std::stable_sort(m->row, m->row + n, [](const wr_cuda_row *a, const wr_cuda_row *b) {
        return strcmp(a->name, b->name) < 0;
    });
    return true;
}

/* ---- for loops ---- */

wr_status cuda_copy(wr_device *d, const wr_run_env *env, const wr_blocks *b) {
    wr_cuda_machine *m = wr_cuda_machine_of(d);
    const int64_t block = static_cast<int64_t>(b->block);
    const wr_cuda_runs r = {b->from, b->to,
                            b->n,    1,
                            block,   static_cast<int64_t>(b->from_stride),
                            block,   static_cast<int64_t>(b->to_stride),
                            block};
    return wr_cuda_check(m, wr_cuda_copy_runs(m->stream, &r), "a loop cannot copy", env->err);
}

wr_status cuda_zero(wr_device *d, const wr_run_env *env, void *to, size_t bytes) {
    wr_cuda_machine *m = wr_cuda_machine_of(d);
    if (bytes == 0) return WR_OK;
    return wr_cuda_check(m, cudaMemsetAsync(to, 0, bytes, m->stream), "a loop cannot begin",
                         env->err);
}

wr_status cuda_add(wr_device *d, const wr_run_env *env, wr_dtype t, int64_t n, void *to,
                   const void *x) {
    wr_cuda_machine *m = wr_cuda_machine_of(d);
    return wr_cuda_check(m, wr_cuda_add_to(m->stream, t, n, to, x), "a loop cannot add", env->err);
}

/* ---- life ---- */

void cuda_describe(wr_device *d, wr_str *out) {
    wr_cuda_machine *m = wr_cuda_machine_of(d);
    size_t free_bytes = 0, total = 0;
    if (cudaMemGetInfo(&free_bytes, &total) != cudaSuccess) cudaGetLastError();
    m->services->str_add(out, "%s, %.2f of %.2f GiB free, %s", m->name,
                         static_cast<double>(free_bytes) / (1 << 30),
                         static_cast<double>(total) / (1 << 30), wr_cuda_blas_name(m->blas));
}

void close_machine(wr_cuda_machine *m) {
    if (m->stream != NULL) cudaStreamSynchronize(m->stream);
    wr_cuda_free_stages(m);
    if (m->blas != NULL) wr_cuda_blas_close(m->blas);
    if (m->seen_fault != NULL) cudaFreeHost(m->seen_fault);
    for (wr_cuda_kept &kept : m->kept) {
        if (kept.number != NULL) cudaFreeHost(kept.number);
        if (kept.there != NULL) cudaEventDestroy(kept.there);
    }
    if (m->key != NULL) cudaFree(m->key);
    if (m->fault != NULL) cudaFree(m->fault);
    if (m->copies != NULL) cudaStreamDestroy(m->copies);
    if (m->stream != NULL) cudaStreamDestroy(m->stream);
    delete[] m->row;
    delete m;
}

void cuda_close(wr_device *d) { close_machine(wr_cuda_machine_of(d)); }

/* ---- opening ---- */

/* Is there a driver that is new enough, and a GPU that the kernels were compiled for? */
wr_status find_gpu(const wr_device_services *s, wr_error *err) {
    int driver = 0, count = 0, major = 0, minor = 0;
    if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
        return s->fail(err, WR_ERR_INPUT,
                       "device cuda: there is no NVIDIA driver (the loader finds no libcuda.so.1)\n"
                       "  hint: install NVIDIA's driver on a machine with an NVIDIA GPU, or use "
                       "--device cpu; weir doctor tells more");
    if (driver / 1000 < CUDART_VERSION / 1000)
        return s->fail(err, WR_ERR_INPUT,
                       "device cuda: the NVIDIA driver is too old: it is for CUDA %d.%d, and "
                       "libweir_cuda.so needs %d.0\n  hint: install a newer driver, or build Weir "
                       "with the toolkit of CUDA %d",
                       driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000, driver / 1000);
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count == 0)
        return s->fail(err, WR_ERR_INPUT,
                       "device cuda: the driver finds no GPU (%s)\n  hint: nvidia-smi lists them; "
                       "CUDA_VISIBLE_DEVICES may hide them; or use --device cpu",
                       cudaGetErrorString(error == cudaSuccess ? cudaErrorNoDevice : error));
    if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0) != cudaSuccess ||
        cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0) != cudaSuccess)
        return s->fail(err, WR_ERR_LIBRARY, "device cuda: the GPU does not tell what it is");
    if (major >= LEAST_MAJOR) return WR_OK;
    return s->fail(err, WR_ERR_INPUT,
                   "device cuda: the GPU has compute capability %d.%d; %d.0 or higher is needed",
                   major, minor, static_cast<int>(LEAST_MAJOR));
}

wr_status read_properties(wr_cuda_machine *m, wr_error *err) {
    cudaDeviceProp p;
    wr_status status =
        wr_cuda_check(m, cudaGetDeviceProperties(&p, 0), "the GPU does not tell what it is", err);
    if (status != WR_OK) return status;
    snprintf(m->name, sizeof m->name, "%.128s, sm_%d%d", p.name, p.major, p.minor);
    m->processors = p.multiProcessorCount;
    m->shared_most = static_cast<int>(p.sharedMemPerBlockOptin);
    return WR_OK;
}

cudaError_t make_parts(wr_cuda_machine *m) {
    cudaError_t error = cudaStreamCreateWithFlags(&m->stream, cudaStreamNonBlocking);
    if (error == cudaSuccess) error = cudaStreamCreateWithFlags(&m->copies, cudaStreamNonBlocking);
    for (wr_cuda_stage &s : m->stage) {
        if (error == cudaSuccess)
            error = cudaEventCreateWithFlags(&s.copied, cudaEventDisableTiming);
        if (error == cudaSuccess)
            error = cudaEventCreateWithFlags(&s.consumed, cudaEventDisableTiming);
    }
    for (wr_cuda_kept &kept : m->kept) {
        if (error == cudaSuccess)
            error = cudaEventCreateWithFlags(&kept.there, cudaEventDisableTiming);
        if (error == cudaSuccess)
            error = cudaMallocHost(reinterpret_cast<void **>(&kept.number),
                                   sizeof *kept.number * WR_KEPT_NUMBERS);
    }
    if (error == cudaSuccess)
        error = cudaMalloc(reinterpret_cast<void **>(&m->key), sizeof *m->key);
    if (error == cudaSuccess)
        error = cudaMalloc(reinterpret_cast<void **>(&m->fault), sizeof *m->fault);
    if (error == cudaSuccess)
        error = cudaMallocHost(reinterpret_cast<void **>(&m->seen_fault), sizeof *m->seen_fault);
    if (error != cudaSuccess) return error;
    *m->seen_fault = wr_cuda_fault{};
    m->host_failure = &m->failed_on_host;
    error = cudaMemsetAsync(m->fault, 0, sizeof *m->fault, m->stream);
    return error == cudaSuccess ? cudaStreamSynchronize(m->stream) : error;
}

void fill_table(wr_cuda_machine *m) {
    wr_device *d = &m->table;
    d->name = "cuda";
    d->state = static_cast<wr_cuda_state *>(m);
    d->alloc = cuda_alloc;
    d->release = cuda_release;
    d->upload = cuda_upload;
    d->download = cuda_download;
    d->kernel = cuda_kernel;
    d->prepare = cuda_prepare;
    d->workspace = cuda_workspace;
    d->run = wr_cuda_run_plan;
    d->close = cuda_close;
    d->run_steps = wr_cuda_run_steps;
    d->copy = cuda_copy;
    d->zero = cuda_zero;
    d->add = cuda_add;
    d->feed = wr_cuda_feed;
    d->launches = wr_cuda_launches;
    d->wait = wr_cuda_wait;
    d->keep = cuda_keep;
    d->recall = cuda_recall;
    d->forget = wr_cuda_forget;
    d->describe = cuda_describe;
}

bool same_layout(const wr_device_services *s) {
    return s->abi == WR_DEVICE_ABI && s->bytes_of_plan == sizeof(wr_plan) &&
           s->bytes_of_step == sizeof(wr_step) && s->bytes_of_call == sizeof(wr_call) &&
           s->bytes_of_device == sizeof(wr_device) && s->bytes_of_op == sizeof(wr_op);
}

} // namespace

wr_status wr_cuda_check(wr_cuda_machine *m, cudaError_t error, const char *what, wr_error *err) {
    if (error == cudaSuccess) return WR_OK;
    cudaGetLastError();
    wr_status status = error == cudaErrorMemoryAllocation ? WR_ERR_MEMORY : WR_ERR_LIBRARY;
    return m->services->fail(err, status, "device cuda: %s: %s", what, cudaGetErrorString(error));
}

extern "C" __attribute__((visibility("default"))) wr_status
wr_device_entry_v1(const wr_device_services *services, const wr_device_options *o,
                   wr_device **device, wr_error *err) {
    *device = NULL;
    if (!same_layout(services))
        return services->fail(err, WR_ERR_LIBRARY,
                              "device cuda: libweir_cuda.so is of another version of Weir than the "
                              "program\n  hint: install both from one build");
    wr_status status = find_gpu(services, err);
    if (status != WR_OK) return status;
    wr_cuda_machine *m = new (std::nothrow) wr_cuda_machine{};
    if (m == NULL) return services->fail(err, WR_ERR_MEMORY, "out of memory: a device");
    m->given = *services;
    m->services = &m->given;
    m->precision = o->precision;
    m->no_replay = o->no_replay;
    fill_table(m);
    status = read_properties(m, err);
    if (status == WR_OK) status = wr_cuda_check(m, make_parts(m), "it does not start", err);
    if (status == WR_OK && !collect_rows(m))
        status = services->fail(err, WR_ERR_MEMORY, "out of memory: a device");
    if (status == WR_OK) status = wr_cuda_blas_open(m->services, &m->blas, err);
    if (status != WR_OK) {
        close_machine(m);
        return status;
    }
    *device = &m->table;
    return WR_OK;
}
