/* update.c: rows of the training step; see update.h. */
#include "ops/update.h"

#include "ops/elementwise.h"
#include "ops/reduce.h"
#include "ops/shape.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- many tensors as one long row ---- */

enum { CHUNK = 16384 }; /* elements; all streams of one chunk fit a second-level cache */

/* The elements of tensors t[0..n) one after the other. */
typedef struct long_row {
    int n;
    const wr_tensor *t;
    int64_t *start; /* n + 1 */
    int64_t chunks;
} long_row;

/* A run of elements of one tensor. */
typedef struct piece {
    int tensor;
    int64_t from, n;
} piece;

static int64_t count_chunks(int n, const wr_tensor *t) {
    int64_t total = 0;
    for (int k = 0; k < n; k++)
        total += t[k].n;
    return (total + CHUNK - 1) / CHUNK;
}

static long_row long_row_of(int n, const wr_tensor *t, int64_t *start) {
    start[0] = 0;
    for (int k = 0; k < n; k++)
        start[k + 1] = start[k] + t[k].n;
    return (long_row){n, t, start, count_chunks(n, t)};
}

/* The tensor that holds element `at`. */
static int tensor_at(const long_row *r, int64_t at) {
    int low = 0, high = r->n;
    while (high - low > 1) {
        int middle = low + (high - low) / 2;
        if (r->start[middle] <= at)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* The piece at `*at` (before `end`), which moves behind it. False at the end. */
static bool next_piece(const long_row *r, int64_t *at, int64_t end, piece *p) {
    if (*at >= end) return false;
    p->tensor = tensor_at(r, *at);
    p->from = *at - r->start[p->tensor];
    int64_t stop = r->start[p->tensor + 1] < end ? r->start[p->tensor + 1] : end;
    p->n = stop - *at;
    *at = stop;
    return true;
}

static int64_t chunk_end(const long_row *r, int64_t chunk) {
    int64_t end = (chunk + 1) * CHUNK;
    return end < r->start[r->n] ? end : r->start[r->n];
}

static double read_scalar(const wr_tensor *x) {
    return x->dtype == WR_F32 ? (double)*(const float *)x->data : *(const double *)x->data;
}

static void write_scalar(const wr_tensor *x, double value) {
    if (x->data == NULL) return;
    if (x->dtype == WR_F32)
        *(float *)x->data = (float)value;
    else
        *(double *)x->data = value;
}

/* ---- shape rules ---- */

static bool needs_scalar(wr_shape_ctx *c, int k, const char *what) {
    wr_type t = wr_type_of(c->in[k]);
    if (t.rank == 0 && t.dtype != WR_I32) return true;
    return wr_shape_fail(c, c->op->doc, NULL, "operand %d (%s) is not a scalar of f32 or f64", k,
                         what);
}

/* Operand `k` is a parameter or a state: a row may not write to anything else. */
static bool needs_stored(wr_shape_ctx *c, int k) {
    const wr_op *op = wr_node_at(c->g, c->in[k].id)->op;
    if (op == &wr_op_param || op == &wr_op_state) return true;
    return wr_shape_fail(c, "written operands are parameters and states", NULL,
                         "operand %d is written, and is neither a parameter nor a state", k);
}

/* n gradients from operand `head` on, then `groups` times n stored tensors of their types. */
static bool needs_groups(wr_shape_ctx *c, int head, int groups) {
    int n = (c->n_in - head) / (groups + 1);
    if (n < 1 || (c->n_in - head) % (groups + 1) != 0)
        return wr_shape_fail(c, c->op->doc, NULL,
                             "takes %d operands and then %d for each gradient, got %d", head,
                             groups + 1, c->n_in);
    for (int k = 0; k < n; k++)
        if (wr_dtype_of(c->in[head + k]) == WR_I32)
            return wr_shape_fail(c, c->op->doc, NULL, "gradient %d is i32, not f32 or f64", k);
    for (int k = head + n; k < c->n_in; k++) {
        int of = head + (k - head) % n;
        wr_type t = wr_type_of(c->in[k]), g = wr_type_of(c->in[of]);
        if (!needs_stored(c, k)) return false;
        if (!wr_shape_equal(c->g, &t, &g))
            return wr_shape_fail(c, c->op->doc, NULL, "operand %d has not the type of gradient %d",
                                 k, of - head);
        for (int j = head + n; j < k; j++)
            if (c->in[j].id == c->in[k].id)
                return wr_shape_fail(c, c->op->doc, NULL,
                                     "operands %d and %d, both written, are "
                                     "one tensor",
                                     j, k);
    }
    return true;
}

static bool global_norm_shape(wr_shape_ctx *c) {
    c->out[0] = (wr_type){.dtype = wr_dtype_of(c->in[0])};
    return wr_shape_needs_float(c, 0);
}

static bool accumulate_shape(wr_shape_ctx *c) {
    if (!needs_scalar(c, WR_ACCUMULATE_KEEP, "keep")) return false;
    if (!needs_groups(c, WR_ACCUMULATE_HEAD, 1)) return false;
    c->out[0] = (wr_type){.dtype = wr_dtype_of(c->in[WR_ACCUMULATE_HEAD])};
    return true;
}

/* ORDER adam attributes */
enum { BETA1, BETA2, EPS, WEIGHT_DECAY, CLIP_NORM, DECOUPLED, RAW_EPS };

static bool adam_attrs_fit(wr_shape_ctx *c) {
    for (int k = BETA1; k <= BETA2; k++)
        if (!(c->attr[k].r >= 0 && c->attr[k].r < 1))
            return wr_shape_fail(c, "0 <= beta < 1", NULL, "%s is %g", c->op->attrs[k].name,
                                 c->attr[k].r);
    if (!(c->attr[EPS].r > 0))
        return wr_shape_fail(c, "eps > 0", NULL, "eps is %g", c->attr[EPS].r);
    for (int k = WEIGHT_DECAY; k <= CLIP_NORM; k++)
        if (!(c->attr[k].r >= 0 && isfinite(c->attr[k].r)))
            return wr_shape_fail(c, "finite, at least 0", NULL, "%s is %g", c->op->attrs[k].name,
                                 c->attr[k].r);
    return true;
}

static bool adam_shape_of(wr_shape_ctx *c, int groups) {
    wr_type step = wr_type_of(c->in[WR_ADAM_STEP]);
    if (!needs_scalar(c, WR_ADAM_LR, "learning rate") || !needs_scalar(c, WR_ADAM_SCALE, "scale") ||
        !needs_scalar(c, WR_ADAM_NORM, "norm"))
        return false;
    if (step.rank != 0 || step.dtype != WR_I32)
        return wr_shape_fail(c, c->op->doc, NULL, "operand %d (step) is not an i32 scalar",
                             WR_ADAM_STEP);
    if (!needs_stored(c, WR_ADAM_STEP) || !needs_groups(c, WR_ADAM_HEAD, groups)) return false;
    c->out[0] = (wr_type){.dtype = WR_I32};
    c->out[1] = (wr_type){.dtype = WR_F64};
    return adam_attrs_fit(c);
}

static bool adam_shape(wr_shape_ctx *c) { return adam_shape_of(c, 3); }
static bool amsgrad_shape(wr_shape_ctx *c) { return adam_shape_of(c, 4); }

/* ---- sums of squares ---- */

/* Sixteen sums of every sixteenth square, added in order: several chains for the vector units. */
#define SQUARES(type)                                                                              \
    static double squares_##type(int64_t n, const type *restrict x) {                              \
        double lane[16] = {0}, sum = 0;                                                            \
        int64_t i = 0;                                                                             \
        for (; i + 16 <= n; i += 16) {                                                             \
            _Pragma("omp simd") for (int l = 0; l < 16; l++) {                                     \
                double v = (double)x[i + l];                                                       \
                lane[l] += v * v;                                                                  \
            }                                                                                      \
        }                                                                                          \
        for (int l = 0; l < 16; l++)                                                               \
            sum += lane[l];                                                                        \
        for (; i < n; i++)                                                                         \
            sum += (double)x[i] * (double)x[i];                                                    \
        return sum;                                                                                \
    }
SQUARES(float)
SQUARES(double)

static double squares(wr_dtype t, const void *x, int64_t from, int64_t n) {
    return t == WR_F32 ? squares_float(n, (const float *)x + from)
                       : squares_double(n, (const double *)x + from);
}

static double add_up(int64_t n, const double *x) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i];
    return sum;
}

/* Workspace of the rows below: the starts of a long row, then one double for each chunk. */
static size_t row_workspace(int n, const wr_tensor *t) {
    return sizeof(int64_t) * ((size_t)n + 1) + sizeof(double) * (size_t)count_chunks(n, t);
}

/* ---- global_norm ---- */

static wr_status global_norm_cpu(const wr_call *c) {
    long_row r = long_row_of(c->n_in, c->in, c->workspace);
    double *partial = (double *)(r.start + r.n + 1);
    bool parallel = r.chunks > 1 && c->env->threads > 1;
#pragma omp parallel for num_threads(c->env->threads) schedule(static) if (parallel)
    for (int64_t i = 0; i < r.chunks; i++) {
        int64_t at = i * CHUNK;
        partial[i] = 0;
        for (piece p; next_piece(&r, &at, chunk_end(&r, i), &p);)
            partial[i] += squares(r.t[p.tensor].dtype, r.t[p.tensor].data, p.from, p.n);
    }
    write_scalar(&c->out[0], sqrt(add_up(r.chunks, partial)));
    return WR_OK;
}

static wr_cost global_norm_cost(const wr_call *c) {
    double n = 0;
    for (int k = 0; k < c->n_in; k++)
        n += (double)c->in[k].n;
    return (wr_cost){2 * n, wr_bytes_moved(c), row_workspace(c->n_in, c->in)};
}

static bool global_norm_expand(wr_expand_ctx *c) {
    wr sum = wr_sum_all(wr_square(c->in[0]));
    for (int k = 1; k < c->n_in; k++)
        sum = wr_add(sum, wr_sum_all(wr_square(c->in[k])));
    c->out[0] = wr_sqrt(sum);
    return c->out[0].id != 0;
}

static wr global_norm_sample(wr_sample *s) {
    if (s->variant > 3) return (wr){s->g, 0};
    wr x[3];
    int n = s->variant == 3 ? 1 : s->variant + 1;
    for (int k = 0; k < n; k++) {
        int64_t dims[2] = {wr_sample_int(s, 1, 5), wr_sample_int(s, 1, 40)};
        if (s->variant == 3) dims[0] = 1 + CHUNK / 16, dims[1] = 33; /* several chunks */
        x[k] = s->input(s, WR_FILL_REAL, 0, s->variant == 1 ? k : 2, dims);
    }
    return wr_global_norm(n, x);
}

wr wr_global_norm_at(wr_loc loc, int n, const wr *x) {
    return wr_emit(loc, &wr_op_global_norm, n, x, NULL);
}

const wr_op wr_op_global_norm = {.name = "global_norm",
                                 .doc = "root of the sum of squares of all operands",
                                 .traits = WR_REDUCE,
                                 .n_in = 1,
                                 .n_in_max = WR_ANY_INPUTS,
                                 .shape = global_norm_shape,
                                 .cost = global_norm_cost,
                                 .cpu = global_norm_cpu,
                                 .expand = global_norm_expand,
                                 .sample = global_norm_sample,
                                 .no_inverse = "many operands have one norm"};

/* ---- accumulate ---- */

#define ADD_TO(type)                                                                               \
    static void add_to_##type(int64_t n, type keep, const type *g, type *sum) {                    \
        if (keep == 0) {                                                                           \
            memcpy(sum, g, sizeof *sum *(size_t)n);                                                \
            return;                                                                                \
        }                                                                                          \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) sum[i] = keep * sum[i] + g[i];         \
    }
ADD_TO(float)
ADD_TO(double)

static wr_status accumulate_cpu(const wr_call *c) {
    int n = (c->n_in - WR_ACCUMULATE_HEAD) / 2;
    const wr_tensor *g = c->in + WR_ACCUMULATE_HEAD, *sum = g + n;
    double keep = read_scalar(&c->in[WR_ACCUMULATE_KEEP]);
    if (!isfinite(keep))
        return wr_fail(c->env->err, WR_ERR_INPUT, "accumulate: keep is %g, not a finite number",
                       keep);
    long_row r = long_row_of(n, sum, c->workspace);
    double *partial = (double *)(r.start + r.n + 1);
    bool parallel = r.chunks > 1 && c->env->threads > 1;
#pragma omp parallel for num_threads(c->env->threads) schedule(static) if (parallel)
    for (int64_t i = 0; i < r.chunks; i++) {
        int64_t at = i * CHUNK;
        partial[i] = 0;
        for (piece p; next_piece(&r, &at, chunk_end(&r, i), &p);) {
            const wr_tensor *from = &g[p.tensor], *to = &sum[p.tensor];
            if (to->dtype == WR_F32)
                add_to_float(p.n, (float)keep, (const float *)from->data + p.from,
                             (float *)to->data + p.from);
            else
                add_to_double(p.n, keep, (const double *)from->data + p.from,
                              (double *)to->data + p.from);
            partial[i] += squares(to->dtype, to->data, p.from, p.n);
        }
    }
    write_scalar(&c->out[0], sqrt(add_up(r.chunks, partial)));
    return WR_OK;
}

static wr_cost accumulate_cost(const wr_call *c) {
    int n = (c->n_in - WR_ACCUMULATE_HEAD) / 2;
    const wr_tensor *sum = c->in + WR_ACCUMULATE_HEAD + n;
    wr_cost cost = {.bytes = wr_bytes_moved(c), .workspace = row_workspace(n, sum)};
    for (int k = 0; k < n; k++) {
        cost.flops += 4 * (double)sum[k].n;
        cost.bytes += (double)sum[k].n * (double)wr_dtype_bytes(sum[k].dtype);
    }
    return cost;
}

static bool accumulate_writes(int k, int n_in) { return k >= WR_ACCUMULATE_HEAD + (n_in - 1) / 2; }

wr wr_accumulate_at(wr_loc loc, int n_in, const wr *in) {
    return wr_emit(loc, &wr_op_accumulate, n_in, in, NULL);
}

const wr_op wr_op_accumulate = {.name = "accumulate",
                                .doc = "keep, n gradients, n sums: sum = keep sum + gradient",
                                .traits = WR_STATEFUL | WR_MIXED,
                                .n_in = 3,
                                .n_in_max = WR_ANY_INPUTS,
                                .shape = accumulate_shape,
                                .cost = accumulate_cost,
                                .cpu = accumulate_cpu,
                                .writes = accumulate_writes,
                                .no_grad = "gradients of summed gradients are not kept",
                                .no_inverse = "writes states",
                                .no_sample = "needs states; tests/test_optim.c runs it"};

/* ---- adam ---- */

/* The numbers of one update, the same for all elements. */
typedef struct factors {
    double scale; /* of gradients, clipping included */
    double beta1, beta2, decay, shrink, rate, eps;
} factors;

/* One piece: gradient, parameter, moments; `top` is NULL without amsgrad. */
#define ADAM(type, root)                                                                           \
    static void adam_##type(int64_t n, const type *restrict g, type *restrict p, type *restrict m, \
                            type *restrict v, type *restrict top, const factors *f) {              \
        const type scale = (type)f->scale, decay = (type)f->decay, shrink = (type)f->shrink;       \
        const type b1 = (type)f->beta1, c1 = (type)(1 - f->beta1), b2 = (type)f->beta2;            \
        const type c2 = (type)(1 - f->beta2), rate = (type)f->rate, eps = (type)f->eps;            \
        if (top == NULL) {                                                                         \
            _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {                                  \
                type gi = scale * g[i] + decay * p[i];                                             \
                m[i] = b1 * m[i] + c1 * gi;                                                        \
                v[i] = b2 * v[i] + c2 * gi * gi;                                                   \
                p[i] = shrink * p[i] - rate * m[i] / (root(v[i]) + eps);                           \
            }                                                                                      \
            return;                                                                                \
        }                                                                                          \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {                                      \
            type gi = scale * g[i] + decay * p[i];                                                 \
            m[i] = b1 * m[i] + c1 * gi;                                                            \
            v[i] = b2 * v[i] + c2 * gi * gi;                                                       \
            top[i] = top[i] > v[i] ? top[i] : v[i];                                                \
            p[i] = shrink * p[i] - rate * m[i] / (root(top[i]) + eps);                             \
        }                                                                                          \
    }
ADAM(float, sqrtf)
ADAM(double, sqrt)

typedef struct adam_call {
    int n;
    bool amsgrad;
    const wr_tensor *p, *m, *v, *top;
    const void **g; /* gradients, none of which is a written tensor's memory */
    long_row row;
} adam_call;

/* Norms up to here have squares that the dtype holds. */
static double largest_norm(wr_dtype t) { return t == WR_F32 ? 1e19 : 1e150; }

/* The factors of update `t` for a scaled norm. Multiplying numerator and denominator of the step by
 * sqrt(1 - beta2^t) leaves one root per element. */
static factors factors_of(const wr_call *c, double scaled_norm, int32_t t) {
    const wr_attr *a = c->attr;
    double lr = read_scalar(&c->in[WR_ADAM_LR]), clip = a[CLIP_NORM].r, decay = a[WEIGHT_DECAY].r;
    double root2 = sqrt(1 - pow(a[BETA2].r, t));
    factors f = {.scale = read_scalar(&c->in[WR_ADAM_SCALE]),
                 .beta1 = a[BETA1].r,
                 .beta2 = a[BETA2].r,
                 .shrink = 1};
    double clipped = clip / (scaled_norm + 1e-6);
    if (clip > 0 && clipped < 1) f.scale *= clipped;
    if (a[DECOUPLED].i)
        f.shrink = 1 - lr * decay;
    else
        f.decay = decay;
    f.rate = lr * root2 / (1 - pow(a[BETA1].r, t));
    f.eps = a[RAW_EPS].i ? a[EPS].r : a[EPS].r * root2;
    return f;
}

/* Would squares of the clipped gradient overflow, or is the norm not finite? */
static bool too_large(const wr_call *c, double scaled_norm) {
    double clip = c->attr[CLIP_NORM].r;
    double norm = clip > 0 && clip < scaled_norm ? clip : scaled_norm;
    return !isfinite(scaled_norm) || norm > largest_norm(c->in[WR_ADAM_HEAD].dtype);
}

static void adam_piece(const adam_call *a, const piece *p, const factors *f) {
    size_t from = (size_t)p->from;
    if (a->p[p->tensor].dtype == WR_F32)
        adam_float(p->n, (const float *)a->g[p->tensor] + from,
                   (float *)a->p[p->tensor].data + from, (float *)a->m[p->tensor].data + from,
                   (float *)a->v[p->tensor].data + from,
                   a->amsgrad ? (float *)a->top[p->tensor].data + from : NULL, f);
    else
        adam_double(p->n, (const double *)a->g[p->tensor] + from,
                    (double *)a->p[p->tensor].data + from, (double *)a->m[p->tensor].data + from,
                    (double *)a->v[p->tensor].data + from,
                    a->amsgrad ? (double *)a->top[p->tensor].data + from : NULL, f);
}

/* Does the gradient lie in the memory of a written tensor? (d(w u) / dw is u itself.) */
static bool is_written(const wr_call *c, int n, const wr_tensor *g) {
    uintptr_t at = (uintptr_t)g->data;
    for (int k = WR_ADAM_HEAD + n; k < c->n_in; k++) {
        uintptr_t low = (uintptr_t)c->in[k].data;
        if (at >= low && at < low + (size_t)c->in[k].n * wr_dtype_bytes(c->in[k].dtype))
            return true;
    }
    return false;
}

/* The gradients as they are; those that the update would overwrite, copied into `*copies`. */
static wr_status gather_gradients(const wr_call *c, adam_call *a, void **copies) {
    const wr_tensor *g = c->in + WR_ADAM_HEAD;
    size_t bytes = 0;
    *copies = NULL;
    for (int k = 0; k < a->n; k++) {
        a->g[k] = g[k].data;
        if (!is_written(c, a->n, &g[k])) continue;
        a->g[k] = NULL;
        bytes += (size_t)g[k].n * wr_dtype_bytes(g[k].dtype);
    }
    if (bytes == 0) return WR_OK;
    char *to = *copies = malloc(bytes);
    if (to == NULL) return wr_fail_memory(c->env->err, "copies of gradients", bytes);
    for (int k = 0; k < a->n; k++) {
        if (a->g[k] != NULL || g[k].data == NULL) continue;
        size_t n = (size_t)g[k].n * wr_dtype_bytes(g[k].dtype);
        a->g[k] = memcpy(to, g[k].data, n);
        to += n;
    }
    return WR_OK;
}

static void adam_update(const wr_call *c, const adam_call *a, const factors *f) {
    const long_row *r = &a->row;
    bool parallel = r->chunks > 1 && c->env->threads > 1;
#pragma omp parallel for num_threads(c->env->threads) schedule(static) if (parallel)
    for (int64_t i = 0; i < r->chunks; i++) {
        int64_t at = i * CHUNK;
        for (piece p; next_piece(r, &at, chunk_end(r, i), &p);)
            adam_piece(a, &p, f);
    }
}

static wr_status adam_run(const wr_call *c, bool amsgrad) {
    double lr = read_scalar(&c->in[WR_ADAM_LR]), scale = read_scalar(&c->in[WR_ADAM_SCALE]);
    if (!isfinite(lr) || lr < 0)
        return wr_fail(c->env->err, WR_ERR_INPUT,
                       "adam: the learning rate is %g; it must be finite and at least 0", lr);
    if (!isfinite(scale))
        return wr_fail(c->env->err, WR_ERR_INPUT,
                       "adam: the scale of the gradient is %g; it must be finite (is it 1 / tokens "
                       "of a batch without tokens?)",
                       scale);
    double norm = fabs(scale) * read_scalar(&c->in[WR_ADAM_NORM]);
    bool applied = !too_large(c, norm);
    if (c->out[0].data != NULL) *(int32_t *)c->out[0].data = applied;
    write_scalar(&c->out[1], norm);
    if (!applied) return WR_OK;

    int n = (c->n_in - WR_ADAM_HEAD) / (amsgrad ? 5 : 4);
    const wr_tensor *g = c->in + WR_ADAM_HEAD;
    adam_call a = {.n = n,
                   .amsgrad = amsgrad,
                   .p = g + n,
                   .m = g + 2 * n,
                   .v = g + 3 * n,
                   .top = g + 4 * n,
                   .row = long_row_of(n, g, c->workspace)};
    a.g = (const void **)(a.row.start + n + 1);
    void *copies;
    wr_status status = gather_gradients(c, &a, &copies);
    if (status != WR_OK) return status;
    int32_t *step = c->in[WR_ADAM_STEP].data;
    *step += 1;
    factors f = factors_of(c, norm, *step);
    adam_update(c, &a, &f);
    free(copies);
    return WR_OK;
}

static wr_status adam_cpu(const wr_call *c) { return adam_run(c, false); }
static wr_status amsgrad_cpu(const wr_call *c) { return adam_run(c, true); }

static wr_cost adam_cost_of(const wr_call *c, int groups) {
    int n = (c->n_in - WR_ADAM_HEAD) / (groups + 1);
    wr_cost cost = {.bytes = wr_bytes_moved(c)};
    for (int k = WR_ADAM_HEAD + n; k < c->n_in; k++) /* written as well as read */
        cost.bytes += (double)c->in[k].n * (double)wr_dtype_bytes(c->in[k].dtype);
    for (int k = 0; k < n; k++)
        cost.flops += 14 * (double)c->in[WR_ADAM_HEAD + k].n;
    cost.workspace = sizeof(int64_t) * ((size_t)n + 1) + sizeof(void *) * (size_t)n;
    return cost;
}

static wr_cost adam_cost(const wr_call *c) { return adam_cost_of(c, 3); }
static wr_cost amsgrad_cost(const wr_call *c) { return adam_cost_of(c, 4); }

static bool adam_writes(int k, int n_in) {
    return k == WR_ADAM_STEP || k >= WR_ADAM_HEAD + (n_in - WR_ADAM_HEAD) / 4;
}
static bool amsgrad_writes(int k, int n_in) {
    return k == WR_ADAM_STEP || k >= WR_ADAM_HEAD + (n_in - WR_ADAM_HEAD) / 5;
}

wr wr_adam_at(wr_loc loc, const wr_adam_options *o, int n_in, const wr *in) {
    wr_attr attr[] = {[BETA1] = {.r = o->beta1},
                      [BETA2] = {.r = o->beta2},
                      [EPS] = {.r = o->eps},
                      [WEIGHT_DECAY] = {.r = o->weight_decay},
                      [CLIP_NORM] = {.r = o->clip_norm},
                      [DECOUPLED] = {.i = o->decoupled},
                      [RAW_EPS] = {.i = o->raw_eps}};
    return wr_emit(loc, o->amsgrad ? &wr_op_adam_amsgrad : &wr_op_adam, n_in, in, attr);
}

#define ADAM_ROW                                                                                   \
    .traits = WR_STATEFUL | WR_MIXED, .n_in_max = WR_ANY_INPUTS, .n_out = 2,                       \
    .attrs = {{"beta1", WR_ATTR_REAL},     {"beta2", WR_ATTR_REAL},                                \
              {"eps", WR_ATTR_REAL},       {"weight_decay", WR_ATTR_REAL},                         \
              {"clip_norm", WR_ATTR_REAL}, {"decoupled", WR_ATTR_BOOL},                            \
              {"raw_eps", WR_ATTR_BOOL}},                                                          \
    .no_grad = "changes parameters; nothing is computed from them afterwards",                     \
    .no_inverse = "writes parameters", .no_sample = "needs parameters; tests/test_optim.c runs it"

const wr_op wr_op_adam = {.name = "adam",
                          .doc = "lr, scale, norm, step, then n gradients, parameters, m, v",
                          .n_in = WR_ADAM_HEAD + 4,
                          ADAM_ROW,
                          .shape = adam_shape,
                          .cost = adam_cost,
                          .cpu = adam_cpu,
                          .writes = adam_writes};

const wr_op wr_op_adam_amsgrad = {
    .name = "adam_amsgrad",
    .doc = "lr, scale, norm, step, then n gradients, parameters, m, v, top",
    .n_in = WR_ADAM_HEAD + 5,
    ADAM_ROW,
    .shape = amsgrad_shape,
    .cost = amsgrad_cost,
    .cpu = amsgrad_cpu,
    .writes = amsgrad_writes};
