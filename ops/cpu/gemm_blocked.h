/* gemm_blocked.h: the own blocked matrix product, a template over REAL, REAL_BYTES and NAME(x).
 *
 * "packed": C is cut into blocks of rows, k into blocks of at most K_BLOCK. For each, all threads
 * pack the block of A into panels (shared, it stays in the last level of cache), meet, and then
 * take chunks of columns: a thread packs its chunk of B into its second-level cache and multiplies
 * all panels of A with it. Two buffers of A alternate, so one meeting a block is enough. Where
 * there are rows, or columns, enough, each thread does this by itself on a part of C instead.
 *
 * "direct": the threads take panels of columns of all matrices of the batch, reading A, and B where
 * its rows can be loaded as they are, in place. */
#include "ops/cpu/gemm_impl.h"
#include "ops/cpu/gemm_tile.h"
#include "ops/cpu/gemm_pack.h"

#include <omp.h>

enum { K_BLOCK = 512, ROW_BLOCK = 1024, CHUNK_COLS = 64, A_GROUP = 8 };

/* How one product is cut. Sizes in elements. */
typedef struct cut {
    int64_t k_step, row_step, chunk; /* of k, of rows, of columns */
    int64_t groups;                  /* parts of a row block that are given out separately */
    int64_t a_size, b_size;          /* one packed block of A, one packed chunk of B */
} cut;

static int64_t round_up(int64_t x, int64_t unit) { return (x + unit - 1) / unit * unit; }
static int64_t div_up(int64_t x, int64_t unit) { return (x + unit - 1) / unit; }

/* The step that cuts `size` into equal parts of at most `limit`, a multiple of `unit`. */
static int64_t even_step(int64_t size, int64_t limit, int64_t unit) {
    if (size <= limit) return size > 0 ? size : 1;
    return round_up(div_up(size, div_up(size, limit)), unit);
}

static cut cut_packed(const wr_gemm_spec *s) {
    cut q = {.k_step = even_step(s->k, K_BLOCK * 4 / REAL_BYTES, LANES),
             .row_step = even_step(s->m, ROW_BLOCK, TILE_ROWS),
             .chunk = CHUNK_COLS,
             .groups = 1};
    if (div_up(s->n, q.chunk) < 2 * s->threads) q.chunk = TILE_COLS;
    int64_t chunks = div_up(s->n, q.chunk), panels = div_up(q.row_step, TILE_ROWS);
    if (chunks < 2 * s->threads) q.groups = div_up(2 * s->threads, chunks);
    if (q.groups > panels) q.groups = panels;
    q.a_size = round_up(q.row_step * q.k_step, 64 / REAL_BYTES);
    q.b_size = round_up(q.chunk * q.k_step, 64 / REAL_BYTES);
    return q;
}

/* Does each thread take rows, or columns, of C for itself? It packs more then, but threads need not
 * meet, and what one wrote stays in its own caches. */
enum { ROWS_APART = 192, COLS_APART = 192 };
static bool apart_by_rows(const wr_gemm_spec *s) { return s->m >= ROWS_APART * s->threads; }
static bool is_apart(const wr_gemm_spec *s) {
    return s->threads > 1 && (apart_by_rows(s) || s->n >= COLS_APART * s->threads);
}

static cut cut_apart(const wr_gemm_spec *s) {
    wr_gemm_spec part = *s;
    part.threads = 1;
    if (apart_by_rows(s))
        part.m = round_up(div_up(s->m, s->threads), TILE_ROWS);
    else
        part.n = round_up(div_up(s->n, s->threads), TILE_COLS);
    return cut_packed(&part);
}

size_t NAME(wr__gemm_packed_workspace)(const wr_gemm_spec *s) {
    cut q = is_apart(s) ? cut_apart(s) : cut_packed(s);
    int64_t a_buffers = is_apart(s) ? 2 * s->threads : 2;
    return (size_t)(a_buffers * q.a_size + s->threads * q.b_size) * sizeof(REAL);
}

/* One block of op(A), `rows` x `k`, in panels of nearly equal height. Packed or read in place. */
typedef struct a_block {
    const REAL *data;
    int64_t rows, k, panels;
    int64_t ld; /* read in place: elements between stored rows */
    bool packed, by_steps;
} a_block;

static int64_t panel_start(int64_t rows, int64_t panels, int64_t i) { return rows * i / panels; }

static const REAL *a_at(const wr_gemm_spec *s, const REAL *a, int64_t row, int64_t p) {
    return s->trans_a ? a + p * s->lda + row : a + row * s->lda + p;
}

static const REAL *b_at(const wr_gemm_spec *s, const REAL *b, int64_t p, int64_t col) {
    return s->trans_b ? b + col * s->ldb + p : b + p * s->ldb + col;
}

/* Vectors in the panel of B that starts `left` columns before the end of C. */
static int panel_vecs(int64_t left) { return left > LANES ? 2 : 1; }

/* Row panels [from, to) of the block of A at `row`, `p` to their places in `buffer`. */
static void pack_a_panels(const wr_gemm_spec *s, REAL *buffer, const REAL *a, int64_t row,
                          int64_t p, const a_block *block, int64_t from, int64_t to) {
    panel_copy copies[A_GROUP];
    int count = 0;
    for (int64_t i = from; i < to; i++) {
        int64_t first = panel_start(block->rows, block->panels, i);
        int rows = (int)(panel_start(block->rows, block->panels, i + 1) - first);
        REAL *dst = buffer + first * block->k;
        const REAL *src = a_at(s, a, row + first, p);
        if (s->trans_a)
            copies[count++] = (panel_copy){dst, src, rows, rows};
        else
            pack_transpose(dst, rows, src, s->lda, rows, block->k);
    }
    if (s->trans_a) pack_copies(copies, count, s->lda, block->k);
}

/* `cols` columns of B from `col`, at most a chunk, rows [p, p + k), as panels. */
static void pack_b_chunk(const wr_gemm_spec *s, REAL *dst, const REAL *b, int64_t p, int64_t k,
                         int64_t col, int64_t cols) {
    panel_copy copies[CHUNK_COLS / TILE_COLS];
    int count = 0;
    for (int64_t j = 0; j < cols; j += TILE_COLS) {
        int wide = panel_vecs(cols - j) * LANES, width = cols - j < wide ? (int)(cols - j) : wide;
        const REAL *src = b_at(s, b, p, col + j);
        if (s->trans_b)
            pack_transpose(dst + j * k, wide, src, s->ldb, width, k);
        else
            copies[count++] = (panel_copy){dst + j * k, src, wide, width};
    }
    if (!s->trans_b) pack_copies(copies, count, s->ldb, k);
}

/* Where one row panel of A meets a chunk of B. */
typedef struct strip {
    const wr_gemm_spec *s;
    tile_args t;
    int rows, layout; /* layout: index of tiles[][] */
    bool last;        /* of the blocks of k: apply the activation */
} strip;

static void copy_rows(REAL *dst, int64_t dst_ld, const REAL *src, int64_t src_ld, int rows,
                      int64_t cols) {
    for (int i = 0; i < rows; i++) {
        int64_t j = 0;
        for (; j + LANES <= cols; j += LANES)
            vec_store(dst + i * dst_ld + j, vec_load(src + i * src_ld + j));
        for (; j < cols; j++)
            dst[i * dst_ld + j] = src[i * src_ld + j];
    }
}

/* A tile computed in a buffer of whole vectors: at the right edge of C, or because GELU follows,
 * which runs faster over one run of elements than over the rows of C. */
static void tile_buffered(const strip *x, int64_t cols, bool gelu) {
    _Alignas(64) REAL full[TILE_ROWS * TILE_COLS];
    REAL bias[TILE_COLS];
    tile_args t = x->t;
    int vecs = panel_vecs(cols);
    t.c = full;
    t.ldc = vecs * LANES;
    if (t.load_c) {
        if (cols < t.ldc) memset(full, 0, sizeof full);
        copy_rows(full, t.ldc, x->t.c, x->t.ldc, x->rows, cols);
    }
    if (t.bias != NULL && cols < t.ldc) {
        memset(bias, 0, sizeof bias);
        copy_rows(bias, 0, x->t.bias, 0, 1, cols);
        t.bias = bias;
    }
    tiles[x->rows - 1][x->layout][vecs - 1](&t);
    if (gelu) NAME(wr__gemm_epilogue)(full, t.ldc, x->rows, t.ldc, NULL, WR_GEMM_GELU);
    copy_rows(x->t.c, x->t.ldc, full, t.ldc, x->rows, cols);
}

/* The tile at the place that x->t tells, `left` columns before the end of C or of a chunk. */
static void tile_any(const strip *x, int64_t left) {
    int vecs = panel_vecs(left);
    bool gelu = x->last && x->s->act == WR_GEMM_GELU;
    if (gelu || left < vecs * LANES)
        tile_buffered(x, left < vecs * LANES ? left : vecs * LANES, gelu);
    else
        tiles[x->rows - 1][x->layout][vecs - 1](&x->t);
}

/* A chunk of op(B), k x cols: panels of TILE_COLS columns, the last one maybe narrower, or rows
 * `step` apart read in place. */
typedef struct b_chunk {
    const REAL *data;
    int64_t step; /* read in place: elements between rows; 0: packed */
    int64_t cols;
} b_chunk;

/* Where a block's result goes and what is done to it. */
typedef struct target {
    REAL *c;          /* first element */
    const REAL *bias; /* of its first column, NULL after the first block of k */
    bool load_c, last;
} target;

static void multiply(const wr_gemm_spec *s, const a_block *a, int64_t panel_from, int64_t panel_to,
                     const b_chunk *b, const target *to) {
    strip x = {.s = s, .layout = a->by_steps ? 0 : 1, .last = to->last};
    x.t = (tile_args){.k = a->k,
                      .a_row = a->ld,
                      .ldc = s->ldc,
                      .load_c = to->load_c,
                      .relu = to->last && s->act == WR_GEMM_RELU};
    for (int64_t i = panel_from; i < panel_to; i++) {
        int64_t row = panel_start(a->rows, a->panels, i);
        x.rows = (int)(panel_start(a->rows, a->panels, i + 1) - row);
        x.t.a_step = a->packed ? x.rows : a->ld;
        x.t.a = a->data + row * (a->packed ? a->k : a->by_steps ? 1 : a->ld);
        for (int64_t j = 0; j < b->cols; j += TILE_COLS) {
            int64_t left = b->cols - j;
            x.t.b = b->data + (b->step != 0 ? j : j * a->k);
            x.t.b_step = b->step != 0 ? b->step : panel_vecs(left) * LANES;
            x.t.c = to->c + row * s->ldc + j;
            x.t.bias = to->bias != NULL ? to->bias + j : NULL;
            tile_any(&x, left);
        }
    }
}

/* The part of a packed product that one block of rows and k makes. */
typedef struct stage {
    const wr_gemm_spec *s;
    const cut *q;
    const REAL *a, *b, *bias;
    REAL *c;
    int64_t row, p; /* the block's first row and step */
    a_block block;
} stage;

/* The group of row panels from `i` on. */
static void pack_a_group(const stage *g, REAL *buffer, int64_t i) {
    int64_t end = i + A_GROUP < g->block.panels ? i + A_GROUP : g->block.panels;
    pack_a_panels(g->s, buffer, g->a, g->row, g->p, &g->block, i, end);
}

/* Compute one group of row panels in one chunk of columns. */
static void run_task(const stage *g, int64_t task, REAL *own) {
    const wr_gemm_spec *s = g->s;
    int64_t group = task % g->q->groups, col = task / g->q->groups * g->q->chunk;
    int64_t cols = s->n - col < g->q->chunk ? s->n - col : g->q->chunk;
    pack_b_chunk(s, own, g->b, g->p, g->block.k, col, cols);
    b_chunk chunk = {.data = own, .cols = cols};
    target to = {.c = g->c + g->row * s->ldc + col,
                 .bias = g->bias != NULL && g->p == 0 ? g->bias + col : NULL,
                 .load_c = s->accumulate || g->p > 0,
                 .last = g->p + g->block.k == s->k};
    int64_t panels = g->block.panels;
    multiply(s, &g->block, panels * group / g->q->groups, panels * (group + 1) / g->q->groups,
             &chunk, &to);
}

/* One block by the whole team; every thread of the team calls it. */
static void run_stage(stage *g, REAL *buffer, REAL *own) {
    int64_t tasks = div_up(g->s->n, g->q->chunk) * g->q->groups;
    g->block.data = buffer;
#pragma omp for schedule(static)
    for (int64_t i = 0; i < g->block.panels; i += A_GROUP)
        pack_a_group(g, buffer, i);
#pragma omp for schedule(dynamic, 1) nowait
    for (int64_t task = 0; task < tasks; task++)
        run_task(g, task, own);
}

/* One block by one thread. */
static void run_stage_alone(stage *g, REAL *buffer, REAL *own) {
    int64_t tasks = div_up(g->s->n, g->q->chunk) * g->q->groups;
    g->block.data = buffer;
    for (int64_t i = 0; i < g->block.panels; i += A_GROUP)
        pack_a_group(g, buffer, i);
    for (int64_t task = 0; task < tasks; task++)
        run_task(g, task, own);
}

/* Buffers of a thread: packed blocks of A, in turn, and its chunk of B. */
typedef struct packing {
    REAL *a, *b;
    int turn;
    bool alone; /* nobody else works on this product */
} packing;

static void run_matrix(stage *g, packing *to) {
    const wr_gemm_spec *s = g->s;
    for (g->row = 0; g->row < s->m; g->row += g->q->row_step) {
        int64_t rows = s->m - g->row < g->q->row_step ? s->m - g->row : g->q->row_step;
        g->p = 0;
        do { /* once also for k = 0, which leaves C, zero or the bias */
            int64_t k = s->k - g->p < g->q->k_step ? s->k - g->p : g->q->k_step;
            g->block = (a_block){.rows = rows,
                                 .k = k,
                                 .panels = div_up(rows, TILE_ROWS),
                                 .packed = true,
                                 .by_steps = true};
            REAL *buffer = to->a + (to->turn ^= 1) * g->q->a_size;
            if (to->alone)
                run_stage_alone(g, buffer, to->b);
            else
                run_stage(g, buffer, to->b);
            g->p += k;
        } while (g->p < s->k);
    }
}

/* All matrices of the batch, or the parts of them that `s` tells. */
static void run_batch(const wr_gemm_spec *s, const cut *q, packing *to, const stage *first) {
    for (int64_t i = 0; i < s->batch; i++) {
        stage g = *first;
        g.s = s;
        g.q = q;
        g.a += i * s->stride_a;
        g.b += i * s->stride_b;
        g.c += i * s->stride_c;
        run_matrix(&g, to);
    }
}

/* Thread `t` of those of `s` takes a part of the rows, or of the columns, of each matrix for
 * itself: `part` is what it computes, and the stage's pointers move to there. */
static void take_part(const wr_gemm_spec *s, int t, wr_gemm_spec *part, stage *g) {
    *part = *s;
    part->threads = 1;
    if (apart_by_rows(s)) {
        int64_t step = round_up(div_up(s->m, s->threads), TILE_ROWS), from = step * t;
        part->m = from >= s->m ? 0 : s->m - from < step ? s->m - from : step;
        if (part->m == 0) return;
        g->a = a_at(s, g->a, from, 0);
        g->c += from * s->ldc;
    } else {
        int64_t step = round_up(div_up(s->n, s->threads), TILE_COLS), from = step * t;
        part->n = from >= s->n ? 0 : s->n - from < step ? s->n - from : step;
        if (part->n == 0) return;
        g->b = b_at(s, g->b, 0, from);
        g->c += from;
        if (g->bias != NULL) g->bias += from;
    }
}

void NAME(wr__gemm_packed)(const wr_gemm_spec *s, const REAL *a, const REAL *b, REAL *c,
                           const REAL *bias, void *workspace) {
    const stage whole = {.a = a, .b = b, .c = c, .bias = bias};
    const bool apart = is_apart(s);
    const cut q = apart ? cut_apart(s) : cut_packed(s);
#pragma omp parallel num_threads(s->threads) if (s->threads > 1)
    {
        int t = omp_get_thread_num();
        REAL *shared = workspace;
        if (apart) {
            stage g = whole;
            wr_gemm_spec part;
            packing own = {.a = shared + t * (2 * q.a_size + q.b_size), .alone = true};
            own.b = own.a + 2 * q.a_size;
            take_part(s, t, &part, &g);
            if (part.m > 0 && part.n > 0) run_batch(&part, &q, &own, &g);
        } else {
            packing own = {.a = shared, .b = shared + 2 * q.a_size + t * q.b_size};
            run_batch(s, &q, &own, &whole);
        }
    }
}

size_t NAME(wr__gemm_direct_workspace)(const wr_gemm_spec *s) {
    int64_t k_step = even_step(s->k, K_BLOCK * 4 / REAL_BYTES, LANES);
    return (size_t)(s->threads * TILE_COLS * k_step) * sizeof(REAL);
}

/* One matrix of the batch. */
typedef struct matrix {
    const REAL *a, *b, *bias;
    REAL *c;
} matrix;

/* One panel of columns from `col`, all rows, by one thread: A in place, and B too unless it is
 * transposed or ends inside the panel. */
static void direct_panel(const wr_gemm_spec *s, const matrix *x, int64_t col, REAL *own) {
    int64_t k_step = even_step(s->k, K_BLOCK * 4 / REAL_BYTES, LANES), p = 0;
    int64_t cols = s->n - col < TILE_COLS ? s->n - col : TILE_COLS;
    bool whole = cols == panel_vecs(cols) * LANES;
    do {
        int64_t k = s->k - p < k_step ? s->k - p : k_step;
        a_block block = {.data = a_at(s, x->a, 0, p),
                         .rows = s->m,
                         .k = k,
                         .panels = div_up(s->m, TILE_ROWS),
                         .ld = s->lda,
                         .by_steps = s->trans_a};
        b_chunk chunk = {.data = own, .cols = cols};
        if (s->trans_b || !whole) {
            pack_b_chunk(s, own, x->b, p, k, col, cols);
        } else {
            chunk.data = b_at(s, x->b, p, col);
            chunk.step = s->ldb;
        }
        target to = {.c = x->c + col,
                     .bias = x->bias != NULL && p == 0 ? x->bias + col : NULL,
                     .load_c = s->accumulate || p > 0,
                     .last = p + k == s->k};
        multiply(s, &block, 0, block.panels, &chunk, &to);
        p += k;
    } while (p < s->k);
}

void NAME(wr__gemm_direct)(const wr_gemm_spec *s, const REAL *a, const REAL *b, REAL *c,
                           const REAL *bias, void *workspace) {
    int64_t k_step = even_step(s->k, K_BLOCK * 4 / REAL_BYTES, LANES);
    int64_t panels = div_up(s->n, TILE_COLS), parts = div_up(4 * s->threads, s->batch);
    if (s->threads == 1) parts = 1;
    if (parts > panels) parts = panels;
    int64_t tasks = s->batch * parts, grain = div_up(tasks, 8 * s->threads);
#pragma omp parallel num_threads(s->threads) if (s->threads > 1)
    {
        REAL *own = (REAL *)workspace + omp_get_thread_num() * TILE_COLS * k_step;
#pragma omp for schedule(dynamic, grain) nowait
        for (int64_t task = 0; task < tasks; task++) {
            int64_t i = task / parts, part = task % parts;
            matrix x = {.a = a + i * s->stride_a,
                        .b = b + i * s->stride_b,
                        .c = c + i * s->stride_c,
                        .bias = bias};
            for (int64_t j = panels * part / parts; j < panels * (part + 1) / parts; j++)
                direct_panel(s, &x, j * TILE_COLS, own);
        }
    }
}
