/* arpa.c: the ARPA format into sorted arrays; see arpa.h.
 *
 * The n-grams are a trie in one array, level by level (n words in level n, the root alone in level
 * 0), each level in the order of its parents and then of its last words. So the children of node i
 * are the nodes from first[i] to first[i + 1], also across the border of two levels. A state is a
 * node: the longest end of the words before that is an n-gram; `suffix` leads from a node to the
 * longest proper end of its words that is one. */
#include "data/arpa.h"

#include "data/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROOT = 0, SHOWN = 60 };
#define LN_10       2.302585092994045684
#define LOG10_NEVER (-99.0)

typedef struct node {
    uint32_t first, suffix;
    int32_t word;
    float logp, backoff; /* log10 */
} node;

struct wr_arpa {
    int order;
    size_t *level;    /* [order + 2] first node of each level; the last is the number of nodes */
    node *node;       /* one more than there are: the end of the last one's children */
    const char **str; /* [words] in the order of their bytes */
    char *bytes;      /* the storage behind `str` */
    size_t bytes_n;
    int32_t begin, end, unknown; /* words, -1: none */
};

/* An n-gram as it is read. */
typedef struct gram {
    uint32_t parent;
    int32_t word;
    float logp, backoff;
    size_t line;
} gram;

/* A part of a line. */
typedef struct field {
    const char *at;
    size_t n;
} field;

typedef struct reader {
    wr_text text;
    size_t line;     /* the next one, from 0 */
    size_t *count;   /* [order] what the header says */
    size_t *said_at; /* [order] in which line, from 1 */
    size_t cap_count, cap_said_at;
    gram *gram; /* of the level being read */
    field *field;
    size_t cap_field;
    wr_arpa *m;
} reader;

/* ---- lines ---- */

static bool blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

/* The fields of line i; NULL is for "out of memory". */
static bool split(reader *r, size_t i, size_t *n) {
    const char *p = r->text.line[i];
    for (*n = 0;; ++*n) {
        while (blank(*p))
            p++;
        if (*p == '\0') return true;
        if (!wr_grow(&r->field, &r->cap_field, *n + 1, sizeof *r->field)) return false;
        const char *from = p;
        while (*p != '\0' && !blank(*p))
            p++;
        r->field[*n] = (field){from, (size_t)(p - from)};
    }
}

static bool is_blank(const reader *r, size_t i) {
    const char *p = r->text.line[i];
    while (blank(*p))
        p++;
    return *p == '\0';
}

/* The line without blanks at its end, not more than a message bears. */
static int shown(const char *text) {
    size_t n = strlen(text);
    while (n > 0 && blank(text[n - 1]))
        n--;
    if (n <= SHOWN) return (int)n;
    n = SHOWN;
    while (n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80) /* no half character */
        n--;
    return (int)n;
}

static bool says(const reader *r, size_t i, const char *word) {
    size_t n = strlen(word);
    const char *p = r->text.line[i];
    if (strncmp(p, word, n) != 0) return false;
    while (blank(p[n]))
        n++;
    return p[n] == '\0';
}

/* The next line with something in it; false at the end of the file. */
static bool find_line(reader *r) {
    while (r->line < r->text.n && is_blank(r, r->line))
        r->line++;
    return r->line < r->text.n;
}

static wr_status cut_off(const reader *r, const char *missing, wr_error *err) {
    return wr_fail(err, WR_ERR_INPUT,
                   "%s: the file ends without %s: it is cut off, or no n-gram model in the ARPA "
                   "format",
                   r->text.path, missing);
}

/* ---- the header ---- */

static bool digits(const char **p, size_t *value) {
    const char *from = *p;
    for (*value = 0; **p >= '0' && **p <= '9'; ++*p) {
        if (*value > (SIZE_MAX - 9) / 10) return false;
        *value = *value * 10 + (size_t)(**p - '0');
    }
    return *p > from;
}

/* "ngram N=COUNT", blanks allowed around the numbers. */
static bool read_count(const char *p, size_t *n, size_t *count) {
    if (strncmp(p, "ngram", 5) != 0 || !blank(p[5])) return false;
    for (p += 5; blank(*p);)
        p++;
    if (!digits(&p, n)) return false;
    while (blank(*p))
        p++;
    if (*p++ != '=') return false;
    while (blank(*p))
        p++;
    if (!digits(&p, count)) return false;
    while (blank(*p))
        p++;
    return *p == '\0';
}

static wr_status add_count(reader *r, size_t n, size_t count, wr_error *err) {
    size_t order = (size_t)r->m->order;
    if (n != order + 1)
        return wr_fail(err, WR_ERR_INPUT, "%s:%zu: \"ngram %zu=\" is here, but %zu is next",
                       r->text.path, r->line + 1, n, order + 1);
    if (count > r->text.n)
        return wr_fail(err, WR_ERR_INPUT,
                       "%s:%zu: %zu n-grams of %zu words are announced, but the file has only %zu "
                       "lines: it is cut off, or the number is wrong",
                       r->text.path, r->line + 1, count, n, r->text.n);
    if (!wr_grow(&r->count, &r->cap_count, n, sizeof *r->count) ||
        !wr_grow(&r->said_at, &r->cap_said_at, n, sizeof *r->said_at))
        return wr_fail_memory(err, "an n-gram model", n * sizeof *r->count);
    r->count[order] = count;
    r->said_at[order] = r->line + 1;
    r->m->order++;
    return WR_OK;
}

/* Up to the first section. What stands before \data\ is a comment. */
static wr_status read_header(reader *r, wr_error *err) {
    while (r->line < r->text.n && !says(r, r->line, "\\data\\"))
        r->line++;
    if (r->line++ == r->text.n) return cut_off(r, "a line \\data\\", err);
    wr_status status = WR_OK;
    for (; status == WR_OK; r->line++) {
        if (!find_line(r)) return cut_off(r, "a line \\1-grams:", err);
        const char *line = r->text.line[r->line];
        if (line[0] == '\\') break;
        size_t n, count;
        if (!read_count(line, &n, &count))
            return wr_fail(
                err, WR_ERR_INPUT,
                "%s:%zu: '%.*s' is no line of the header; allowed are ngram %d=COUNT and "
                "the end of the header, \\1-grams:",
                r->text.path, r->line + 1, shown(line), line, r->m->order + 1);
        status = add_count(r, n, count, err);
    }
    if (status == WR_OK && (r->m->order == 0 || r->count[0] == 0))
        return wr_fail(err, WR_ERR_INPUT,
                       "%s:%zu: the header announces no 1-grams: no words at all", r->text.path,
                       r->line + 1);
    return status;
}

/* Arrays for what the header announces. */
static wr_status allocate(reader *r, wr_error *err) {
    wr_arpa *m = r->m;
    size_t n = 1, most = 0;
    m->level = calloc((size_t)m->order + 2, sizeof *m->level);
    if (m->level == NULL) return wr_fail_memory(err, "an n-gram model", sizeof *m->level);
    for (int k = 0; k < m->order; k++) {
        m->level[k + 1] = n;
        n += r->count[k];
        if (r->count[k] > most) most = r->count[k];
    }
    m->level[m->order + 1] = n;
    if (n > INT32_MAX)
        return wr_fail(err, WR_ERR_INPUT, "%s: %zu n-grams; allowed are %d", r->text.path, n - 1,
                       INT32_MAX - 1);
    m->node = calloc(n + 1, sizeof *m->node);
    m->str = calloc(r->count[0] + 1, sizeof *m->str);
    r->gram = calloc(most + 1, sizeof *r->gram);
    if (m->node == NULL || m->str == NULL || r->gram == NULL)
        return wr_fail_memory(err, "an n-gram model", (n + 1) * sizeof *m->node);
    m->node[ROOT].first = 1;
    m->node[n].first = (uint32_t)n;
    return WR_OK;
}

/* ---- one n-gram ---- */

static wr_status read_logarithm(const reader *r, const field *f, double most, const char *what,
                                float *value, wr_error *err) {
    char *end = NULL;
    double x = strtod(f->at, &end);
    bool decimal = strspn(f->at, "0123456789+-.eE") >= f->n;
    if (decimal && end == f->at + f->n && isfinite(x) && x <= most) {
        *value = (float)x;
        return WR_OK;
    }
    return wr_fail(err, WR_ERR_INPUT, "%s:%zu: '%.*s' is no %s: a decimal number%s", r->text.path,
                   r->line + 1, f->n > SHOWN ? SHOWN : (int)f->n, f->at, what,
                   most == 0 ? " of at most 0 (a logarithm to base 10)" : "");
}

static int compare(const char *word, const char *at, size_t n) {
    int order = strncmp(word, at, n);
    return order != 0 ? order : (int)(unsigned char)word[n];
}

static int32_t find_word(const wr_arpa *m, const char *at, size_t n) {
    size_t from = 0, to = m->level[2] - m->level[1];
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        int order = compare(m->str[middle], at, n);
        if (order == 0) return (int32_t)middle;
        if (order < 0)
            from = middle + 1;
        else
            to = middle;
    }
    return -1;
}

/* The child of a node by its word; ROOT when there is none. */
static uint32_t child_of(const wr_arpa *m, uint32_t at, int32_t word) {
    if (at == ROOT) return (uint32_t)word + 1;
    uint32_t from = m->node[at].first, to = m->node[at + 1].first, end = to;
    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        if (m->node[middle].word < word)
            from = middle + 1;
        else
            to = middle;
    }
    return from < end && m->node[from].word == word ? from : ROOT;
}

/* The words of an n-gram: its parent and its last word. */
static wr_status find_place(const reader *r, int n, gram *g, wr_error *err) {
    uint32_t at = ROOT;
    for (int k = 0; k < n; k++) {
        const field *f = &r->field[1 + k];
        int32_t word = find_word(r->m, f->at, f->n);
        if (word < 0)
            return wr_fail(err, WR_ERR_INPUT,
                           "%s:%zu: the word '%.*s' is not among the 1-grams, which are all words "
                           "that the model knows",
                           r->text.path, r->line + 1, f->n > SHOWN ? SHOWN : (int)f->n, f->at);
        g->parent = at;
        g->word = word;
        if (k == n - 1) break;
        at = child_of(r->m, at, word);
        if (at == ROOT)
            return wr_fail(err, WR_ERR_INPUT,
                           "%s:%zu: the first %d words are not among the %d-grams; the context of "
                           "each n-gram must be there",
                           r->text.path, r->line + 1, n - 1, n - 1);
    }
    return WR_OK;
}

static wr_status read_gram(reader *r, int n, gram *g, wr_error *err) {
    size_t fields, words = (size_t)n;
    bool highest = n == r->m->order;
    if (!split(r, r->line, &fields)) return wr_fail_memory(err, "a line", sizeof *r->field);
    if (fields != words + 1 && fields != words + 2)
        return wr_fail(err, WR_ERR_INPUT,
                       "%s:%zu: %zu fields; a %d-gram is log10 p, %d word%s and %s, with blanks "
                       "between",
                       r->text.path, r->line + 1, fields, n, n, n > 1 ? "s" : "",
                       highest ? "nothing else" : "perhaps a back-off weight");
    *g = (gram){.line = r->line + 1};
    wr_status status =
        read_logarithm(r, &r->field[0], 0, "logarithm of a probability", &g->logp, err);
    if (status == WR_OK && fields == words + 2)
        status =
            read_logarithm(r, &r->field[words + 1], INFINITY, "back-off weight", &g->backoff, err);
    if (status == WR_OK && highest && !(g->backoff >= 0 && g->backoff <= 0))
        return wr_fail(err, WR_ERR_INPUT,
                       "%s:%zu: a back-off weight, but n-grams of the highest order have none",
                       r->text.path, r->line + 1);
    return status == WR_OK && n > 1 ? find_place(r, n, g, err) : status;
}

/* ---- sections ---- */

static int by_place(const void *a, const void *b) {
    const gram *x = a, *y = b;
    if (x->parent != y->parent) return x->parent < y->parent ? -1 : 1;
    if (x->word != y->word) return x->word < y->word ? -1 : 1;
    return x->line < y->line ? -1 : x->line > y->line;
}

static wr_status check_title(reader *r, int n, wr_error *err) {
    char title[40];
    snprintf(title, sizeof title, "\\%d-grams:", n);
    if (!find_line(r)) return cut_off(r, title, err);
    if (!says(r, r->line, title)) {
        const char *line = r->text.line[r->line];
        return wr_fail(err, WR_ERR_INPUT, "%s:%zu: '%.*s' is here, but %s is next", r->text.path,
                       r->line + 1, shown(line), line, title);
    }
    r->line++;
    return WR_OK;
}

static wr_status wrong_count(const reader *r, int n, size_t got, wr_error *err) {
    return wr_fail(
        err, WR_ERR_INPUT,
        "%s:%zu: the %d-grams end here; there are %zu of them, but line %zu announces %zu",
        r->text.path, r->line + 1, n, got, r->said_at[n - 1], r->count[n - 1]);
}

/* The n-grams of one order, as they stand. */
static wr_status read_grams(reader *r, int n, wr_error *err) {
    size_t count = r->count[n - 1], got = 0;
    wr_status status = check_title(r, n, err);
    while (status == WR_OK && find_line(r) && r->text.line[r->line][0] != '\\') {
        if (got == count)
            return wr_fail(err, WR_ERR_INPUT,
                           "%s:%zu: more %d-grams than the %zu that line %zu announces",
                           r->text.path, r->line + 1, n, count, r->said_at[n - 1]);
        status = read_gram(r, n, &r->gram[got++], err);
        if (status == WR_OK) r->line++;
    }
    bool over = r->line == r->text.n;
    if (status == WR_OK && over && (got != count || n == r->m->order))
        return cut_off(r, "\\end\\", err);
    return status == WR_OK && got != count ? wrong_count(r, n, got, err) : status;
}

static wr_status twice(const reader *r, const gram *a, const gram *b, wr_error *err) {
    return wr_fail(err, WR_ERR_INPUT, "%s:%zu: this n-gram is in line %zu already", r->text.path,
                   b->line, a->line);
}

/* Sort the n-grams read into their level. They have no children yet: what would be their first one
 * is the end of the level. */
static wr_status place_grams(reader *r, int n, wr_error *err) {
    wr_arpa *m = r->m;
    size_t count = r->count[n - 1], at = m->level[n], parent = m->level[n - 1];
    uint32_t end = (uint32_t)m->level[n + 1];
    qsort(r->gram, count, sizeof *r->gram, by_place);
    for (size_t i = 0; i < count; i++) {
        const gram *g = &r->gram[i];
        if (i > 0 && g[-1].parent == g->parent && g[-1].word == g->word)
            return twice(r, g - 1, g, err);
        for (; parent <= g->parent; parent++)
            m->node[parent].first = (uint32_t)(at + i);
        m->node[at + i] =
            (node){.first = end, .word = g->word, .logp = g->logp, .backoff = g->backoff};
    }
    for (; parent < at; parent++)
        m->node[parent].first = end;
    return WR_OK;
}

/* A child's longest proper end: below the longest end of its parent under which its word is. */
static void link_level(wr_arpa *m, int n) {
    for (size_t parent = m->level[n - 1]; parent < m->level[n]; parent++)
        for (uint32_t i = m->node[parent].first; i < m->node[parent + 1].first; i++) {
            uint32_t s = m->node[parent].suffix, found = ROOT;
            while (n > 1 && (found = child_of(m, s, m->node[i].word)) == ROOT)
                s = m->node[s].suffix;
            m->node[i].suffix = found;
        }
}

/* ---- words ---- */

typedef struct word {
    const char *at;
    size_t n, line; /* from 0 */
} word;

static int by_bytes(const void *a, const void *b) {
    const word *x = a, *y = b;
    size_t n = x->n < y->n ? x->n : y->n;
    int order = memcmp(x->at, y->at, n);
    if (order != 0) return order;
    if (x->n != y->n) return x->n < y->n ? -1 : 1;
    return x->line < y->line ? -1 : x->line > y->line;
}

/* The words of the 1-grams read, sorted, each with its line. */
static wr_status sort_words(reader *r, word *w, wr_error *err) {
    size_t n = r->count[0], bytes = 0;
    for (size_t i = 0; i < n; i++) {
        size_t fields;
        if (!split(r, r->gram[i].line - 1, &fields))
            return wr_fail_memory(err, "a line", sizeof *r->field);
        w[i] = (word){r->field[1].at, r->field[1].n, i};
        bytes += w[i].n + 1;
    }
    qsort(w, n, sizeof *w, by_bytes);
    r->m->bytes = malloc(bytes + 1);
    r->m->bytes_n = bytes;
    return r->m->bytes == NULL ? wr_fail_memory(err, "words", bytes) : WR_OK;
}

static wr_status number_words(reader *r, wr_error *err) {
    size_t n = r->count[0];
    word *w = malloc(sizeof *w * (n + 1));
    wr_status status =
        w == NULL ? wr_fail_memory(err, "words", n * sizeof *w) : sort_words(r, w, err);
    char *to = r->m->bytes;
    for (size_t i = 0; status == WR_OK && i < n; i++) {
        r->m->str[i] = to;
        memcpy(to, w[i].at, w[i].n);
        to[w[i].n] = '\0';
        to += w[i].n + 1;
        r->gram[w[i].line].parent = ROOT;
        r->gram[w[i].line].word = (int32_t)i;
        if (i > 0 && strcmp(r->m->str[i - 1], r->m->str[i]) == 0)
            status = twice(r, &r->gram[w[i - 1].line], &r->gram[w[i].line], err);
    }
    free(w);
    return status;
}

/* ---- the whole ---- */

static wr_status read_section(reader *r, int n, wr_error *err) {
    wr_status status = read_grams(r, n, err);
    if (status == WR_OK && n == 1) status = number_words(r, err);
    return status == WR_OK ? place_grams(r, n, err) : status;
}

static wr_status read_all(reader *r, wr_error *err) {
    wr_arpa *m = r->m;
    wr_status status = read_header(r, err);
    if (status == WR_OK) status = allocate(r, err);
    for (int n = 1; status == WR_OK && n <= m->order; n++)
        status = read_section(r, n, err);
    if (status == WR_OK && !says(r, r->line, "\\end\\")) {
        const char *line = r->text.line[r->line];
        return wr_fail(err, WR_ERR_INPUT, "%s:%zu: '%.*s' is here, but \\end\\ is next",
                       r->text.path, r->line + 1, shown(line), line);
    }
    return status;
}

static int32_t named(const wr_arpa *m, const char *word) {
    return find_word(m, word, strlen(word));
}

static void finish(wr_arpa *m) {
    for (int n = 1; n <= m->order; n++)
        link_level(m, n);
    m->begin = named(m, "<s>");
    m->end = named(m, "</s>");
    m->unknown = named(m, "<unk>");
    if (m->unknown < 0) m->unknown = named(m, "<UNK>");
}

wr_status wr_arpa_read(const char *path, wr_arpa **out, wr_error *err) {
    reader r = {.m = calloc(1, sizeof *r.m)};
    *out = NULL;
    if (r.m == NULL) return wr_fail_memory(err, "an n-gram model", sizeof *r.m);
    wr_status status = wr_text_read(path, 0, &r.text, err);
    if (status == WR_OK) status = read_all(&r, err);
    if (status == WR_OK) {
        finish(r.m);
        *out = r.m;
    } else {
        wr_arpa_free(r.m);
    }
    wr_text_free(&r.text);
    free(r.count);
    free(r.said_at);
    free(r.gram);
    free(r.field);
    return status;
}

void wr_arpa_free(wr_arpa *m) {
    if (m == NULL) return;
    free(m->level);
    free(m->node);
    free(m->str);
    free(m->bytes);
    free(m);
}

/* ---- asking ---- */

int wr_arpa_order(const wr_arpa *m) { return m->order; }

size_t wr_arpa_count(const wr_arpa *m, int n) { return m->level[n + 1] - m->level[n]; }

size_t wr_arpa_bytes(const wr_arpa *m) {
    return sizeof *m + ((size_t)m->order + 2) * sizeof *m->level +
           (m->level[m->order + 1] + 1) * sizeof *m->node + wr_arpa_count(m, 1) * sizeof *m->str +
           m->bytes_n;
}

int32_t wr_arpa_word(const wr_arpa *m, const char *word) { return named(m, word); }

int32_t wr_arpa_unknown(const wr_arpa *m) { return m->unknown; }

bool wr_arpa_has_end(const wr_arpa *m) { return m->end >= 0; }

wr_arpa_state wr_arpa_begin(const wr_arpa *m) {
    return m->begin >= 0 ? child_of(m, ROOT, m->begin) : ROOT;
}

double wr_arpa_step(const wr_arpa *m, wr_arpa_state state, int32_t word, wr_arpa_state *next) {
    double log10p = 0;
    uint32_t found = ROOT;
    if (word < 0) word = m->unknown;
    if (word >= 0)
        while ((found = child_of(m, state, word)) == ROOT) {
            log10p += (double)m->node[state].backoff;
            state = m->node[state].suffix;
        }
    log10p += found == ROOT ? LOG10_NEVER : (double)m->node[found].logp;
    bool highest = found >= m->level[m->order];
    if (next != NULL) *next = highest ? m->node[found].suffix : found;
    return log10p < 0 ? log10p * LN_10 : 0;
}

double wr_arpa_end(const wr_arpa *m, wr_arpa_state state) {
    return m->end < 0 ? 0 : wr_arpa_step(m, state, m->end, NULL);
}
