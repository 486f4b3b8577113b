/* synth_corrupt.c: damaged copies of a text; see synth_corrupt.h for the contracts. */
#include "data/synth_corrupt.h"
#include "data/draw.h"
#include "data/score_grams.h"

#include <stdlib.h>

/* ---- tokens of a line ---- */

/* The next token of the `len` bytes at `*at`, which moves behind it; false at the end. */
static bool next_token(const char **at, const char *end, wr_token *token) {
    size_t space;
    while (*at < end && (space = wr_utf8_space(*at, (size_t)(end - *at))) > 0)
        *at += space;
    token->at = *at;
    while (*at < end && wr_utf8_space(*at, (size_t)(end - *at)) == 0)
        ++*at;
    token->len = (size_t)(*at - token->at);
    return token->len > 0;
}

/* ---- reading ---- */

typedef struct reader {
    wr_corrupt_text *out;
    wr__names lines, words;
    size_t token_cap, word_cap;
} reader;

static wr_status add_token(reader *r, wr_token token, wr_error *err) {
    wr_corrupt_text *t = r->out;
    uint32_t id = 0;
    wr_status status = wr__names_get(&r->words, token.at, token.len, &id, err);
    if (status != WR_OK) return status;
    if (!wr_grow(&t->token, &r->token_cap, t->tokens + 1, sizeof *t->token) ||
        !wr_grow(&t->word, &r->word_cap, t->words + 1, sizeof *t->word))
        return wr_fail_memory(err, "tokens", (t->tokens + t->words + 2) * sizeof token);
    t->token[t->tokens++] = token;
    if (id == t->words) t->word[t->words++] = token;
    return WR_OK;
}

static wr_status add_line(reader *r, const char *line, size_t len, wr_error *err) {
    wr_corrupt_text *t = r->out;
    const char *at = line, *end = line + len;
    uint32_t id = 0;
    wr_token token;
    if (!next_token(&at, end, &token)) {
        t->empty++;
        return WR_OK;
    }
    wr_status status = wr__names_get(&r->lines, line, len, &id, err);
    if (status != WR_OK) return status;
    if (id < t->n) {
        t->repeated++;
        return WR_OK;
    }
    t->line[t->n] = line;
    t->len[t->n++] = len;
    do {
        status = add_token(r, token, err);
    } while (status == WR_OK && next_token(&at, end, &token));
    return status;
}

static wr_status read_texts(reader *r, const wr_text *text, size_t n, wr_error *err) {
    size_t lines = 0;
    for (size_t i = 0; i < n; i++)
        lines += text[i].n;
    r->out->line = malloc((lines + 1) * sizeof *r->out->line);
    r->out->len = malloc((lines + 1) * sizeof *r->out->len);
    if (r->out->line == NULL || r->out->len == NULL)
        return wr_fail_memory(err, "lines", lines * sizeof *r->out->line);
    wr_status status = wr__names_clear(&r->lines, err);
    if (status == WR_OK) status = wr__names_clear(&r->words, err);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < text[i].n && status == WR_OK; k++)
            status = add_line(r, text[i].line[k], text[i].len[k], err);
    if (status == WR_OK && r->out->n == 0)
        status = wr_fail(err, WR_ERR_INPUT, "%s: %zu lines, none of them with a word",
                         n == 0 ? "no text" : text[0].path, lines);
    return status;
}

wr_status wr_corrupt_read(const wr_text *text, size_t n, wr_corrupt_text *out, wr_error *err) {
    *out = (wr_corrupt_text){0};
    reader r = {.out = out};
    wr_status status = read_texts(&r, text, n, err);
    wr__names_free(&r.lines);
    wr__names_free(&r.words);
    return status;
}

void wr_corrupt_text_free(wr_corrupt_text *text) {
    free(text->line);
    free(text->len);
    free(text->token);
    free(text->word);
    *text = (wr_corrupt_text){0};
}

/* ---- damage ---- */

void wr_corrupt_line(const wr_corrupt_text *text, const wr_corrupt *o, size_t i, wr_str *out) {
    wr__draw d = wr__draw_begin(o->seed, WR__DRAW_CORRUPT, (uint32_t)i);
    const wr_token *pool = o->pool == WR_CORRUPT_TEXT ? text->token : text->word;
    size_t pool_n = o->pool == WR_CORRUPT_TEXT ? text->tokens : text->words;
    const char *at = text->line[i], *end = at + text->len[i];
    wr_token token, last = {0};
    bool any = false;
    while (next_token(&at, end, &token)) {
        /* every token takes the same three draws, so that B differs from A by what is left out */
        bool drop = wr__draw_real(&d) < o->drop;
        bool replace = wr__draw_real(&d) < o->replace;
        wr_token other = pool[wr__draw_below(&d, pool_n)];
        last = replace ? other : token;
        if (drop) continue;
        if (any) wr_str_bytes(out, " ", 1);
        wr_str_bytes(out, last.at, last.len);
        any = true;
    }
    if (!any) wr_str_bytes(out, last.at, last.len);
}

/* ---- splits ---- */

static int by_number(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

wr_status wr_corrupt_split(const wr_corrupt_text *text, size_t valid, size_t test, uint64_t seed,
                           uint32_t **order, wr_error *err) {
    *order = NULL;
    if (valid >= text->n || test >= text->n - valid)
        return wr_fail(err, WR_ERR_INPUT,
                       "the text has %zu distinct lines with a word, too few for %zu valid, %zu "
                       "test and at least 1 train; give more text, or lower --valid and --test",
                       text->n, valid, test);
    uint32_t *all = malloc(text->n * sizeof *all);
    if (all == NULL) return wr_fail_memory(err, "the order of lines", text->n * sizeof *all);
    for (size_t i = 0; i < text->n; i++)
        all[i] = (uint32_t)i;
    wr__draw d = wr__draw_begin(seed, WR__DRAW_CORRUPT_SPLIT, 0);
    wr__draw_shuffle(&d, all, text->n);
    size_t held = valid + test;
    qsort(all + held, text->n - held, sizeof *all, by_number);
    *order = all;
    return WR_OK;
}
