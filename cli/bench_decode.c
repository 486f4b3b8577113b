/* bench_decode.c: `weir bench --what decode`: steps of greedy or beam decoding with caches, or
 * whole sentences by a FlowSeq or a non-autoregressive model. */
#include "cli/bench.h"
#include "cli/run_search.h"
#include "models/flowseq_decoder.h"
#include "models/recipe_flowseq.h"
#include "models/recipe_nat.h"
#include "models/transformer_decoder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct rows {
    int32_t *token, *row, *src_row, *src_len;
} rows;

static wr_status make_rows(const wr_bench_options *o, rows *r, wr_error *err) {
    size_t n = (size_t)(o->batch * o->beam);
    *r = (rows){malloc(4 * n), malloc(4 * n), malloc(4 * n), malloc(4 * n)};
    if (r->token == NULL || r->row == NULL || r->src_row == NULL || r->src_len == NULL)
        return wr_fail_memory(err, "hypotheses", 16 * n);
    return WR_OK;
}

static void free_rows(rows *r) {
    free(r->token);
    free(r->row);
    free(r->src_row);
    free(r->src_len);
}

/* The hypotheses before a step. At position 0 the rows of a beam come from one source; later a beam
 * of several continues its best two rows in turn, so that caches are reordered as in a search. */
static void set_rows(const wr_bench *b, rows *r, int position) {
    const wr_bench_options *o = b->o;
    for (int64_t i = 0; i < o->batch * o->beam; i++) {
        int32_t first = (int32_t)(i / o->beam * o->beam), place = (int32_t)(i % o->beam);
        r->token[i] =
            (int32_t)(position == 0 ? WR_BOS_ID : 4 + (i * 37 + position) % (b->tgt_vocab - 4));
        r->row[i] = first + (o->beam > 1 ? (place + position) % 2 : 0);
        r->src_row[i] = (int32_t)(position == 0 ? i / o->beam : i);
        r->src_len[i] = (int32_t)o->src_len;
    }
}

/* One batch: encode, then tgt_len steps. Milliseconds of the whole and of a middle step. */
static wr_status decode_once(wr_bench *b, wr_decoder *d, rows *r, double *whole_ms, double *step_ms,
                             wr_error *err) {
    const wr_bench_options *o = b->o;
    wr_batch batch = {
        .B = (int32_t)o->batch, .S = (int32_t)o->src_len, .src = b->src, .src_len = b->src_len};
    wr_decoder_size size = {.rows = (int)(o->batch * o->beam),
                            .src_len = (int)o->src_len,
                            .tgt_len = (int)o->tgt_len,
                            .best = (int)(o->beam > 1 ? 2 * o->beam : 1)};
    double start = wr_now();
    wr_status status = wr_decoder_begin(d, &size, &batch, err);
    double stepping = wr_now();
    for (int t = 0; status == WR_OK && t < o->tgt_len; t++) {
        set_rows(b, r, t);
        wr_decoder_feed feed = {.n = size.rows,
                                .position = t,
                                .token = r->token,
                                .row = r->row,
                                .src_row = r->src_row,
                                .src_len = r->src_len};
        wr_decoder_next next;
        status = wr_decoder_step(d, &feed, &next, err);
    }
    *whole_ms = (wr_now() - start) * 1e3;
    *step_ms = (wr_now() - stepping) * 1e3 / (double)o->tgt_len;
    return status;
}

static wr_status print_result(wr_bench *b, double *whole, double *step, wr_error *err) {
    const wr_bench_options *o = b->o;
    const wr_plan *plan = wr_session_plan(b->session);
    wr_session_counters c = wr_session_count(b->session);
    double ms = wr_bench_median(whole, o->repeat), step_ms = wr_bench_median(step, o->repeat);
    double os_bytes = wr_bench_os_bytes("VmHWM:"); /* before the large products below */
    int launches = wr_session_launches(b->session);
    double peak = 0;
    wr_status status = wr_bench_peak_gflops(b, &peak, err);
    if (status != WR_OK) return status;
    double gflop = plan->flops / 1e9;
    printf("{\"sentence_ms\": %.3f, \"sentence_ms_min\": %.3f, \"sentence_ms_max\": %.3f, "
           "\"step_ms\": %.3f, \"step_ms_min\": %.3f, \"step_ms_max\": %.3f, \"tokens_per_s\": "
           "%.1f, \"gflop\": %.4f, \"gflops\": %.2f, \"gemm_peak_gflops\": %.2f, "
           "\"utilisation\": %.4f, \"peak_bytes\": %zu, \"os_peak_bytes\": %.0f, \"kernels\": %d, "
           "\"launches\": %d, \"plan_ms\": %.3f, \"threads\": %d}\n",
           ms / (double)o->batch, whole[0] / (double)o->batch,
           whole[o->repeat - 1] / (double)o->batch, step_ms, step[0], step[o->repeat - 1],
           (double)(o->batch * o->tgt_len) / ms * 1e3, gflop, gflop / step_ms * 1e3, peak,
           gflop / step_ms * 1e3 / peak, c.persistent_bytes + c.arena_bytes, os_bytes,
           plan->n_steps, launches, plan->seconds * 1e3, wr_session_threads(b->session));
    return WR_OK;
}

/* ---- a Transformer ---- */

static wr_status bench_transformer(wr_bench *b, wr_error *err) {
    const wr_bench_options *o = b->o;
    wr_transformer t = wr_transformer_of(&b->recipe, b->src_vocab, b->tgt_vocab, false);
    rows r = {0};
    wr_decoder *d = NULL;
    double *step = malloc(sizeof *step * (size_t)o->repeat);
    wr_status status =
        step == NULL ? wr_fail_memory(err, "times", sizeof *step) : wr_bench_batch(b, err);
    if (status == WR_OK) status = make_rows(o, &r, err);
    if (status == WR_OK) status = wr_decoder_new(&t, b->session, &d, err);
    for (int64_t i = -1; status == WR_OK && i < o->repeat; i++) {
        double whole_ms = 0, step_ms = 0;
        status = decode_once(b, d, &r, &whole_ms, &step_ms, err);
        if (i < 0) continue;
        b->ms[i] = whole_ms;
        step[i] = step_ms;
    }
    if (status == WR_OK) status = print_result(b, b->ms, step, err);
    if (status == WR_OK && o->profile)
        status = wr_bench_profile(b, (o->repeat + 1) * o->tgt_len, false, err);
    wr_decoder_free(d);
    free_rows(&r);
    free(step);
    return status;
}

/* ---- a FlowSeq ---- */

/* The rows of the batch as sentences. */
static wr_sentence *sentences_of(const int32_t *id, int64_t n, int64_t length) {
    wr_sentence *x = malloc(sizeof *x * (size_t)n);
    for (int64_t i = 0; x != NULL && i < n; i++)
        x[i] = (wr_sentence){.id = id + i * length, .n = (size_t)length};
    return x;
}

/* From words to words: encoder, lengths, prior and decoder at the length asked for. */
static wr_status time_flowseq(wr_bench *b, wr_flowseq_decoder *d, const wr_sentence *src,
                              const wr_sentence *tgt, wr_error *err) {
    wr_status status = WR_OK;
    wr_flowseq_measuring o = {.exact = true, .max_tokens = SIZE_MAX};
    for (int64_t i = -2; status == WR_OK && i < b->o->repeat; i++) {
        wr_translations out = {0};
        double start = wr_now();
        status = wr_flowseq_decode_at(d, src, tgt, (size_t)b->o->batch, &o, &out, err);
        if (i >= 0) b->ms[i] = (wr_now() - start) * 1e3;
        wr_translations_free(&out);
    }
    return status;
}

static wr_status bench_flowseq(wr_bench *b, wr_error *err) {
    const wr_bench_options *o = b->o;
    wr_flowseq f;
    wr_flowseq_decoder *d = NULL;
    wr_status status =
        wr_recipe_flowseq_model(&b->recipe, b->src_vocab, b->tgt_vocab, false, &f, err);
    if (status != WR_OK) return status;
    if (o->tgt_len % f.length_unit != 0)
        return wr_fail(err, WR_ERR_USAGE, "--tgt-len %lld: the model's lengths are multiples of %d",
                       (long long)o->tgt_len, f.length_unit);
    status = wr_bench_batch(b, err);
    if (status != WR_OK) return status;
    wr_sentence *src = sentences_of(b->src, o->batch, o->src_len);
    wr_sentence *tgt = sentences_of(b->tgt, o->batch, o->tgt_len);
    if (src == NULL || tgt == NULL) status = wr_fail_memory(err, "sentences", sizeof *src);
    if (status == WR_OK) status = wr_flowseq_decoder_new(&f, b->session, &d, err);
    if (status == WR_OK) status = time_flowseq(b, d, src, tgt, err);
    if (status == WR_OK) status = print_result(b, b->ms, b->ms, err);
    if (status == WR_OK && o->profile) status = wr_bench_profile(b, o->repeat + 2, false, err);
    wr_flowseq_decoder_free(d);
    free(src);
    free(tgt);
    return status;
}

/* ---- a non-autoregressive model ---- */

/* From words to words; the length is the one asked for, or with frames that of the source. */
static wr_status time_nat(wr_bench *b, wr_nat_decoder *d, const wr_sentence *src,
                          const wr_nat_search_options *o, wr_error *err) {
    wr_status status = WR_OK;
    for (int64_t i = -2; status == WR_OK && i < b->o->repeat; i++) {
        wr_translations out = {0};
        double start = wr_now();
        status = wr_nat_search(d, src, (size_t)b->o->batch, o, &out, err);
        if (i >= 0) b->ms[i] = (wr_now() - start) * 1e3;
        wr_translations_free(&out);
    }
    return status;
}

static wr_nat_search_options nat_options(const wr_bench *b, const wr_nat *n) {
    wr_nat_search_options o = wr_recipe_nat_search(&b->recipe);
    for (int m = 0; b->o->decode != NULL && m < WR_NAT_METHOD_COUNT; m++)
        if (strcmp(b->o->decode, wr_nat_method_name((wr_nat_method)m)) == 0)
            o.method = (wr_nat_method)m;
    if (b->o->iterations > 0) o.passes = (int)b->o->iterations;
    if (b->o->beam > 1) o.beam = (int)b->o->beam;
    o.positions = n->frames > 0 ? 0 : (int)b->o->tgt_len;
    o.max_tokens = SIZE_MAX;
    o.max_sentences = (int)b->o->batch;
    return o;
}

static wr_status bench_nat(wr_bench *b, wr_error *err) {
    const wr_bench_options *o = b->o;
    wr_nat n;
    wr_nat_decoder *d = NULL;
    wr_status status = wr_recipe_nat_model(&b->recipe, b->src_vocab, b->tgt_vocab, false, &n, err);
    if (status == WR_OK) status = wr_bench_batch(b, err);
    if (status != WR_OK) return status;
    wr_nat_search_options search = nat_options(b, &n);
    wr_sentence *src = sentences_of(b->src, o->batch, o->src_len);
    double *pass = malloc(sizeof *pass * (size_t)o->repeat);
    if (src == NULL || pass == NULL) status = wr_fail_memory(err, "sentences", sizeof *src);
    for (int64_t i = 0; status == WR_OK && i < o->batch; i++)
        src[i].n--; /* the end of sentence is added */
    if (status == WR_OK)
        status = wr_nat_decoder_new(&n, wr_run_nat_silent(&b->recipe), b->session, &d, err);
    if (status == WR_OK) status = time_nat(b, d, src, &search, err);
    int passes = search.method == WR_NAT_MASK_PREDICT ? search.passes : 1;
    for (int64_t i = 0; status == WR_OK && i < o->repeat; i++)
        pass[i] = b->ms[i] / passes;
    if (status == WR_OK) status = print_result(b, b->ms, pass, err);
    if (status == WR_OK && o->profile) status = wr_bench_profile(b, o->repeat + 2, false, err);
    wr_nat_decoder_free(d);
    free(pass);
    free(src);
    return status;
}

/* ---- the whole ---- */

/* Whether `method` is one of "a|b|c"; NULL, the usual one, is. */
static bool is_among(const char *methods, const char *method) {
    size_t n = method == NULL ? 0 : strlen(method);
    for (const char *p = methods; n > 0 && p != NULL; p = strchr(p, '|')) {
        if (*p == '|') p++;
        if (strncmp(p, method, n) == 0 && (p[n] == '|' || p[n] == '\0')) return true;
    }
    return n == 0;
}

wr_status wr_bench_decoding(wr_bench *b, wr_error *err) {
    static const struct {
        const char *name, *methods, *hint;
    } KINDS[] = {[WR_RECIPE_TRANSFORMER] = {"a Transformer", "greedy|beam", "--beam"},
                 [WR_RECIPE_FLOWSEQ] = {"a FlowSeq", "argmax", "--decode argmax"},
                 [WR_RECIPE_NAT] = {"a non-autoregressive model",
                                    "argmax|mask-predict|ctc|ctc-beam",
                                    "--decode argmax, mask-predict, ctc or ctc-beam"}};
    wr_recipe_model_type type = b->recipe.model.type;
    if (!is_among(KINDS[type].methods, b->o->decode))
        return wr_fail(err, WR_ERR_USAGE,
                       "--decode %s is for another kind of model, the recipe's model is %s: use %s",
                       b->o->decode, KINDS[type].name, KINDS[type].hint);
    return type == WR_RECIPE_FLOWSEQ ? bench_flowseq(b, err)
           : type == WR_RECIPE_NAT   ? bench_nat(b, err)
                                     : bench_transformer(b, err);
}
