/* dims.h: symbolic sizes. A wr_dim is an interned id: equal dims have equal ids.
 *
 * A dim is a literal (512) or a sum of at most four products of declared symbols with rational
 * coefficients (B, T/2, 2*C, B*T + 1). A symbol is declared once with its range and a divisor that
 * every value of it has; that divisor is what makes T/2 legal. */
#ifndef WEIR_DIMS_H
#define WEIR_DIMS_H

#include "graph/base.h"

typedef struct wr_dim {
    uint32_t id; /* 0: no dim; top bit set: a literal in the other 31 bits */
} wr_dim;

enum { WR_MAX_SYMBOLS = 16, WR_MAX_RANK = 5 };
#define WR_DIM_LITERAL 0x80000000u

/* The values of the symbols in one run; 0 is "not bound". Index: the symbol's order of declaration.
 */
typedef struct wr_binding {
    int64_t value[WR_MAX_SYMBOLS];
} wr_binding;

typedef struct wr_symbol {
    char name[24];
    int64_t min, max, multiple_of;
} wr_symbol;

/* A literal dim, 0 <= n < 2^31. */
static inline wr_dim wr_n(int64_t n) { return (wr_dim){WR_DIM_LITERAL | (uint32_t)n}; }
static inline bool wr_dim_is_literal(wr_dim d) { return (d.id & WR_DIM_LITERAL) != 0; }
static inline int64_t wr_dim_literal(wr_dim d) { return (int64_t)(d.id & ~WR_DIM_LITERAL); }
static inline bool wr_dim_same(wr_dim a, wr_dim b) { return a.id == b.id; }

typedef struct wr_dims wr_dims; /* the table */
wr_dims *wr_dims_new(void);
void wr_dims_free(wr_dims *t);

/* Declare a symbol, or return the one of that name if its range and divisor are the same. The null
 * dim means: another declaration of the name, an empty range, too many symbols, or no memory. */
wr_dim wr_dims_symbol(wr_dims *t, const char *name, int64_t min, int64_t max, int64_t multiple_of);

/* Arithmetic. The null dim where the result has more than four terms or factors, may be negative by
 * a literal, or (division) cannot be proved to be a whole number. Null in, null out. */
wr_dim wr_dims_add(wr_dims *t, wr_dim a, wr_dim b);
wr_dim wr_dims_sub(wr_dims *t, wr_dim a, wr_dim b);
wr_dim wr_dims_mul(wr_dims *t, wr_dim a, wr_dim b);
wr_dim wr_dims_div(wr_dims *t, wr_dim a, wr_dim b);

/* The value under a binding; -1 when a symbol in it is not bound. */
int64_t wr_dims_eval(const wr_dims *t, wr_dim d, const wr_binding *b);

/* Smallest and largest value over the symbols' ranges. */
void wr_dims_range(const wr_dims *t, wr_dim d, int64_t *min, int64_t *max);

/* Index of the symbol when the dim is a bare symbol, else -1. */
int wr_dims_symbol_of(const wr_dims *t, wr_dim d);

/* Did an allocation fail, so that null dims may have no other cause? */
bool wr_dims_out_of_memory(const wr_dims *t);

int wr_dims_symbol_count(const wr_dims *t);
const wr_symbol *wr_dims_symbol_at(const wr_dims *t, int index);

/* Append the dim as text, e.g. "T/2", "2*C". */
void wr_dims_print(const wr_dims *t, wr_dim d, wr_str *out);

#endif
