/* test_dataset.c: subword models, filtering, and the dataset directory: what is written is read
 * back, and nothing damaged is believed. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "data/dataset.h"
#include "data/numbers.h"
#include "helpers/alloc.h"

/* ---- a corpus of number names and what is made of it ---- */

typedef struct fixture {
    char dir[64]; /* a fresh directory */
    wr_text src, tgt;
    wr_subword *joint, *small;
    wr_corpus corpus;
} fixture;

static char *path_in(const fixture *f, const char *name) {
    static char path[2][256];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", f->dir, name);
    return path[turn];
}

static void write_file(const char *path, const void *data, size_t n) {
    wr_error err = {0};
    if (wr_file_replace(path, data, n, &err) != WR_OK) fail_msg("%s", err.text);
}

static wr_text text_of(const fixture *f, const char *name, const char *content) {
    wr_error err = {0};
    wr_text text;
    write_file(path_in(f, name), content, strlen(content));
    if (wr_text_read(path_in(f, name), 0, &text, &err) != WR_OK) fail_msg("%s", err.text);
    return text;
}

static wr_text number_text(const fixture *f, const char *name, wr_number_lang lang, uint32_t n) {
    wr_str s = {0};
    for (uint32_t i = 0; i < n; i++) {
        wr_number_name(lang, i * 37, &s);
        wr_str_add(&s, "\n");
    }
    wr_text text = text_of(f, name, wr_str_text(&s));
    wr_str_free(&s);
    return text;
}

typedef struct line_reader {
    const wr_text *text[2];
    size_t at;
} line_reader;

static bool next_line(void *context, const char **line, size_t *n) {
    line_reader *r = context;
    if (r->at >= r->text[0]->n + r->text[1]->n) return false;
    const wr_text *text = r->text[r->at >= r->text[0]->n];
    size_t i = text == r->text[0] ? r->at : r->at - r->text[0]->n;
    r->at++;
    *line = text->line[i];
    *n = text->len[i];
    return true;
}

static wr_status train(const fixture *f, wr_subword_options o, wr_subword **out, wr_error *err) {
    line_reader r = {{&f->src, &f->tgt}, 0};
    return wr_subword_train(&o, next_line, &r, out, err);
}

static int set_up(void **state) {
    fixture *f = calloc(1, sizeof *f);
    wr_error err = {0};
    wr_filter_report report;
    const wr_filter all = {0};
    assert_non_null(f);
    snprintf(f->dir, sizeof f->dir, "/tmp/weir-dataset-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->src = number_text(f, "in.en", WR_NUMBER_EN, 400);
    f->tgt = number_text(f, "in.de", WR_NUMBER_DE, 400);
    assert_int_equal(train(f, wr_subword_defaults(120), &f->joint, &err), WR_OK);
    assert_int_equal(train(f, wr_subword_defaults(90), &f->small, &err), WR_OK);
    assert_int_equal(wr_filter_encode(&f->src, &f->tgt, f->joint, f->joint, &all, NULL, NULL,
                                      &f->corpus, &report, &err),
                     WR_OK);
    *state = f;
    return 0;
}

/* Remove a directory of files. */
static void remove_tree(const char *dir) {
    DIR *d = opendir(dir);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (unlink(path) != 0) remove_tree(path);
    }
    if (d != NULL) closedir(d);
    rmdir(dir);
}

static int tear_down(void **state) {
    fixture *f = *state;
    remove_tree(f->dir);
    wr_text_free(&f->src);
    wr_text_free(&f->tgt);
    wr_subword_free(f->joint);
    wr_subword_free(f->small);
    wr_corpus_free(&f->corpus);
    free(f);
    return 0;
}

/* ---- subword models ---- */

static void assert_round_trip(const wr_subword *m, const char *line) {
    wr_ids ids = {0};
    wr_str text = {0};
    wr_error err = {0};
    assert_int_equal(wr_subword_encode(m, line, strlen(line), &ids, &err), WR_OK);
    for (size_t i = 0; i < ids.n; i++)
        assert_true(ids.id[i] >= WR_SPECIAL_IDS && ids.id[i] < wr_subword_vocab(m));
    assert_int_equal(wr_subword_decode(m, ids.id, ids.n, &text, &err), WR_OK);
    assert_string_equal(wr_str_text(&text), line);
    wr_ids_free(&ids);
    wr_str_free(&text);
}

static void models_give_the_text_back(void **state) {
    const fixture *f = *state;
    assert_int_equal(wr_subword_vocab(f->joint), 120);
    for (size_t i = 0; i < f->src.n; i++) {
        assert_round_trip(f->joint, f->src.line[i]);
        assert_round_trip(f->joint, f->tgt.line[i]);
    }
    assert_round_trip(f->joint, "");
    assert_string_equal(wr_subword_piece(f->joint, WR_EOS_ID), "</s>");
    assert_null(wr_subword_piece(f->joint, -1));
    assert_null(wr_subword_piece(f->joint, 120));
    assert_int_equal(wr_subword_id(f->joint, "no such piece"), WR_UNK_ID);
    assert_int_equal(wr_subword_id(f->joint, wr_subword_piece(f->joint, 50)), 50);
}

static void unseen_characters(void **state) {
    const fixture *f = *state;
    wr_subword_options o = wr_subword_defaults(400);
    wr_ids ids = {0};
    wr_error err = {0};
    wr_subword *m;
    o.byte_fallback = true;
    assert_int_equal(train(f, o, &m, &err), WR_OK);
    assert_round_trip(m, "日本 zwölf ✓");
    assert_int_equal(wr_subword_encode(f->joint, "✓", strlen("✓"), &ids, &err), WR_OK);
    assert_int_equal(ids.id[ids.n - 1], WR_UNK_ID); /* no byte fallback in a small vocabulary */
    wr_ids_free(&ids);
    wr_subword_free(m);
}

static void training_is_deterministic(void **state) {
    const fixture *f = *state;
    for (int kind = WR_SUBWORD_BPE; kind <= WR_SUBWORD_UNIGRAM; kind++) {
        wr_subword_options o = wr_subword_defaults(90);
        wr_subword *a, *b;
        wr_error err = {0};
        size_t n, m;
        o.kind = (wr_subword_kind)kind;
        assert_int_equal(train(f, o, &a, &err), WR_OK);
        assert_int_equal(train(f, o, &b, &err), WR_OK);
        const void *bytes = wr_subword_bytes(a, &n), *again = wr_subword_bytes(b, &m);
        assert_int_equal(n, m);
        assert_memory_equal(bytes, again, n);
        assert_round_trip(a, "zweihundertvierunddreißig");
        wr_subword_free(a);
        wr_subword_free(b);
    }
}

static void lowercase_models_fold_case(void **state) {
    const fixture *f = *state;
    wr_subword_options o = wr_subword_defaults(90);
    wr_subword *m;
    wr_error err = {0};
    wr_ids upper = {0}, lower = {0};
    o.lowercase = true;
    assert_int_equal(train(f, o, &m, &err), WR_OK);
    assert_int_equal(wr_subword_encode(m, "ZWÖLF", strlen("ZWÖLF"), &upper, &err), WR_OK);
    assert_int_equal(wr_subword_encode(m, "zwölf", strlen("zwölf"), &lower, &err), WR_OK);
    assert_int_equal(upper.n, lower.n);
    assert_memory_equal(upper.id, lower.id, lower.n * sizeof *lower.id);
    wr_ids_free(&upper);
    wr_ids_free(&lower);
    wr_subword_free(m);
}

/* The limit named in the message must itself be allowed. */
static void impossible_vocabularies_name_the_limit(void **state) {
    const fixture *f = *state;
    const int wrong[] = {100000, 6};
    const char *const mark[] = {"use --vocab ", "use --vocab "};
    for (int i = 0; i < 2; i++) {
        wr_error err = {0};
        wr_subword_options o = wr_subword_defaults(wrong[i]);
        wr_subword *m;
        o.byte_fallback = false;
        o.coverage = 1;
        assert_int_equal(train(f, o, &m, &err), WR_ERR_INPUT);
        assert_null(m);
        const char *at = strstr(err.text, mark[i]);
        if (at == NULL) fail_msg("%s", err.text);
        o.vocab = atoi(at + strlen(mark[i]));
        err = (wr_error){0};
        if (train(f, o, &m, &err) != WR_OK) fail_msg("%s", err.text);
        assert_int_equal(wr_subword_vocab(m), o.vocab);
        wr_subword_free(m);
    }
    wr_error err = {0};
    wr_subword_options o = wr_subword_defaults(100000);
    wr_subword *m;
    o.exact = false;
    assert_int_equal(train(f, o, &m, &err), WR_OK);
    assert_in_range(wr_subword_vocab(m), 200, 99999);
    wr_subword_free(m);
}

static bool no_line(void *context, const char **line, size_t *n) {
    (void)context, (void)line, (void)n;
    return false;
}

static void bad_models_are_refused(void **state) {
    const fixture *f = *state;
    wr_subword *m;
    wr_error err = {0};
    size_t n;
    const char *bytes = wr_subword_bytes(f->joint, &n);
    const wr_subword_options o = wr_subword_defaults(90);
    assert_int_equal(wr_subword_train(&o, no_line, NULL, &m, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "no text"));
    assert_int_equal(wr_subword_load_memory("", 0, "x", &m, NULL), WR_ERR_INPUT);
    assert_int_equal(wr_subword_load_memory("rubbish", 7, "x", &m, NULL), WR_ERR_INPUT);
    assert_int_equal(wr_subword_load_memory(bytes, n / 2, "x", &m, NULL), WR_ERR_INPUT);
    assert_int_equal(wr_subword_load("/nonexistent/model", &m, NULL), WR_ERR_IO);
    assert_int_equal(wr_subword_load_memory(bytes, n, "x", &m, NULL), WR_OK);
    assert_round_trip(m, "zwölf");
    const int32_t out[] = {5, 120}, negative[] = {-1};
    wr_str text = {0};
    err = (wr_error){0};
    assert_int_equal(wr_subword_decode(m, out, 2, &text, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "token id 120 at position 1"));
    assert_int_equal(wr_subword_decode(m, negative, 1, &text, NULL), WR_ERR_INPUT);
    wr_str_free(&text);
    wr_subword_free(m);
}

/* ---- filter ---- */

static void filter_counts_its_reasons(void **state) {
    const fixture *f = *state;
    wr_text src = text_of(
        f, "f.src",
        "one\n\n \t \ntwo\none\n"
        "hundred and one and two and three and four and five and six and seven and eight and "
        "nine and ten and eleven and twelve and thirteen and fourteen\n"
        "one\nthree\n");
    wr_text tgt = text_of(f, "f.tgt",
                          "eins\nzwei\ndrei\n\neins\nzwei\n"
                          "eintausendeinhunderteinundzwanzig\ndrei\n");
    wr_corpus out = {0};
    wr_filter_report r;
    wr_error err = {0};
    const wr_filter filter = {.empty = true, .max_len = 20, .max_ratio = 4, .duplicates = true};
    assert_int_equal(
        wr_filter_encode(&src, &tgt, f->joint, f->joint, &filter, NULL, NULL, &out, &r, &err),
        WR_OK);
    wr_str said = {0};
    wr_filter_describe(&filter, &r, &said);
    wr_filter_report want = {
        .lines = 8, .kept = 2, .duplicate = 1, .empty = 3, .too_long = 1, .ratio = 1};
    if (memcmp(&r, &want, sizeof r) != 0) fail_msg("%s", wr_str_text(&said));
    assert_string_equal(wr_str_text(&said),
                        "8 pairs, 2 kept; dropped: 1 duplicate, 3 with an empty side, 1 longer "
                        "than 20 tokens, 1 with a length ratio above 4");
    wr_pairs pairs = wr_corpus_view(&out);
    assert_int_equal(pairs.n, 2);
    assert_string_equal(wr_side_text(&pairs.src, 1), "three");
    assert_string_equal(wr_side_text(&pairs.tgt, 1), "drei");
    wr_str_free(&said);
    wr_corpus_free(&out);
    wr_text_free(&src);
    wr_text_free(&tgt);
}

static void unequal_files_are_refused(void **state) {
    const fixture *f = *state;
    wr_text src = text_of(f, "u.src", "one\ntwo\n"), tgt = text_of(f, "u.tgt", "eins\n");
    wr_corpus out = {0};
    wr_filter_report r;
    wr_error err = {0};
    const wr_filter filter = {0};
    assert_int_equal(
        wr_filter_encode(&src, &tgt, f->joint, f->joint, &filter, NULL, NULL, &out, &r, &err),
        WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "u.src has 2 lines but "));
    assert_non_null(strstr(err.text, "u.tgt has 1:"));
    assert_int_equal(out.n, 0);
    wr_text_free(&src);
    wr_text_free(&tgt);
}

/* ---- .pairs files ---- */

static void assert_same_side(const wr_side *a, const wr_side *b, size_t n) {
    for (size_t i = 0; i < n; i++) {
        size_t x, y;
        const int32_t *p = wr_side_ids(a, i, &x), *q = wr_side_ids(b, i, &y);
        assert_int_equal(x, y);
        if (x > 0) assert_memory_equal(p, q, x * sizeof *p);
        assert_string_equal(wr_side_text(a, i), wr_side_text(b, i));
    }
}

static void assert_same_pairs(const wr_pairs *a, const wr_pairs *b) {
    assert_int_equal(a->n, b->n);
    assert_same_side(&a->src, &b->src, a->n);
    assert_same_side(&a->tgt, &b->tgt, a->n);
}

static void pairs_come_back(void **state) {
    const fixture *f = *state;
    const char *path = path_in(f, "x.pairs");
    wr_pairs pairs = wr_corpus_view(&f->corpus);
    wr_corpus none = {0};
    wr_pairs empty = wr_corpus_view(&none);
    wr_pairs_file file;
    wr_error err = {0};
    assert_int_equal(wr_pairs_write(path, &pairs, 120, 121, &err), WR_OK);
    assert_int_equal(wr_pairs_open(path, &file, &err), WR_OK);
    assert_true(file.src_vocab == 120 && file.tgt_vocab == 121);
    assert_same_pairs(&file.pairs, &pairs);
    wr_pairs_close(&file);
    assert_int_equal(wr_pairs_write(path, &empty, 120, 120, &err), WR_OK);
    assert_int_equal(wr_pairs_open(path, &file, &err), WR_OK);
    assert_int_equal(file.pairs.n, 0);
    wr_pairs_close(&file);
    assert_int_equal(wr_pairs_open(path_in(f, "absent"), &file, &err), WR_ERR_IO);
    assert_int_equal(wr_pairs_open(f->dir, &file, NULL), WR_ERR_IO);
}

/* A tiny .pairs file in memory: three pairs, one with an empty side. */
static char *tiny_file(const fixture *f, size_t *n) {
    const int32_t a[] = {4, 5, 6}, b[] = {7};
    wr_corpus c = {0};
    wr_error err = {0};
    char *bytes;
    wr_corpus_add(&c, (wr_sentence){a, 3, "a b c", 5}, (wr_sentence){b, 1, "d", 1}, &err);
    wr_corpus_add(&c, (wr_sentence){a, 0, "", 0}, (wr_sentence){a, 2, "a b", 3}, &err);
    wr_corpus_add(&c, (wr_sentence){b, 1, "d", 1}, (wr_sentence){b, 1, "d", 1}, &err);
    wr_pairs pairs = wr_corpus_view(&c);
    assert_int_equal(wr_pairs_write(path_in(f, "tiny"), &pairs, 8, 8, &err), WR_OK);
    assert_int_equal(wr_file_read(path_in(f, "tiny"), &bytes, n, &err), WR_OK);
    wr_corpus_free(&c);
    return bytes;
}

static wr_status open_bytes(const fixture *f, const char *bytes, size_t n, wr_error *err) {
    wr_pairs_file file;
    FILE *out = fopen(path_in(f, "bad"), "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(bytes, 1, n, out), n);
    assert_int_equal(fclose(out), 0);
    wr_status status = wr_pairs_open(path_in(f, "bad"), &file, err);
    if (status == WR_OK) {
        wr_pairs_close(&file);
    } else {
        assert_null(file.map);
    }
    return status;
}

static void every_truncation_is_refused(void **state) {
    const fixture *f = *state;
    size_t n;
    char *bytes = tiny_file(f, &n);
    for (size_t cut = 0; cut < n; cut++) {
        wr_error err = {0};
        assert_int_equal(open_bytes(f, bytes, cut, &err), WR_ERR_INPUT);
        assert_non_null(strstr(err.text, "bad: damaged"));
    }
    char *longer = calloc(n + 8, 1);
    assert_non_null(longer);
    memcpy(longer, bytes, n);
    assert_int_equal(open_bytes(f, longer, n + 8, NULL), WR_ERR_INPUT);
    assert_int_equal(open_bytes(f, longer, n, NULL), WR_OK);
    free(longer);
    free(bytes);
}

static void every_flipped_bit_is_refused(void **state) {
    const fixture *f = *state;
    size_t n;
    char *bytes = tiny_file(f, &n);
    for (size_t i = 0; i < n; i++) {
        char kept = bytes[i];
        bytes[i] = (char)(kept ^ (1 << i % 8));
        assert_int_equal(open_bytes(f, bytes, n, NULL), WR_ERR_INPUT);
        bytes[i] = kept;
    }
    assert_int_equal(open_bytes(f, bytes, n, NULL), WR_OK);
    free(bytes);
}

enum { BODY_CRC = 64, HEADER_CRC = 68, HEADER = 72 };

/* Make both check sums right, as a liar would. */
static void sign(char *bytes, size_t n) {
    uint32_t body = (uint32_t)crc32_z(0, (const Bytef *)bytes + HEADER, n - HEADER);
    memcpy(bytes + BODY_CRC, &body, sizeof body);
    uint32_t head = (uint32_t)crc32_z(0, (const Bytef *)bytes, HEADER_CRC);
    memcpy(bytes + HEADER_CRC, &head, sizeof head);
}

/* Header fields with values that the rest of the file contradicts, signed with the right sums. */
static void lying_headers_are_refused(void **state) {
    const fixture *f = *state;
    const struct {
        size_t at, size;
    } field[] = {{8, 4}, {12, 4}, {16, 4}, {20, 4}, {24, 8}, {32, 8}, {40, 8}, {48, 8}, {56, 8}};
    const uint64_t lie[] = {0, 2, 4, 1000, UINT32_MAX, UINT64_MAX, UINT64_MAX / 8, 1ull << 61};
    size_t n;
    char *bytes = tiny_file(f, &n), kept[HEADER];
    memcpy(kept, bytes, HEADER);
    for (size_t i = 0; i < sizeof field / sizeof field[0]; i++)
        for (size_t k = 0; k < sizeof lie / sizeof lie[0]; k++) {
            if (memcmp(bytes + field[i].at, &lie[k], field[i].size) == 0) continue; /* the truth */
            memcpy(bytes + field[i].at, &lie[k], field[i].size);
            sign(bytes, n);
            wr_status status = open_bytes(f, bytes, n, NULL);
            bool vocab = field[i].at == 16 || field[i].at == 20;
            /* A larger vocabulary is no contradiction inside the file. */
            if (status != WR_ERR_INPUT && !(vocab && lie[k] == 1000))
                fail_msg("header byte %zu = %llu is believed", field[i].at,
                         (unsigned long long)lie[k]);
            memcpy(bytes, kept, HEADER);
        }
    assert_int_equal(open_bytes(f, bytes, n, NULL), WR_OK);
    free(bytes);
}

/* Body values out of range, signed: offsets, ids, line ends. Any byte may hold anything; what is
 * accepted must be harmless to read. */
static void lying_bodies_do_no_harm(void **state) {
    const fixture *f = *state;
    size_t n, refused = 0;
    char *bytes = tiny_file(f, &n);
    for (size_t i = HEADER; i < n; i++) {
        char kept = bytes[i];
        wr_pairs_file file;
        bytes[i] = (char)0xff;
        sign(bytes, n);
        if (open_bytes(f, bytes, n, NULL) != WR_OK) {
            refused++;
        } else if (wr_pairs_open(path_in(f, "bad"), &file, NULL) == WR_OK) {
            size_t count, sum = 0;
            for (size_t k = 0; k < file.pairs.n; k++) {
                const int32_t *id = wr_side_ids(&file.pairs.src, k, &count);
                for (size_t j = 0; j < count; j++)
                    sum += (size_t)id[j];
                sum += strlen(wr_side_text(&file.pairs.tgt, k));
            }
            assert_true(sum < 1000);
            wr_pairs_close(&file);
        }
        bytes[i] = kept;
    }
    /* All bytes of 16 offsets and of 8 ids; the 7 line ends when they end a line of one byte. */
    assert_true(refused >= 16 * 8 + 8 * 4 + 6);
    free(bytes);
}

/* ---- the directory ---- */

static wr_dataset_info info_of(void) {
    wr_dataset_info info = {.src_lang = "en", .tgt_lang = "de", .max_len = 64};
    for (int i = 0; i < WR_SPLITS; i++) {
        info.split[i].src_file = "numbers.en";
        info.split[i].tgt_file = "numbers.de";
    }
    info.split[WR_TRAIN].filter = (wr_filter){true, 64, 2.5, true};
    info.split[WR_TRAIN].report = (wr_filter_report){410, 400, 1, 2, 3, 4};
    return info;
}

static wr_status write_dataset(const fixture *f, const char *dir, const wr_subword *tgt_model,
                               bool test, wr_error *err) {
    wr_dataset_info info = info_of();
    wr_pairs pairs = wr_corpus_view(&f->corpus);
    const wr_pairs *split[WR_SPLITS] = {&pairs, &pairs, test ? &pairs : NULL};
    return wr_dataset_write(dir, &info, f->joint, tgt_model, split, err);
}

static bool exists(const fixture *f, const char *name) {
    return access(path_in(f, name), F_OK) == 0;
}

static void a_joint_dataset_comes_back(void **state) {
    const fixture *f = *state;
    wr_error err = {0};
    wr_dataset *d;
    assert_int_equal(write_dataset(f, path_in(f, "deep/er/data/"), f->joint, true, &err), WR_OK);
    if (wr_dataset_open(path_in(f, "deep/er/data"), &d, &err) != WR_OK) fail_msg("%s", err.text);
    const wr_dataset_info *info = wr_dataset_info_of(d);
    assert_true(info->joint && !info->lowercase && info->kind == WR_SUBWORD_BPE);
    assert_true(info->src_vocab == 120 && info->tgt_vocab == 120 && info->max_len == 64);
    assert_string_equal(info->src_lang, "en");
    assert_string_equal(info->split[WR_TEST].tgt_file, "numbers.de");
    const wr_split_info *s = &info->split[WR_TRAIN];
    assert_true(s->filter.empty && s->filter.duplicates && s->filter.max_len == 64);
    assert_true(s->filter.max_ratio > 2.49 && s->filter.max_ratio < 2.51);
    assert_true(s->report.lines == 410 && s->report.kept == 400 && s->report.duplicate == 1);
    assert_true(s->report.empty == 2 && s->report.too_long == 3 && s->report.ratio == 4);
    assert_ptr_equal(wr_dataset_src_model(d), wr_dataset_tgt_model(d));
    wr_pairs pairs = wr_corpus_view(&f->corpus);
    for (int i = 0; i < WR_SPLITS; i++)
        assert_same_pairs(wr_dataset_pairs(d, (wr_split)i), &pairs);
    wr_dataset_free(d);
}

static void two_vocabularies_and_no_test(void **state) {
    const fixture *f = *state;
    wr_error err = {0};
    wr_dataset *d;
    wr_dataset_info info = info_of();
    wr_corpus c = {0};
    wr_filter_report r;
    const wr_filter all = {0};
    assert_int_equal(
        wr_filter_encode(&f->src, &f->tgt, f->joint, f->small, &all, NULL, NULL, &c, &r, &err),
        WR_OK);
    wr_pairs pairs = wr_corpus_view(&c);
    const wr_pairs *split[WR_SPLITS] = {&pairs, &pairs, NULL};
    const char *dir = path_in(f, "two");
    assert_int_equal(wr_dataset_write(dir, &info, f->joint, f->small, split, &err), WR_OK);
    if (wr_dataset_open(dir, &d, &err) != WR_OK) fail_msg("%s", err.text);
    assert_false(wr_dataset_info_of(d)->joint);
    assert_int_equal(wr_subword_vocab(wr_dataset_tgt_model(d)), 90);
    assert_null(wr_dataset_pairs(d, WR_TEST));
    assert_same_pairs(wr_dataset_pairs(d, WR_TRAIN), &pairs);
    wr_dataset_free(d);
    wr_corpus_free(&c);
}

static void a_dataset_replaces_a_dataset(void **state) {
    const fixture *f = *state;
    wr_error err = {0};
    wr_dataset *d;
    assert_int_equal(write_dataset(f, path_in(f, "re"), f->joint, true, &err), WR_OK);
    assert_true(exists(f, "re/test.pairs"));
    /* What a killed run leaves is no hindrance. */
    assert_int_equal(mkdir(path_in(f, "re.partial"), 0777), 0);
    write_file(path_in(f, "re.partial/train.pairs.tmp"), "x", 1);
    assert_int_equal(write_dataset(f, path_in(f, "re"), f->joint, false, &err), WR_OK);
    assert_false(exists(f, "re/test.pairs"));
    assert_false(exists(f, "re.partial"));
    assert_false(exists(f, "re.old"));
    assert_int_equal(wr_dataset_open(path_in(f, "re"), &d, &err), WR_OK);
    wr_dataset_free(d);
    assert_int_equal(mkdir(path_in(f, "void"), 0777), 0);
    assert_int_equal(write_dataset(f, path_in(f, "void"), f->joint, false, &err), WR_OK);
    assert_true(exists(f, "void/dataset.json"));
}

static void foreign_files_are_not_replaced(void **state) {
    const fixture *f = *state;
    wr_error err = {0};
    assert_int_equal(write_dataset(f, path_in(f, "fo"), f->joint, false, &err), WR_OK);
    write_file(path_in(f, "fo/thesis.tex"), "x", 1);
    assert_int_equal(write_dataset(f, path_in(f, "fo"), f->joint, false, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "holds thesis.tex"));
    assert_true(exists(f, "fo/thesis.tex"));
    assert_false(exists(f, "fo.partial"));
    assert_int_equal(mkdir(path_in(f, "raw"), 0777), 0);
    write_file(path_in(f, "raw/train.pairs"), "x", 1);
    assert_int_equal(wr_dataset_may_write(path_in(f, "raw"), NULL), WR_ERR_INPUT);
    assert_int_equal(wr_dataset_may_write(path_in(f, "raw/train.pairs"), NULL), WR_ERR_INPUT);
    assert_int_equal(wr_dataset_may_write("", NULL), WR_ERR_INPUT);
    assert_int_equal(wr_dataset_may_write(path_in(f, "none"), NULL), WR_OK);
}

/* Replace the first `from` in DIR/dataset.json by `to` and open; the old file is put back. */
static wr_status open_edited(const fixture *f, const char *from, const char *to, wr_error *err) {
    char *text;
    size_t n;
    wr_dataset *d;
    assert_int_equal(wr_file_read(path_in(f, "ed/dataset.json"), &text, &n, err), WR_OK);
    char *at = strstr(text, from);
    if (at == NULL) fail_msg("dataset.json has no %s", from);
    wr_str edited = {0};
    wr_str_bytes(&edited, text, (size_t)(at - text));
    wr_str_add(&edited, "%s%s", to, at + strlen(from));
    write_file(path_in(f, "ed/dataset.json"), edited.text, edited.len);
    wr_status status = wr_dataset_open(path_in(f, "ed"), &d, err);
    wr_dataset_free(d);
    write_file(path_in(f, "ed/dataset.json"), text, n);
    wr_str_free(&edited);
    free(text);
    return status;
}

static void edited_json_is_refused(void **state) {
    const fixture *f = *state;
    wr_error err = {0};
    const char *const edit[][2] = {
        {"weir dataset", "weir data"},
        {"\"version\":\t1", "\"version\":\t2"},
        {"src_lang", "lang"},
        {"\"bpe\"", "\"words\""},
        {"\"joint\":\ttrue", "\"joint\":\tfalse"},
        {"\"src_vocab\":\t120", "\"src_vocab\":\t121"},
        {"\"src_vocab\":\t120", "\"src_vocab\":\t1e300"},
        {"\"src_vocab\":\t120", "\"src_vocab\":\t120.5"},
        {"\"max_len\":\t64", "\"max_len\":\t-1"},
        {"\"lowercase\":\tfalse", "\"lowercase\":\t0"},
        {"\"crc32\":\t", "\"crc32\":\t1"},
        {"\"valid\"", "\"Valid\""},
        {"\"pairs\":\t400", "\"pairs\":\t399"},
        {"\"dropped\"", "\"d\""},
        {"{", "["},
        {"\"models\"", "\"m\""},
        {"\"splits\"", "\"s\""},
    };
    assert_int_equal(write_dataset(f, path_in(f, "ed"), f->joint, false, &err), WR_OK);
    for (size_t i = 0; i < sizeof edit / sizeof edit[0]; i++) {
        err = (wr_error){0};
        if (open_edited(f, edit[i][0], edit[i][1], &err) == WR_OK)
            fail_msg("%s -> %s is believed", edit[i][0], edit[i][1]);
        assert_non_null(strstr(err.text, "/ed/"));
    }
    err = (wr_error){0};
    if (open_edited(f, "numbers.en", "other.en", &err) != WR_OK) fail_msg("%s", err.text);
}

static void damaged_parts_are_refused(void **state) {
    const fixture *f = *state;
    const char *const part[] = {"da/joint.model", "da/train.pairs", "da/valid.pairs",
                                "da/dataset.json"};
    wr_error err = {0};
    wr_dataset *d;
    assert_int_equal(write_dataset(f, path_in(f, "da"), f->joint, false, &err), WR_OK);
    for (size_t i = 0; i < sizeof part / sizeof part[0]; i++) {
        char *bytes;
        size_t n;
        assert_int_equal(wr_file_read(path_in(f, part[i]), &bytes, &n, &err), WR_OK);
        write_file(path_in(f, part[i]), bytes, n / 2);
        assert_int_equal(wr_dataset_open(path_in(f, "da"), &d, NULL), WR_ERR_INPUT);
        assert_int_equal(unlink(path_in(f, part[i])), 0);
        assert_int_equal(wr_dataset_open(path_in(f, "da"), &d, NULL), WR_ERR_IO);
        write_file(path_in(f, part[i]), bytes, n);
        free(bytes);
    }
    assert_int_equal(wr_dataset_open(path_in(f, "da"), &d, &err), WR_OK);
    wr_dataset_free(d);
}

/* ---- memory ---- */

static wr_status encode_write_open(const fixture *f, const char *dir, wr_error *err) {
    wr_corpus c = {0};
    wr_filter_report r;
    wr_dataset *d = NULL;
    wr_dataset_info info = info_of();
    const wr_filter filter = {.duplicates = true, .empty = true, .max_len = 64, .max_ratio = 3};
    wr_status status =
        wr_filter_encode(&f->src, &f->tgt, f->joint, f->joint, &filter, NULL, NULL, &c, &r, err);
    wr_pairs pairs = wr_corpus_view(&c);
    info.split[WR_TRAIN].report.kept = pairs.n;
    const wr_pairs *split[WR_SPLITS] = {&pairs, &pairs, NULL};
    if (status == WR_OK) status = wr_dataset_write(dir, &info, f->joint, f->joint, split, err);
    if (status == WR_OK) status = wr_dataset_open(dir, &d, err);
    wr_dataset_free(d);
    wr_corpus_free(&c);
    return status;
}

static void failed_allocations(void **state) {
    const fixture *f = *state;
    for (long n = 1;; n++) {
        wr_error err = {0};
        wr_test_fail_allocation(n);
        wr_status status = encode_write_open(f, path_in(f, "me"), &err);
        if (!wr_test_allocation_failed()) {
            if (status != WR_OK) fail_msg("%s", err.text);
            assert_true(n > 30);
            break;
        }
        assert_int_equal(status, WR_ERR_MEMORY);
        assert_non_null(strstr(err.text, "out of memory"));
        assert_false(exists(f, "me.partial"));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models_give_the_text_back),
        cmocka_unit_test(unseen_characters),
        cmocka_unit_test(training_is_deterministic),
        cmocka_unit_test(lowercase_models_fold_case),
        cmocka_unit_test(impossible_vocabularies_name_the_limit),
        cmocka_unit_test(bad_models_are_refused),
        cmocka_unit_test(filter_counts_its_reasons),
        cmocka_unit_test(unequal_files_are_refused),
        cmocka_unit_test(pairs_come_back),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(every_flipped_bit_is_refused),
        cmocka_unit_test(lying_headers_are_refused),
        cmocka_unit_test(lying_bodies_do_no_harm),
        cmocka_unit_test(a_joint_dataset_comes_back),
        cmocka_unit_test(two_vocabularies_and_no_test),
        cmocka_unit_test(a_dataset_replaces_a_dataset),
        cmocka_unit_test(foreign_files_are_not_replaced),
        cmocka_unit_test(edited_json_is_refused),
        cmocka_unit_test(damaged_parts_are_refused),
        cmocka_unit_test(failed_allocations),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
