/* synth_multimodal.c: `weir synth multimodal`: a language with several translations per sentence,
 * and what is exactly known of it. */
#include "cli/synth.h"
#include "data/synth_multimodal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct multimodal_options {
    const char *kind, *out;
    int64_t count, valid, test, translations, references, seed;
    int64_t modes, phrase, phrases, min_phrases, words;
    double skew;
    bool valid_given, test_given, min_given;
} multimodal_options;

static wr_multimodal language(const multimodal_options *o) {
    wr_multimodal_kind kind = strcmp(o->kind, "order") == 0   ? WR_MULTIMODAL_ORDER
                              : strcmp(o->kind, "words") == 0 ? WR_MULTIMODAL_WORDS
                                                              : WR_MULTIMODAL_BOTH;
    return (wr_multimodal){.kind = kind,
                           .modes = (int)o->modes,
                           .phrase = (int)o->phrase,
                           .min_phrases = (int)(o->min_given ? o->min_phrases : 1),
                           .max_phrases = (int)o->phrases,
                           .words = (int)o->words,
                           .skew = o->skew};
}

/* ---- what is known ---- */

/* What the exact entropies are over the lines of a split, nats. */
typedef struct known {
    size_t lines;
    double words;
    wr_multimodal_entropy sum;
} known;

static known know(const wr_multimodal *m, const wr_multimodal_corpus *c, size_t from, size_t n) {
    known k = {.lines = n};
    for (size_t i = from; i < from + n; i++) {
        size_t words = c->at[i + 1] - c->at[i];
        wr_multimodal_entropy e = wr_multimodal_exact(m, (int)(words / (size_t)m->phrase));
        k.words += (double)words;
        k.sum.joint += e.joint;
        k.sum.marginals += e.marginals;
        k.sum.correlation += e.correlation;
    }
    return k;
}

/* "joint", "marginals" and "correlation", each of the sums multiplied by `factor`. */
static bool add_entropies(cJSON *to, const char *name, const wr_multimodal_entropy *sum,
                          double factor) {
    cJSON *json = cJSON_AddObjectToObject(to, name);
    return json != NULL && cJSON_AddNumberToObject(json, "joint", sum->joint * factor) != NULL &&
           cJSON_AddNumberToObject(json, "marginals", sum->marginals * factor) != NULL &&
           cJSON_AddNumberToObject(json, "correlation", sum->correlation * factor) != NULL;
}

static bool add_known(cJSON *to, const char *split, const known *k) {
    cJSON *json = cJSON_AddObjectToObject(to, split);
    double lines = k->lines > 0 ? (double)k->lines : 1, words = k->words > 0 ? k->words : 1;
    return json != NULL && cJSON_AddNumberToObject(json, "lines", (double)k->lines) != NULL &&
           cJSON_AddNumberToObject(json, "words", k->words) != NULL &&
           add_entropies(json, "nats_per_sentence", &k->sum, 1 / lines) &&
           add_entropies(json, "nats_per_word", &k->sum, 1 / words) &&
           add_entropies(json, "bits_per_word", &k->sum, 1 / words / log(2));
}

static bool add_language(cJSON *json, const multimodal_options *o, const wr_multimodal *m) {
    cJSON *q = NULL;
    bool done =
        cJSON_AddStringToObject(json, "kind", "multimodal") != NULL &&
        cJSON_AddStringToObject(json, "modes_change", o->kind) != NULL &&
        cJSON_AddNumberToObject(json, "modes", m->modes) != NULL &&
        cJSON_AddNumberToObject(json, "skew", m->skew) != NULL &&
        (q = cJSON_AddArrayToObject(json, "probability")) != NULL &&
        cJSON_AddNumberToObject(json, "phrase", m->phrase) != NULL &&
        cJSON_AddNumberToObject(json, "min_phrases", m->min_phrases) != NULL &&
        cJSON_AddNumberToObject(json, "max_phrases", m->max_phrases) != NULL &&
        cJSON_AddNumberToObject(json, "source_words", m->words) != NULL &&
        cJSON_AddNumberToObject(json, "target_words", wr_multimodal_target_words(m)) != NULL &&
        cJSON_AddNumberToObject(json, "translations", (double)o->translations) != NULL &&
        cJSON_AddNumberToObject(json, "seed", (double)o->seed) != NULL;
    for (int k = 0; k < m->modes && done; k++)
        done = cJSON_AddItemToArray(q, cJSON_CreateNumber(wr_multimodal_probability(m, k))) != 0;
    return done;
}

static cJSON *stamp(const multimodal_options *o, const wr_multimodal *m,
                    const known all[WR_SYNTH_SPLITS]) {
    static const char *const name[] = {"train", "valid", "test"};
    cJSON *json = cJSON_CreateObject();
    bool done = json != NULL && add_language(json, o, m);
    cJSON *exact = done ? cJSON_AddObjectToObject(json, "exact") : NULL;
    done = exact != NULL;
    for (int i = 0; i < WR_SYNTH_SPLITS && done; i++)
        done = add_known(exact, name[i], &all[i]);
    if (done) return json;
    cJSON_Delete(json);
    return NULL;
}

/* ---- writing ---- */

/* Lines from .. from + n - 1 of words whose first is word[0]. */
static void add_lines(const wr_multimodal_corpus *c, const int32_t *word, size_t from, size_t n,
                      int side, wr_str *text) {
    for (size_t i = from; i < from + n; i++)
        for (size_t k = c->at[i]; k < c->at[i + 1]; k++, word++) {
            if (side == 0)
                wr_multimodal_source_word(*word, text);
            else
                wr_multimodal_target_word(*word, text);
            wr_str_bytes(text, k + 1 < c->at[i + 1] ? " " : "\n", 1);
        }
}

/* More translations of valid and test: DIR/valid.ref1 and so on. */
static wr_status write_references(const multimodal_options *o, const wr_multimodal *m,
                                  const wr_synth_out *out, const wr_multimodal_corpus *c,
                                  wr_error *err) {
    const size_t from[] = {c->train, c->train + c->valid}, count[] = {c->valid, c->test};
    size_t words = c->at[c->train + c->valid + c->test] - c->at[c->train];
    int32_t *tgt = malloc((words + 1) * sizeof *tgt);
    wr_str text = {0}, name = {0};
    wr_status status = tgt == NULL ? wr_fail_memory(err, "references", words * 4) : WR_OK;
    for (int64_t k = 1; k <= o->references; k++)
        for (int i = 0; i < 2 && status == WR_OK; i++) {
            wr_str_clear(&text);
            wr_str_clear(&name);
            wr_str_add(&name, "ref%lld", (long long)k);
            wr_multimodal_again(m, c, from[i], count[i], (uint64_t)o->seed, (uint32_t)(2 * k + i),
                                tgt);
            add_lines(c, tgt, from[i], count[i], 1, &text);
            status = wr_synth_write_as(out, i + 1, wr_str_text(&name), &text, count[i], err);
        }
    wr_str_free(&text);
    wr_str_free(&name);
    free(tgt);
    return status;
}

static wr_status write_corpus(const multimodal_options *o, const wr_multimodal *m,
                              const wr_synth_out *out, const wr_multimodal_corpus *c,
                              wr_error *err) {
    const size_t count[] = {c->train, c->valid, c->test};
    const size_t from[] = {0, c->train, c->train + c->valid};
    known all[WR_SYNTH_SPLITS];
    for (int i = 0; i < WR_SYNTH_SPLITS; i++)
        all[i] = know(m, c, from[i], count[i]);
    wr_str text = {0};
    wr_status status = wr_synth_begin(out, stamp(o, m, all), err);
    for (int i = 0; i < 2 * WR_SYNTH_SPLITS && status == WR_OK; i++) {
        wr_str_clear(&text);
        const int32_t *word = (i % 2 == 0 ? c->src : c->tgt) + c->at[from[i / 2]];
        add_lines(c, word, from[i / 2], count[i / 2], i % 2, &text);
        status = wr_synth_write(out, i / 2, i % 2, &text, count[i / 2], err);
    }
    wr_str_free(&text);
    if (status == WR_OK) status = write_references(o, m, out, c, err);
    if (status == WR_OK)
        printf("exact for valid, bits a word: H(Y|X) %.6f, sum of H(y_i|X) %.6f, conditional total "
               "correlation C %.6f\n",
               all[1].sum.joint / all[1].words / log(2),
               all[1].sum.marginals / all[1].words / log(2),
               all[1].sum.correlation / all[1].words / log(2));
    return status;
}

static wr_status synth_multimodal(const multimodal_options *o, wr_error *err) {
    const wr_synth_out out = {o->out, {"src", "tgt"}};
    const wr_multimodal m = language(o);
    const wr_multimodal_split split = {
        .train = (size_t)o->count,
        .valid = (size_t)(o->valid_given ? o->valid : wr_synth_held_out(o->count)),
        .test = (size_t)(o->test_given ? o->test : wr_synth_held_out(o->count)),
        .translations = (size_t)o->translations,
        .seed = (uint64_t)o->seed};
    wr_multimodal_corpus corpus = {0};
    wr_status status = wr_synth_check_out(&out, err);
    if (status == WR_OK) status = wr_multimodal_draw(&m, &split, &corpus, err);
    if (status == WR_OK) status = write_corpus(o, &m, &out, &corpus, err);
    wr_multimodal_corpus_free(&corpus);
    return status;
}

int wr_synth_multimodal(int argc, char **argv) {
    multimodal_options o = {0};
    const wr_opt table[] = {
        {"--count", WR_OPT_INT, &o.count, .value = "N", .min = 1, .max = 5000000, .required = true,
         .help = "sources of train"},
        {"--translations", WR_OPT_INT, &o.translations, .value = "N", .fallback = "1", .min = 1,
         .max = 1000, .help = "lines of train for each source, each drawn anew"},
        {"--references", WR_OPT_INT, &o.references, .value = "N", .fallback = "0", .min = 0,
         .max = 1000, .help = "further translations of valid and test, as valid.ref1 and so on"},
        {"--valid", WR_OPT_INT, &o.valid, .value = "N", .min = 1, .max = 1000000,
         .given = &o.valid_given, .help = "lines of valid (default: count/20, from 1 to 1000)"},
        {"--test", WR_OPT_INT, &o.test, .value = "N", .min = 1, .max = 1000000,
         .given = &o.test_given, .help = "lines of test (default: count/20, from 1 to 1000)"},
        {"--change", WR_OPT_STRING, &o.kind, .fallback = "order", .choices = "order|words|both",
         .help = "what the mode of a phrase decides: a rotation of its words, their vocabulary, or "
                 "both"},
        {"--modes", WR_OPT_INT, &o.modes, .value = "K", .fallback = "3", .min = 1,
         .max = WR_MULTIMODAL_MODES_MOST, .help = "translations of a phrase"},
        {"--skew", WR_OPT_REAL, &o.skew, .value = "X", .fallback = "1", .min = 1e-6, .max = 1,
         .help = "each mode is X times as likely as the one before"},
        {"--phrase", WR_OPT_INT, &o.phrase, .value = "N", .fallback = "3", .min = 1, .max = 1000,
         .help = "words of a phrase"},
        {"--phrases", WR_OPT_INT, &o.phrases, .value = "J", .fallback = "4", .min = 1, .max = 1000,
         .help = "the most phrases of a sentence"},
        {"--min-phrases", WR_OPT_INT, &o.min_phrases, .value = "J", .min = 1, .max = 1000,
         .given = &o.min_given, .help = "the fewest (default: 1)"},
        {"--words", WR_OPT_INT, &o.words, .value = "W", .fallback = "100", .min = 1,
         .max = WR_MULTIMODAL_WORDS_MOST, .help = "words of the source language"},
        {"--seed", WR_OPT_INT, &o.seed, .value = "N", .fallback = "1", .min = 0,
         .max = 9007199254740991.0, .help = "which sentences and translations are drawn"},
        {"--out", WR_OPT_STRING, &o.out, .value = "DIR", .required = true,
         .help = "where train.*, valid.*, test.* (.src and .tgt) and synth.json go"},
    };
    const wr_cli cli = {
        .command = "synth multimodal",
        .summary = "Writes a corpus of a language in which a sentence has several translations.",
        .opts = table,
        .opt_n = WR_COUNT(table),
        .notes = "synth.json tells the exact entropies of the targets given the sources, and their "
                 "difference,\nthe conditional total correlation.\n"
                 "Example: weir synth multimodal --count 20000 --modes 3 --out modes"};
    int code = wr_cli_begin(&cli, argc, argv);
    if (code >= 0) return code;
    wr_error err = {0};
    return wr_cli_end(synth_multimodal(&o, &err), &err);
}
