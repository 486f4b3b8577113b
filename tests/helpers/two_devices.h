/* two_devices.h: the same programs in a session on the CPU and in one on the CUDA device (the
 * emulated one, or a GPU): outputs, what the sessions keep, and translations must be the same.
 * Whatever goes wrong fails the test. */
#ifndef WEIR_TEST_TWO_DEVICES_H
#define WEIR_TEST_TWO_DEVICES_H

#include "graph/session.h"
#include "helpers/cuda.h"
#include "helpers/decoding.h"

enum { TEST_CPU, TEST_CUDA, TEST_DEVICES };
typedef struct test_pair {
    wr_session *on[TEST_DEVICES];
    const test_cuda *device;
} test_pair;

test_pair test_pair_open(const test_cuda *device);
/* The emulator must have had nothing to say. */
void test_pair_close(const test_pair *p);

void test_pair_prepare(const test_pair *p, const wr_program *program);
/* All parameters a little off where they begin, so that nothing is zero; the same on both. */
void test_pair_disturb(const test_pair *p);
/* Everything that the sessions keep: parameters, and in f64 the optimizer's states; `most` is the
 * largest difference relative to a tensor's largest element. */
void test_pair_compare_stored(const test_pair *p, double most);
void test_pair_run(const test_pair *p, wr_program *program, int n, const wr_feed *feeds,
                   int n_outputs, double most);

typedef struct test_compiled {
    wr_graph *g;
    wr_program *program;
    int n; /* outputs */
} test_compiled;
enum { TEST_OUTPUTS = 8, TEST_STEPS = 3 };

test_compiled test_compile(wr_graph *g, int n, const wr *outputs);
/* `outputs` (5 at most) and the update by the gradient of `loss`. */
test_compiled test_compile_training(wr_graph *g, wr loss, int n, const wr *outputs, bool amsgrad);
void test_compiled_free(const test_pair *p, test_compiled *c);

/* TEST_STEPS updates on both, the last of them replayed on the device; `feeds` has room for two
 * more. */
void test_pair_train(const test_pair *p, const test_compiled *c, int n, wr_feed *feeds,
                     double most);

/* The same ids, and scores but for rounding; frees both. */
void test_assert_same_words(wr_translations *out);

/* Sentences of 0 to 6 words with ids from 4 to 12. */
enum { TEST_SOURCES = 5 };
const wr_sentence *test_sources(void);

#endif
