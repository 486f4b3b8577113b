/* Kernels without faults give the right values under every schedule. */
#include "common.h"
#include "kernels.cuh"
#include <algorithm>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace {

constexpr int sizes[] = {1, 31, 33, 1023, 1025, 4097};

void test_gelu(void **) {
    under_all_schedules([] {
        for (const int n : sizes) {
            const std::vector<float> x = numbers(static_cast<size_t>(n));
            const OnDevice<float> from(x), to(x.size());
            launch_gelu(from, to, n, nullptr);
            const std::vector<float> y = to.read();
            for (size_t i = 0; i < x.size(); i++)
                expect_close(y[i], 0.5 * x[i] * (1.0 + erf(x[i] / sqrt(2.0))), 1e-6);
        }
    });
}

void test_row_sum(void **) {
    under_all_schedules([] {
        for (const int threads : {32, 96, 1024}) {
            const int n = 777, rows = 3;
            const std::vector<float> x = numbers(static_cast<size_t>(rows * n));
            const OnDevice<float> from(x), to(static_cast<size_t>(rows));
            launch_row_sum(from, to, rows, n, threads, nullptr);
            const std::vector<float> sums = to.read();
            for (int r = 0; r < rows; r++) {
                double wanted = 0.0;
                for (int i = 0; i < n; i++)
                    wanted += x[static_cast<size_t>(r * n + i)];
                expect_close(sums[static_cast<size_t>(r)], wanted, 1e-4);
            }
        }
    });
}

void test_transpose(void **) {
    under_all_schedules([] {
        const int rows = 67, columns = 41;
        const std::vector<float> x = numbers(static_cast<size_t>(rows * columns));
        const OnDevice<float> from(x), to(x.size());
        launch_transpose(from, to, rows, columns, nullptr);
        const std::vector<float> y = to.read();
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < columns; c++)
                assert_true(y[static_cast<size_t>(c * rows + r)] ==
                            x[static_cast<size_t>(r * columns + c)]);
    });
}

void test_softmax(void **) {
    under_all_schedules([] {
        for (const int n : {1, 33, 1025, 13000}) { /* the last needs more than 48 KiB */
            const std::vector<float> x = numbers(static_cast<size_t>(2 * n));
            const OnDevice<float> from(x), to(x.size());
            expect_success(launch_softmax(from, to, 2, n, nullptr));
            const std::vector<float> y = to.read();
            for (int r = 0; r < 2; r++) {
                const float *row = x.data() + r * n;
                double sum = 0.0;
                for (int i = 0; i < n; i++)
                    sum += exp(static_cast<double>(row[i]));
                for (int i = 0; i < n; i++)
                    expect_close(y[static_cast<size_t>(r * n + i)],
                                 exp(static_cast<double>(row[i])) / sum, 1e-6);
            }
        }
    });
}

void test_two_pass_sum(void **) {
    under_all_schedules([] {
        for (const int n : sizes) {
            const std::vector<float> x = numbers(static_cast<size_t>(n));
            const OnDevice<float> from(x), partial(7), sum(1);
            launch_two_pass_sum(from, partial, sum, n, 7, nullptr);
            double wanted = 0.0;
            for (const float value : x)
                wanted += value;
            expect_close(sum.read()[0], wanted, 1e-4);
        }
    });
}

void test_histogram(void **) {
    under_all_schedules([] {
        std::vector<int> x(1025);
        std::vector<unsigned> wanted(32, 0);
        for (size_t i = 0; i < x.size(); i++) {
            x[i] = static_cast<int>(i * i % 31);
            wanted[static_cast<size_t>(x[i])]++;
        }
        const OnDevice<int> from(x);
        const OnDevice<unsigned> counts(std::vector<unsigned>(32, 0));
        launch_histogram(from, counts, static_cast<int>(x.size()), nullptr);
        assert_true(counts.read() == wanted);
    });
}

void test_axpy_bf16(void **) {
    under_all_schedules([] {
        const std::vector<float> x = numbers(1025);
        std::vector<__nv_bfloat16> narrow(x.size());
        for (size_t i = 0; i < x.size(); i++)
            narrow[i] = __float2bfloat16(x[i]);
        const OnDevice<__nv_bfloat16> from(narrow), to(narrow);
        launch_axpy_bf16(0.75f, from, to, static_cast<int>(x.size()), nullptr);
        const std::vector<__nv_bfloat16> y = to.read();
        for (size_t i = 0; i < x.size(); i++) {
            const double wanted = 1.75 * static_cast<double>(__bfloat162float(narrow[i]));
            expect_close(__bfloat162float(y[i]), wanted, fabs(wanted) / 256.0);
        }
    });
}

/* What operation k gives lane i of x, by CUDA's definitions. */
int wanted_of_warp(const std::vector<int> &x, int k, int i) {
    const int half = i / 16 * 16;
    const auto at = [&x](int lane) { return x[static_cast<size_t>(lane)]; };
    const auto first = x.begin() + half, last = first + 16;
    unsigned ballot = 0;
    for (int lane = 0; lane < 32; lane++)
        if (k == 5 ? at(lane) > 0 : at(lane) % 3 == at(i) % 3) ballot |= 1u << lane;
    int sum = 0;
    for (const int value : x)
        sum += value;
    switch (k) {
    case 0:
        return at((i + 1) % 32);
    case 1:
        return at(i / 8 * 8 + 2);
    case 2:
        return at(i >= 3 ? i - 3 : i);
    case 3:
        return at(i % 16 + 5 < 16 ? i + 5 : i);
    case 4:
        return at(i ^ 9);
    case 5:
    case 8:
        return static_cast<int>(ballot);
    case 6:
        return std::any_of(first, last, [](int value) { return value > 90; });
    case 7:
        return 1;
    case 9:
        return sum;
    case 10:
        return *std::min_element(first, last);
    default:
        return *std::max_element(first, last, [](int a, int b) {
            return static_cast<unsigned>(a) < static_cast<unsigned>(b);
        });
    }
}

void test_warp_operations(void **) {
    under_all_schedules([] {
        std::vector<int> x(32);
        for (int i = 0; i < 32; i++)
            x[static_cast<size_t>(i)] = i * 37 % 101 - 13;
        const OnDevice<int> from(x), to(static_cast<size_t>(32 * warp_operations));
        launch_warp_operations(from, to, nullptr);
        const std::vector<int> out = to.read();
        for (int k = 0; k < warp_operations; k++)
            for (int i = 0; i < 32; i++)
                assert_int_equal(out[static_cast<size_t>(32 * k + i)], wanted_of_warp(x, k, i));
    });
}

/* A kernel whose threads never wait needs one stack, whatever the number of threads. */
void test_lazy_stacks(void **) {
    const OnDevice<float> x(numbers(4096)), y(4096);
    const struct cu_emu_counts before = cu_emu_counts();
    launch_gelu(x, y, 4096, nullptr);
    const struct cu_emu_counts after = cu_emu_counts();
    assert_int_equal(after.launches - before.launches, 1);
    assert_int_equal(after.switches - before.switches, 8); /* one for each block */
}

/* All values of 16 bits survive; between two neighbours, the nearest is taken, the even one of two
   that are equally near. */
template <class To, class From> void check_rounding(To to_bits, From to_float, uint16_t infinity) {
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        const float value = to_float(static_cast<uint16_t>(bits));
        if ((bits & 0x7fffu) > infinity) {
            assert_true(value != value);
            assert_int_equal(to_bits(value), 0x7fff);
            continue;
        }
        assert_int_equal(to_bits(value), bits);
        if (static_cast<uint16_t>(bits & 0x7fffu) + 1 >= infinity) continue;
        const float next = to_float(static_cast<uint16_t>(bits + 1));
        const float middle = 0.5f * value + 0.5f * next;
        assert_int_equal(to_bits(middle), bits % 2 ? bits + 1 : bits);
        assert_int_equal(to_bits(nextafterf(middle, value)), bits);
        assert_int_equal(to_bits(nextafterf(middle, next)), bits + 1);
    }
}

void test_rounding(void **) {
    check_rounding([](float value) { return __bfloat16_as_ushort(__float2bfloat16(value)); },
                   [](uint16_t bits) { return __bfloat162float(__ushort_as_bfloat16(bits)); },
                   0x7f80);
    check_rounding([](float value) { return __half_as_ushort(__float2half(value)); },
                   [](uint16_t bits) { return __half2float(__ushort_as_half(bits)); }, 0x7c00);
    assert_int_equal(__half_as_ushort(__float2half(65519.0f)), 0x7bff);
    assert_int_equal(__half_as_ushort(__float2half(65520.0f)), 0x7c00);
}

} // namespace

std::vector<CMUnitTest> tests_of_values() {
    return {
        cmocka_unit_test(test_gelu),         cmocka_unit_test(test_row_sum),
        cmocka_unit_test(test_transpose),    cmocka_unit_test(test_softmax),
        cmocka_unit_test(test_two_pass_sum), cmocka_unit_test(test_histogram),
        cmocka_unit_test(test_axpy_bf16),    cmocka_unit_test(test_warp_operations),
        cmocka_unit_test(test_lazy_stacks),  cmocka_unit_test(test_rounding),
    };
}
