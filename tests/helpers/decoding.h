/* decoding.h: what the tests of models and their decoders share: sources made by a rule, parameters
 * off their initial values, gradients against difference quotients, translations that must be the
 * same, a witness of progress, and a tiny Transformer. Whatever goes wrong fails the test. */
#ifndef WEIR_TEST_DECODING_H
#define WEIR_TEST_DECODING_H

#include "graph/session.h"
#include "models/search.h"

void test_must(wr_status status, const wr_error *err);

/* ---- sources ---- */

enum { TEST_SENTENCES = 12, TEST_WORDS = 10 };
typedef struct test_sentences {
    int32_t id[TEST_SENTENCES][TEST_WORDS];
    wr_sentence s[TEST_SENTENCES];
} test_sentences;

/* n sentences (TEST_SENTENCES at most): number i has i * step % lengths words (lengths <=
 * TEST_WORDS), and its word number k is 4 + (i * turn + k * k + k) % words. */
typedef struct test_rule {
    size_t n, step, lengths, turn, words;
} test_rule;

/* Writes the rule's sentences to `to` and returns them. They live in `to`, as long as it does and
 * until the next call with it; a copy of `to` still points into `to`. */
const wr_sentence *test_sentences_by_rule(test_sentences *to, test_rule rule);

/* ---- programs ---- */

/* A program by the standard passes. */
wr_program *test_build(wr_graph *g, int n, const wr *outputs);

/* A run that is fed with those of the n feeds that the program has inputs for. */
void test_run(wr_session *s, wr_program *p, int n, const wr_feed *feeds);

/* The value of the f64 node `x`, n numbers, that needs no inputs; frees its graph. */
void test_compute(wr_session *s, wr x, int64_t n, double *to);

/* ---- parameters ---- */

/* What a session keeps under a number, in its own type; the caller frees it. */
void *test_read_stored(wr_session *s, int index);

/* Adds `size` times a fixed standard normal number to each element of all trainable parameters, so
 * that nothing is zero. The numbers depend on the seed, the parameter's place in the session and
 * the element's in the parameter: calls with one seed move along one direction. */
void test_move(wr_session *s, double size, uint64_t seed);

/* Every parameter of the f64 graph of `loss` gets a gradient that is not zero, and along a
 * direction they are the loss's difference quotient, to 2e-6 of 1 + its size. `run` feeds and runs
 * a program in the session; `what` names the case. The parameters are left elsewhere. */
void test_gradients_of(wr_session *s, wr loss, void (*run)(void *context, wr_program *p),
                       void *context, const char *what);

/* ---- translations ---- */

/* The same counts, ids and number of cut sources; scores and log-probabilities x of `a` are within
 * absolute + relative * |x| in `b`. */
typedef struct test_tolerance {
    double absolute, relative;
} test_tolerance;
void test_assert_same_translations(const wr_translations *a, const wr_translations *b,
                                   test_tolerance t);

/* A search told of a mistake in its input, with these words in the message, and gave nothing. */
void test_assert_refused(wr_status status, const wr_error *err, const wr_translations *out,
                         const char *says);

/* After a search in which wr_test_fail_allocation(n) may have struck: it failed for want of memory
 * and gave nothing, or gave `right`. `lenient`: graphs were built, too; such a failure may be
 * called another mistake, or be survived by doing without what only serves messages. Frees `out`;
 * tells whether the allocation was reached. */
bool test_assert_survived(long n, bool lenient, wr_status status, const wr_error *err,
                          const wr_translations *right, wr_translations *out, test_tolerance t);

/* Each sentence has 1 .. most translations, best first, and none twice; how many in all. */
size_t test_assert_lists(const wr_translations *t, size_t most);

/* Any fixed judgement of a translation of a sentence. */
double test_judged(size_t sentence, const int32_t *id, size_t n);

/* For a wr_rescorer: judges like test_judged, and must not see a translation of a sentence twice in
 * a call; `context` is a size_t that counts what was judged. */
wr_status test_judge(void *context, size_t n, const size_t *sentence, const wr_sentence *tgt,
                     double *score, double *logp, wr_error *err);

/* For `progress` of options: `context` is a test_progress, zero at first. The number of sentences
 * that are done must grow from call to call. */
typedef struct test_progress {
    size_t calls, done, total;
} test_progress;
void test_note_progress(void *context, size_t done, size_t total);
/* All of `total` sentences were done at the last call of so many. */
void test_assert_progress(const test_progress *p, size_t calls, size_t total);

/* ---- a tiny Transformer ---- */

enum { TEST_DIM = 8, TEST_SRC_VOCAB = 11, TEST_MAX_LEN = 24 };

/* As many layers on both sides; it is in training with dropout, which decoders must leave out. */
wr_transformer test_transformer(wr_dtype dtype, wr_recipe_norm norm, int layers, int tgt_vocab);

/* A decoder with parameters that come from the seed; `t` is not in training. */
typedef struct test_rig {
    wr_transformer t;
    wr_session *session;
    wr_decoder *d;
} test_rig;
test_rig test_rig_open(wr_transformer t, uint64_t seed, int threads);
void test_rig_close(test_rig *r);

/* Parameters of an f32 model that is already compiled become undefined. */
void test_rig_poison(const test_rig *r);

/* wr_search(); the caller frees the result. */
wr_translations test_rig_search(const test_rig *r, const wr_sentence *src, size_t n,
                                const wr_search_options *o);

#endif
