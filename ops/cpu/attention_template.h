/* attention_template.h: see attention.h; a template: include what attention_f32.c includes, then
 * define REAL, REAL_BYTES, ROW(name), EXP(x), LOG(x) and ATTENTION(name).
 *
 * With P [s, t] the probabilities and M the dropout factors, O = (M P)^T V. Backward, with dP = M
 * (V dO^T) and delta [t] = sum over s of P dP, less the cotangent of the log-sum-exp:
 *
 *     dV = (M P) dO,   dS = P (dP - delta),   dK = scale dS Q,   dQ = scale dS^T K */
#include "ops/cpu/attention_tile.h"

enum { DROP_RUN = 128 }; /* elements whose dropout bits come from one tile of Philox */

/* One head and one block of its queries, with scratch memory. */
typedef struct head {
    const wr__attention *a;
    int64_t b, h;
    int64_t keys;           /* all that the sequence has */
    int64_t t0, t, tp, dp;  /* the block's first query and number of queries; padded t and dh */
    int64_t n;              /* keys that the block's queries may see */
    REAL *q_t, *cot_t;      /* [dh, tp] */
    REAL *q, *cot, *o;      /* [t, dp] */
    REAL *kv, *dk, *dv;     /* [S, dp]; kv: forward the values, backward the keys */
    REAL *p, *grad, *drop;  /* [S, tp] */
    REAL *factors;          /* [t, S] dropout factors, with room before and behind */
    REAL *high, *sum, *lse; /* [tp] */
} head;

/* The next n elements of scratch memory; with none to give, only the size is counted. */
typedef struct arena {
    REAL *base;
    int64_t used;
} arena;

static REAL *take(arena *m, int64_t n) {
    REAL *p = m->base == NULL ? NULL : m->base + m->used;
    m->used += (n + 15) / 16 * 16;
    return p;
}

static head lay_out(const wr__attention *a, arena *m) {
    int64_t t = a->t < WR__ATTENTION_BLOCK ? a->t : WR__ATTENTION_BLOCK;
    int64_t tp = whole_vectors(t), dp = whole_vectors(a->dh), sp = whole_vectors(a->s);
    bool drop = a->dropout > 0;
    head k = {.a = a, .dp = dp};
    k.q_t = take(m, a->dh * tp);
    k.cot_t = take(m, a->dh * tp);
    k.q = take(m, t * dp);
    k.cot = take(m, t * dp);
    k.o = take(m, t * dp);
    k.kv = take(m, sp * dp);
    k.dk = take(m, sp * dp);
    k.dv = take(m, sp * dp);
    k.p = take(m, sp * tp);
    k.grad = take(m, sp * tp);
    k.drop = take(m, drop ? sp * tp : 0);
    k.factors = take(m, drop ? t * a->s + 2 * DROP_RUN : 0);
    k.high = take(m, tp);
    k.sum = take(m, tp);
    k.lse = take(m, tp);
    return k;
}

size_t ATTENTION(scratch)(const wr__attention *a) {
    arena m = {NULL, 0};
    lay_out(a, &m);
    return (size_t)m.used * sizeof(REAL);
}

static head head_begin(const wr__attention *a, int64_t b, int64_t h, void *scratch) {
    arena m = {scratch, 0};
    head k = lay_out(a, &m);
    k.b = b;
    k.h = h;
    k.keys = a->lengths == NULL ? a->s : a->lengths[b];
    return k;
}

/* False behind the last block of queries. */
static bool next_block(head *k) {
    const wr__attention *a = k->a;
    k->t0 += k->t;
    k->t = a->t - k->t0 < WR__ATTENTION_BLOCK ? a->t - k->t0 : WR__ATTENTION_BLOCK;
    k->tp = whole_vectors(k->t);
    k->n = a->causal && k->keys > k->t0 + k->t ? k->t0 + k->t : k->keys;
    return k->t > 0;
}

/* Element 0 of the head's first row of this block of queries, and of its keys, in a tensor whose
 * rows are `ld` apart. */
static int64_t query_at(const head *k, int64_t ld) {
    return (k->b * k->a->t + k->t0) * ld + k->h * k->a->dh;
}
static int64_t key_at(const head *k, int64_t ld) { return k->b * k->a->s * ld + k->h * k->a->dh; }
static int64_t row_at(const head *k) { return (k->b * k->a->heads + k->h) * k->a->t + k->t0; }

static void zero_rows(int64_t rows, int64_t n, REAL *to, int64_t ld) {
    for (int64_t i = 0; i < rows; i++)
        memset(to + i * ld, 0, (size_t)n * sizeof *to);
}

/* ---- probabilities ---- */

/* k x^T of the block's queries (or cotangents) with the keys (or values) where they lie: [n, tp] */
static void against_keys(const head *k, const void *keys, const REAL *x_t, REAL *to) {
    const product p = {.m = k->n,
                       .n = k->tp,
                       .k = k->a->dh,
                       .a = (const REAL *)keys + key_at(k, k->a->k_ld),
                       .a_row = k->a->k_ld,
                       .a_step = 1,
                       .b = x_t,
                       .ldb = k->tp,
                       .c = to,
                       .ldc = k->tp};
    multiply(&p);
}

static void score(head *k) {
    const wr__attention *a = k->a;
    pack_transposed(k->t, a->dh, (const REAL *)a->q + query_at(k, a->q_ld), a->q_ld, (REAL)a->scale,
                    k->q_t);
    against_keys(k, a->k, k->q_t, k->p);
    for (int64_t s = k->t0 + 1; a->causal && s < k->n; s++)
        ROW(fill)(s - k->t0 < k->tp ? s - k->t0 : k->tp, (REAL)-INFINITY, k->p + s * k->tp);
}

/* p = e^(score - x[t]), in place */
static void exponentials(const head *k, const REAL *restrict x) {
    for (int64_t s = 0; s < k->n; s++) {
        REAL *restrict row = k->p + s * k->tp;
#pragma omp simd
        for (int64_t t = 0; t < k->tp; t++)
            row[t] -= x[t];
    }
    REAL *restrict all = k->p;
#pragma omp simd
    for (int64_t i = 0; i < k->n * k->tp; i++)
        all[i] = EXP(all[i]);
}

/* Not normalised: the sums stay apart. */
static void soften(const head *k) {
    REAL *restrict high = k->high, *restrict sum = k->sum;
    ROW(fill)(k->tp, (REAL)-INFINITY, high);
    ROW(fill)(k->tp, 0, sum);
    for (int64_t s = 0; s < k->n; s++) {
        const REAL *restrict row = k->p + s * k->tp;
#pragma omp simd
        for (int64_t t = 0; t < k->tp; t++)
            high[t] = row[t] > high[t] ? row[t] : high[t];
    }
    exponentials(k, high);
    for (int64_t s = 0; s < k->n; s++) {
        const REAL *restrict row = k->p + s * k->tp;
#pragma omp simd
        for (int64_t t = 0; t < k->tp; t++)
            sum[t] += row[t];
    }
}

/* ---- dropout: the numbers of the row `dropout` for a tensor [B, H, T, S] ---- */

/* Elements first .. first + DROP_RUN - 1; see ops/random_ops.c for the order of the bits. */
static void drop_run(const wr__attention *a, int64_t first, REAL *restrict out) {
    const uint32_t threshold = (uint32_t)(a->dropout * 65536.0 + 0.5);
    const REAL factor = (REAL)(65536.0 / (65536.0 - (double)threshold));
    uint32_t word[4][WR_PHILOX_LANES];
    wr_philox_tile(&a->random, (uint64_t)first / 8, word);
    for (int w = 0; w < 4; w++, out += 2 * WR_PHILOX_LANES) {
#pragma omp simd
        for (int l = 0; l < WR_PHILOX_LANES; l++) {
            out[l] = (word[w][l] & 0xffffu) >= threshold ? factor : 0;
            out[WR_PHILOX_LANES + l] = word[w][l] >> 16 >= threshold ? factor : 0;
        }
    }
}

/* The block's factors, key-major. */
static void draw_factors(const head *k) {
    int64_t first = row_at(k) * k->a->s, before = first % DROP_RUN;
    for (int64_t i = -before; i < k->t * k->a->s; i += DROP_RUN)
        drop_run(k->a, first + i, k->factors + before + i);
    pack_transposed(k->t, k->n, k->factors + before, k->a->s, 1, k->drop);
}

static void multiply_elements(int64_t n, const REAL *restrict x, REAL *restrict y) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] *= x[i];
}

/* ---- forward ---- */

/* One query and nothing to pack: decoding. */
static void forward_one(head *k) {
    const wr__attention *a = k->a;
    const REAL *q = (const REAL *)a->q + query_at(k, a->q_ld);
    const REAL *keys = (const REAL *)a->k + key_at(k, a->k_ld);
    for (int64_t s = 0; s < k->n; s++)
        k->p[s] = ROW(dot)(a->dh, q, keys + s * a->k_ld) * (REAL)a->scale;
    k->high[0] = ROW(max)(k->n, k->p);
    k->sum[0] = ROW(exp)(k->n, k->p, k->high[0], k->p);
    const product out = {.m = 1,
                         .n = a->dh,
                         .k = k->n,
                         .a = k->p,
                         .a_step = 1,
                         .b = (const REAL *)a->v + key_at(k, a->k_ld),
                         .ldb = a->k_ld,
                         .c = k->o,
                         .ldc = k->dp};
    multiply(&out);
}

/* o = weights (T, S) times kv (S, DH) of the block's queries. */
static void to_queries(const head *k, const REAL *weights) {
    const product out = {.m = k->t,
                         .n = k->dp,
                         .k = k->n,
                         .a = weights,
                         .a_row = 1,
                         .a_step = k->tp,
                         .b = k->kv,
                         .ldb = k->dp,
                         .c = k->o,
                         .ldc = k->dp};
    multiply(&out);
}

static void forward_block(head *k) {
    score(k);
    soften(k);
    if (k->a->dropout > 0) {
        draw_factors(k);
        multiply_elements(k->n * k->tp, k->drop, k->p);
    }
    to_queries(k, k->p);
}

void ATTENTION(forward)(const wr__attention *a, int64_t b, int64_t h, void *scratch) {
    head k = head_begin(a, b, h, scratch);
    bool one = a->t == 1 && a->dh % LANES == 0 && a->dropout == 0;
    if (!one) pack_rows(k.keys, a->dh, (const REAL *)a->v + key_at(&k, a->k_ld), a->k_ld, 1, k.kv);
    while (next_block(&k)) {
        REAL *out = a->out == NULL ? NULL : (REAL *)a->out + query_at(&k, a->width);
        REAL *lse = a->lse == NULL ? NULL : (REAL *)a->lse + row_at(&k);
        if (k.n == 0) {
            if (out != NULL) zero_rows(k.t, a->dh, out, a->width);
            if (lse != NULL) ROW(fill)(k.t, 0, lse);
            continue;
        }
        if (one)
            forward_one(&k);
        else
            forward_block(&k);
        for (int64_t t = 0; t < k.t; t++) {
            if (lse != NULL) lse[t] = k.high[t] + LOG(k.sum[t]);
            k.sum[t] = 1 / k.sum[t];
        }
        if (out != NULL) unpack_rows(k.t, a->dh, k.o, k.sum, 1, out, a->width);
    }
}

/* ---- backward ---- */

/* p: probabilities; grad: dS, the scores' cotangents; drop: p times the dropout factors. */
static void score_cotangents(head *k) {
    const wr__attention *a = k->a;
    REAL *restrict delta = k->sum;
    score(k);
    ROW(fill)(k->tp, 0, k->lse);
    memcpy(k->lse, (const REAL *)a->lse_in + row_at(k), (size_t)k->t * sizeof(REAL));
    exponentials(k, k->lse);
    pack_transposed(k->t, a->dh, (const REAL *)a->cot + query_at(k, a->width), a->width, 1,
                    k->cot_t);
    against_keys(k, a->v, k->cot_t, k->grad);
    if (a->dropout > 0) {
        draw_factors(k);
        multiply_elements(k->n * k->tp, k->drop, k->grad);
        multiply_elements(k->n * k->tp, k->p, k->drop);
    }
    ROW(fill)(k->tp, 0, delta);
    for (int64_t t = 0; a->cot_lse != NULL && t < k->t; t++)
        delta[t] = -((const REAL *)a->cot_lse)[row_at(k) + t];
    for (int64_t s = 0; s < k->n; s++) {
        const REAL *restrict p = k->p + s * k->tp, *restrict grad = k->grad + s * k->tp;
#pragma omp simd
        for (int64_t t = 0; t < k->tp; t++)
            delta[t] += p[t] * grad[t];
    }
    for (int64_t s = 0; s < k->n; s++) {
        const REAL *restrict p = k->p + s * k->tp;
        REAL *restrict grad = k->grad + s * k->tp;
#pragma omp simd
        for (int64_t t = 0; t < k->tp; t++)
            grad[t] = p[t] * (grad[t] - delta[t]);
    }
}

/* to [n, dp] gets or adds x [n, t] times rows [t, dp]. */
static void to_keys(const head *k, const REAL *x, const REAL *rows, bool add, REAL *to) {
    const product p = {.m = k->n,
                       .n = k->dp,
                       .k = k->t,
                       .a = x,
                       .a_row = k->tp,
                       .a_step = 1,
                       .b = rows,
                       .ldb = k->dp,
                       .c = to,
                       .ldc = k->dp,
                       .add = add};
    multiply(&p);
}

static void backward_block(head *k, bool add) {
    const wr__attention *a = k->a;
    const REAL scale = (REAL)a->scale;
    score_cotangents(k);
    if (a->dv != NULL) {
        pack_rows(k->t, a->dh, (const REAL *)a->cot + query_at(k, a->width), a->width, 1, k->cot);
        to_keys(k, a->dropout > 0 ? k->drop : k->p, k->cot, add, k->dv);
    }
    if (a->dk != NULL) {
        pack_rows(k->t, a->dh, (const REAL *)a->q + query_at(k, a->q_ld), a->q_ld, scale, k->q);
        to_keys(k, k->grad, k->q, add, k->dk);
    }
    if (a->dq == NULL) return;
    to_queries(k, k->grad);
    unpack_rows(k->t, a->dh, k->o, &scale, 0, (REAL *)a->dq + query_at(k, a->dq_ld), a->dq_ld);
}

static void finish_keys(const head *k, const REAL *from, void *to) {
    const wr__attention *a = k->a;
    const REAL one = 1;
    if (to == NULL) return;
    REAL *rows = (REAL *)to + key_at(k, a->dk_ld);
    unpack_rows(k->keys, a->dh, from, &one, 0, rows, a->dk_ld);
    zero_rows(a->s - k->keys, a->dh, rows + k->keys * a->dk_ld, a->dk_ld);
}

void ATTENTION(backward)(const wr__attention *a, int64_t b, int64_t h, void *scratch) {
    head k = head_begin(a, b, h, scratch);
    bool add = a->t > WR__ATTENTION_BLOCK;
    if (a->dq != NULL)
        pack_rows(k.keys, a->dh, (const REAL *)a->k + key_at(&k, a->k_ld), a->k_ld, 1, k.kv);
    if (add) {
        memset(k.dk, 0, (size_t)(k.keys * k.dp) * sizeof(REAL));
        memset(k.dv, 0, (size_t)(k.keys * k.dp) * sizeof(REAL));
    }
    while (next_block(&k)) {
        if (k.n > 0)
            backward_block(&k, add);
        else if (a->dq != NULL)
            zero_rows(k.t, a->dh, (REAL *)a->dq + query_at(&k, a->dq_ld), a->dq_ld);
    }
    finish_keys(&k, k.dk, a->dk);
    finish_keys(&k, k.dv, a->dv);
}
