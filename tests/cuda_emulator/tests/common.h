/* What the emulator's tests share. */
#ifndef CU_EMU_TESTS_COMMON_H
#define CU_EMU_TESTS_COMMON_H

#include <cstdarg>
#include <csetjmp>
#include <cstddef>
#include <cstdint>
extern "C" {
#include <cmocka.h>
}
#include "cu_emulator.h"
#include <cuda_runtime.h>
#include <string>
#include <vector>

/* Runs a test's body under each schedule; the random one with two seeds. */
template <class Body> void under_all_schedules(Body body) {
    struct {
        cu_emu_schedule schedule;
        uint64_t seed;
    } const runs[] = {
        {CU_EMU_IN_ORDER, 0}, {CU_EMU_REVERSED, 0}, {CU_EMU_RANDOM, 1}, {CU_EMU_RANDOM, 2}};
    for (const auto &run : runs) {
        cu_emu_set_schedule(run.schedule, run.seed);
        body();
        assert_string_equal(cu_emu_message(), "");
    }
    cu_emu_set_schedule(CU_EMU_IN_ORDER, 0);
}

inline void expect_success(cudaError_t error) {
    if (error) fail_msg("%s: %s", cudaGetErrorName(error), cu_emu_message());
}

/* An array on the device. */
template <class T> class OnDevice {
  public:
    explicit OnDevice(size_t n) : n_(n) { expect_success(cudaMalloc(&p_, n * sizeof(T))); }
    explicit OnDevice(const std::vector<T> &values) : OnDevice(values.size()) {
        expect_success(cudaMemcpy(p_, values.data(), n_ * sizeof(T), cudaMemcpyHostToDevice));
    }
    OnDevice(const OnDevice &) = delete;
    OnDevice &operator=(const OnDevice &) = delete;
    ~OnDevice() { cudaFree(p_); }
    operator T *() const { return p_; }
    /* Waits for the device. */
    std::vector<T> read() const {
        expect_success(cudaDeviceSynchronize());
        std::vector<T> values(n_);
        expect_success(cudaMemcpy(values.data(), p_, n_ * sizeof(T), cudaMemcpyDeviceToHost));
        return values;
    }

  private:
    T *p_ = nullptr;
    size_t n_;
};

/* Numbers from -1 to 1 that do not repeat soon. */
inline std::vector<float> numbers(size_t n) {
    std::vector<float> values(n);
    uint32_t state = 12345;
    for (float &value : values) {
        state = state * 1664525u + 1013904223u;
        value = static_cast<float>(state >> 8) * 0x1p-23f - 1.0f;
    }
    return values;
}

inline void expect_close(float value, double wanted, double tolerance) {
    if (!(std::fabs(value - wanted) <= tolerance))
        fail_msg("%.9g is not %.9g within %g", static_cast<double>(value), wanted, tolerance);
}

/* The lists of tests of each file. */
std::vector<CMUnitTest> tests_of_values();
std::vector<CMUnitTest> tests_of_faults();
std::vector<CMUnitTest> tests_of_streams();

/* Prints what kernels cost here. */
void report_speed();

/* Runs the fault of that name, in a process of its own that main() was called in. */
int run_planted(const std::string &name);

#endif
