/* test_objective_graph.c: objectives inside graphs against those of single sentences. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autodiff/grad.h"
#include "helpers/alloc.h"
#include "helpers/sample.h"
#include "models/objectives/objective_graph.h"
#include "ops/reduce.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (int)(sizeof(array) / sizeof((array)[0]))
enum { B = 6, T = 7, N = 5, V = 9, BLANK = 2 };
/* Outputs of the program under test. */
enum { TOTAL, SUM, PER, NLL, TOKENS, INFEASIBLE, EACH, SAID, DZ, DZ_EACH, OUTPUTS };

typedef struct trial {
    wr_objective_host host;
    test_case t;
    test_program p;
    test_input *z, *ids, *positions, *targets, *weight, *update;
    int n, positions_max, threads; /* N and T of this objective */
    wr_dtype dtype;
} trial;

static wr_objective_config config_of(const char *text) {
    wr_objective_config c;
    wr_error err = {0};
    if (wr_objective_parse(text, &c, &err) != WR_OK) fail_msg("%s: %s", text, err.text);
    return c;
}

static test_input *last_input(trial *k) { return &k->t.input[k->t.n_inputs - 1]; }

/* Sizes are symbols, as models have them. */
static wr symbolic(trial *k, wr_fill fill, int64_t limit, int rank, const wr_dim *dims,
                   const int64_t *sizes, test_input **input) {
    wr x = test_case_input_as(&k->t, fill, limit, rank, dims, sizes);
    *input = last_input(k);
    return x;
}

/* Sentences of several lengths, the first one full; one too short for CTC, one without words. The
 * words leave the blank out. */
static void fill_lengths(trial *k, bool aligned) {
    static const double targets[B] = {5, 3, 1, 4, 0, 2}, positions[B] = {7, 5, 3, 2, 4, 2};
    for (int b = 0; b < B; b++) {
        k->targets->value[b] = targets[b];
        k->positions->value[b] = aligned ? targets[b] : positions[b];
    }
    for (int i = 0; i < B * N; i++)
        if (k->ids->value[i] == BLANK) k->ids->value[i] = BLANK + 1;
    k->ids->value[5 * N] = k->ids->value[5 * N + 1]; /* equal words, two positions */
    for (int b = 0; b < B && k->weight != NULL; b++)
        for (int t = 0; t < k->positions_max; t++)
            k->weight->value[b * k->positions_max + t] = (b + t) % 3 == 0 ? 0 : 1 + b % 2;
}

static void sync_all(trial *k) {
    for (int i = 0; i < k->t.n_inputs; i++)
        test_input_sync(&k->t.input[i]);
}

/* Declare the inputs; what a model would give. */
static wr_objective_inputs declare(trial *k) {
    const wr_objective *row = k->host.config.row;
    wr_graph *g = k->t.sample.g;
    wr_dim b = wr_sym(g, "B", 1, 64, 1), n = wr_sym(g, "N", 1, 32, 1), v = wr_n(V);
    wr_dim t = row->aligned ? n : wr_sym(g, "T", 1, 64, 1);
    k->n = N;
    k->positions_max = row->aligned ? N : T;
    wr_objective_inputs in = {.blank = BLANK, .weight = {g, 0}, .update = {g, 0}};
    in.logits = symbolic(k, WR_FILL_REAL, 0, 3, (wr_dim[]){b, t, v},
                         (int64_t[]){B, k->positions_max, V}, &k->z);
    in.ids = symbolic(k, WR_FILL_INDEX, V, 2, (wr_dim[]){b, n}, (int64_t[]){B, N}, &k->ids);
    in.position_len = symbolic(k, WR_FILL_LENGTH, T, 1, &b, (int64_t[]){B}, &k->positions);
    in.target_len = symbolic(k, WR_FILL_LENGTH, N, 1, &b, (int64_t[]){B}, &k->targets);
    if (row->masked)
        in.weight = symbolic(k, WR_FILL_MASK, 0, 2, (wr_dim[]){b, t},
                             (int64_t[]){B, k->positions_max}, &k->weight);
    if (wr_objective_needs_update(&k->host.config)) {
        in.update = test_case_input(&k->t, WR_FILL_REAL, 0, 0, NULL);
        k->update = last_input(k);
        k->update->value[0] = 30;
    }
    fill_lengths(k, row->aligned);
    return in;
}

/* Compile and run; `train`: with gradients. */
static void begin(trial *k, const char *objective, wr_dtype dtype, int threads) {
    wr_objective_config c = config_of(objective);
    wr out[OUTPUTS];
    *k = (trial){.dtype = dtype, .threads = threads};
    wr_objective_host_init(&k->host, &c);
    test_case_begin(&k->t, dtype, 3, 0);
    wr_objective_inputs in = declare(k);
    wr_objective_losses l = wr_objective_losses_of(&k->host, &in);
    out[TOTAL] = l.total;
    out[SUM] = l.sum;
    out[PER] = l.count;
    out[NLL] = l.nll;
    out[TOKENS] = l.tokens;
    out[INFEASIBLE] = l.infeasible;
    out[EACH] = l.each;
    out[SAID] = l.said;
    assert_true(wr_grad(l.total, 1, &in.logits, &out[DZ]));
    assert_true(wr_grad(wr_sum_all(l.each), 1, &in.logits, &out[DZ_EACH]));
    test_program_open(&k->p, &k->t, OUTPUTS, out, NULL, threads);
    sync_all(k);
}

static void end(trial *k) {
    test_program_close(&k->p);
    test_case_end(&k->t);
}

static double out(const trial *k, int output, int64_t i) {
    return test_value(test_program_output(&k->p, output), i);
}

static void near(const trial *k, double got, double wanted, const char *what) {
    double error = k->dtype == WR_F64 ? 1e-12 : 2e-5;
    if (!(fabs(got - wanted) <= error * (1 + fabs(wanted))))
        fail_msg("%s, %s: %.15g instead of %.15g", k->host.config.row->name, what, got, wanted);
}

/* Sentence b alone. The gradient is zeros where it has no positions. */
static void run_alone(const trial *k, int b, wr_objective_dense *d, double *gradient,
                      int32_t *target, int32_t *said) {
    wr_error err = {0};
    *d = (wr_objective_dense){
        .positions = (int)k->positions->value[b],
        .words = V,
        .targets = (int)k->targets->value[b],
        .logits = k->z->value + (size_t)b * (size_t)k->positions_max * V,
        .target = target,
        .blank = BLANK,
        .update = k->update == NULL ? 0 : k->update->value[0],
        .gradient = gradient,
        .said = said,
    };
    if (k->weight != NULL) d->weight = k->weight->value + b * k->positions_max;
    for (int n = 0; n < d->targets; n++)
        target[n] = (int32_t)k->ids->value[b * N + n];
    memset(gradient, 0, sizeof(double) * T * V);
    if (wr_objective_dense_run(&k->host.config, d, &err) != WR_OK) fail_msg("%s", err.text);
}

/* Share of a sentence in the sum, and its part of the count. */
static void norm_of(const trial *k, const wr_objective_dense *d, double *share, double *count) {
    wr_norm norm = k->host.config.norm;
    *share = *count = d->feasible;
    if (!d->feasible) return;
    if (norm == WR_NORM_SENT_TOKEN) *share = d->tokens > 0 ? 1 / d->tokens : 0;
    if (norm == WR_NORM_TOKEN) *count = d->tokens;
    if (norm == WR_NORM_FRAMES) *count = d->positions;
}

static void check_sentence(const trial *k, int b, const wr_objective_dense *d, double count) {
    double share, own;
    norm_of(k, d, &share, &own);
    near(k, out(k, EACH, b), d->loss, "each");
    for (int t = 0; t < k->positions_max; t++) {
        int32_t said = t < d->positions && d->feasible ? d->said[t] : -1;
        assert_int_equal((int)out(k, SAID, b * k->positions_max + t), said);
        for (int v = 0; v < V; v++) {
            int64_t at = ((int64_t)b * k->positions_max + t) * V + v;
            double dz = t < d->positions ? d->gradient[t * V + v] : 0;
            near(k, out(k, DZ_EACH, at), dz, "gradient of each");
            near(k, out(k, DZ, at), dz * share / count, "gradient of the total");
        }
    }
}

/* All sums against those over single sentences. */
static int check(trial *k) {
    double gradient[B][T * V], sum = 0, count = 0, nll = 0, tokens = 0, share, own;
    wr_objective_dense d[B];
    int32_t target[N], said[B][T];
    int infeasible = 0;
    wr_objective_config plain = k->host.config, smoothed = plain;
    plain.label_smoothing = 0;
    test_program_run(&k->p, &k->t);
    for (int b = 0; b < B; b++) {
        k->host.config = plain;
        run_alone(k, b, &d[b], gradient[b], target, said[b]);
        nll += d[b].loss;
        k->host.config = smoothed;
        run_alone(k, b, &d[b], gradient[b], target, said[b]);
        norm_of(k, &d[b], &share, &own);
        sum += share * d[b].loss;
        count += own;
        tokens += d[b].tokens;
        infeasible += !d[b].feasible;
    }
    near(k, out(k, SUM, 0), sum, "sum");
    near(k, out(k, PER, 0), count, "count");
    near(k, out(k, TOTAL, 0), sum / count, "total");
    near(k, out(k, NLL, 0), nll, "nll");
    near(k, out(k, TOKENS, 0), tokens, "tokens");
    near(k, out(k, INFEASIBLE, 0), infeasible, "infeasible");
    for (int b = 0; b < B; b++)
        check_sentence(k, b, &d[b], count);
    return infeasible;
}

static const char *const OBJECTIVES[] = {
    "ce",
    "ce norm=sent label_smoothing=0.1",
    "axe skip_penalty=2",
    "axe form=mple skip_penalty=0.5 label_smoothing=0.1 norm=frames",
    "oaxe trunc_prob=0.05",
    "oaxe pretrain=10 anneal=40 label_smoothing=0.2 smooth_over=others norm=sent_token",
    "ctc",
    "ctc norm=frames label_smoothing=0.05",
    "cmlm label_smoothing=0.1",
    "glat norm=sent_token",
};

static void test_against_single_sentences(void **state) {
    (void)state;
    for (int i = 0; i < 2 * COUNT(OBJECTIVES); i++) {
        trial k;
        begin(&k, OBJECTIVES[i / 2], i % 2 == 0 ? WR_F64 : WR_F32, 2);
        int infeasible = check(&k);
        assert_int_equal(infeasible, k.host.config.row == &wr_objective_ctc ? 3 : 1);
        end(&k);
    }
}

static void test_same_bits_on_threads(void **state) {
    (void)state;
    for (int i = 0; i < COUNT(OBJECTIVES); i++) {
        test_kept kept[OUTPUTS];
        for (int threads = 1; threads <= 7; threads += threads == 1 ? 1 : 5) {
            trial k;
            begin(&k, OBJECTIVES[i], WR_F32, threads);
            test_program_run(&k.p, &k.t);
            for (int o = 0; o < OUTPUTS; o++) {
                const wr_tensor *x = test_program_output(&k.p, o);
                if (threads == 1)
                    kept[o] = test_keep(x);
                else
                    assert_true(test_same_bits(&kept[o].tensor, x));
            }
            end(&k);
        }
        for (int o = 0; o < OUTPUTS; o++)
            test_forget(&kept[o]);
    }
}

/* Padding may hold anything; a word that is not a number makes its sentence's loss NaN. */
static void test_not_numbers(void **state) {
    (void)state;
    for (int i = 0; i < COUNT(OBJECTIVES); i++) {
        trial k;
        begin(&k, OBJECTIVES[i], WR_F64, 2);
        for (int b = 0; b < B; b++)
            for (int t = (int)k.positions->value[b]; t < k.positions_max; t++)
                for (int v = 0; v < V; v++)
                    k.z->value[(b * k.positions_max + t) * V + v] = v % 2 == 0 ? NAN : INFINITY;
        sync_all(&k);
        check(&k);
        k.z->value[V] = NAN; /* the first sentence's second position */
        sync_all(&k);
        test_program_run(&k.p, &k.t);
        assert_true(isnan(out(&k, TOTAL, 0)) && isnan(out(&k, EACH, 0)));
        assert_true(isnan(out(&k, DZ_EACH, 2 * V - 1)) && isfinite(out(&k, EACH, 1)));
        end(&k);
    }
}

/* Nothing can be aligned: no loss, no gradient, no division by zero. */
static void test_all_infeasible(void **state) {
    (void)state;
    for (int i = 0; i < COUNT(OBJECTIVES); i++) {
        trial k;
        begin(&k, OBJECTIVES[i], WR_F32, 2);
        memset(k.targets->value, 0, B * sizeof(double));
        memset(k.positions->value, 0, B * sizeof(double));
        sync_all(&k);
        test_program_run(&k.p, &k.t);
        assert_true(out(&k, TOTAL, 0) == 0 && out(&k, INFEASIBLE, 0) == B);
        for (int j = 0; j < B * k.positions_max * V; j++)
            assert_true(out(&k, DZ, j) == 0);
        end(&k);
    }
}

/* A program that reads no weights, and one that reads nothing but the alignment. */
static void test_parts(void **state) {
    (void)state;
    for (int i = 0; i < COUNT(OBJECTIVES); i++) {
        trial whole, part;
        begin(&whole, OBJECTIVES[i], WR_F32, 2);
        test_program_run(&whole.p, &whole.t);
        for (int o = 0; o < 2; o++) {
            wr_objective_config c = config_of(OBJECTIVES[i]);
            part = (trial){.dtype = WR_F32};
            wr_objective_host_init(&part.host, &c);
            test_case_begin(&part.t, WR_F32, 3, 0);
            wr_objective_inputs in = declare(&part);
            wr_objective_losses l = wr_objective_losses_of(&part.host, &in);
            test_program_open(&part.p, &part.t, 1, o == 0 ? &l.total : &l.said, NULL, 2);
            sync_all(&part);
            test_program_run(&part.p, &part.t);
            assert_true(test_same_bits(test_program_output(&part.p, 0),
                                       test_program_output(&whole.p, o == 0 ? TOTAL : SAID)));
            end(&part);
        }
        end(&whole);
    }
}

/* ---- what is refused ---- */

typedef enum flaw { WEIGHT, NO_UPDATE, HIGH_BLANK, FLAT_IDS, FLOAT_LENGTHS } flaw;

static void mistake(flaw what, const char *objective, const char *message) {
    trial k = {.dtype = WR_F32};
    wr_objective_config c = config_of(objective);
    wr_str text = {0};
    wr_objective_host_init(&k.host, &c);
    test_case_begin(&k.t, WR_F32, 3, 0);
    wr_objective_inputs in = declare(&k);
    if (what == WEIGHT) in.weight = in.logits;
    if (what == NO_UPDATE) in.update = (wr){0};
    if (what == HIGH_BLANK) in.blank = V;
    if (what == FLAT_IDS) in.ids = in.target_len;
    if (what == FLOAT_LENGTHS) in.position_len = in.weight;
    wr_objective_losses l = wr_objective_losses_of(&k.host, &in);
    assert_true(wr_is_poison(l.total) && wr_is_poison(l.said));
    wr_graph_report(k.t.sample.g, &text);
    if (strstr(wr_str_text(&text), message) == NULL)
        fail_msg("'%s' says nothing of '%s'", wr_str_text(&text), message);
    wr_str_free(&text);
    test_case_end(&k.t);
}

static void test_mistakes(void **state) {
    (void)state;
    mistake(WEIGHT, "axe", "axe takes no weights of positions");
    mistake(NO_UPDATE, "oaxe anneal=10", "oaxe is annealed by its options");
    mistake(HIGH_BLANK, "ctc", "ctc: the blank is 9, but there are 9 words");
    mistake(FLAT_IDS, "ce", "ce needs logits [B, T, V] with a literal V, and ids [B, N]");
    mistake(FLOAT_LENGTHS, "ce", "lengths are [B] i32");
}

static wr_status run_again(trial *k, wr_error *err) {
    wr_feed feeds[TEST_INPUTS];
    for (int i = 0; i < k->t.n_inputs; i++) {
        const test_input *in = &k->t.input[i];
        feeds[i] = (wr_feed){.name = in->name, .data = in->data, .rank = in->rank};
        memcpy(feeds[i].dim, in->dim, sizeof in->dim);
    }
    *err = (wr_error){0};
    return wr_session_run(k->p.session, k->p.program, k->t.n_inputs, feeds, err);
}

static void test_bad_batch(void **state) {
    (void)state;
    trial k;
    wr_error err;
    begin(&k, "axe", WR_F32, 2);
    k.ids->value[N + 1] = BLANK;
    sync_all(&k);
    assert_int_equal(run_again(&k, &err), WR_ERR_INPUT);
    assert_non_null(
        strstr(err.text, "axe: word 2 of the target of sentence 2 is 2, which is the blank"));
    k.ids->value[N + 1] = V;
    sync_all(&k);
    assert_int_equal(run_again(&k, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "gather_log_softmax: id 9 at element"));
    end(&k);
}

static void test_memory(void **state) {
    (void)state;
    trial k;
    wr_error err;
    long n = 1;
    begin(&k, "oaxe", WR_F32, 2);
    assert_int_equal(run_again(&k, &err), WR_OK);
    for (;; n++) {
        wr_test_fail_allocation(n);
        wr_status status = run_again(&k, &err);
        if (!wr_test_allocation_failed()) {
            assert_int_equal(status, WR_OK);
            break;
        }
        assert_int_equal(status, WR_ERR_MEMORY);
    }
    wr_test_fail_allocation(0);
    assert_true(n > 2);
    end(&k);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_single_sentences),
        cmocka_unit_test(test_same_bits_on_threads),
        cmocka_unit_test(test_not_numbers),
        cmocka_unit_test(test_all_infeasible),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_bad_batch),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
