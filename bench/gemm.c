/* gemm.c: rates of the matrix products that training and decoding need, by shape, backend and
 * thread count.
 *
 *     bench_gemm [seconds a shape, 0.3] [part of a shape's name]
 *
 * Backends are measured in turn, round after round, and the best of each is printed: on a shared
 * machine the ratios within a row mean more than the figures. */
#include "ops/cpu/gemm.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct shape {
    const char *name;
    wr_gemm_spec s;
} shape;

#define NN(b_, m_, n_, k_)                                                                         \
    {                                                                                              \
        .batch = b_, .m = m_, .n = n_, .k = k_, .stride_a = m_ * k_, .stride_b = n_ * k_,          \
        .stride_c = m_ * n_                                                                        \
    }
#define NT(b_, m_, n_, k_)                                                                         \
    {                                                                                              \
        .trans_b = true, .batch = b_, .m = m_, .n = n_, .k = k_, .stride_a = m_ * k_,              \
        .stride_b = n_ * k_, .stride_c = m_ * n_                                                   \
    }
#define TN(b_, m_, n_, k_)                                                                         \
    {                                                                                              \
        .trans_a = true, .batch = b_, .m = m_, .n = n_, .k = k_, .stride_a = m_ * k_,              \
        .stride_b = n_ * k_, .stride_c = m_ * n_                                                   \
    }

static const shape shapes[] = {
    {"square 512", NN(1, 512, 512, 512)},
    {"square 1024", NN(1, 1024, 1024, 1024)},
    {"base: D x D", NN(1, 768, 512, 512)},
    {"base: D x D, dX", NT(1, 768, 512, 512)},
    {"base: D x D, dW", TN(1, 512, 512, 768)},
    {"base: FFN up", NN(1, 768, 2048, 512)},
    {"base: FFN up, dX", NT(1, 768, 512, 2048)},
    {"base: FFN up, dW", TN(1, 512, 2048, 768)},
    {"base: FFN down", NN(1, 768, 512, 2048)},
    {"base: FFN down, dX", NT(1, 768, 2048, 512)},
    {"base: FFN down, dW", TN(1, 2048, 512, 768)},
    {"base: readout [V,D]", NT(1, 768, 32000, 512)},
    {"base: readout, dX", NN(1, 768, 512, 32000)},
    {"base: readout, dW", TN(1, 32000, 512, 768)},
    {"base: readout [D,V]", NN(1, 768, 32000, 512)},
    {"small: D x D", NN(1, 768, 256, 256)},
    {"small: D x D, dX", NT(1, 768, 256, 256)},
    {"small: D x D, dW", TN(1, 256, 256, 768)},
    {"small: FFN up", NN(1, 768, 1024, 256)},
    {"small: FFN up, dX", NT(1, 768, 256, 1024)},
    {"small: FFN up, dW", TN(1, 256, 1024, 768)},
    {"small: readout [V,D]", NT(1, 768, 10000, 256)},
    {"small: readout, dX", NN(1, 768, 256, 10000)},
    {"small: readout, dW", TN(1, 10000, 256, 768)},
    {"heads: QK^T 24", NT(256, 24, 24, 64)},
    {"heads: PV 24", NN(256, 24, 64, 24)},
    {"heads: dP 24", NT(256, 24, 24, 64)},
    {"heads: dV 24", TN(256, 24, 64, 24)},
    {"heads: QK^T 64", NT(256, 64, 64, 64)},
    {"heads: PV 64", NN(256, 64, 64, 64)},
    {"heads: dV 64", TN(256, 64, 64, 64)},
    {"heads: QK^T 1 row", NT(256, 1, 40, 64)},
    {"heads: PV 1 row", NN(256, 1, 64, 40)},
    {"decode 1: D x D", NN(1, 1, 512, 512)},
    {"decode 1: FFN up", NN(1, 1, 2048, 512)},
    {"decode 1: FFN down", NN(1, 1, 512, 2048)},
    {"decode 1: readout [V,D]", NT(1, 1, 32000, 512)},
    {"decode 1: readout [D,V]", NN(1, 1, 32000, 512)},
    {"decode 5: D x D", NN(1, 5, 512, 512)},
    {"decode 5: readout [V,D]", NT(1, 5, 32000, 512)},
    {"decode 5: readout [D,V]", NN(1, 5, 32000, 512)},
    {"decode 8: D x D", NN(1, 8, 512, 512)},
    {"decode 8: readout [V,D]", NT(1, 8, 32000, 512)},
    {"decode 8: readout [D,V]", NN(1, 8, 32000, 512)},
    {"decode 16: D x D", NN(1, 16, 512, 512)},
    {"decode 32: D x D", NN(1, 32, 512, 512)},
    {"decode 32: FFN up", NN(1, 32, 2048, 512)},
    {"decode 32: readout [V,D]", NT(1, 32, 32000, 512)},
    {"decode 160: D x D", NN(1, 160, 512, 512)},
    {"decode 160: readout [V,D]", NT(1, 160, 32000, 512)},
};

/* Operands of one shape and what each backend reached. */
typedef struct trial {
    wr_gemm_plan *plans[WR_GEMM_BACKENDS];
    double best[WR_GEMM_BACKENDS];
    float *a, *b, *c;
    void *workspace;
    double flops;
} trial;

static float *filled(size_t n) {
    size_t bytes = (n * sizeof(float) + 63) / 64 * 64;
    float *x = aligned_alloc(64, bytes);
    for (size_t i = 0; x != NULL && i < n; i++)
        x[i] = (float)(i % 17) * 0.01f - 0.08f;
    return x;
}

static bool trial_new(trial *t, const wr_gemm_spec *shape_spec, int threads) {
    wr_gemm_spec s = *shape_spec;
    s.threads = threads;
    size_t workspace = 64, batch = (size_t)s.batch;
    for (int i = 0; i < WR_GEMM_BACKENDS; i++) {
        wr_error err = {0};
        s.backend = (wr_gemm_backend)i;
        t->plans[i] = wr_gemm_plan_new(&s, &err);
        if (t->plans[i] != NULL && wr_gemm_workspace(t->plans[i]) > workspace)
            workspace = wr_gemm_workspace(t->plans[i]);
    }
    t->a = filled(batch * (size_t)(s.m * s.k));
    t->b = filled(batch * (size_t)(s.k * s.n));
    t->c = filled(batch * (size_t)(s.m * s.n));
    t->workspace = aligned_alloc(64, (workspace + 63) / 64 * 64);
    t->flops = 2.0 * (double)s.batch * (double)s.m * (double)s.n * (double)s.k;
    return t->a != NULL && t->b != NULL && t->c != NULL && t->workspace != NULL;
}

static void trial_free(trial *t) {
    for (int i = 0; i < WR_GEMM_BACKENDS; i++)
        wr_gemm_plan_free(t->plans[i]);
    free(t->a);
    free(t->b);
    free(t->c);
    free(t->workspace);
}

/* Runs long enough for the clock, at least one. */
static double rate(trial *t, const wr_gemm_plan *plan) {
    int times = 1 + (int)(2e7 / t->flops);
    double start = wr_now();
    for (int i = 0; i < times; i++)
        wr_gemm_run(plan, t->a, t->b, t->c, NULL, t->workspace);
    return t->flops * times / (wr_now() - start) * 1e-9;
}

static void measure(trial *t, double seconds) {
    double end = wr_now() + seconds;
    for (int round = 0; round < 3 || wr_now() < end; round++) {
        for (int i = 0; i < WR_GEMM_BACKENDS; i++) {
            if (t->plans[i] == NULL) continue;
            double r = rate(t, t->plans[i]);
            if (round > 0 && r > t->best[i]) t->best[i] = r;
        }
    }
}

static void print_row(const char *name, int threads, const trial *t) {
    printf("| %-25s | %d |", name, threads);
    for (int i = 0; i < WR_GEMM_BACKENDS; i++) {
        if (t->plans[i] == NULL)
            printf("       - |");
        else
            printf(" %7.1f |", t->best[i]);
    }
    printf(" %s\n", t->plans[0] != NULL ? wr_gemm_plan_name(t->plans[0]) : "-");
}

int main(int argc, char **argv) {
    double seconds = argc > 1 ? atof(argv[1]) : 0.3;
    const char *part = argc > 2 ? argv[2] : "";
    int most = omp_get_max_threads();
    printf("peak: %.0f GFLOP/s on 1 thread", wr_gemm_peak_gflops(1));
    if (most > 1) printf(", %.0f on %d", wr_gemm_peak_gflops(most), most);
    printf("\n\nGFLOP/s\n| %-25s | t |", "product");
    for (int i = 0; i < WR_GEMM_BACKENDS; i++)
        printf(" %7s |", wr_gemm_backend_name((wr_gemm_backend)i));
    printf(" auto is\n");
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        if (strstr(shapes[i].name, part) == NULL) continue;
        for (int threads = 1; threads <= most; threads = threads < most ? most : most + 1) {
            trial t = {.flops = 0};
            if (!trial_new(&t, &shapes[i].s, threads)) {
                fprintf(stderr, "bench_gemm: out of memory\n");
                return 1;
            }
            measure(&t, seconds);
            print_row(shapes[i].name, threads, &t);
            trial_free(&t);
        }
    }
    return 0;
}
