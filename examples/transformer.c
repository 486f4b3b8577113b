/* transformer.c: the Transformer from C: declare it, train it to reverse sequences of digits, and
 * read its loss. Build with the library and run; it takes a few seconds.
 *
 *     build/release/examples_transformer
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "graph/session.h"
#include "models/transformer.h"
#include "ops/fuse.h"
#include "optim/optimizer.h"

enum { B = 32, T = 8, WORDS = 14, PAD = 0, BEGIN = 2, END = 3, FIRST = 4, UPDATES = 300 };

typedef struct batch {
    int32_t src[B][T], tgt_in[B][T], tgt_out[B][T], len[B];
} batch;

/* Sequences of 3 to T - 1 digits, an end behind; the target is the source read backwards. */
static void fill(batch *b, uint64_t *seed) {
    for (int i = 0; i < B; i++) {
        *seed = *seed * 6364136223846793005u + 1442695040888963407u;
        int n = 3 + (int)((*seed >> 33) % (T - 3));
        b->len[i] = n + 1;
        for (int t = 0; t < T; t++)
            b->src[i][t] = b->tgt_in[i][t] = b->tgt_out[i][t] = PAD;
        for (int t = 0; t < n; t++) {
            *seed = *seed * 6364136223846793005u + 1442695040888963407u;
            b->src[i][t] = FIRST + (int)((*seed >> 33) % (WORDS - FIRST));
        }
        b->src[i][n] = END;
        b->tgt_in[i][0] = BEGIN;
        for (int t = 0; t < n; t++)
            b->tgt_in[i][t + 1] = b->tgt_out[i][t] = b->src[i][n - 1 - t];
        b->tgt_out[i][n] = END;
    }
}

/* The model's graph, its gradient and its update, compiled into one program. */
static wr_status declare(wr_program **program, wr_error *err) {
    wr_transformer t = {.m = {.dim = 64,
                              .ffn = 128,
                              .heads = 4,
                              .encoder_layers = 1,
                              .decoder_layers = 1,
                              .norm = WR_RECIPE_NORM_PRE,
                              .embeddings = WR_RECIPE_EMBED_JOINT,
                              .max_len = T},
                        .src_vocab = WORDS,
                        .tgt_vocab = WORDS,
                        .dtype = WR_F32,
                        .training = true};
    wr_graph *g = wr_graph_new();
    if (g == NULL) return wr_fail(err, WR_ERR_MEMORY, "no memory for a graph");
    wr_transformer_batch in = wr_transformer_inputs(g, T);
    wr_transformer_loss loss = wr_transformer_loss_of(&t, &in, 0.0);
    wr_optimizer_options o = {.adam = {.beta1 = 0.9, .beta2 = 0.98, .eps = 1e-9, .clip_norm = 1.0}};
    wr_optimizer opt;
    wr_status status = wr_optimizer_build(loss.loss, &o, &opt, err);
    if (status == WR_OK)
        status = wr_program_new(g, 3, (wr[]){loss.nll, loss.tokens, opt.norm}, wr_standard_passes(),
                                program, err);
    wr_graph_free(g);
    return status;
}

static wr_status update(wr_session *s, wr_program *p, const batch *b, double lr, wr_error *err) {
    double scale = 0;
    for (int i = 0; i < B; i++)
        scale += b->len[i];
    scale = 1 / scale; /* the loss is a sum over tokens; the update is by their mean */
    wr_feed feeds[] = {{"src", b->src, 2, {B, T}},       {"src_len", b->len, 1, {B}},
                       {"tgt_in", b->tgt_in, 2, {B, T}}, {"tgt_out", b->tgt_out, 2, {B, T}},
                       {"tgt_len", b->len, 1, {B}},      {WR_OPTIM_LR, &lr, 0, {0}},
                       {WR_OPTIM_SCALE, &scale, 0, {0}}};
    return wr_session_run(s, p, (int)(sizeof feeds / sizeof *feeds), feeds, err);
}

int main(void) {
    wr_error err = {0};
    wr_program *program = NULL;
    wr_session *session = NULL;
    batch b;
    uint64_t seed = 7;
    wr_status status = declare(&program, &err);
    if (status == WR_OK) status = wr_session_new(&(wr_session_options){.seed = 1}, &session, &err);
    for (int i = 1; status == WR_OK && i <= UPDATES; i++) {
        fill(&b, &seed);
        wr_session_set_step(session, (uint64_t)i);
        status = update(session, program, &b, 3e-3 * fmin(1, i / 50.0), &err);
        if (status != WR_OK || i % 50 != 0) continue;
        float nll = *(const float *)wr_session_output(session, 0)->data;
        float tokens = *(const float *)wr_session_output(session, 1)->data;
        printf("update %d: %.4f nats a token\n", i, (double)(nll / tokens));
    }
    if (status != WR_OK) fprintf(stderr, "transformer: %s\n", err.text);
    wr_session_free(session);
    wr_program_free(program);
    return status == WR_OK ? 0 : 1;
}
