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

/* Standard normal (kind normal, orthogonal) or uniform in [0, 1) numbers. */
static void draw(wr_random r, bool normal, int64_t n, double *x) {
    for (int64_t i = 0; i < n; i += 4) {
        uint32_t bits[4];
        float v[4];
        wr_random_bits(&r, (uint64_t)i / 4, bits);
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

static void scale_and_shift(wr_init init, int rank, const int64_t *dim, int64_t n, double *x) {
    double low = init.a, width = init.b - init.a;
    int64_t rows = rank >= 2 ? dim[rank - 2] : 1, cols = rank >= 1 ? dim[rank - 1] : 1;
    if (init.kind == WR_INIT_GLOROT_UNIFORM) {
        double bound = init.a * sqrt(6.0 / (double)(rows + cols));
        low = -bound;
        width = 2 * bound;
    }
    if (init.kind == WR_INIT_NORMAL) width = init.b;
    if (init.kind == WR_INIT_ORTHOGONAL) {
        for (int64_t at = 0; at < n; at += rows * cols)
            orthogonalise(x + at, rows, cols);
        low = 0;
        width = init.a;
    }
    for (int64_t i = 0; i < n; i++)
        x[i] = low + width * x[i];
}

wr_status wr__init_fill(wr_init init, const char *name, uint64_t seed, wr_dtype t, int rank,
                        const int64_t *dim, void *data, wr_error *err) {
    int64_t n = count(rank, dim);
    double *x = malloc(sizeof *x * (size_t)(n + 1));
    if (x == NULL) return wr_fail_memory(err, name, sizeof *x * (size_t)n);
    if (init.kind == WR_INIT_ZERO || init.kind == WR_INIT_CONSTANT) {
        for (int64_t i = 0; i < n; i++)
            x[i] = init.kind == WR_INIT_ZERO ? 0 : init.a;
    } else {
        uint64_t stream = wr__hash(name, strlen(name), 1);
        bool normal = init.kind == WR_INIT_NORMAL || init.kind == WR_INIT_ORTHOGONAL;
        draw(wr_random_stream(seed, UINT64_MAX, stream), normal, n, x);
        scale_and_shift(init, rank, dim, n, x);
    }
    for (int64_t i = 0; i < n; i++) {
        if (t == WR_F32) ((float *)data)[i] = (float)x[i];
        if (t == WR_F64) ((double *)data)[i] = x[i];
        if (t == WR_I32) ((int32_t *)data)[i] = (int32_t)x[i];
    }
    free(x);
    return WR_OK;
}
