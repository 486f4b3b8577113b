/* Each fault is found, and its message names the kernel, the thread and the place. */
#include "common.h"
#include "faults.cuh"
#include <cstring>
#include <unistd.h>

namespace {

enum class Flavour { plain, address, thread };
#if __has_feature(address_sanitizer)
constexpr Flavour flavour = Flavour::address;
#elif __has_feature(thread_sanitizer)
constexpr Flavour flavour = Flavour::thread;
#else
constexpr Flavour flavour = Flavour::plain;
#endif

/* Launches something faulty; every part must be in the message. The device works afterwards. */
template <class Launch>
void expect_fault(cudaError_t wanted, std::vector<const char *> parts, Launch launch) {
    cu_emu_set_quiet(1);
    {
        const OnDevice<float> x(std::vector<float>(64, 1.0f));
        launch(static_cast<float *>(x));
        assert_int_equal(cudaGetLastError(), wanted);
        if (wanted == cudaErrorLaunchFailure)
            assert_int_equal(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
        for (const char *part : parts)
            if (!strstr(cu_emu_message(), part))
                fail_msg("'%s' does not say '%s'", cu_emu_message(), part);
        cu_emu_clear();
    }
    cu_emu_set_quiet(0);
    const OnDevice<float> x(64);
    launch_off_by_one(x, 63, nullptr);
    assert_true(x.read()[63] == 1.0f);
}

template <class Launch>
void expect_fault_in_all_orders(std::vector<const char *> parts, Launch launch) {
    under_all_schedules([&] { expect_fault(cudaErrorLaunchFailure, parts, launch); });
}

void test_warp_faults(void **) {
    expect_fault_in_all_orders({"divergent_shuffle_kernel", "block (0, 0, 0)",
                                "faults.cu:", "__shfl_xor_sync()", "0xffffffff", "has returned"},
                               [](float *x) { launch_divergent_shuffle(x, nullptr); });
    expect_fault_in_all_orders(
        {"two_operations_kernel", "__any_sync()", "__all_sync()", "same call"},
        [](float *x) { launch_two_operations(reinterpret_cast<int *>(x), nullptr); });
    expect_fault_in_all_orders({"does not name the calling lane", "mask 0x0000ffff"},
                               [](float *x) { launch_foreign_mask(x, nullptr); });
    expect_fault_in_all_orders({"takes at __shfl_down_sync()", "does not name"},
                               [](float *x) { launch_foreign_lane(x, nullptr); });
    expect_fault_in_all_orders({"lanes that the block does not have"},
                               [](float *x) { launch_short_warp(x, nullptr); });
}

void test_barrier_faults(void **) {
    expect_fault_in_all_orders(
        {"early_return_kernel", "60 of 64 threads wait at __syncthreads()", "has returned"},
        [](float *x) { launch_early_return(x, 60, nullptr); });
    expect_fault_in_all_orders({"two_barriers_kernel", "the same barrier"},
                               [](float *x) { launch_two_barriers(x, nullptr); });
    expect_fault_in_all_orders(
        {"barrier_and_warp_kernel", "thread 3 waits at __syncwarp()", "at __syncthreads()"},
        [](float *x) { launch_barrier_and_warp(x, nullptr); });
    expect_fault_in_all_orders({"trap_kernel", "thread 5: __trap()"},
                               [](float *x) { launch_trap(x, nullptr); });
}

__global__ void nothing_kernel(int) {}

void test_limits(void **) {
    const auto fails = [](cudaError_t error, const char *part, dim3 grid, dim3 threads,
                          size_t shared) {
        expect_fault(error, {"nothing_kernel", part}, [=](float *) {
            WR_LAUNCH(nothing_kernel, grid, threads, shared, nullptr, 1);
        });
    };
    const cudaError_t sizes = cudaErrorInvalidConfiguration;
    fails(sizes, "1025 threads", 1, 1025, 0);
    fails(sizes, "1056 threads", 1, dim3(32, 33), 0);
    fails(sizes, "= 65 threads", 1, dim3(1, 1, 65), 0);
    fails(sizes, "0 threads", 1, 0, 0);
    fails(sizes, "grid of 0", 0, 32, 0);
    fails(sizes, "65536", dim3(1, 65536), 32, 0);
    fails(cudaErrorInvalidValue, "49153 bytes", 1, 32, 49153);
    void (*const kernel)(int) = nothing_kernel;
    const auto attribute = cudaFuncAttributeMaxDynamicSharedMemorySize;
    expect_success(cudaFuncSetAttribute(kernel, attribute, 60000));
    fails(cudaErrorInvalidValue, "allowed are 60000", 1, 32, 60001);
    expect_fault(cudaErrorInvalidValue, {"166913 bytes"},
                 [&](float *) { cudaFuncSetAttribute(kernel, attribute, 163 * 1024 + 1); });
    WR_LAUNCH(nothing_kernel, 1, 32, 60000, nullptr, 1);
    expect_success(cudaGetLastError());
}

void test_host_pointer(void **) {
    expect_fault(cudaErrorInvalidDevicePointer, {"trap_kernel", "argument 1"}, [](float *) {
        std::vector<float> host(64);
        launch_trap(host.data(), nullptr);
    });
}

/* A kernel that keeps to its operands may run; later ones may do as they like. */
void test_restriction(void **) {
    under_all_schedules([] {
        const OnDevice<float> x(std::vector<float>(100, 2.0f));
        const cudaStream_t stream = nullptr;
        const cu_emu_range operands[] = {{x, 40 * sizeof(float)}, {x + 63, sizeof(float)}};
        cu_emu_restrict(operands, 2);
        launch_off_by_one(x, 39, stream);
        launch_read_off_by_one(x, x + 63, 39, stream);
        cu_emu_restrict(nullptr, 0);
        launch_off_by_one(x, 80, stream);
        const std::vector<float> values = x.read();
        assert_true(values[80] == 1.0f && values[81] == 2.0f);
    });
}

void test_unwritten_shared(void **) {
    under_all_schedules([] {
        const OnDevice<float> x(std::vector<float>(6, 1.0f));
        launch_unwritten_shared(x, nullptr);
        for (const float value : x.read())
            assert_true(value != value);
    });
}

/* A kernel without its barrier gives wrong values, at the latest as its reads find NaN. */
void test_missing_barriers(void **) {
    if (flavour == Flavour::thread) return; /* would rightly report it and end badly; see below */
    const std::vector<float> values = numbers(64);
    const OnDevice<float> x(values);
    double sum = 0.0;
    for (const float value : values)
        sum += static_cast<double>(value);
    bool second_found = false;
    under_all_schedules([&] {
        const OnDevice<float> y(64), sums(2);
        launch_missing_barrier(x, y, nullptr);
        const std::vector<float> got = y.read();
        bool wrong = false;
        for (size_t i = 0; i < 64; i++)
            wrong |= !(got[i] == values[63 - i]);
        assert_true(wrong);
        launch_missing_second_barrier(x, sums, nullptr);
        second_found |= !(std::fabs(static_cast<double>(sums.read()[0]) - sum) < 1e-4);
    });
    assert_true(second_found);
}

/* ---- faults that may end the process ---- */

struct Planted {
    const char *name;
    const char *plain, *address, *thread; /* what is said; null: nothing is found */
    void (*launch)(float *x);             /* x: 64 values */
};

float read_by_host(const volatile float *x) { return x[3]; }

const Planted planted[] = {
    {"off_by_one", "0 bytes behind the end of the allocation of 256 bytes", "off_by_one_kernel",
     "off_by_one_kernel", [](float *x) { launch_off_by_one(x, 64, nullptr); }},
    {"off_by_one_in_page", "written behind the allocation of 252 bytes", "off_by_one_kernel",
     "written behind the allocation of 252 bytes",
     [](float *) {
         const OnDevice<float> x(63);
         launch_off_by_one(x, 63, nullptr);
     }},
    {"read_off_by_one", nullptr, "read_off_by_one_kernel", nullptr,
     [](float *x) {
         const OnDevice<float> sum(1);
         launch_read_off_by_one(x, sum, 64, nullptr);
     }},
    {"beside_operands", "which is no operand's", "off_by_one_kernel", "which is no operand's",
     [](float *x) {
         const cu_emu_range operand = {x, 40 * sizeof *x};
         cu_emu_restrict(&operand, 1);
         launch_off_by_one(x, 40, nullptr);
     }},
    {"read_beside_operands", nullptr, "read_off_by_one_kernel", nullptr,
     [](float *x) {
         const cu_emu_range operands[] = {{x, 40 * sizeof *x}, {x + 60, sizeof *x}};
         cu_emu_restrict(operands, 2);
         launch_read_off_by_one(x, x + 60, 40, nullptr);
     }},
    {"far_write", "thread 7 reads or writes", "far_write_kernel", "far_write_kernel",
     [](float *x) { launch_far_write(x, nullptr); }},
    {"endless_recursion", "more than its stack", "stack-overflow", nullptr,
     [](float *x) { launch_endless_recursion(reinterpret_cast<int *>(x), nullptr); }},
    {"misaligned_load", "misaligned address", "misaligned address", "misaligned address",
     [](float *x) { launch_misaligned_load(x, x, nullptr); }},
    {"misaligned_store", "misaligned address", "misaligned address", "misaligned address",
     [](float *x) { launch_misaligned_store(x, nullptr); }},
    {"misaligned_pair", "misaligned address", "misaligned address", "misaligned address",
     [](float *x) { launch_misaligned_pair(x, x, nullptr); }},
    {"outside_array", "index 64 out of bounds for type 'float[64]'", "index 64 out of bounds",
     "index 64 out of bounds", [](float *x) { launch_outside_array(x, nullptr); }},
    {"overflow", "signed integer overflow", "signed integer overflow", "signed integer overflow",
     [](float *x) { launch_overflow(reinterpret_cast<int *>(x), 65536, nullptr); }},
    {"host_access", "", "read_by_host", "read_by_host",
     [](float *x) { printf("%g was read by the host\n", static_cast<double>(read_by_host(x))); }},
    {"missing_barrier", nullptr, nullptr, "missing_barrier_kernel",
     [](float *x) {
         const OnDevice<float> y(64);
         launch_missing_barrier(x, y, nullptr);
     }},
    {"missing_second_barrier", nullptr, nullptr, "missing_second_barrier_kernel",
     [](float *x) {
         const OnDevice<float> sums(2);
         launch_missing_second_barrier(x, sums, nullptr);
     }},
    {"missing_syncwarp", nullptr, nullptr, "missing_syncwarp_kernel",
     [](float *x) {
         const OnDevice<float> y(64);
         launch_missing_syncwarp(x, y, nullptr);
     }},
    {"race_of_blocks", nullptr, nullptr, "race_of_blocks_kernel",
     [](float *x) { launch_race_of_blocks(x, nullptr); }},
};

const char *wanted_of(const Planted &fault) {
    if (flavour == Flavour::address) return fault.address;
    return flavour == Flavour::thread ? fault.thread : fault.plain;
}

/* What a process of this program that runs the fault writes, and how it ends. */
std::string run_child(const Planted &fault, int *status) {
    char command[512], text[4096];
    const ssize_t n = readlink("/proc/self/exe", text, sizeof text - 1);
    assert_true(n > 0 && n < 400);
    text[n] = '\0';
    /* ThreadSanitizer would wait a second at each end for threads that race with it. */
    snprintf(command, sizeof command,
             "TSAN_OPTIONS=\"$TSAN_OPTIONS:atexit_sleep_ms=0\" '%s' planted %s 2>&1", text,
             fault.name);
    FILE *output = popen(command, "r");
    assert_non_null(output);
    std::string all;
    while (fgets(text, sizeof text, output))
        all += text;
    *status = pclose(output);
    return all;
}

void test_planted(void **) {
    for (const Planted &fault : planted) {
        const char *wanted = wanted_of(fault);
        if (!wanted) continue;
        int status = 0;
        const std::string said = run_child(fault, &status);
        if (status == 0 || said.find(wanted) == std::string::npos ||
            said.find("was read by the host") != std::string::npos)
            fail_msg("%s: status %d, without '%s':\n%s", fault.name, status, wanted, said.c_str());
    }
}

} // namespace

int run_planted(const std::string &name) {
    for (const Planted &fault : planted) {
        if (name != fault.name) continue;
        float *x;
        expect_success(cudaMalloc(&x, 64 * sizeof *x));
        expect_success(cudaMemset(x, 0, 64 * sizeof *x));
        fault.launch(x);
        return cudaDeviceSynchronize() != cudaSuccess;
    }
    fprintf(stderr, "no fault is named %s\n", name.c_str());
    return 2;
}

std::vector<CMUnitTest> tests_of_faults() {
    return {
        cmocka_unit_test(test_warp_faults),      cmocka_unit_test(test_barrier_faults),
        cmocka_unit_test(test_limits),           cmocka_unit_test(test_host_pointer),
        cmocka_unit_test(test_restriction),      cmocka_unit_test(test_unwritten_shared),
        cmocka_unit_test(test_missing_barriers), cmocka_unit_test(test_planted),
    };
}
