/* sample.h: makes the inputs of the rows' sample generators, feeds and runs what they build.
 *
 * A test_case is a graph with literal-sized inputs and their values. The values are whole float
 * numbers (also in f64), and depend on the seed and the input's number only, so that an f32 case
 * and an f64 case of one seed compute the same thing. */
#ifndef WEIR_TEST_SAMPLE_H
#define WEIR_TEST_SAMPLE_H

#include "graph/session.h"

enum { TEST_INPUTS = 48 };

typedef struct test_input {
    char name[24];
    wr node;
    wr_fill fill;
    int64_t limit;
    wr_dtype dtype;
    int rank;
    int64_t dim[WR_MAX_RANK], n;
    double *value; /* what is meant */
    void *data;    /* what is fed: value in the dtype */
} test_input;

typedef struct test_case {
    wr_sample sample; /* the first member: a generator gets a pointer to it */
    uint64_t seed;
    int n_inputs, n_apart;
    test_input input[TEST_INPUTS];
} test_case;

/* An empty graph. `variant` is what a row's generator asks for. */
void test_case_begin(test_case *t, wr_dtype dtype, uint64_t seed, int variant);
void test_case_end(test_case *t);

/* An input of literal sizes with values; what sample.input does. The test fails at once when the
 * case has too many. */
wr test_case_input(test_case *t, wr_fill fill, int64_t limit, int rank, const int64_t *dims);
/* The same with declared sizes, for symbols; `dims` are the sizes of this run. */
wr test_case_input_as(test_case *t, wr_fill fill, int64_t limit, int rank, const wr_dim *declared,
                      const int64_t *dims);
/* Bring `data` up to date after a change of `value`. */
void test_input_sync(test_input *x);
/* Draw the values of an input again from another seed. */
void test_input_draw(test_input *x, uint64_t seed, int apart);
/* May a derivative be taken with respect to it? (Real values; masks and indices are not.) */
bool test_input_is_smooth(const test_input *x);

/* Compile and free the graph; a failure is the cmocka test's failure, with the message. */
wr_program *test_program_of(wr_graph *g, int n, const wr *outputs, const wr_pass *const *passes);
/* The graph's report contains `part`; the test fails otherwise. */
void test_assert_report(const wr_graph *g, const char *part);

/* A compiled program with a session of its own. */
typedef struct test_program {
    wr_program *program;
    wr_session *session;
} test_program;

/* Compile; a failure is the cmocka test's failure, with the message. */
void test_program_open(test_program *p, const test_case *t, int n_outputs, const wr *outputs,
                       const wr_pass *const *passes, int threads);
/* The same on a device ("cuda"); NULL: the CPU. */
void test_program_open_on(test_program *p, const test_case *t, int n_outputs, const wr *outputs,
                          const wr_pass *const *passes, int threads, const char *device);
void test_program_close(test_program *p);
/* Feed the present values and run; the outputs stay valid until the next run. */
void test_program_run(test_program *p, const test_case *t);
wr_status test_program_try(test_program *p, const test_case *t, wr_error *err);
const wr_tensor *test_program_output(const test_program *p, int k);

double test_value(const wr_tensor *x, int64_t i);
/* Are the bytes of the tensors the same? */
bool test_same_bits(const wr_tensor *a, const wr_tensor *b);
/* The largest |a - b| / (|b| + largest |b|) over the elements; infinite where only one is finite.
 */
double test_difference(const wr_tensor *a, const wr_tensor *b);

/* A copy of a tensor that outlives its session. */
typedef struct test_kept {
    wr_tensor tensor;
    int64_t dim[WR_MAX_RANK];
} test_kept;
test_kept test_keep(const wr_tensor *x);
void test_forget(test_kept *x);

#endif
