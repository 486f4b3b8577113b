/* dims.c: canonical sums of products over declared symbols; see dims.h. */
#include "graph/dims.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_TERMS = 4, MAX_FACTORS = 4, NO_FACTOR = 0xff };

typedef struct term {
    int64_t num, den;            /* coefficient in lowest terms, den > 0 */
    uint8_t factor[MAX_FACTORS]; /* symbol indices ascending, NO_FACTOR behind the last */
} term;

typedef struct expr {
    int32_t n;
    term t[MAX_TERMS]; /* ascending by factors; no zero coefficients */
} expr;

struct wr_dims {
    wr_symbol symbol[WR_MAX_SYMBOLS];
    int n_symbols;
    expr *exprs; /* exprs[0] is unused: id 0 is the null dim */
    size_t n, cap;
    bool out_of_memory; /* a null dim may mean that */
};

static const wr_dim NONE = {0};

wr_dims *wr_dims_new(void) {
    wr_dims *t = calloc(1, sizeof *t);
    if (t != NULL) t->n = 1;
    return t;
}

void wr_dims_free(wr_dims *t) {
    if (t == NULL) return;
    free(t->exprs);
    free(t);
}

static int64_t gcd(int64_t a, int64_t b) {
    if (a < 0) a = -a;
    while (b != 0) {
        int64_t r = a % b;
        a = b;
        b = r;
    }
    return a;
}

static void reduce(term *x) {
    int64_t g = gcd(x->num, x->den);
    if (g > 1) {
        x->num /= g;
        x->den /= g;
    }
}

/* False when a negative-only literal or an unprovable fraction is left. */
static bool is_whole(const wr_dims *t, const expr *e) {
    for (int i = 0; i < e->n; i++) {
        int64_t multiple = 1;
        for (int f = 0; f < MAX_FACTORS && e->t[i].factor[f] != NO_FACTOR; f++)
            multiple *= t->symbol[e->t[i].factor[f]].multiple_of;
        if (multiple % e->t[i].den != 0) return false;
    }
    return true;
}

static bool is_constant(const term *x) { return x->factor[0] == NO_FACTOR; }

/* Intern a canonical expression. */
static wr_dim intern(wr_dims *t, const expr *e) {
    if (e->n == 0) return wr_n(0);
    if (!is_whole(t, e)) return NONE;
    if (e->n == 1 && is_constant(&e->t[0]))
        return e->t[0].num >= 0 && e->t[0].num < INT32_MAX ? wr_n(e->t[0].num) : NONE;
    for (size_t i = 1; i < t->n; i++)
        if (t->exprs[i].n == e->n && memcmp(t->exprs[i].t, e->t, sizeof(term) * (size_t)e->n) == 0)
            return (wr_dim){(uint32_t)i};
    if (!wr_grow(&t->exprs, &t->cap, t->n + 1, sizeof(expr))) {
        t->out_of_memory = true;
        return NONE;
    }
    t->exprs[t->n] = *e;
    return (wr_dim){(uint32_t)t->n++};
}

static expr expr_of(const wr_dims *t, wr_dim d) {
    if (!wr_dim_is_literal(d)) return t->exprs[d.id];
    expr e = {0};
    if (wr_dim_literal(d) != 0) {
        e.n = 1;
        e.t[0] = (term){.num = wr_dim_literal(d), .den = 1};
        memset(e.t[0].factor, NO_FACTOR, MAX_FACTORS);
    }
    return e;
}

/* Add one term to a canonical sum; false when it has no room. */
static bool add_term(expr *e, term x) {
    if (x.num == 0) return true;
    reduce(&x);
    int at = 0;
    while (at < e->n && memcmp(e->t[at].factor, x.factor, MAX_FACTORS) < 0)
        at++;
    if (at < e->n && memcmp(e->t[at].factor, x.factor, MAX_FACTORS) == 0) {
        term *y = &e->t[at];
        y->num = y->num * x.den + x.num * y->den;
        y->den *= x.den;
        reduce(y);
        if (y->num == 0) {
            memmove(y, y + 1, sizeof(term) * (size_t)(e->n - at - 1));
            e->n--;
        }
        return true;
    }
    if (e->n == MAX_TERMS) return false;
    memmove(&e->t[at + 1], &e->t[at], sizeof(term) * (size_t)(e->n - at));
    e->t[at] = x;
    e->n++;
    return true;
}

static bool mul_terms(const term *a, const term *b, term *out) {
    *out = (term){0};
    if (__builtin_mul_overflow(a->num, b->num, &out->num) ||
        __builtin_mul_overflow(a->den, b->den, &out->den))
        return false;
    memset(out->factor, NO_FACTOR, MAX_FACTORS);
    int i = 0, j = 0, n = 0;
    for (;;) {
        uint8_t fa = i < MAX_FACTORS ? a->factor[i] : NO_FACTOR;
        uint8_t fb = j < MAX_FACTORS ? b->factor[j] : NO_FACTOR;
        if (fa == NO_FACTOR && fb == NO_FACTOR) return true;
        if (n == MAX_FACTORS) return false;
        if (fa <= fb) {
            out->factor[n++] = fa;
            i++;
        } else {
            out->factor[n++] = fb;
            j++;
        }
    }
}

/* out = a / b when every factor of b is in a. */
static bool div_terms(const term *a, const term *b, term *out) {
    *out = (term){0};
    if (__builtin_mul_overflow(a->num, b->den, &out->num) ||
        __builtin_mul_overflow(a->den, b->num, &out->den))
        return false;
    if (out->den < 0) {
        out->den = -out->den;
        out->num = -out->num;
    }
    memset(out->factor, NO_FACTOR, MAX_FACTORS);
    int j = 0, n = 0;
    for (int i = 0; i < MAX_FACTORS && a->factor[i] != NO_FACTOR; i++) {
        if (j < MAX_FACTORS && b->factor[j] == a->factor[i])
            j++;
        else
            out->factor[n++] = a->factor[i];
    }
    return j == MAX_FACTORS || b->factor[j] == NO_FACTOR;
}

wr_dim wr_dims_symbol(wr_dims *t, const char *name, int64_t min, int64_t max, int64_t multiple_of) {
    int at = 0;
    while (at < t->n_symbols && strcmp(t->symbol[at].name, name) != 0)
        at++;
    if (at < t->n_symbols) {
        const wr_symbol *s = &t->symbol[at];
        if (s->min != min || s->max != max || s->multiple_of != multiple_of) return NONE;
    } else {
        if (at == WR_MAX_SYMBOLS || strlen(name) >= sizeof t->symbol[0].name || min < 0 ||
            max < min || multiple_of < 1)
            return NONE;
        wr_symbol *s = &t->symbol[t->n_symbols++];
        memcpy(s->name, name, strlen(name) + 1);
        s->min = min;
        s->max = max;
        s->multiple_of = multiple_of;
    }
    expr e = {.n = 1, .t = {{.num = 1, .den = 1}}};
    memset(e.t[0].factor, NO_FACTOR, MAX_FACTORS);
    e.t[0].factor[0] = (uint8_t)at;
    return intern(t, &e);
}

static wr_dim sum(wr_dims *t, wr_dim a, wr_dim b, int64_t sign) {
    if (a.id == 0 || b.id == 0) return NONE;
    expr e = expr_of(t, a), eb = expr_of(t, b);
    for (int i = 0; i < eb.n; i++) {
        term x = eb.t[i];
        x.num *= sign;
        if (!add_term(&e, x)) return NONE;
    }
    return intern(t, &e);
}

wr_dim wr_dims_add(wr_dims *t, wr_dim a, wr_dim b) { return sum(t, a, b, 1); }
wr_dim wr_dims_sub(wr_dims *t, wr_dim a, wr_dim b) { return sum(t, a, b, -1); }

wr_dim wr_dims_mul(wr_dims *t, wr_dim a, wr_dim b) {
    if (a.id == 0 || b.id == 0) return NONE;
    expr ea = expr_of(t, a), eb = expr_of(t, b), e = {0};
    for (int i = 0; i < ea.n; i++)
        for (int j = 0; j < eb.n; j++) {
            term x;
            if (!mul_terms(&ea.t[i], &eb.t[j], &x) || !add_term(&e, x)) return NONE;
        }
    return intern(t, &e);
}

wr_dim wr_dims_div(wr_dims *t, wr_dim a, wr_dim b) {
    if (a.id == 0 || b.id == 0 || wr_dim_same(b, wr_n(0))) return NONE;
    if (wr_dim_same(a, b)) return wr_n(1);
    expr ea = expr_of(t, a), eb = expr_of(t, b), e = {0};
    if (eb.n != 1) return NONE;
    for (int i = 0; i < ea.n; i++) {
        term x;
        if (!div_terms(&ea.t[i], &eb.t[0], &x) || !add_term(&e, x)) return NONE;
    }
    return intern(t, &e);
}

/* Value of an expression for symbol values v; -1 when one is unbound. Exact: the common
 * denominator is applied once. */
static int64_t eval_expr(const expr *e, const int64_t *v) {
    int64_t num = 0, den = 1;
    for (int i = 0; i < e->n; i++) {
        int64_t x = e->t[i].num;
        for (int f = 0; f < MAX_FACTORS && e->t[i].factor[f] != NO_FACTOR; f++) {
            if (v[e->t[i].factor[f]] == 0) return -1;
            x *= v[e->t[i].factor[f]];
        }
        num = num * e->t[i].den + x * den;
        den *= e->t[i].den;
    }
    return num / den;
}

int64_t wr_dims_eval(const wr_dims *t, wr_dim d, const wr_binding *b) {
    if (wr_dim_is_literal(d)) return wr_dim_literal(d);
    return d.id == 0 ? -1 : eval_expr(&t->exprs[d.id], b->value);
}

void wr_dims_range(const wr_dims *t, wr_dim d, int64_t *min, int64_t *max) {
    *min = *max = wr_dim_literal(d);
    if (wr_dim_is_literal(d) || d.id == 0) return;
    int64_t low[WR_MAX_SYMBOLS] = {0}, high[WR_MAX_SYMBOLS] = {0};
    for (int i = 0; i < t->n_symbols; i++) {
        low[i] = t->symbol[i].min > 0 ? t->symbol[i].min : 1;
        high[i] = t->symbol[i].max;
    }
    const expr *e = &t->exprs[d.id];
    *min = *max = 0;
    for (int i = 0; i < e->n; i++) {
        expr one = {.n = 1, .t = {e->t[i]}};
        bool positive = e->t[i].num > 0;
        *min += eval_expr(&one, positive ? low : high);
        *max += eval_expr(&one, positive ? high : low);
    }
}

int wr_dims_symbol_of(const wr_dims *t, wr_dim d) {
    if (wr_dim_is_literal(d) || d.id == 0) return -1;
    const expr *e = &t->exprs[d.id];
    bool bare = e->n == 1 && e->t[0].num == 1 && e->t[0].den == 1 &&
                e->t[0].factor[0] != NO_FACTOR && e->t[0].factor[1] == NO_FACTOR;
    return bare ? e->t[0].factor[0] : -1;
}

bool wr_dims_out_of_memory(const wr_dims *t) { return t->out_of_memory; }
int wr_dims_symbol_count(const wr_dims *t) { return t->n_symbols; }
const wr_symbol *wr_dims_symbol_at(const wr_dims *t, int index) { return &t->symbol[index]; }

static void print_term(const wr_dims *t, const term *x, bool first, wr_str *out) {
    int64_t num = x->num < 0 ? -x->num : x->num;
    wr_str_add(out, "%s", x->num < 0 ? (first ? "-" : " - ") : (first ? "" : " + "));
    if (num != 1 || is_constant(x)) wr_str_add(out, "%lld", (long long)num);
    for (int f = 0; f < MAX_FACTORS && x->factor[f] != NO_FACTOR; f++)
        wr_str_add(out, "%s%s", f > 0 || num != 1 ? "*" : "", t->symbol[x->factor[f]].name);
    if (x->den != 1) wr_str_add(out, "/%lld", (long long)x->den);
}

void wr_dims_print(const wr_dims *t, wr_dim d, wr_str *out) {
    if (wr_dim_is_literal(d)) {
        wr_str_add(out, "%lld", (long long)wr_dim_literal(d));
        return;
    }
    if (d.id == 0) {
        wr_str_add(out, "?");
        return;
    }
    /* the constant term sorts last (NO_FACTOR is the largest byte), as people write it */
    const expr *e = &t->exprs[d.id];
    for (int i = 0; i < e->n; i++)
        print_term(t, &e->t[i], i == 0, out);
}
