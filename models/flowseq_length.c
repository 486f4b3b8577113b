/* flowseq_length.c: how long the translation will be; see flowseq.h.
 *
 * Which classes are allowed and which one is right depends on whole numbers alone, S and T: tables
 * made while the graph is built, looked up by length. */
#include "graph/op.h"
#include "models/flowseq.h"
#include "ops/elementwise.h"
#include "ops/index.h"
#include "ops/layout.h"
#include "ops/matmul.h"
#include "ops/random_ops.h"
#include "ops/reduce.h"
#include "ops/softmax.h"

#include <math.h>
#include <stdlib.h>

static int classes(const wr_flowseq *f) { return 2 * f->length_range + 1; }

/* The unit of the lengths that are told apart in training. */
static int class_unit(const wr_flowseq *f) { return f->pooled_lengths ? 1 : f->length_unit; }

int wr_flowseq_class_length(const wr_flowseq *f, int src_len, int index) {
    return index + src_len - f->length_range;
}

int wr_flowseq_length_class(const wr_flowseq *f, int src_len, int tgt_len) {
    int unit = class_unit(f), first = src_len - f->length_range, last = src_len + f->length_range;
    int t = tgt_len > first ? tgt_len : first;
    t = (t + unit - 1) / unit * unit;
    t = (t < last ? t : last) / unit * unit;
    return t - first;
}

int wr_flowseq_best_lengths(const wr_flowseq *f, int src_len, const double *scores, int k,
                            int *lengths, double *best) {
    int n = 0, last = -1;
    for (; n < k; n++) {
        int found = -1;
        for (int j = 0; j < classes(f); j++) {
            bool later =
                last < 0 || scores[j] < scores[last] || (scores[j] == scores[last] && j > last);
            if (later && scores[j] > -INFINITY && (found < 0 || scores[j] > scores[found]))
                found = j;
        }
        if (found < 0) break;
        lengths[n] = wr_flowseq_class_length(f, src_len, found);
        if (best != NULL) best[n] = scores[found];
        last = found;
    }
    return n;
}

/* ---- tables by source length 0 .. max_positions ---- */

typedef double (*entry_fn)(const wr_flowseq *f, int row, int column);

/* Of the model's float type, or i32. */
static wr table_of(const wr_flowseq *f, wr_graph *g, wr_dtype t, int columns, entry_fn entry) {
    int64_t dims[2] = {f->max_positions + 1, columns}, n = dims[0] * columns;
    char *bytes = malloc((size_t)n * wr_dtype_bytes(t) + 1);
    if (bytes == NULL) return wr_no_memory(g);
    for (int64_t i = 0; i < n; i++) {
        double v = entry(f, (int)(i / columns), (int)(i % columns));
        if (t == WR_F64) ((double *)(void *)bytes)[i] = v;
        if (t == WR_F32) ((float *)(void *)bytes)[i] = (float)v;
        if (t == WR_I32) ((int32_t *)(void *)bytes)[i] = (int32_t)v;
    }
    wr table = wr_const(g, t, 2, dims, bytes);
    free(bytes);
    return table;
}

static double is_multiple(const wr_flowseq *f, int src_len, int class) {
    return wr_flowseq_class_length(f, src_len, class) % class_unit(f) == 0;
}

static double is_possible(const wr_flowseq *f, int src_len, int class) {
    int length = wr_flowseq_class_length(f, src_len, class);
    return length > 0 && length % f->length_unit == 0;
}

static double class_of(const wr_flowseq *f, int src_len, int tgt_len) {
    return wr_flowseq_length_class(f, src_len, tgt_len);
}

static wr rows_of(const wr_flowseq *f, wr src_len, entry_fn entry) {
    return wr_embedding(table_of(f, src_len.g, f->dtype, classes(f), entry), src_len);
}

/* ---- the network ---- */

/* Begins with zero biases; the weights as wr_block_linear has them. */
static wr hidden_layer(const wr_flowseq *f, wr x, const char *name) {
    double bound = 1 / sqrt(f->dim);
    wr y = x;
    WR_SCOPE (x.g, "%s", name) {
        wr w = wr_param(x.g, "W", f->dtype, WR_DIMS(wr_n(f->dim), wr_n(f->dim)),
                        ((wr_init){WR_INIT_UNIFORM, -bound, bound}));
        wr b = wr_param(x.g, "b", f->dtype, WR_DIMS(wr_n(f->dim)), ((wr_init){WR_INIT_ZERO, 0, 0}));
        y = wr_block_elu(wr_add(wr_matmul(x, w), b));
    }
    return y;
}

/* Scores of all classes [B, 2R + 1] from the state [B, D]. */
static wr logits_of(const wr_flowseq *f, wr x) {
    wr y = x;
    WR_SCOPE (x.g, "length") {
        if (!f->pooled_lengths) {
            x = hidden_layer(f, hidden_layer(f, x, "hidden1"), "hidden2");
            x = wr_dropout(x, f->training ? f->length_dropout : 0);
        }
        WR_SCOPE (x.g, "out") {
            wr_dim n = wr_n(classes(f));
            wr w = wr_param(x.g, "W", f->dtype, WR_DIMS(wr_n(f->dim), n),
                            ((wr_init){WR_INIT_UNIFORM, -0.1, 0.1}));
            wr b = wr_param(x.g, "b", f->dtype, WR_DIMS(n), ((wr_init){WR_INIT_ZERO, 0, 0}));
            y = wr_add(wr_matmul(x, w), b);
        }
    }
    return y;
}

wr_flowseq_length_loss wr_flowseq_length_loss_of(const wr_flowseq *f, const wr_flowseq_encoding *e,
                                                 wr tgt_len, double smoothing) {
    wr src_len = e->source.len, logits = logits_of(f, e->state);
    wr_flowseq_length_loss l = {0};
    WR_SCOPE (src_len.g, "length") {
        wr allowed = rows_of(f, src_len, is_multiple);
        wr log_p = wr_log_softmax_masked(logits, allowed); /* 0 where not allowed */
        wr targets = table_of(f, src_len.g, WR_I32, f->max_positions + 1, class_of);
        l.nll = wr_neg(wr_pick(log_p, wr_pick(wr_embedding(targets, src_len), tgt_len)));
        wr even = wr_neg(wr_div(wr_sum(log_p, -1), wr_sum(allowed, -1)));
        l.loss = wr_add(wr_scale(l.nll, 1 - smoothing), wr_scale(even, smoothing));
    }
    return l;
}

wr wr_flowseq_length_scores(const wr_flowseq *f, const wr_flowseq_encoding *e) {
    wr src_len = e->source.len;
    wr log_p = wr_log_softmax_masked(logits_of(f, e->state), rows_of(f, src_len, is_multiple));
    wr never = wr_broadcast_like(wr_scalar(log_p.g, f->dtype, -INFINITY), log_p);
    return wr_select(rows_of(f, src_len, is_possible), log_p, never);
}
