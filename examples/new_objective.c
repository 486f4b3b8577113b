/* new_objective.c: an objective that the library does not have, by plain autodiff: bags of n-grams
 * (Shao et al. 2020). It is compared with differences, then a small model learns by it. */
#include "autodiff/grad.h"
#include "ops/elementwise.h"
#include "ops/index.h"
#include "ops/layout.h"
#include "ops/matmul.h"
#include "ops/reduce.h"
#include "ops/slice.h"
#include "ops/softmax.h"
#include "optim/optimizer.h"
#include <math.h>
#include <stdio.h>

enum { B = 32, T = 6, V = 12, D = 32, STEPS = 200 };

/* 1 - match / K: the share of the K n-grams of a target that positions independent of each other
 * are expected to miss. Of each the expected count is sum over t of the product of its words'
 * probabilities at t, t + 1, ..; it matches as often as the target has it, and no more. An n-gram
 * that the target has r times stands r times in the sum, each time for a part of 1 / r.
 * logits [B, T, V], target [B, T] i32 -> a mean over sentences */
static wr bag_of_ngrams(wr logits, wr target, int n) {
    wr_dim b = wr_dim_of(target, 0), k = wr_dim_sub(target.g, wr_dim_of(target, 1), wr_n(n - 1));
    wr p = wr_softmax(logits), expected = {0}, same = {0};
    for (int i = 0; i < n; i++) {
        wr word = wr_reshape(wr_slice_dims(target, 1, wr_n(i), k, 1), WR_DIMS(b, wr_n(1), k));
        wr ids = wr_broadcast(word, WR_DIMS(b, k, k)), number = wr_cast(ids, wr_dtype_of(p));
        wr here = wr_gather(wr_slice_dims(p, 1, wr_n(i), k, 1), ids); /* [B, positions, n-grams] */
        wr equal = wr_equal(number, wr_transpose(number, 1, 2));
        expected = i == 0 ? here : wr_mul(expected, here);
        same = i == 0 ? equal : wr_mul(same, equal);
    }
    wr count = wr_sum(same, 1);
    return wr_shift(wr_neg(wr_mean_all(wr_div(wr_minimum(wr_sum(expected, 1), count), count))), 1);
}

/* Says all words at once: positions look at each other, then at the words. src [B, T] */
static wr tiny_model(wr src) {
    wr_init init = {WR_INIT_GLOROT_UNIFORM, 1, 0};
    wr words = wr_param(src.g, "words", WR_F64, WR_DIMS(wr_n(V), wr_n(D)), init);
    wr places = wr_param(src.g, "places", WR_F64, WR_DIMS(wr_n(T), wr_n(T)), init);
    wr mix = wr_param(src.g, "mix", WR_F64, WR_DIMS(wr_n(D), wr_n(D)), init);
    wr seen = wr_transpose(wr_matmul(wr_transpose(wr_embedding(words, src), 1, 2), places), 1, 2);
    return wr_matmul_nt(wr_tanh(wr_matmul(seen, mix)), words);
}

int main(void) {
    static double loss[STEPS + 3], k = 1, lr = 0, one = 1, error = 1;
    int32_t x[B][T], y[B][T];
    for (int i = 0; i < B * T; i++) /* what is said is the source, its first word at the end */
        x[i / T][i % T] = y[i / T][(i + T - 1) % T] = (i * i * 31 / 7 + i) % V;
    wr_graph *g = wr_graph_new();
    wr src = wr_input(g, "x", WR_I32, WR_DIMS(wr_n(B), wr_n(T)));
    wr tgt = wr_input(g, "y", WR_I32, WR_DIMS(wr_n(B), wr_n(T)));
    wr scale = wr_input(g, "k", WR_F64, 0, NULL), by_k;
    wr missed = bag_of_ngrams(wr_mul(tiny_model(src), scale), tgt, 2);
    wr_feed feeds[5] = {{"x", x, 2, {B, T}}, {"y", y, 2, {B, T}}, {"k", &k, 0, {0}}};
    feeds[3] = (wr_feed){WR_OPTIM_LR, &lr, 0, {0}};
    feeds[4] = (wr_feed){WR_OPTIM_SCALE, &one, 0, {0}};
    wr_optimizer_options o = {.adam = {.beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8}};
    wr_program *p = NULL;
    wr_session *s = NULL;
    wr_error err = {0};
    bool ok = wr_grad(missed, 1, &scale, &by_k) &&
              wr_optimizer_build(missed, &o, &(wr_optimizer){0}, &err) == WR_OK &&
              wr_program_new(g, 2, (wr[]){missed, by_k}, NULL, &p, &err) == WR_OK &&
              wr_session_new(&(wr_session_options){.seed = 1}, &s, &err) == WR_OK;
    for (int i = 0; ok && i < STEPS + 3; i++) { /* the first two only for a difference */
        k = 1 + 1e-5 * ((i == 0) - (i == 1)), lr = i < 2 ? 0 : 0.02;
        ok = wr_session_run(s, p, 5, feeds, &err) == WR_OK;
        if (ok) loss[i] = *(double *)wr_session_output(s, 0)->data;
        if (ok && i == 2)
            error = (loss[0] - loss[1]) / 2e-5 - *(double *)wr_session_output(s, 1)->data;
        if (ok && i % 40 == 2) printf("step %3d: %4.1f %% missed\n", i - 2, 100 * loss[i]);
    }
    printf("gradient by the logits' scale: off by %.1g\n", error);
    fprintf(stderr, "%s", err.text);
    wr_session_free(s), wr_program_free(p), wr_graph_free(g);
    return ok && fabs(error) < 1e-8 && loss[STEPS + 2] < loss[2] / 2 ? 0 : 1;
}
