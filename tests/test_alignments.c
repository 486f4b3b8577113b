/* test_alignments.c: alignments against searches through all of them, assignments against their
 * duals, gradients against differences. Values of the specification are in test_objectives.c. */
#include "models/objectives/objective.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LENGTH(array) (int)(sizeof(array) / sizeof((array)[0]))
enum { CASES = 2000, T = 6, N = 6, C = N + 1, CELLS = T * C };

static uint64_t next(uint64_t *seed) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}
static int below(uint64_t *seed, int n) { return (int)(next(seed) % (uint64_t)n); }
static double uniform(uint64_t *seed) { return ((double)next(seed) + .5) / 2147483648.0; }

/* ---- all alignments ---- */

/* A sentence of numbers that are no probabilities, which no alignment needs. */
typedef struct sentence {
    int t, n, columns;
    int32_t ids[C]; /* words, then the blank 0 */
    double lp[CELLS], penalty;
    /* the search: what was chosen so far, and the best or the sum */
    double chosen[CELLS], best[CELLS], least;
    double likelihood;
    int32_t said[T], best_said[T];
} sentence;

static void draw(sentence *s, uint64_t *seed, int positions, int targets, bool equal_words) {
    static const double penalties[] = {0, .5, 1, 2, 5};
    *s = (sentence){.t = 1 + below(seed, positions), .n = 1 + below(seed, targets)};
    bool holes = below(seed, 4) == 0;
    int pick = below(seed, LENGTH(penalties) + 1);
    s->columns = s->n + 1;
    s->penalty = pick < LENGTH(penalties) ? penalties[pick] : 3 * uniform(seed);
    s->least = INFINITY;
    for (int k = 0; k < s->n; k++)
        s->ids[k] = equal_words ? 1 + below(seed, 3) : k + 1;
    for (int t = 0; t < s->t; t++) {
        double word[C];
        for (int v = 0; v < C; v++)
            word[v] = holes && below(seed, 8) == 0 ? -INFINITY : -4 * uniform(seed);
        for (int k = 0; k < s->columns; k++)
            s->lp[t * s->columns + k] = word[k < s->n ? s->ids[k] : 0];
    }
}

static double *cell(sentence *s, int t, int k) { return &s->chosen[t * s->columns + k]; }

/* What the chosen weights cost. */
static double cost_of(const sentence *s) {
    double cost = 0;
    for (int i = 0; i < s->t * s->columns; i++)
        if (s->chosen[i] != 0) cost -= s->chosen[i] * s->lp[i];
    return cost;
}

static void try_chosen(sentence *s) {
    double cost = cost_of(s);
    if (!(cost < s->least)) return;
    s->least = cost;
    memcpy(s->best, s->chosen, sizeof s->best);
}

/* All orders of steps from i targets and j positions done. */
static void search_axe(sentence *s, int i, int j) {
    if (i == s->n && j == s->t) try_chosen(s);
    if (i < s->n && j < s->t) {
        *cell(s, j, i) += 1;
        search_axe(s, i + 1, j + 1);
        *cell(s, j, i) -= 1;
    }
    if (j < s->t) {
        *cell(s, j, s->n) += 1;
        search_axe(s, i, j + 1);
        *cell(s, j, s->n) -= 1;
    }
    if (i < s->n) {
        double *at = cell(s, j > 0 ? j - 1 : 0, i), before = *at;
        *at += s->penalty;
        search_axe(s, i + 1, j);
        *at = before;
    }
}

/* All monotone positions of targets i, i + 1, .., which are not before position `from`. */
static void search_mple(sentence *s, int i, int from, bool first) {
    if (i == s->n) {
        for (int j = from + !first; j < s->t; j++)
            *cell(s, j, s->n) = 1;
        try_chosen(s);
        for (int j = from + !first; j < s->t; j++)
            *cell(s, j, s->n) = 0;
        return;
    }
    for (int j = from; j < s->t; j++) {
        bool opens = first || j > from;
        *cell(s, j, i) = opens ? 1 : s->penalty;
        for (int k = from + !first; k < j; k++)
            *cell(s, k, s->n) = 1;
        search_mple(s, i + 1, j, false);
        for (int k = from + !first; k < j; k++)
            *cell(s, k, s->n) = 0;
        *cell(s, j, i) = 0;
    }
}

/* All orders of the targets from position t on. */
static void search_oaxe(sentence *s, int t, unsigned used) {
    if (t == s->t) try_chosen(s);
    for (int k = 0; t < s->t && k < s->n; k++) {
        if (used >> k & 1) continue;
        *cell(s, t, k) = 1;
        search_oaxe(s, t + 1, used | 1u << k);
        *cell(s, t, k) = 0;
    }
}

/* A path of words counts when it collapses to the target: run k of a word is target k. */
static void count_path(sentence *s, const int32_t *word) {
    double lp = 0;
    int32_t run = -1, said[T];
    for (int t = 0; t < s->t; t++) {
        if (word[t] != 0 && (t == 0 || word[t] != word[t - 1])) run++;
        if (run >= s->n || (word[t] != 0 && word[t] != s->ids[run])) return;
        said[t] = word[t] == 0 ? -1 : run;
        lp += s->lp[t * s->columns + (word[t] == 0 ? s->n : run)];
    }
    if (run + 1 != s->n) return;
    double p = exp(lp);
    s->likelihood += p;
    for (int t = 0; t < s->t; t++)
        *cell(s, t, said[t] < 0 ? s->n : said[t]) += p;
    if (!(-lp < s->least)) return;
    s->least = -lp;
    memcpy(s->best_said, said, sizeof said);
}

/* All paths of the blank and words 1 to 3. */
static void search_ctc(sentence *s, int t, int32_t *word) {
    if (t == s->t) {
        count_path(s, word);
        return;
    }
    for (word[t] = 0; word[t] <= 3; word[t]++)
        search_ctc(s, t + 1, word);
}

/* ---- the same by the objectives ---- */

typedef struct answer {
    double loss, tokens, w[CELLS];
    int32_t feasible, said[T];
} answer;

static wr_objective_config config_of(const char *text) {
    wr_objective_config c;
    wr_error err = {0};
    if (wr_objective_parse(text, &c, &err) != WR_OK) fail_msg("%s: %s", text, err.text);
    return c;
}

/* Rows without a blank see the columns before it. */
static void ask(const sentence *s, const wr_objective_config *c, answer *a) {
    wr_error err = {0};
    int columns = s->n + c->row->extra;
    double lp[CELLS];
    for (int t = 0; t < s->t; t++)
        memcpy(lp + t * columns, s->lp + t * s->columns, sizeof(double) * (size_t)columns);
    wr_objective_batch b = {.real = WR_OBJECTIVE_F64,
                            .sentences = 1,
                            .positions = s->t,
                            .targets = s->n,
                            .lp = lp,
                            .ids = s->ids,
                            .position_len = &s->t,
                            .target_len = &s->n,
                            .w = a->w,
                            .loss = &a->loss,
                            .tokens = &a->tokens,
                            .feasible = &a->feasible,
                            .said = a->said};
    if (wr_objective_run(c, &b, 1, &err) != WR_OK) fail_msg("%s", err.text);
}

static void same(const answer *a, double loss, const double *w, int cells, int number) {
    assert_int_equal(a->feasible, isfinite(loss));
    if (!a->feasible) return;
    if (!(fabs(a->loss - loss) < 1e-11)) fail_msg("%d: %.15g, not %.15g", number, a->loss, loss);
    for (int i = 0; i < cells; i++)
        if (!(fabs(a->w[i] - w[i]) < 1e-10))
            fail_msg("%d: weight %d is %.15g, not %.15g", number, i, a->w[i], w[i]);
}

static void test_axe(void **state) {
    uint64_t seed = 11;
    int impossible = 0;
    bool mple = *(const char *)*state == 'm';
    for (int k = 0; k < CASES; k++) {
        sentence s;
        answer a;
        wr_objective_config c = config_of(mple ? "axe form=mple" : "axe");
        draw(&s, &seed, 5, 5, false);
        c.value[0] = s.penalty;
        if (mple)
            search_mple(&s, 0, 0, true);
        else
            search_axe(&s, 0, 0);
        ask(&s, &c, &a);
        same(&a, s.least, s.best, s.t * s.columns, k);
        impossible += !a.feasible;
    }
    assert_true(impossible > 0 && impossible < CASES / 4);
}

static void test_oaxe(void **state) {
    (void)state;
    uint64_t seed = 12;
    int impossible = 0;
    for (int k = 0; k < CASES; k++) {
        sentence s;
        answer a;
        wr_objective_config c = config_of("oaxe");
        draw(&s, &seed, T, N, false);
        s.t = s.n = s.t < s.n ? s.t : s.n; /* a corner of what was drawn */
        search_oaxe(&s, 0, 0);
        ask(&s, &c, &a);
        double w[CELLS];
        for (int t = 0; t < s.t; t++)
            memcpy(w + t * s.n, s.best + t * s.columns, sizeof(double) * (size_t)s.n);
        same(&a, s.least, w, s.t * s.n, k);
        impossible += !a.feasible;
    }
    assert_true(impossible > 0 && impossible < CASES / 4);
}

/* The likelihood, all posteriors, and the best path. */
static void test_ctc(void **state) {
    (void)state;
    uint64_t seed = 13;
    int impossible = 0;
    for (int k = 0; k < CASES; k++) {
        sentence s;
        answer a;
        int32_t word[T];
        wr_objective_config c = config_of("ctc");
        draw(&s, &seed, 5, 4, true);
        search_ctc(&s, 0, word);
        for (int i = 0; i < s.t * s.columns; i++)
            s.best[i] = s.chosen[i] / s.likelihood;
        ask(&s, &c, &a);
        same(&a, -log(s.likelihood), s.best, s.t * s.columns, k);
        impossible += !a.feasible;
        if (s.t < wr_ctc_least_positions(s.ids, s.n)) assert_false(a.feasible);
        if (!a.feasible) continue;
        double best = 0;
        for (int t = 0; t < s.t; t++) {
            assert_int_equal(a.said[t], s.best_said[t]);
            best -= s.lp[t * s.columns + (a.said[t] < 0 ? s.n : a.said[t])];
        }
        assert_true(fabs(best - s.least) < 1e-11);
    }
    assert_true(impossible > CASES / 20 && impossible < CASES / 2);
}

/* Long and steep: posteriors stay distributions. */
static void test_long_ctc(void **state) {
    (void)state;
    enum { FRAMES = 300, WORDS = 90, COLUMNS = WORDS + 1 };
    uint64_t seed = 14;
    double *lp = malloc(2 * FRAMES * COLUMNS * sizeof *lp), *w = lp + FRAMES * COLUMNS;
    void *workspace = malloc(wr_ctc_workspace(FRAMES, WORDS));
    int32_t ids[WORDS];
    assert_true(lp != NULL && workspace != NULL);
    for (int steep = 1; steep <= 1000; steep *= 10) {
        for (int k = 0; k < WORDS; k++)
            ids[k] = below(&seed, 9);
        for (int i = 0; i < FRAMES * COLUMNS; i++)
            lp[i] = -steep * uniform(&seed);
        memset(w, 0, FRAMES * COLUMNS * sizeof *w);
        wr_gathered s = {FRAMES, WORDS, lp, COLUMNS, WORDS};
        assert_true(isfinite(wr_ctc(&s, ids, w, workspace)));
        for (int t = 0; t < FRAMES; t++) {
            double sum = 0;
            for (int k = 0; k < COLUMNS; k++) {
                assert_true(w[t * COLUMNS + k] >= 0);
                sum += w[t * COLUMNS + k];
            }
            assert_true(fabs(sum - 1) < 1e-9);
        }
    }
    free(workspace);
    free(lp);
}

/* ---- assignment ---- */

enum { MOST = 80 };

typedef struct assignment {
    int n;
    double cost[MOST * MOST], row_price[MOST], column_price[MOST], total;
    int32_t column[MOST];
} assignment;

static void solve(assignment *a) {
    void *workspace = malloc(wr_assign_workspace(a->n));
    assert_non_null(workspace);
    a->total =
        wr_assign(a->n, a->cost, (size_t)a->n, a->column, a->row_price, a->column_price, workspace);
    free(workspace);
}

/* Prices that no pair undercuts, and a matching that costs no more than they: both are optimal. */
static void check_prices(const assignment *a) {
    double prices = 0, costs = 0;
    bool taken[MOST] = {false};
    int n = a->n;
    for (int r = 0; r < n; r++) {
        prices += a->row_price[r] + a->column_price[r];
        costs += a->cost[r * n + a->column[r]];
        assert_true(a->column[r] >= 0 && a->column[r] < n && !taken[a->column[r]]);
        taken[a->column[r]] = true;
        for (int c = 0; c < n; c++)
            assert_true(a->cost[r * n + c] >= a->row_price[r] + a->column_price[c] - 1e-9);
    }
    assert_true(costs == a->total && fabs(costs - prices) < 1e-8);
}

/* Real costs of either sign, or whole numbers with many ties. */
static void draw_costs(assignment *a, uint64_t *seed) {
    bool whole = below(seed, 3) == 0;
    for (int i = 0; i < a->n * a->n; i++)
        a->cost[i] = whole ? below(seed, 5) : 20 * uniform(seed) - 5;
}

static void test_duality(void **state) {
    (void)state;
    uint64_t seed = 15;
    assignment *a = malloc(sizeof *a);
    assert_non_null(a);
    for (int k = 0; k < 1000; k++) {
        a->n = k < 3 ? MOST : 1 + below(&seed, MOST);
        draw_costs(a, &seed);
        solve(a);
        check_prices(a);
    }
    free(a);
}

static double cheapest(const assignment *a, int row, unsigned used) {
    double best = row == a->n ? 0 : INFINITY;
    for (int c = 0; row < a->n && c < a->n; c++)
        if (!(used >> c & 1))
            best = fmin(best, a->cost[row * a->n + c] + cheapest(a, row + 1, used | 1u << c));
    return best;
}

/* Also with forbidden pairs, until nothing is left. */
static void test_exhaustive(void **state) {
    (void)state;
    uint64_t seed = 16;
    int impossible = 0, holes = 0;
    assignment *a = malloc(sizeof *a);
    assert_non_null(a);
    for (int k = 0; k < 400; k++) {
        a->n = k < 20 ? 7 : 1 + below(&seed, 6);
        draw_costs(a, &seed);
        for (int i = 0; i < a->n * a->n && k % 2 == 1; i++)
            if (below(&seed, 3) == 0) a->cost[i] = INFINITY;
        solve(a);
        double least = cheapest(a, 0, 0);
        assert_true(least == INFINITY ? a->total == INFINITY : fabs(a->total - least) < 1e-10);
        impossible += least == INFINITY;
        holes += k % 2 == 1 && least < INFINITY;
        if (least < INFINITY) check_prices(a);
    }
    assert_true(impossible > 10 && holes > 10);
    free(a);
}

/* Of equal columns the lowest is taken. */
static void test_ties(void **state) {
    (void)state;
    assignment *a = calloc(1, sizeof *a);
    assert_non_null(a);
    a->n = 5;
    solve(a);
    for (int r = 0; r < a->n; r++)
        assert_int_equal(a->column[r], r);
    free(a);
}

/* ---- gradients ---- */

enum { LOGITS = 20, WORDS = 5 };

static double loss_of(const wr_objective_config *c, wr_objective_dense *d) {
    wr_error err = {0};
    if (wr_objective_dense_run(c, d, &err) != WR_OK) fail_msg("%s", err.text);
    return d->loss;
}

/* The kinks between two alignments are not met by chance. */
static void test_differences(void **state) {
    (void)state;
    static const char *const objectives[] = {
        "ce label_smoothing=0.1",
        "cmlm label_smoothing=0.2 smooth_over=others",
        "glat",
        "axe skip_penalty=3",
        "axe label_smoothing=0.1",
        "axe form=mple skip_penalty=2",
        "oaxe",
        "oaxe trunc_prob=0.1 mix=0.3 label_smoothing=0.1",
        "ctc",
        "ctc label_smoothing=0.1",
    };
    const double h = 1e-6, weight[] = {1, 0, .5, 2};
    uint64_t seed = 17;
    for (int k = 0; k < 30 * LENGTH(objectives); k++) {
        wr_objective_config c = config_of(objectives[k % LENGTH(objectives)]);
        double z[LOGITS], gradient[LOGITS], scratch[LOGITS];
        int32_t target[4];
        wr_objective_dense d = {.positions = 4,
                                .words = WORDS,
                                .targets = c.row->aligned ? 4 : 1 + below(&seed, 4),
                                .logits = z,
                                .target = target,
                                .weight = c.row->masked ? weight : NULL,
                                .gradient = gradient};
        for (int i = 0; i < LOGITS; i++)
            z[i] = 4 * uniform(&seed) - 2;
        for (int n = 0; n < 4; n++)
            target[n] = 1 + below(&seed, WORDS - 1);
        loss_of(&c, &d);
        d.gradient = scratch;
        for (int i = 0; i < LOGITS; i++) {
            double at = z[i];
            z[i] = at + h;
            double above = loss_of(&c, &d);
            z[i] = at - h;
            double slope = (above - loss_of(&c, &d)) / (2 * h);
            z[i] = at;
            if (!(fabs(slope - gradient[i]) < 1e-7))
                fail_msg("%s: %.12g by differences, not %.12g", objectives[k % LENGTH(objectives)],
                         slope, gradient[i]);
        }
    }
}

int main(void) {
    static char original[] = "original", mple[] = "mple";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_axe, original),
        cmocka_unit_test_prestate(test_axe, mple),
        cmocka_unit_test(test_oaxe),
        cmocka_unit_test(test_ctc),
        cmocka_unit_test(test_long_ctc),
        cmocka_unit_test(test_duality),
        cmocka_unit_test(test_exhaustive),
        cmocka_unit_test(test_ties),
        cmocka_unit_test(test_differences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
