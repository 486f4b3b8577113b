/* How tests steer the emulator and ask what it saw. C linkage: an executor's tests may be C. */
#ifndef CU_EMULATOR_H
#define CU_EMULATOR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The order of threads, warps and blocks, and when the work of streams is done:
   in order: threads and blocks by their indices; a stream's work when it is given;
   reversed: from the last to the first; a stream's work when somebody waits for it, not before;
   random: an order drawn anew for each block and each turn; a stream's work now or later. */
enum cu_emu_schedule { CU_EMU_IN_ORDER, CU_EMU_REVERSED, CU_EMU_RANDOM };

/* Sets the schedule of all later launches; the seed matters to the random one only. */
void cu_emu_set_schedule(enum cu_emu_schedule schedule, uint64_t seed);

/* Device memory that cudaMalloc can give in total, in bytes (4 GiB at first). */
void cu_emu_set_memory(size_t bytes);

/* Part of the device's memory. */
struct cu_emu_range {
    void *begin;
    size_t bytes;
};

/* The kernels given from now on may touch these ranges only, in replays as well; n = 0: all memory
   again. For an executor with one arena, which tells each kernel's operands and workspace. Reads
   and writes beside them are found by AddressSanitizer (up to 16 MiB of allocations in all), writes
   without it too (up to 1 MiB). */
void cu_emu_restrict(const struct cu_emu_range *ranges, size_t n);

/* The first error message since cu_emu_clear(), or "". Each is also written to stderr, unless
   cu_emu_set_quiet(1). */
const char *cu_emu_message(void);
void cu_emu_clear(void);
void cu_emu_set_quiet(int quiet);

/* What was done so far, to see that a test exercised what it means to. */
struct cu_emu_counts {
    uint64_t launches; /* kernels that ran, replayed ones as well */
    uint64_t switches; /* changes of the running thread */
    uint64_t fibers;   /* the most stacks that one launch needed; 1: no thread ever waited */
    uint64_t copies, graphs;
};
struct cu_emu_counts cu_emu_counts(void);

#ifdef __cplusplus
}
#endif

#endif
