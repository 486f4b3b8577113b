/* init.c: initialisers; see graph.h for the kinds. */
#include "graph/init.h"
#include "graph/intern.h"
#include "graph/random.h"

#include <stdlib.h>
#include <string.h>

static int64_t count(int rank, const int64_t *dim) {
    int64_t n = 1;
    for (int i = 0; i < rank; i++)
        n *= dim[i];
    return n;
}

/* Numbers first .. first + n - 1 (first a multiple of 4) of a stream: standard normal, or uniform
 * in [0, 1). */
static void draw(const wr_random *r, bool normal, int64_t first, int64_t n, double *x) {
    for (int64_t i = 0; i < n; i += 4) {
        uint32_t bits[4];
        float v[4];
        wr_random_bits(r, (uint64_t)(first + i) / 4, bits);
        for (int k = 0; k < 4; k++)
            v[k] = wr_random_unit(bits[k]);
        if (normal) {
            wr_random_normal(bits[0], bits[1], &v[0], &v[1]);
            wr_random_normal(bits[2], bits[3], &v[2], &v[3]);
        }
        for (int64_t k = 0; k < 4 && i + k < n; k++)
            x[i + k] = v[k];
    }
}

/* Make the rows (or, when there are more rows than columns, the columns) of each matrix orthonormal
 * by modified Gram-Schmidt, twice for accuracy. */
static void orthogonalise(double *x, int64_t rows, int64_t cols) {
    bool by_row = rows <= cols;
    int64_t n = by_row ? rows : cols, m = by_row ? cols : rows;
    int64_t along = by_row ? 1 : cols, across = by_row ? cols : 1;
    for (int64_t i = 0; i < n; i++) {
        double *v = x + i * across;
        for (int64_t j = 0; j < 2 * i; j++) {
            const double *u = x + (j % i) * across;
            double dot = 0;
            for (int64_t k = 0; k < m; k++)
                dot += v[k * along] * u[k * along];
            for (int64_t k = 0; k < m; k++)
                v[k * along] -= dot * u[k * along];
        }
        double norm = 0;
        for (int64_t k = 0; k < m; k++)
            norm += v[k * along] * v[k * along];
        for (int64_t k = 0; k < m; k++)
            v[k * along] /= sqrt(norm);
    }
}

static void store(wr_dtype t, void *data, int64_t first, int64_t n, double low, double width,
                  const double *x) {
    for (int64_t i = 0; i < n; i++) {
        double v = low + width * x[i];
        if (t == WR_F32) ((float *)data)[first + i] = (float)v;
        if (t == WR_F64) ((double *)data)[first + i] = v;
        if (t == WR_I32) ((int32_t *)data)[first + i] = (int32_t)v;
    }
}

static void fill_constant(wr_dtype t, void *data, int64_t n, double value) {
    const double zero = 0;
    for (int64_t i = 0; i < n; i++)
        store(t, data, i, 1, value, 0, &zero);
}

/* In blocks, so that a large matrix costs no second one. */
static void fill_random(wr_init init, const wr_random *r, wr_dtype t, int rank, const int64_t *dim,
                        int64_t n, void *data) {
    enum { BLOCK = 4096 };
    double x[BLOCK], low = init.a, width = init.b - init.a;
    if (init.kind == WR_INIT_GLOROT_UNIFORM) {
        int64_t rows = rank >= 2 ? dim[rank - 2] : 1, cols = rank >= 1 ? dim[rank - 1] : 1;
        double bound = init.a * sqrt(6.0 / (double)(rows + cols));
        low = -bound;
        width = 2 * bound;
    }
    if (init.kind == WR_INIT_NORMAL) width = init.b;
    for (int64_t i = 0; i < n; i += BLOCK) {
        int64_t m = n - i < BLOCK ? n - i : BLOCK;
        draw(r, init.kind == WR_INIT_NORMAL, i, m, x);
        store(t, data, i, m, low, width, x);
    }
}

static wr_status fill_orthogonal(double gain, const wr_random *r, wr_dtype t, int rank,
                                 const int64_t *dim, int64_t n, void *data, wr_error *err) {
    int64_t rows = rank >= 2 ? dim[rank - 2] : 1, cols = rank >= 1 ? dim[rank - 1] : 1;
    double *x = malloc(sizeof *x * (size_t)(n + 1));
    if (x == NULL) return wr_fail_memory(err, "an orthogonal matrix", sizeof *x * (size_t)n);
    draw(r, true, 0, n, x);
    for (int64_t at = 0; at < n; at += rows * cols)
        orthogonalise(x + at, rows, cols);
    store(t, data, 0, n, 0, gain, x);
    free(x);
    return WR_OK;
}

wr_status wr__init_fill(wr_init init, const char *name, uint64_t seed, wr_dtype t, int rank,
                        const int64_t *dim, void *data, wr_error *err) {
    int64_t n = count(rank, dim);
    wr_random r = wr_random_stream(seed, UINT64_MAX, wr__hash(name, strlen(name), 1));
    if (init.kind == WR_INIT_ZERO || init.kind == WR_INIT_CONSTANT)
        fill_constant(t, data, n, init.kind == WR_INIT_ZERO ? 0 : init.a);
    else if (init.kind == WR_INIT_ORTHOGONAL)
        return fill_orthogonal(init.a, &r, t, rank, dim, n, data, err);
    else
        fill_random(init, &r, t, rank, dim, n, data);
    return WR_OK;
}
