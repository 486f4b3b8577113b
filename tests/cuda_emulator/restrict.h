/* What a kernel may touch, see cu_emu_restrict(); for device.cc and memory.cc. */
#ifndef CU_EMU_RESTRICT_H
#define CU_EMU_RESTRICT_H

#include "internal.h"
#include <memory>
#include <vector>

namespace cu_emu {

struct Range {
    char *begin;
    size_t bytes;
};
using Ranges = std::vector<Range>;

/* Of the kernels given now; null: all memory. */
std::shared_ptr<const Ranges> restricted_ranges();

/* All allocations of the device (memory.cc). */
Ranges device_memory();

/* Holds while a kernel runs. */
class Restriction {
  public:
    Restriction(const char *kernel, const std::shared_ptr<const Ranges> &ranges);
    ~Restriction();
    Restriction(const Restriction &) = delete;
    Restriction &operator=(const Restriction &) = delete;
    cudaError_t check() const;

  private:
    const char *kernel_;
    Ranges gaps_;
    std::vector<char> before_; /* the gaps' bytes, one after another */
};

} // namespace cu_emu

#endif
