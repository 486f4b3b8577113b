/* watch.cuh: what a step may touch, told to the emulator: all tensors lie in one arena, where an
 * access beside an operand would meet a neighbour and go unseen. On a GPU there is nothing to tell.
 */
#ifndef WEIR_OPS_CUDA_WATCH_CUH
#define WEIR_OPS_CUDA_WATCH_CUH

#include "ops/cuda/machine.h"

#ifdef CU_EMULATOR
#include "cu_emulator.h"

#include <vector>

static inline cu_emu_range wr_cuda_range(const wr_tensor &t) {
    return {t.data,
            static_cast<size_t>(t.n) * (t.dtype == WR_F64 ? sizeof(double) : sizeof(float))};
}

/* From here on kernels touch the operands and the workspace of `s` only. */
static inline void wr_cuda_watch(const wr_cuda_machine *m, const wr_step *s) {
    const wr_call &c = s->call;
    std::vector<cu_emu_range> ranges = {
        {m->key, sizeof *m->key}, {m->fault, sizeof *m->fault}, {c.workspace, s->workspace_bytes}};
    for (int i = 0; i < c.n_in; i++)
        ranges.push_back(wr_cuda_range(c.in[i]));
    for (int i = 0; i < c.n_out; i++)
        ranges.push_back(wr_cuda_range(c.out[i]));
    cu_emu_restrict(ranges.data(), ranges.size());
}
static inline void wr_cuda_watch_no_more(void) { cu_emu_restrict(NULL, 0); }
#else
static inline void wr_cuda_watch(const wr_cuda_machine *, const wr_step *) {}
static inline void wr_cuda_watch_no_more(void) {}
#endif

#endif
