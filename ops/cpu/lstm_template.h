/* lstm_template.h: one position of one sentence of an LSTM; REAL, CELL(name), SIGMOID and TANH are
 * given by the includer (ops/lstm.c), n is the number of units. */

/* gate [4n] comes as h W_h and becomes i, f, g, o; c is updated; h [n] is written. */
static void CELL(forward)(int64_t n, const void *z_row, void *gate_row, void *c_row, void *h_row) {
    const REAL *z = z_row;
    REAL *gate = gate_row, *c = c_row, *h = h_row;
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
        REAL i = SIGMOID(gate[j] + z[j]), f = SIGMOID(gate[n + j] + z[n + j]);
        REAL g = TANH(gate[2 * n + j] + z[2 * n + j]);
        REAL o = SIGMOID(gate[3 * n + j] + z[3 * n + j]);
        gate[j] = i;
        gate[n + j] = f;
        gate[2 * n + j] = g;
        gate[3 * n + j] = o;
        c[j] = f * c[j] + i * g;
        h[j] = o * TANH(c[j]);
    }
}

/* kept [5n]: i, f, g, o, c'; dy [n], dkept [5n]: cotangents of this position. dh and dc come as the
 * cotangents of the state behind it; dc leaves as the one before it, dh as 0 (what it was goes on
 * through dz W_h^T). */
static void CELL(backward)(int64_t n, const void *kept_row, const void *c_before_row,
                           const void *dy_row, const void *dkept_row, void *dh_row, void *dc_row,
                           void *dz_row) {
    const REAL *kept = kept_row, *before = c_before_row, *dy = dy_row, *dkept = dkept_row;
    REAL *dh = dh_row, *dc = dc_row, *dz = dz_row;
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
        REAL i = kept[j], f = kept[n + j], g = kept[2 * n + j], o = kept[3 * n + j];
        REAL t = TANH(kept[4 * n + j]), y = dh[j] + dy[j];
        REAL cell = dc[j] + y * o * (1 - t * t) + dkept[4 * n + j];
        dz[j] = (cell * g + dkept[j]) * i * (1 - i);
        dz[n + j] = (cell * before[j] + dkept[n + j]) * f * (1 - f);
        dz[2 * n + j] = (cell * i + dkept[2 * n + j]) * (1 - g * g);
        dz[3 * n + j] = (y * t + dkept[3 * n + j]) * o * (1 - o);
        dc[j] = cell * f;
        dh[j] = 0;
    }
}

/* h = o tanh(c) of a position's kept row. */
static void CELL(output)(int64_t n, const void *kept_row, void *h_row) {
    const REAL *kept = kept_row;
    REAL *h = h_row;
#pragma omp simd
    for (int64_t j = 0; j < n; j++)
        h[j] = kept[3 * n + j] * TANH(kept[4 * n + j]);
}
