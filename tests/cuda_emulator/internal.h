/* What the emulator's files share. One lock is held while any of this runs (Guard). */
#ifndef CU_EMU_INTERNAL_H
#define CU_EMU_INTERNAL_H

#include "cu_emulator.h"
#include "cu_emu/api.h"
#include "cu_emu/device.h"
#include "cu_emu/launch.h"

namespace cu_emu {

constexpr unsigned max_threads = 1024, max_warps = max_threads / 32;
constexpr size_t default_shared_bytes = 48 * 1024, most_shared_bytes = 163 * 1024;

/* ---- device.cc: settings, errors, one lock ---- */

struct Settings {
    cu_emu_schedule schedule = CU_EMU_IN_ORDER;
    uint64_t seed = 0;
    size_t memory = size_t{4} << 30;
    bool quiet = false;
    struct cu_emu_counts counts = {};
};
extern Settings settings;

/* Held by every function of the API. The last one to go closes the device's memory to the host,
   which takes some time: after a launch that is left to the next call which is none, as the host
   has no result to look for before. */
class Guard {
  public:
    explicit Guard(bool closes = true);
    ~Guard();
    Guard(const Guard &) = delete;
    Guard &operator=(const Guard &) = delete;

  private:
    bool closes_;
};

/* Records a message and the last error, and returns it. */
cudaError_t fail(cudaError_t error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The error of work that ran later than the call that gave it; told by the next call that waits. */
void remember_late_error(cudaError_t error);
cudaError_t take_late_error();

/* The dynamic shared memory that a kernel may ask for. */
size_t allowed_shared_bytes(const void *kernel);

/* A reproducible source of numbers (splitmix64). */
struct Random {
    uint64_t state;
    uint64_t next();
    unsigned below(unsigned n) { return static_cast<unsigned>(next() % n); }
};

/* ---- memory.cc ---- */

enum class Place { pageable, pinned, device };
Place place_of(const void *pointer);

/* Whether the bytes lie in one allocation of the device or of pinned memory; pageable memory is not
   known and always fine. Fails with a message that names `what`. */
cudaError_t check_range(const char *what, const void *pointer, size_t bytes);

void open_device_memory();  /* kernels and copies may use it */
void close_device_memory(); /* the host must not */

/* Says where an address lies: "4 bytes behind the allocation of ...". */
void describe_address(char *text, size_t size, const void *address);

/* Finds writes beside an allocation, after `what`. */
cudaError_t check_margins(const char *what);

/* ---- block.cc, warp.cc: the running kernel ---- */

/* Runs all blocks now. */
cudaError_t run_kernel(const Launch &launch);

/* ---- stream.cc ---- */

/* Does everything that was given to all streams. */
void drain_all();

} // namespace cu_emu

#endif
