/* What the emulator costs: `test_cuda_emulator speed`. Processor time, so that a busy machine
   disturbs little. */
#include "common.h"
#include "kernels.cuh"
#include <ctime>

namespace {

double seconds() {
    timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

/* Repeats it for 0.1 s at least and tells the time of one. */
template <class Run> void report(const char *name, Run run) {
    run();
    const struct cu_emu_counts before = cu_emu_counts();
    const double begin = seconds();
    int times = 0;
    do {
        run();
        times++;
    } while (seconds() - begin < 0.1);
    const double each = (seconds() - begin) / times;
    const uint64_t switches =
        (cu_emu_counts().switches - before.switches) / static_cast<uint64_t>(times);
    printf("%-44s %9.3f ms %9llu switches", name, 1e3 * each,
           static_cast<unsigned long long>(switches));
    if (switches > 1000) printf(" %6.1f ns each", 1e9 * each / static_cast<double>(switches));
    printf("\n");
}

} // namespace

void report_speed() {
    const OnDevice<float> x(numbers(1 << 18)), y(1 << 18), partial(64), sum(1);
    report("launch of one thread", [&] { launch_gelu(x, y, 1, nullptr); });
    report("gelu of 2^18", [&] { launch_gelu(x, y, 1 << 18, nullptr); });
    report("row sums of 200 x 777 by 256 threads",
           [&] { launch_row_sum(x, y, 200, 777, 256, nullptr); });
    report("row sums of 8 x 4097 by 1024 threads",
           [&] { launch_row_sum(x, y, 8, 4097, 1024, nullptr); });
    report("transpose of 512 x 512", [&] { launch_transpose(x, y, 512, 512, nullptr); });
    report("softmax of 200 x 1000 by 128 threads",
           [&] { launch_softmax(x, y, 200, 1000, nullptr); });
    report("sum of 2^18 in 64 blocks",
           [&] { launch_two_pass_sum(x, partial, sum, 1 << 18, 64, nullptr); });
}
