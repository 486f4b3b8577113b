/* test_invert_random.c: random compositions of flow layers; the derived inverse and log-determinant
 * against numeric Jacobians, sentence by sentence under masks, and padding without influence.
 *
 * A composition is told by its number: WEIR_TEST_FLOW=123 runs that one and prints its layers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autodiff/check_bijection.h"
#include "ops/elementwise.h"
#include "ops/index.h"
#include "ops/layout.h"
#include "ops/linalg.h"
#include "ops/mask.h"
#include "ops/matmul.h"
#include "ops/reduce.h"
#include "ops/slice.h"
#include "ops/sort.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COMPOSITIONS = 2000, OUTPUTS = 8, HIDDEN = 3 };

typedef struct flow {
    wr_graph *g;
    uint64_t rng;
    wr x, mask, len, h; /* h [B, T', 3]: conditioning of the present scale; mask: poison or [B, T']
                         * or of all axes, after a squeeze of odd lengths */
    int layer;
    wr in[2];
    int n_in;
    wr out[OUTPUTS];
    int n_out;
    wr_str told; /* the layers, for messages */
} flow;

static int64_t draw(flow *f, int64_t low, int64_t high) {
    f->rng = f->rng * 6364136223846793005u + 1442695040888963407u;
    return low + (int64_t)((f->rng >> 33) % (uint64_t)(high - low + 1));
}

static int channels(const flow *f) { return (int)wr_dim_literal(wr_dim_of(f->x, -1)); }
static bool masked(const flow *f) { return !wr_is_poison(f->mask); }

/* Rows hold data and padding: only after a squeeze. */
static bool has_mixed_rows(const flow *f) { return masked(f) && wr_rank(f->mask) > 2; }

static wr param(flow *f, const char *name, int rank, const int64_t *dims, double deviation) {
    wr_dim d[3];
    for (int i = 0; i < rank; i++)
        d[i] = wr_n(dims[i]);
    return wr_param(f->g, name, WR_F64, rank, d, ((wr_init){WR_INIT_NORMAL, 0, deviation}));
}

static wr vector(flow *f, const char *name, int n, double deviation) {
    return param(f, name, 1, (int64_t[]){n}, deviation);
}

static wr matrix(flow *f, const char *name, int n, int m, double deviation) {
    return param(f, name, 2, (int64_t[]){n, m}, deviation);
}

/* ---- elementwise, each from all numbers to its range ---- */

static wr softplus_scaled(flow *f, wr x) {
    return wr_mul(wr_softplus(x), wr_exp(vector(f, "scale", channels(f), 0.3)));
}

static wr elementwise(flow *f, wr x, int64_t kind) {
    wr v = vector(f, "v", channels(f), 0.3), soft = wr_shift(wr_softplus(x), 0.25);
    switch (kind) {
    case 0:
        return wr_tanh(wr_scale(x, 0.6));
    case 1:
        return wr_sub(wr_exp(wr_scale(x, 0.4)), v);
    case 2:
        return wr_log(wr_expm1(softplus_scaled(f, x)));
    case 3:
        return wr_atanh(wr_scale(wr_sigmoid(x), 0.9));
    case 4:
        return wr_neg(wr_log_sigmoid(x));
    case 5:
        return wr_sqrt(soft);
    case 6:
        return wr_rsqrt(soft);
    case 7:
        return wr_reciprocal(soft);
    case 8:
        return wr_power(soft, 1.75);
    case 9:
        return wr_log1p(soft);
    case 10:
        return wr_expm1(wr_scale(x, -0.5));
    case 11:
        return wr_div(x, wr_shift(wr_square(v), 0.5));
    case 12:
        return wr_div(wr_shift(v, 2.0), soft);
    case 13:
        return wr_sub(v, wr_scale_by_dim(x, wr_dim_of(x, masked(f) ? 0 : 1), -0.5));
    case 14:
        return wr_mul(wr_sigmoid(v), wr_shift(x, -0.3));
    default:
        return wr_leaf(wr_add(wr_mul(x, wr_exp(v)), v));
    }
}

static void add_elementwise(flow *f) {
    int64_t kind = draw(f, 0, 15);
    wr_str_add(&f->told, " elementwise %d;", (int)kind);
    f->x = elementwise(f, f->x, kind);
}

/* ---- couplings ---- */

/* Log-scale and shift of the sizes of `like` from another part, the conditioning, or both. */
static void network(flow *f, wr part, wr like, wr *scale, wr *shift) {
    int from = (int)wr_dim_literal(wr_dim_of(part, -1)),
        to = (int)wr_dim_literal(wr_dim_of(like, -1));
    wr hidden = wr_tanh(wr_matmul(part, matrix(f, "w", from, 6, 0.5)));
    *scale = wr_tanh(wr_matmul(hidden, matrix(f, "s", 6, to, 0.4)));
    *shift = wr_matmul(hidden, matrix(f, "t", 6, to, 0.5));
}

/* y = transform(x; part) in one of several forms. */
static wr transformed(flow *f, wr x, wr part) {
    wr s, t;
    network(f, part, x, &s, &t);
    switch (draw(f, 0, 4)) {
    case 0:
        return wr_add(x, t);
    case 1:
        return wr_add(wr_mul(x, wr_exp(s)), t);
    case 2:
        return wr_add(wr_mul(wr_sigmoid(wr_shift(s, 1.0)), x), t);
    case 3:
        return wr_sub(t, wr_div(x, wr_exp(s)));
    default:
        return wr_log(wr_expm1(wr_mul(wr_softplus(wr_add(x, t)), wr_exp(s))));
    }
}

/* With the conditioning beside it, where that has the same steps. */
static wr with_h(flow *f, wr part, bool same_steps) {
    return same_steps && draw(f, 0, 1) == 0 ? wr_concat(-1, part, f->h) : part;
}

static void add_split_coupling(flow *f) {
    wr part[2];
    int c = channels(f), axis = wr_rank(f->x) - 1;
    if (c < 2) return;
    int64_t kind = draw(f, 0, c % 2 == 0 ? 3 : has_mixed_rows(f) ? 0 : 1), cut = draw(f, 1, c - 1);
    wr_str_add(&f->told, " coupling %d;", (int)kind);
    if (kind == 0) {
        part[0] = wr_slice(f->x, axis, 0, cut);
        part[1] = wr_slice(f->x, axis, cut, 0);
    } else if (kind == 1) {
        part[0] = wr_every(f->x, axis, 0, 2);
        part[1] = wr_every(f->x, axis, 1, 2);
    } else if (kind == 2) {
        wr_split(f->x, axis, 2, part);
    } else {
        wr_deinterleave(f->x, axis, 2, part);
    }
    int first = (int)draw(f, 0, 1);
    wr y[2] = {part[0], part[1]};
    y[first] = transformed(f, part[first], with_h(f, part[1 - first], true));
    if (draw(f, 0, 2) == 0 && !has_mixed_rows(f)) /* both, one after the other */
        WR_SCOPE (f->g, "second")
            y[1 - first] = transformed(f, part[1 - first], y[first]);
    bool keeps = has_mixed_rows(f), swapped = first == 1 && kind < 3 && !keeps;
    bool dealt = kind == 3 || (kind == 1 && keeps && c % 2 == 0);
    f->x = dealt ? wr_interleave(axis, y[0], y[1])
                 : wr_concat(axis, y[swapped ? 1 : 0], y[swapped ? 0 : 1]);
}

/* Even and odd steps. */
static void add_time_coupling(flow *f) {
    wr part[2];
    if (has_mixed_rows(f)) return;
    int64_t kind = draw(f, masked(f) ? 1 : 0, 2); /* halves would move with the padding */
    wr_str_add(&f->told, " coupling in time %d;", (int)kind);
    if (kind == 0) {
        wr_split(f->x, 1, 2, part);
    } else if (kind == 1) {
        part[0] = wr_every(f->x, 1, 0, 2);
        part[1] = wr_every(f->x, 1, 1, 2);
    } else {
        wr_deinterleave(f->x, 1, 2, part);
    }
    int first = (int)draw(f, 0, 1);
    part[first] = transformed(f, part[first], part[1 - first]);
    f->x = kind == 0 ? wr_concat(1, part[0], part[1]) : wr_interleave(1, part[0], part[1]);
}

static void add_conditioned(flow *f) {
    wr_str_add(&f->told, " conditioned;");
    f->x = transformed(f, f->x, f->h);
}

/* ---- products ---- */

static wr diagonal_of(flow *f, int n, bool positive) {
    wr d = vector(f, "d", n, 0.2);
    return wr_diagonal_matrix(positive ? wr_exp(d) : wr_shift(d, -1.3));
}

static wr square_matrix(flow *f, int n, int64_t kind) {
    wr a = matrix(f, "a", n, n, 0.2);
    wr ones = wr_broadcast(wr_scalar(f->g, WR_F64, 1.0), WR_DIMS(wr_n(n)));
    switch (kind) {
    case 0:
        return wr_add(a, diagonal_of(f, n, false));
    case 1:
        return wr_add(wr_tril(a, -1), wr_diagonal_matrix(ones));
    case 2:
        return wr_add(wr_triu(a, 1), diagonal_of(f, n, true));
    default:
        return wr_matmul(wr_add(wr_tril(a, -1), wr_diagonal_matrix(ones)),
                         wr_add(wr_triu(matrix(f, "b", n, n, 0.3), 1), diagonal_of(f, n, true)));
    }
}

static void add_linear(flow *f) {
    int64_t kind = draw(f, 0, 5);
    int c = channels(f);
    if (has_mixed_rows(f)) return;
    wr_str_add(&f->told, " linear %d;", (int)kind);
    wr w = square_matrix(f, c, kind > 3 ? 0 : kind);
    wr_dim b = wr_dim_of(f->x, 0), t = wr_dim_of(f->x, 1), n = wr_n(c);
    if (kind == 4) { /* a matrix per sentence, from the conditioning of its first step */
        wr own = wr_matmul(wr_index(f->h, 1, 0), matrix(f, "own", HIDDEN, c * c, 0.1));
        w = wr_add(wr_reshape(own, WR_DIMS(b, n, n)), wr_broadcast(w, WR_DIMS(b, n, n)));
    }
    if (kind == 5 && !masked(f)) { /* over flattened rows */
        wr flat = wr_reshape(f->x, WR_DIMS(wr_dim_mul(f->g, b, t), n));
        f->x = wr_reshape(wr_matmul(flat, w), WR_DIMS(b, t, n));
        return;
    }
    f->x = draw(f, 0, 1) == 0 ? wr_matmul(f->x, w) : wr_matmul_nt(f->x, w);
}

static void add_solve(flow *f) {
    int c = channels(f);
    if (has_mixed_rows(f)) return;
    wr_str_add(&f->told, " solve;");
    wr column = wr_transpose(f->x, 1, 2), a = square_matrix(f, c, 0);
    bool transposed = draw(f, 0, 1) == 1;
    column = draw(f, 0, 1) == 0
                 ? wr_lu_solve(a, column, transposed)
                 : wr_triangular_solve(a, column, draw(f, 0, 1) == 0 ? WR_LOWER : WR_UPPER,
                                       transposed, draw(f, 0, 1) == 0);
    f->x = wr_transpose(column, 1, 2);
}

/* y = a x over the steps of each sentence, and back to rows. */
static void add_mix_of_channels(flow *f) {
    if (has_mixed_rows(f)) return;
    wr_str_add(&f->told, " mixed from the left;");
    int c = channels(f);
    wr_dim b = wr_dim_of(f->x, 0), n = wr_n(c);
    wr a = wr_broadcast(square_matrix(f, c, draw(f, 0, 2)), WR_DIMS(b, n, n));
    bool ta = draw(f, 0, 1) == 1;
    wr y = wr_matmul_at(WR_HERE, a, f->x, ta, true);
    f->x = wr_transpose(y, 1, 2);
}

/* ---- permutations ---- */

static void add_channel_permutation(flow *f) {
    int c = channels(f), front[3] = {2, 0, 1}, back[3] = {1, 2, 0};
    int32_t index[32];
    wr_str_add(&f->told, " permuted channels;");
    for (int i = 0; i < c; i++)
        index[i] = i;
    for (int i = c - 1; i > 0; i--) {
        int j = (int)draw(f, 0, i), swap = index[i];
        index[i] = index[j];
        index[j] = swap;
    }
    wr p = wr_const(f->g, WR_I32, 1, ((int64_t[]){c}), index);
    bool scatters = draw(f, 0, 1) == 0;
    wr *both[2] = {&f->x, &f->mask};
    for (int i = 0; i < (has_mixed_rows(f) ? 2 : 1); i++) {
        wr x = wr_permute_at(WR_HERE, *both[i], front);
        x = scatters ? wr_scatter_add(x, p, wr_n(c)) : wr_gather(x, p);
        *both[i] = wr_permute_at(WR_HERE, x, back);
    }
}

static void add_time_permutation(flow *f) {
    if (has_mixed_rows(f) || wr_is_poison(f->len)) return;
    wr_str_add(&f->told, " reversed;");
    f->x = wr_reverse_prefix(f->x, f->len);
}

static void add_running_sums(flow *f) {
    if (has_mixed_rows(f)) return;
    int axis = (int)draw(f, 1, 2);
    bool reverse = draw(f, 0, 1) == 1 && (axis == 2 || !masked(f));
    wr_str_add(&f->told, " sums along %d%s;", axis, reverse ? " from the end" : "");
    f->x = wr_scale(wr_cumsum_with(f->x, axis, reverse, false), 0.7);
}

/* ---- choices ---- */

static void add_choice(flow *f) {
    int64_t kind = draw(f, 0, 3);
    wr_str_add(&f->told, " choice %d;", (int)kind);
    wr zero = wr_scalar(f->g, WR_F64, 0.0), m;
    m = draw(f, 0, 1) == 0
            ? wr_less(vector(f, "choice", channels(f), 1), zero)
            : wr_broadcast(wr_less(wr_slice(f->h, 2, 0, 1), zero), 3,
                           (wr_dim[]){wr_dim_of(f->x, 0), wr_dim_of(f->x, 1), wr_dim_of(f->x, 2)});
    wr x = f->x, v = vector(f, "moved", channels(f), 0.3);
    wr bent = wr_log(wr_expm1(wr_scale(wr_softplus(x), 1.4)));
    if (kind == 0) f->x = wr_select(m, wr_exp(wr_scale(x, 0.5)), x);
    if (kind == 1) f->x = wr_select(m, x, bent);
    if (kind == 2) f->x = wr_select(m, wr_sqrt(wr_softplus(wr_sub(x, v))), wr_neg(bent));
    if (kind == 3) f->x = wr_select(m, wr_mul(x, wr_exp(v)), wr_tanh(wr_add(x, v)));
}

/* ---- scales ---- */

static bool can_squeeze(const flow *f) {
    wr_dim t = wr_dim_div(f->g, wr_dim_of(f->x, 1), wr_n(2));
    return t.id != 0 && wr_dim_div(f->g, t, wr_n(2)).id != 0 && channels(f) <= 4;
}

static void add_squeeze(flow *f) {
    if (!can_squeeze(f)) return;
    wr_str_add(&f->told, " squeeze;");
    wr_dim b = wr_dim_of(f->x, 0), t = wr_dim_div(f->g, wr_dim_of(f->x, 1), wr_n(2));
    wr_dim c = wr_n(2 * channels(f));
    if (masked(f)) {
        wr ones = wr_broadcast_like(wr_scalar(f->g, WR_F64, 1.0), f->x);
        f->mask = wr_reshape(wr_mask_apply(ones, f->mask), WR_DIMS(b, t, c));
    }
    f->x = wr_reshape(f->x, WR_DIMS(b, t, c));
    f->h = wr_every(f->h, 1, 0, 2);
    f->len = (wr){f->g, 0};
}

/* Aside goes out; with a mask of all axes, its mask and that of the rest are parts, too. */
static void add_factor_out(flow *f) {
    int c = channels(f);
    if (c < 3 || f->n_out == OUTPUTS - 1) return;
    int64_t cut = draw(f, 1, c - 2);
    wr_str_add(&f->told, " factor out;");
    f->out[f->n_out++] = wr_slice(f->x, 2, cut, 0);
    f->x = wr_slice(f->x, 2, 0, cut);
    if (has_mixed_rows(f)) f->mask = wr_slice(f->mask, 2, 0, cut);
}

static void add_layer(flow *f) {
    static void (*const layers[])(flow *) = {
        add_elementwise,      add_split_coupling, add_split_coupling, add_time_coupling,
        add_conditioned,      add_linear,         add_linear,         add_solve,
        add_mix_of_channels,  add_choice,         add_squeeze,        add_channel_permutation,
        add_time_permutation, add_running_sums,   add_factor_out};
    int64_t most = (int64_t)(sizeof layers / sizeof *layers) - 1;
    WR_SCOPE (f->g, "layer%d", f->layer++) {
        layers[draw(f, 0, most)](f);
        if (masked(f)) f->x = wr_mask_apply(f->x, f->mask);
    }
}

/* ---- the whole ---- */

static void begin(flow *f, uint64_t number) {
    *f = (flow){.g = wr_graph_new(), .rng = number * 0x9e3779b97f4a7c15u + 7};
    assert_non_null(f->g);
    for (int i = 0; i < 4; i++)
        draw(f, 0, 1);
    wr_dim b = wr_sym(f->g, "B", 1, 64, 1), t = wr_sym(f->g, "T", 4, 64, 4);
    int64_t c = draw(f, 1, 4);
    f->in[0] = f->x = wr_input(f->g, "x", WR_F64, WR_DIMS(b, t, wr_n(c)));
    f->n_in = 1;
    f->h = wr_input(f->g, "h", WR_F64, WR_DIMS(b, t, wr_n(HIDDEN)));
    f->len = wr_input(f->g, "len", WR_I32, WR_DIMS(b));
    f->mask = (wr){f->g, 0};
    if (c <= 2 && draw(f, 0, 3) == 0) {
        f->in[f->n_in++] = wr_input(f->g, "x2", WR_F64, WR_DIMS(b, t, wr_n(2)));
        f->x = wr_concat(-1, f->in[1], f->x);
    }
    if (draw(f, 0, 4) < 3) f->mask = wr_sequence_mask(f->len, t, WR_F64);
    if (masked(f)) f->x = wr_mask_apply(f->x, f->mask);
}

static void fail_flow(const flow *f, uint64_t number, const wr_check_report *r,
                      const wr_error *err) {
    if (err->status == WR_OK) wr_check_print(r, stdout);
    fail_msg("composition %llu:%s\n%s", (unsigned long long)number, wr_str_text(&f->told),
             err->text);
}

/* The largest error of its log-determinant. */
static double check_composition(uint64_t number, bool print) {
    flow f;
    wr_check_report r = {0};
    wr_error err = {0};
    begin(&f, number);
    for (int64_t n = draw(&f, 1, 5); n > 0; n--)
        add_layer(&f);
    if (print) print_message("%s\n", wr_str_text(&f.told));
    f.out[f.n_out++] = f.x;
    wr masks[2] = {{f.g, 0}, {f.g, 0}};
    if (masked(&f))
        masks[0] = masks[1] =
            wr_sequence_mask(wr_input(f.g, "len", WR_I32, WR_DIMS(wr_sym(f.g, "B", 1, 64, 1))),
                             wr_sym(f.g, "T", 4, 64, 4), WR_F64);
    wr_bijection b = {.n_in = f.n_in, .ins = f.in, .masks = masks, .n_out = f.n_out, .outs = f.out};
    wr_check_options o = {
        .n_sizes = 2, .sizes = (wr_check_size[]){{"B", 2}, {"T", 4}}, .noise = -1, .seed = number};
    if (wr_check_bijection(&b, &o, &r, &err) != WR_OK || !r.passed) fail_flow(&f, number, &r, &err);
    if (print) wr_check_print(&r, stdout);
    wr_str_free(&f.told);
    wr_graph_free(f.g);
    return r.result[WR_CHECK_JACOBIAN].error;
}

static void test_compositions(void **state) {
    (void)state;
    const char *one = getenv("WEIR_TEST_FLOW"), *count = getenv("WEIR_TEST_FLOWS");
    uint64_t n = count != NULL ? strtoull(count, NULL, 10) : COMPOSITIONS;
    double worst = 0;
    if (one != NULL) {
        check_composition(strtoull(one, NULL, 10), true);
        return;
    }
    for (uint64_t i = 0; i < n; i++)
        worst = fmax(worst, check_composition(i, false));
    print_message("%llu compositions, largest error of log |det| %.1e\n", (unsigned long long)n,
                  worst);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_compositions)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
