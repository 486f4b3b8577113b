/* tokenize.c: the tokenisers of scoring; see tokenize.h for the contracts.
 *
 * A line goes through a short chain of rewrites between two buffers (`text` holds the current
 * state, `next` receives the following one) and is then cut at white space. */
#define _GNU_SOURCE           /* memmem */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "data/tokenize.h"

#include "data/text.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { MAX_RULES = 3 };

/* One substitution of all matches in a line. */
typedef struct rule {
    pcre2_code *code;
    const char *replacement;
} rule;

struct wr_tokenizer {
    wr_tok tok;
    bool lowercase;
    rule sigma; /* capital sigma at the end of a word */
    rule rules[MAX_RULES];
    size_t n_rules;
    pcre2_match_data *match;
    wr_str text, next;
    wr_token *tokens;
    size_t n_tokens, cap_tokens;
};

static const char *const tok_names[] = {[WR_TOK_13A] = "13a",
                                        [WR_TOK_INTL] = "intl",
                                        [WR_TOK_NONE] = "none",
                                        [WR_TOK_SPACES] = "spaces"};

const char *wr_tok_name(wr_tok tok) { return tok_names[tok]; }

bool wr_tok_parse(const char *name, wr_tok *tok) {
    for (size_t i = 0; i < sizeof tok_names / sizeof tok_names[0]; i++) {
        if (strcmp(name, tok_names[i]) != 0) continue;
        *tok = (wr_tok)i;
        return true;
    }
    return false;
}

/* ---- expressions ---- */

static wr_status rule_compile(rule *r, const char *pattern, const char *replacement,
                              wr_error *err) {
    int code;
    PCRE2_SIZE at;
    r->replacement = replacement;
    r->code =
        pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF, &code, &at, NULL);
    if (r->code == NULL) {
        PCRE2_UCHAR text[256];
        pcre2_get_error_message(code, text, sizeof text / sizeof text[0]);
        return wr_fail(err, WR_ERR_LIBRARY, "PCRE2 does not take `%s`: %s", pattern,
                       (const char *)text);
    }
    pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE); /* only speed: without JIT it interprets */
    return WR_OK;
}

static void swap_text(wr_tokenizer *t) {
    wr_str old = t->text;
    t->text = t->next;
    t->next = old;
}

/* Replace every match of `r` in the current text. */
static wr_status rule_apply(wr_tokenizer *t, const rule *r, wr_error *err) {
    const uint32_t how =
        PCRE2_SUBSTITUTE_GLOBAL | PCRE2_SUBSTITUTE_OVERFLOW_LENGTH | PCRE2_NO_UTF_CHECK;
    PCRE2_SIZE size = 2 * t->text.len + 64;
    for (int attempt = 0;; attempt++) {
        if (!wr_grow(&t->next.text, &t->next.cap, size + 1, 1))
            return wr_fail_memory(err, "a line to score", size + 1);
        size = t->next.cap;
        int rc = pcre2_substitute(r->code, (PCRE2_SPTR)t->text.text, t->text.len, 0, how, t->match,
                                  NULL, (PCRE2_SPTR)r->replacement, PCRE2_ZERO_TERMINATED,
                                  (PCRE2_UCHAR *)t->next.text, &size);
        if (rc >= 0) break;
        if (rc == PCRE2_ERROR_NOMEMORY && attempt == 0) continue; /* `size` is what it needs */
        if (rc == PCRE2_ERROR_NOMEMORY) return wr_fail_memory(err, "a line to score", size);
        return wr_fail(err, WR_ERR_LIBRARY, "PCRE2 cannot tokenise a line (status %d)", rc);
    }
    t->next.len = size;
    swap_text(t);
    return WR_OK;
}

static wr_status compile_rules(wr_tokenizer *t, wr_error *err) {
    /* Punctuation is cut off unless digits stand on both sides; symbols always. */
    static const char *const intl[MAX_RULES][2] = {
        {"(\\P{N})(\\p{P})", "$1 $2 "}, {"(\\p{P})(\\P{N})", " $1 $2"}, {"(\\p{S})", " $1 "}};
    wr_status status = WR_OK;
    if (t->tok == WR_TOK_INTL) {
        for (size_t i = 0; i < MAX_RULES && status == WR_OK; i++, t->n_rules++)
            status = rule_compile(&t->rules[i], intl[i][0], intl[i][1], err);
    }
    /* Unicode's Final_Sigma (table 3-17): a cased letter before, none behind, case-ignorable
     * characters such as apostrophes skipped on both sides. */
    if (t->lowercase && status == WR_OK)
        status = rule_compile(&t->sigma,
                              "(?!\\p{Case_Ignorable})\\p{Cased}\\p{Case_Ignorable}*+\\K\\x{3A3}"
                              "(?=\\p{Case_Ignorable}*+(?!\\p{Cased}))",
                              "\xcf\x82", err);
    return status;
}

wr_status wr_tokenizer_new(wr_tok tok, bool lowercase, wr_tokenizer **out, wr_error *err) {
    *out = NULL;
    wr_tokenizer *t = calloc(1, sizeof *t);
    if (t == NULL) return wr_fail_memory(err, "a tokeniser", sizeof *t);
    t->tok = tok;
    t->lowercase = lowercase;
    t->match = pcre2_match_data_create(MAX_RULES + 1, NULL);
    wr_status status = WR_OK;
    if (t->match == NULL) status = wr_fail_memory(err, "a tokeniser", MAX_RULES + 1);
    if (status == WR_OK) status = compile_rules(t, err);
    if (status != WR_OK) {
        wr_tokenizer_free(t);
        return status;
    }
    *out = t;
    return WR_OK;
}

void wr_tokenizer_free(wr_tokenizer *t) {
    if (t == NULL) return;
    for (size_t i = 0; i < MAX_RULES; i++)
        pcre2_code_free(t->rules[i].code);
    pcre2_code_free(t->sigma.code);
    pcre2_match_data_free(t->match);
    wr_str_free(&t->text);
    wr_str_free(&t->next);
    free(t->tokens);
    free(t);
}

/* ---- lower case ---- */

static void append_lower(wr_str *out, utf8proc_int32_t cp) {
    utf8proc_uint8_t bytes[4];
    if (cp == 0x130) { /* the one character whose lower case is two: i and a combining dot */
        wr_str_bytes(out, "i\xcc\x87", 3);
        return;
    }
    utf8proc_ssize_t n = utf8proc_encode_char(utf8proc_tolower(cp), bytes);
    wr_str_bytes(out, bytes, (size_t)n);
}

static void lower_text(const wr_str *from, wr_str *to) {
    wr_str_clear(to);
    const char *at = from->text, *end = at + from->len;
    while (at < end && !to->oom) {
        if ((unsigned char)*at < 0x80) {
            char c = *at >= 'A' && *at <= 'Z' ? (char)(*at + ('a' - 'A')) : *at;
            wr_str_bytes(to, &c, 1);
            at++;
            continue;
        }
        utf8proc_int32_t cp;
        at += utf8proc_iterate((const utf8proc_uint8_t *)at, end - at, &cp);
        append_lower(to, cp);
    }
}

static wr_status fold(wr_tokenizer *t, wr_error *err) {
    if (!t->lowercase || t->text.len == 0) return WR_OK;
    if (memmem(t->text.text, t->text.len, "\xce\xa3", 2) != NULL) {
        wr_status status = rule_apply(t, &t->sigma, err);
        if (status != WR_OK) return status;
    }
    lower_text(&t->text, &t->next);
    if (t->next.oom) return wr_fail_memory(err, "a line to score", t->text.len);
    swap_text(t);
    return WR_OK;
}

/* ---- 13a ---- */

/* Replace every `from` of the current text by `to`, which is not longer. */
static void replace_in_place(wr_str *s, const char *from, const char *to) {
    size_t n_from = strlen(from), n_to = strlen(to);
    char *out = s->text, *end = s->text + s->len;
    const char *at = s->text, *hit;
    while ((hit = memmem(at, (size_t)(end - at), from, n_from)) != NULL) {
        memmove(out, at, (size_t)(hit - at));
        out += hit - at;
        memcpy(out, to, n_to);
        out += n_to;
        at = hit + n_from;
    }
    memmove(out, at, (size_t)(end - at));
    out += end - at;
    *out = '\0';
    s->len = (size_t)(out - s->text);
}

static void mteval_entities(wr_str *s) {
    static const char *const swaps[][2] = {{"<skipped>", ""}, {"-\n", ""},    {"\n", " "},
                                           {"&quot;", "\""},  {"&amp;", "&"}, /* in this order: */
                                           {"&lt;", "<"},     {"&gt;", ">"}}; /* &amp;lt; is < */
    for (size_t i = 0; i < sizeof swaps / sizeof swaps[0]; i++)
        replace_in_place(s, swaps[i][0], swaps[i][1]);
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_stop(char c) { return c == '.' || c == ','; }

/* ASCII marks that always stand alone, the space among them; not ' , - . */
static bool is_mark(char c) {
    return (c >= '{' && c <= '~') || (c >= '[' && c <= '`') || (c >= ' ' && c <= '&') ||
           (c >= '(' && c <= '+') || (c >= ':' && c <= '@') || c == '/';
}

/* The three rules on two neighbouring characters. As in a substitution from left to right, a pair
 * that matched is used up. Bytes will do: all rules ask about ASCII only, and no byte of a longer
 * UTF-8 character is ASCII. */
typedef bool pair_rule(char a, char b);
static bool stop_after_other(char a, char b) { return !is_digit(a) && is_stop(b); }
static bool stop_before_other(char a, char b) { return is_stop(a) && !is_digit(b); }
static bool dash_after_digit(char a, char b) { return is_digit(a) && b == '-'; }

/* Put spaces around the first (`before`) or second character of every matching pair. */
static char *space_pairs(const char *from, size_t n, char *to, pair_rule *match, bool before) {
    size_t i = 0;
    while (i + 1 < n) {
        char a = from[i], b = from[i + 1];
        if (!match(a, b)) {
            *to++ = a;
            i++;
            continue;
        }
        if (before) *to++ = ' ';
        *to++ = a;
        *to++ = ' ';
        *to++ = b;
        if (!before) *to++ = ' ';
        i += 2;
    }
    if (i < n) *to++ = from[i];
    return to;
}

static char *space_marks(const char *from, size_t n, char *to) {
    for (size_t i = 0; i < n; i++) {
        bool mark = is_mark(from[i]);
        if (mark) *to++ = ' ';
        *to++ = from[i];
        if (mark) *to++ = ' ';
    }
    return to;
}

static wr_status mteval_13a(wr_tokenizer *t, wr_error *err) {
    wr_str *a = &t->text, *b = &t->next;
    mteval_entities(a);
    wr_str_bytes(a, "  ", 2); /* the rules see the sentence with a space at either end */
    if (a->oom) return wr_fail_memory(err, "a line to score", a->len);
    memmove(a->text + 1, a->text, a->len - 2);
    a->text[0] = ' ';
    size_t n = a->len; /* marks treble it at most, then each pair of two becomes four */
    if (!wr_grow(&a->text, &a->cap, 24 * n + 1, 1) || !wr_grow(&b->text, &b->cap, 24 * n + 1, 1))
        return wr_fail_memory(err, "a line to score", 24 * n + 1);
    char *end = space_marks(a->text, n, b->text);
    end = space_pairs(b->text, (size_t)(end - b->text), a->text, stop_after_other, false);
    end = space_pairs(a->text, (size_t)(end - a->text), b->text, stop_before_other, true);
    end = space_pairs(b->text, (size_t)(end - b->text), a->text, dash_after_digit, false);
    a->len = (size_t)(end - a->text);
    *end = '\0';
    return WR_OK;
}

/* ---- cutting ---- */

static wr_status add_token(wr_tokenizer *t, const char *at, const char *end, wr_error *err) {
    if (!wr_grow(&t->tokens, &t->cap_tokens, t->n_tokens + 1, sizeof *t->tokens))
        return wr_fail_memory(err, "the tokens of a line", (t->n_tokens + 1) * sizeof *t->tokens);
    t->tokens[t->n_tokens++] = (wr_token){at, (size_t)(end - at)};
    return WR_OK;
}

static wr_status cut_at_space_runs(wr_tokenizer *t, wr_error *err) {
    const char *at = t->text.text, *end = at + t->text.len, *start = NULL;
    wr_status status = WR_OK;
    while (at < end && status == WR_OK) {
        size_t space = wr_utf8_space(at, (size_t)(end - at));
        if (space > 0 && start != NULL) {
            status = add_token(t, start, at, err);
            start = NULL;
        }
        if (space == 0 && start == NULL) start = at;
        at += space > 0 ? space : 1;
    }
    if (status == WR_OK && start != NULL) status = add_token(t, start, end, err);
    return status;
}

static wr_status cut_at_each_space(wr_tokenizer *t, wr_error *err) {
    const char *at = t->text.text, *end = at + t->text.len;
    size_t space;
    while ((space = wr_utf8_space(at, (size_t)(end - at))) > 0)
        at += space;
    for (;;) {
        const char *stop = memchr(at, ' ', (size_t)(end - at));
        wr_status status = add_token(t, at, stop == NULL ? end : stop, err);
        if (status != WR_OK || stop == NULL) return status;
        at = stop + 1;
    }
}

/* ---- entry points ---- */

/* Make the (checked, lower-cased) line the current text. */
static wr_status load(wr_tokenizer *t, const char *line, size_t len, wr_error *err) {
    size_t bad;
    t->n_tokens = 0;
    if (!wr_utf8_valid(line, len, &bad))
        return wr_fail(err, WR_ERR_INPUT, "byte %zu (0x%02x) of the sentence is not UTF-8", bad + 1,
                       (unsigned)(unsigned char)line[bad]);
    wr_str_clear(&t->text);
    wr_str_clear(&t->next);
    wr_str_bytes(&t->text, line, len);
    if (t->text.oom) return wr_fail_memory(err, "a line to score", len);
    return fold(t, err);
}

wr_status wr_tokenizer_fold(wr_tokenizer *t, const char *line, size_t len, const char **folded,
                            size_t *n, wr_error *err) {
    *folded = "";
    *n = 0;
    wr_status status = load(t, line, len, err);
    if (status != WR_OK) return status;
    *folded = t->text.text;
    *n = t->text.len;
    return WR_OK;
}

wr_status wr_tokenizer_run(wr_tokenizer *t, const char *line, size_t len, const wr_token **tokens,
                           size_t *n, wr_error *err) {
    *tokens = NULL;
    *n = 0;
    wr_status status = load(t, line, len, err);
    if (status != WR_OK) return status;
    t->text.len = wr_utf8_rstrip(t->text.text, t->text.len);
    t->text.text[t->text.len] = '\0';
    if (t->tok == WR_TOK_13A) status = mteval_13a(t, err);
    for (size_t i = 0; i < t->n_rules && status == WR_OK; i++)
        status = rule_apply(t, &t->rules[i], err);
    if (status == WR_OK)
        status = t->tok == WR_TOK_SPACES ? cut_at_each_space(t, err) : cut_at_space_runs(t, err);
    if (status != WR_OK) return status;
    *tokens = t->tokens;
    *n = t->n_tokens;
    return WR_OK;
}
