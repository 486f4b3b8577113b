/* test_batches.c: batches hold every sentence once, keep the budget, are the same with and without
 * reading ahead, and can be taken up anywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "data/batches.h"
#include "helpers/alloc.h"

enum { SENTENCES = 997, LONGEST = 40 };

/* Sentence i gets lengths and ids that can be computed again from i. */
static size_t src_length(size_t i) { return (i * 7919) % LONGEST; }
static size_t tgt_length(size_t i) { return (src_length(i) + i % 5) % LONGEST; }
static int32_t src_id(size_t i, size_t k) { return (int32_t)(4 + (i * 31 + k) % 1000); }
static int32_t tgt_id(size_t i, size_t k) { return (int32_t)(4 + (i * 17 + 3 * k) % 1000); }

static wr_corpus corpus_of(size_t n) {
    wr_corpus c = {0};
    wr_error err = {0};
    for (size_t i = 0; i < n; i++) {
        int32_t src[LONGEST], tgt[LONGEST];
        for (size_t k = 0; k < src_length(i); k++)
            src[k] = src_id(i, k);
        for (size_t k = 0; k < tgt_length(i); k++)
            tgt[k] = tgt_id(i, k);
        assert_int_equal(wr_corpus_add(&c, (wr_sentence){src, src_length(i), "s", 1},
                                       (wr_sentence){tgt, tgt_length(i), "t", 1}, &err),
                         WR_OK);
    }
    return c;
}

static wr_batches_options options_of(size_t max_tokens, size_t prefetch) {
    wr_batches_options o = wr_batches_defaults();
    o.max_tokens = max_tokens;
    o.chunk = 300;
    o.prefetch = prefetch;
    o.seed = 12;
    return o;
}

static wr_batches *open_batches(const wr_pairs *pairs, wr_batches_options o) {
    wr_error err = {0};
    wr_batches *b = NULL;
    if (wr_batches_open(pairs, &o, &b, &err) != WR_OK) fail_msg("%s", err.text);
    return b;
}

static const wr_batch *next(wr_batches *b) {
    wr_error err = {0};
    const wr_batch *batch;
    if (wr_batches_next(b, &batch, &err) != WR_OK) fail_msg("%s", err.text);
    return batch;
}

/* ---- what a batch holds ---- */

static void check_row(const int32_t *row, size_t width, size_t n, bool target, size_t i,
                      int32_t first, int32_t last) {
    size_t at = 0;
    if (first >= 0) assert_int_equal(row[at++], first);
    for (size_t k = 0; k < n; k++)
        assert_int_equal(row[at++], target ? tgt_id(i, k) : src_id(i, k));
    if (last >= 0) assert_int_equal(row[at++], last);
    while (at < width)
        assert_int_equal(row[at++], WR_PAD_ID);
}

/* All of a batch against the corpus' rules. */
static void check_batch(const wr_batch *b, size_t multiple) {
    size_t B = (size_t)b->B, S = (size_t)b->S, T = (size_t)b->T, most_s = 0, most_t = 0;
    int64_t src_tokens = 0, tgt_tokens = 0;
    assert_true(b->B > 0 && S % multiple == 0 && T % multiple == 0);
    for (size_t r = 0; r < B; r++) {
        size_t i = (size_t)b->id[r], n = src_length(i), m = tgt_length(i);
        assert_int_equal(b->src_len[r], n + 1);
        assert_int_equal(b->tgt_len[r], m + 1);
        check_row(b->src + r * S, S, n, false, i, -1, WR_EOS_ID);
        check_row(b->tgt_in + r * T, T, m, true, i, WR_BOS_ID, -1);
        check_row(b->tgt_out + r * T, T, m, true, i, -1, WR_EOS_ID);
        src_tokens += b->src_len[r];
        tgt_tokens += b->tgt_len[r];
        most_s = n + 1 > most_s ? n + 1 : most_s;
        most_t = m + 1 > most_t ? m + 1 : most_t;
    }
    assert_true(S - most_s < multiple && T - most_t < multiple);
    assert_int_equal(b->src_tokens, src_tokens);
    assert_int_equal(b->tgt_tokens, tgt_tokens);
}

/* Read one epoch: every sentence once, each batch sound and within the budget. */
static void check_epoch(wr_batches *b, const wr_batches_options *o, uint32_t epoch) {
    bool seen[SENTENCES] = {false};
    size_t count = 0;
    uint64_t batches = 1;
    for (uint64_t i = 0; i < batches; i++) {
        const wr_batch *batch = next(b);
        assert_non_null(batch);
        assert_int_equal(batch->place.epoch, epoch);
        assert_int_equal(batch->place.batch, i);
        batches = batch->batches;
        check_batch(batch, o->multiple);
        size_t longer = (size_t)(batch->S > batch->T ? batch->S : batch->T);
        assert_true((size_t)batch->B * longer <= o->max_tokens);
        assert_true(o->max_sentences == 0 || (size_t)batch->B <= o->max_sentences);
        for (int32_t r = 0; r < batch->B; r++) {
            assert_false(seen[batch->id[r]]);
            seen[batch->id[r]] = true;
            count++;
        }
    }
    assert_int_equal(count, SENTENCES);
}

static void every_sentence_once_an_epoch(void **state) {
    (void)state;
    wr_corpus c = corpus_of(SENTENCES);
    wr_pairs pairs = wr_corpus_view(&c);
    const size_t budgets[] = {40, 200, 1000, 100000};
    for (size_t i = 0; i < 4; i++)
        for (size_t multiple = 1; multiple <= 8; multiple += 7) {
            wr_batches_options o = options_of(budgets[i], i % 2 * 3);
            o.multiple = multiple;
            o.max_sentences = i == 2 ? 7 : 0;
            wr_batches *b = open_batches(&pairs, o);
            check_epoch(b, &o, 0);
            check_epoch(b, &o, 1);
            wr_batches_close(b);
        }
    wr_corpus_free(&c);
}

/* ---- order ---- */

/* A number that tells two batches apart. */
static uint64_t fingerprint(const wr_batch *b) {
    uint64_t h = (uint64_t)b->B * 1000003 + (uint64_t)b->S * 1009 + (uint64_t)b->T;
    for (int32_t r = 0; r < b->B; r++)
        h = h * UINT64_C(6364136223846793005) + (uint64_t)b->id[r];
    for (int32_t k = 0; k < b->B * b->S; k++)
        h = h * UINT64_C(6364136223846793005) + (uint64_t)b->src[k];
    return h;
}

enum { RUN = 150 };

static void read_run(const wr_pairs *pairs, wr_batches_options o, uint64_t *run) {
    wr_batches *b = open_batches(pairs, o);
    for (int i = 0; i < RUN; i++)
        run[i] = fingerprint(next(b));
    wr_batches_close(b);
}

static void reading_ahead_changes_nothing(void **state) {
    (void)state;
    wr_corpus c = corpus_of(SENTENCES);
    wr_pairs pairs = wr_corpus_view(&c);
    uint64_t plain[RUN], ahead[RUN];
    read_run(&pairs, options_of(600, 0), plain);
    for (size_t prefetch = 1; prefetch <= 9; prefetch += 4) {
        read_run(&pairs, options_of(600, prefetch), ahead);
        assert_memory_equal(plain, ahead, sizeof plain);
    }
    wr_corpus_free(&c);
}

static void seed_and_epoch_decide_the_order(void **state) {
    (void)state;
    wr_corpus c = corpus_of(SENTENCES);
    wr_pairs pairs = wr_corpus_view(&c);
    uint64_t a[RUN], b[RUN];
    wr_batches_options o = options_of(600, 0);
    read_run(&pairs, o, a);
    read_run(&pairs, o, b);
    assert_memory_equal(a, b, sizeof a);
    o.seed++;
    read_run(&pairs, o, b);
    assert_memory_not_equal(a, b, sizeof a);
    wr_batches *open = open_batches(&pairs, options_of(600, 0));
    uint64_t batches = next(open)->batches;
    assert_true(batches * 2 < RUN);
    assert_memory_not_equal(a, a + batches, batches * sizeof *a);
    wr_batches_close(open);
    wr_corpus_free(&c);
}

static void seek_continues_the_run(void **state) {
    (void)state;
    wr_corpus c = corpus_of(SENTENCES);
    wr_pairs pairs = wr_corpus_view(&c);
    uint64_t run[RUN];
    wr_batch_place place[RUN + 1] = {{0}};
    wr_batches *b = open_batches(&pairs, options_of(600, 0));
    for (int i = 0; i < RUN; i++) {
        run[i] = fingerprint(next(b));
        place[i + 1] = wr_batches_position(b);
    }
    wr_batches_close(b);
    for (size_t prefetch = 0; prefetch <= 2; prefetch++) {
        wr_error err = {0};
        b = open_batches(&pairs, options_of(600, prefetch));
        for (int from = RUN - 2; from >= 0; from -= 7) {
            assert_int_equal(wr_batches_seek(b, place[from], &err), WR_OK);
            assert_int_equal(wr_batches_position(b).epoch, place[from].epoch);
            assert_int_equal(wr_batches_position(b).batch, place[from].batch);
            for (int i = from; i < RUN && i < from + 4; i++)
                assert_true(fingerprint(next(b)) == run[i]);
        }
        wr_batches_close(b);
    }
    wr_corpus_free(&c);
}

static void seek_beyond_the_epoch_is_refused(void **state) {
    (void)state;
    wr_corpus c = corpus_of(50);
    wr_pairs pairs = wr_corpus_view(&c);
    wr_batches *b = open_batches(&pairs, options_of(200, 2));
    uint64_t n = next(b)->batches;
    uint64_t second = fingerprint(next(b));
    wr_error err = {0};
    assert_int_equal(wr_batches_seek(b, (wr_batch_place){0, n + 1}, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "cannot go on at batch"));
    err = (wr_error){0};
    assert_int_equal(wr_batches_seek(b, (wr_batch_place){0, n}, &err), WR_OK);
    assert_int_equal(wr_batches_position(b).epoch, 1);
    assert_int_equal(next(b)->place.epoch, 1);
    assert_int_equal(wr_batches_seek(b, (wr_batch_place){0, 1}, &err), WR_OK);
    assert_true(fingerprint(next(b)) == second);
    wr_batches_close(b);
    wr_corpus_free(&c);
}

static void closing_early_is_clean(void **state) {
    (void)state;
    wr_corpus c = corpus_of(SENTENCES);
    wr_pairs pairs = wr_corpus_view(&c);
    for (int reads = 0; reads < 20; reads++) {
        wr_batches *b = open_batches(&pairs, options_of(400, 3));
        for (int i = 0; i < reads; i++)
            next(b);
        wr_batches_close(b);
    }
    wr_corpus_free(&c);
}

/* ---- evaluation ---- */

static void in_order_is_one_pass_longest_first(void **state) {
    (void)state;
    wr_corpus c = corpus_of(SENTENCES);
    wr_pairs pairs = wr_corpus_view(&c);
    for (size_t prefetch = 0; prefetch <= 2; prefetch += 2) {
        wr_batches_options o = options_of(600, prefetch);
        o.in_order = true;
        wr_batches *b = open_batches(&pairs, o);
        check_epoch(b, &o, 0);
        assert_null(next(b));
        assert_null(next(b));
        wr_error err = {0};
        assert_int_equal(wr_batches_seek(b, (wr_batch_place){0}, &err), WR_OK);
        int32_t before = INT32_MAX;
        for (const wr_batch *batch; (batch = next(b)) != NULL;) {
            int32_t longer = batch->S > batch->T ? batch->S : batch->T;
            assert_true(longer <= before);
            before = longer;
        }
        assert_int_equal(wr_batches_seek(b, wr_batches_position(b), &err), WR_OK);
        assert_null(next(b));
        wr_batches_close(b);
    }
    wr_corpus_free(&c);
}

static void without_targets(void **state) {
    (void)state;
    wr_corpus c = corpus_of(30);
    wr_pairs pairs = wr_corpus_view(&c);
    wr_batches_options o = options_of(200, 0);
    o.targets = false;
    wr_batches *b = open_batches(&pairs, o);
    const wr_batch *batch = next(b);
    assert_int_equal(batch->T, 0);
    assert_null(batch->tgt_in);
    uint64_t with_side = fingerprint(batch);
    wr_batches_close(b);
    pairs.tgt = (wr_side){0};
    o.targets = true;
    b = open_batches(&pairs, o);
    assert_true(fingerprint(next(b)) == with_side);
    wr_batches_close(b);
    wr_corpus_free(&c);
}

static void a_sentence_beyond_the_budget(void **state) {
    (void)state;
    wr_corpus c = corpus_of(SENTENCES);
    wr_pairs pairs = wr_corpus_view(&c);
    wr_batches_options o = options_of(24, 0);
    wr_batches *b = NULL;
    wr_error err = {0};
    assert_int_equal(wr_batches_open(&pairs, &o, &b, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "raise the token budget"));
    assert_null(b);
    o.oversize = true;
    b = open_batches(&pairs, o);
    size_t count = 0;
    for (uint64_t i = 0, n = 1; i < n; i++) {
        const wr_batch *batch = next(b);
        int32_t longer = batch->S > batch->T ? batch->S : batch->T;
        assert_true(batch->B == 1 || batch->B * longer <= 24);
        count += (size_t)batch->B;
        n = batch->batches;
    }
    assert_int_equal(count, SENTENCES);
    wr_batches_close(b);
    wr_corpus_free(&c);
}

static void impossible_options(void **state) {
    (void)state;
    wr_corpus c = corpus_of(3), none = {0};
    wr_pairs pairs = wr_corpus_view(&c), empty = wr_corpus_view(&none);
    wr_batches_options zero = options_of(0, 0), multiple = options_of(600, 0), good = multiple;
    multiple.multiple = 0;
    wr_batches *b;
    assert_int_equal(wr_batches_open(&pairs, &zero, &b, NULL), WR_ERR_INPUT);
    assert_int_equal(wr_batches_open(&pairs, &multiple, &b, NULL), WR_ERR_INPUT);
    assert_int_equal(wr_batches_open(&empty, &good, &b, NULL), WR_ERR_INPUT);
    wr_corpus_free(&c);
}

/* ---- given sentences, summary ---- */

static void a_batch_of_given_sentences(void **state) {
    (void)state;
    const int32_t a[] = {10, 11, 12}, b[] = {20}, y[] = {30, 31};
    const wr_sentence src[] = {{a, 3, NULL, 0}, {NULL, 0, NULL, 0}, {b, 1, NULL, 0}};
    const wr_sentence tgt[] = {{y, 2, NULL, 0}, {b, 1, NULL, 0}, {NULL, 0, NULL, 0}};
    wr_batch batch = {0};
    wr_error err = {0};
    assert_int_equal(wr_batch_make(src, tgt, 3, 2, &batch, &err), WR_OK);
    const int32_t want_src[] = {10, 11, 12, 3, 3, 0, 0, 0, 20, 3, 0, 0};
    const int32_t want_in[] = {2, 30, 31, 0, 2, 20, 0, 0, 2, 0, 0, 0};
    const int32_t want_out[] = {30, 31, 3, 0, 20, 3, 0, 0, 3, 0, 0, 0};
    assert_true(batch.B == 3 && batch.S == 4 && batch.T == 4);
    assert_memory_equal(batch.src, want_src, sizeof want_src);
    assert_memory_equal(batch.tgt_in, want_in, sizeof want_in);
    assert_memory_equal(batch.tgt_out, want_out, sizeof want_out);
    assert_int_equal(batch.src_tokens, 7);
    assert_int_equal(batch.tgt_tokens, 6);
    assert_int_equal(wr_batch_make(src, NULL, 3, 1, &batch, &err), WR_OK);
    assert_true(batch.S == 4 && batch.T == 0 && batch.tgt_out == NULL && batch.tgt_tokens == 0);
    assert_int_equal(wr_batch_make(src, NULL, 0, 1, &batch, &err), WR_ERR_INPUT);
    wr_batch_free(&batch);
}

static void summary_counts_the_epoch(void **state) {
    (void)state;
    wr_corpus c = corpus_of(SENTENCES);
    wr_pairs pairs = wr_corpus_view(&c);
    wr_batches *b = open_batches(&pairs, options_of(600, 0));
    wr_batches_summary s, want = {0};
    wr_error err = {0};
    assert_int_equal(wr_batches_summarise(b, 0, &s, &err), WR_OK);
    for (uint64_t n = 1; want.batches < n; want.batches++) {
        const wr_batch *batch = next(b);
        n = batch->batches;
        want.sentences += (uint64_t)batch->B;
        want.src_tokens += (uint64_t)batch->src_tokens;
        want.tgt_tokens += (uint64_t)batch->tgt_tokens;
        want.src_cells += (uint64_t)batch->B * (uint64_t)batch->S;
        want.tgt_cells += (uint64_t)batch->B * (uint64_t)batch->T;
    }
    want.shapes = s.shapes;
    assert_memory_equal(&s, &want, sizeof s);
    assert_true(s.shapes > 1 && s.shapes <= s.batches);
    wr_batches_close(b);
    wr_corpus_free(&c);
}

/* ---- memory ---- */

static wr_status read_some(const wr_pairs *pairs, wr_error *err) {
    wr_batches_options o = options_of(600, 0);
    wr_batches *b;
    wr_batches_summary s;
    const wr_batch *batch;
    wr_status status = wr_batches_open(pairs, &o, &b, err);
    for (int i = 0; i < 3 && status == WR_OK; i++)
        status = wr_batches_next(b, &batch, err);
    if (status == WR_OK) status = wr_batches_summarise(b, 1, &s, err);
    if (status == WR_OK) status = wr_batches_seek(b, (wr_batch_place){1, 2}, err);
    if (status == WR_OK) status = wr_batches_next(b, &batch, err);
    wr_batches_close(b);
    return status;
}

static void failed_allocations(void **state) {
    (void)state;
    wr_corpus c = corpus_of(SENTENCES);
    wr_pairs pairs = wr_corpus_view(&c);
    for (long n = 1;; n++) {
        wr_error err = {0};
        wr_test_fail_allocation(n);
        wr_status status = read_some(&pairs, &err);
        if (!wr_test_allocation_failed()) {
            assert_int_equal(status, WR_OK);
            assert_true(n > 8);
            break;
        }
        assert_int_equal(status, WR_ERR_MEMORY);
        assert_non_null(strstr(err.text, "out of memory"));
    }
    wr_corpus_free(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_sentence_once_an_epoch),
        cmocka_unit_test(reading_ahead_changes_nothing),
        cmocka_unit_test(seed_and_epoch_decide_the_order),
        cmocka_unit_test(seek_continues_the_run),
        cmocka_unit_test(seek_beyond_the_epoch_is_refused),
        cmocka_unit_test(closing_early_is_clean),
        cmocka_unit_test(in_order_is_one_pass_longest_first),
        cmocka_unit_test(without_targets),
        cmocka_unit_test(a_sentence_beyond_the_budget),
        cmocka_unit_test(impossible_options),
        cmocka_unit_test(a_batch_of_given_sentences),
        cmocka_unit_test(summary_counts_the_epoch),
        cmocka_unit_test(failed_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
