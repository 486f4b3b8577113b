/* nat_length.c: how many positions there are, from the source; see nat.h.
 *
 * Classes of lengths are vectors; a class's score is its product with a vector of the source: the
 * mean of the encoder's outputs (`pooled`, as in fairseq; `difference` (Ran et al. 2021): that mean
 * without a gradient), or the output at a position of its own in front of the source (`token`,
 * Ghazvininejad et al. 2019). Classes stand for lengths, or with the offset for differences to the
 * source's length. Lengths below 1 have no probability. */
#include "graph/op.h"
#include "models/nat_internal.h"
#include "ops/elementwise.h"
#include "ops/index.h"
#include "ops/layout.h"
#include "ops/matmul.h"
#include "ops/softmax.h"

#include <math.h>
#include <stdlib.h>

enum { DIFFERENCES = 101 }; /* -50 .. 50 */

static int classes_of(const wr_nat *n) {
    return n->length == WR_RECIPE_LENGTH_DIFFERENCE ? DIFFERENCES : n->length_classes;
}

static bool by_difference(const wr_nat *n) {
    return n->length == WR_RECIPE_LENGTH_DIFFERENCE || n->length_offset;
}

int wr_nat_length_classes(const wr_nat *n) { return classes_of(n); }

int wr_nat_class_length(const wr_nat *n, int src_len, int index) {
    return by_difference(n) ? index + src_len - classes_of(n) / 2 : index;
}

int wr_nat_length_class(const wr_nat *n, int src_len, int len) {
    int class = by_difference(n) ? len - src_len + classes_of(n) / 2 : len;
    if (class < 0) return 0;
    return class < classes_of(n) ? class : classes_of(n) - 1;
}

int wr_nat_best_lengths(const wr_nat *n, int src_len, const double *scores, int k, int *lengths,
                        double *best) {
    int found = 0, last = -1;
    for (; found < k; found++) {
        int next = -1;
        for (int j = 0; j < classes_of(n); j++) {
            bool later =
                last < 0 || scores[j] < scores[last] || (scores[j] == scores[last] && j > last);
            if (later && scores[j] > -INFINITY && (next < 0 || scores[j] > scores[next])) next = j;
        }
        if (next < 0) break;
        lengths[found] = wr_nat_class_length(n, src_len, next);
        if (best != NULL) best[found] = scores[next];
        last = next;
    }
    return found;
}

/* ---- tables by source length 0 .. max_source ---- */

typedef double (*entry_fn)(const wr_nat *n, int src_len, int column);

/* Rows of the lengths [B], of the model's float type or i32: -> [B, columns]. */
static wr rows_of(const wr_nat *n, wr src_len, wr_dtype t, int columns, entry_fn entry) {
    int64_t dims[2] = {n->max_source + 1, columns}, count = dims[0] * columns;
    char *bytes = malloc((size_t)count * wr_dtype_bytes(t) + 1);
    if (bytes == NULL) return wr_no_memory(src_len.g);
    for (int64_t i = 0; i < count; i++) {
        double v = entry(n, (int)(i / columns), (int)(i % columns));
        if (t == WR_F64) ((double *)(void *)bytes)[i] = v;
        if (t == WR_F32) ((float *)(void *)bytes)[i] = (float)v;
        if (t == WR_I32) ((int32_t *)(void *)bytes)[i] = (int32_t)v;
    }
    wr table = wr_const(src_len.g, t, 2, dims, bytes);
    free(bytes);
    return wr_embedding(table, src_len);
}

static double is_length(const wr_nat *n, int src_len, int class) {
    return wr_nat_class_length(n, src_len, class) >= 1;
}

static double fits(const wr_nat *n, int src_len, int class) {
    int length = wr_nat_class_length(n, src_len, class);
    return length >= 1 && length <= n->max_positions;
}

static double class_of(const wr_nat *n, int src_len, int len) {
    return wr_nat_length_class(n, src_len, len);
}

/* ---- the head ---- */

wr wr__nat_length_table(const wr_nat *n, wr_graph *g) {
    return wr_param(g, "length.W", n->dtype, WR_DIMS(wr_n(classes_of(n)), wr_n(n->m.dim)),
                    ((wr_init){WR_INIT_NORMAL, 0, 0.02}));
}

/* log p of all classes, 0 where there is no such length. */
static wr log_p(const wr_nat *n, const wr_nat_encoding *e) {
    wr state = e->state;
    if (n->length == WR_RECIPE_LENGTH_DIFFERENCE) state = wr_stop_gradient(state);
    wr scores = wr_matmul_nt(state, wr__nat_length_table(n, state.g));
    return wr_log_softmax_masked(scores, rows_of(n, e->len, n->dtype, classes_of(n), is_length));
}

wr wr_nat_length_nll(const wr_nat *n, const wr_nat_encoding *e, wr len) {
    wr class = rows_of(n, e->len, WR_I32, n->max_positions + 1, class_of);
    return wr_neg(wr_pick(log_p(n, e), wr_pick(class, len)));
}

wr wr_nat_length_scores(const wr_nat *n, const wr_nat_encoding *e) {
    wr scores = log_p(n, e);
    wr never = wr_broadcast_like(wr_scalar(scores.g, n->dtype, -INFINITY), scores);
    return wr_select(rows_of(n, e->len, n->dtype, classes_of(n), fits), scores, never);
}
