/* elementwise_run.c: walks tensors in cache-sized tiles for elementwise rows and chains of them. */
#include "ops/elementwise_kernel.h"
#include "ops/leaf.h"

#include <string.h>

enum {
    TILE = 512, /* elements; a handful of tiles of doubles stay in the first cache */
    PARALLEL_FROM =
        80000 /* elements, 10 us of work; below, a second thread costs more than it brings */
};

typedef struct leaf_walk {
    wr_leaf plan;
    const char *data;
} leaf_walk;

/* A tile function with its attributes and operands, as one step of the walk. */
typedef struct tile_step {
    wr_tile_fn fn;
    const wr_attr *attr;
    int n_in;
    int32_t in[3];
    int slot; /* scratch slot of the result, -1: straight to the output */
} tile_step;

typedef struct walk {
    int n_leaves, n_steps, rank;
    size_t esize;
    int64_t n, dim[WR_MAX_RANK];
    char *out;
    leaf_walk leaf[WR_CHAIN_LEAVES];
    tile_step step[WR_CHAIN_LENGTH];
} walk;

static inline void copy_element(char *to, const char *from, size_t esize) {
    if (esize == 4)
        memcpy(to, from, 4);
    else
        memcpy(to, from, 8);
}

static void fill_value(char *to, const char *from, int64_t n, size_t esize) {
    for (int64_t i = 0; i < n; i++)
        copy_element(to + (size_t)i * esize, from, esize);
}

static void fill_general(const walk *w, const leaf_walk *l, int64_t start, int64_t n, char *to) {
    for (int64_t i = 0; i < n; i++) {
        int64_t rest = start + i, at = 0;
        for (int d = w->rank - 1; d >= 0; d--) {
            at += rest % w->dim[d] * l->plan.stride[d];
            rest /= w->dim[d];
        }
        copy_element(to + (size_t)i * w->esize, l->data + (size_t)at * w->esize, w->esize);
    }
}

/* The leaf's n elements for output elements start.., in place or in `scratch`. */
static const void *leaf_tile(const walk *w, const leaf_walk *l, int64_t start, int64_t n,
                             char *scratch) {
    const wr_leaf *p = &l->plan;
    size_t e = w->esize;
    switch (p->mode) {
    case WR_LEAF_FULL:
        return l->data + (size_t)start * e;
    case WR_LEAF_SCALAR:
        fill_value(scratch, l->data, n, e);
        break;
    case WR_LEAF_SUFFIX:
        if (start % p->period + n <= p->period) return l->data + (size_t)(start % p->period) * e;
        for (int64_t i = 0; i < n;) {
            int64_t at = (start + i) % p->period;
            int64_t run = p->period - at < n - i ? p->period - at : n - i;
            memcpy(scratch + (size_t)i * e, l->data + (size_t)at * e, (size_t)run * e);
            i += run;
        }
        break;
    case WR_LEAF_PREFIX:
        for (int64_t i = 0; i < n;) {
            int64_t run = p->inner - (start + i) % p->inner;
            if (run > n - i) run = n - i;
            fill_value(scratch + (size_t)i * e, l->data + (size_t)((start + i) / p->inner) * e, run,
                       e);
            i += run;
        }
        break;
    case WR_LEAF_GENERAL:
        fill_general(w, l, start, n, scratch);
        break;
    }
    return scratch;
}

static void run_tile(const walk *w, int64_t start, int64_t n, char *scratch) {
    const void *reg[WR_CHAIN_LEAVES + WR_CHAIN_LENGTH];
    size_t slot_bytes = TILE * w->esize;
    for (int k = 0; k < w->n_leaves; k++)
        reg[k] = leaf_tile(w, &w->leaf[k], start, n, scratch + (size_t)k * slot_bytes);
    char *results = scratch + (size_t)w->n_leaves * slot_bytes;
    for (int s = 0; s < w->n_steps; s++) {
        const tile_step *t = &w->step[s];
        const void *in[3] = {NULL, NULL, NULL};
        for (int k = 0; k < t->n_in; k++)
            in[k] = reg[t->in[k]];
        void *out = t->slot < 0 ? w->out + (size_t)start * w->esize
                                : results + (size_t)t->slot * slot_bytes;
        t->fn(n, in, out, t->attr);
        reg[w->n_leaves + s] = out;
    }
}

static void run_walk(const walk *w, int threads) {
    int64_t tiles = (w->n + TILE - 1) / TILE;
#pragma omp parallel for num_threads(threads)                                                      \
    schedule(static) if (w->n >= PARALLEL_FROM && threads > 1)
    for (int64_t i = 0; i < tiles; i++) {
        double scratch[(WR_CHAIN_LEAVES + WR_CHAIN_LENGTH) * TILE];
        int64_t start = i * TILE, n = w->n - start < TILE ? w->n - start : TILE;
        run_tile(w, start, n, (char *)scratch);
    }
}

static void begin_walk(walk *w, int n_leaves, const wr_tensor *leaf, const wr_tensor *out) {
    w->n_leaves = n_leaves;
    w->n_steps = 0;
    w->rank = out->rank;
    w->esize = wr_dtype_bytes(out->dtype);
    w->n = out->n;
    w->out = out->data;
    for (int i = 0; i < out->rank; i++)
        w->dim[i] = out->dim[i];
    for (int k = 0; k < n_leaves; k++)
        w->leaf[k] = (leaf_walk){wr_leaf_plan(&leaf[k], out), leaf[k].data};
}

/* Give each result the lowest slot whose value nobody needs any more. */
static void assign_slots(walk *w) {
    int last[WR_CHAIN_LENGTH] = {0}, busy_until[WR_CHAIN_LENGTH] = {0};
    for (int s = 0; s < w->n_steps; s++)
        for (int k = 0; k < w->step[s].n_in; k++)
            if (w->step[s].in[k] >= w->n_leaves) last[w->step[s].in[k] - w->n_leaves] = s;
    for (int s = 0; s < w->n_steps - 1; s++) {
        int slot = 0;
        while (busy_until[slot] > s) /* a result may overwrite an operand that ends here */
            slot++;
        w->step[s].slot = slot;
        busy_until[slot] = last[s];
    }
    w->step[w->n_steps - 1].slot = -1;
}

void wr_chain_run(const wr_run_env *env, int n_leaves, const wr_tensor *leaf, int n_code,
                  const wr_chain_code *code, const wr_tensor *out) {
    walk w;
    begin_walk(&w, n_leaves, leaf, out);
    for (int s = 0; s < n_code; s++) {
        const wr_tile *tile = code[s].op->extra;
        w.step[s] = (tile_step){.fn = out->dtype == WR_F32 ? tile->f32 : tile->f64,
                                .attr = code[s].attr,
                                .n_in = code[s].n_in,
                                .in = {code[s].in[0], code[s].in[1], code[s].in[2]}};
    }
    w.n_steps = n_code;
    assign_slots(&w);
    run_walk(&w, env->threads);
}

wr_status wr__elementwise_one(const wr_call *c, const wr_tile *tile) {
    walk w;
    if (c->out[0].dtype == WR_I32)
        return wr_fail(c->env->err, WR_ERR_INPUT,
                       "arithmetic works on f32 and f64; convert whole numbers with wr_cast");
    begin_walk(&w, c->n_in, c->in, &c->out[0]);
    w.step[0] = (tile_step){.fn = c->out[0].dtype == WR_F32 ? tile->f32 : tile->f64,
                            .attr = c->attr,
                            .n_in = c->n_in,
                            .in = {0, 1, 2},
                            .slot = -1};
    w.n_steps = 1;
    run_walk(&w, c->env->threads);
    return WR_OK;
}

wr_cost wr__elementwise_cost(const wr_call *c) {
    return (wr_cost){.flops = (double)c->out[0].n, .bytes = wr_bytes_moved(c)};
}

/* ---- the chain row ---- */

static bool chain_shape(wr_shape_ctx *c) {
    c->out[0] = wr_type_of(c->in[c->attr[1].i]);
    return true;
}

static int code_length(const wr_attr *attr) { return (int)attr[2].i; }

static wr_status chain_cpu(const wr_call *c) {
    wr_chain_run(c->env, c->n_in, c->in, code_length(c->attr), c->blob[0], &c->out[0]);
    return WR_OK;
}

static wr_cost chain_cost(const wr_call *c) {
    return (wr_cost){.flops = (double)c->out[0].n * code_length(c->attr),
                     .bytes = wr_bytes_moved(c)};
}

/* (a b + c) tanh(a b): a value used twice, repeated leaves; the last ones are long enough for
 * several threads. */
static wr chain_sample(wr_sample *s) {
    if (s->variant > 3) return (wr){s->g, 0};
    int64_t dims[3] = {2, wr_sample_int(s, 1, 4), wr_sample_int(s, 1, 700)};
    if (s->variant > 1) dims[1] = 37;
    if (s->variant > 1) dims[2] = 1087;
    int64_t behind[3] = {dims[0], dims[1], 1};
    wr leaves[3] = {s->input(s, WR_FILL_REAL, 0, 3, dims),
                    s->input(s, WR_FILL_REAL, 0, 1, dims + 2),
                    s->input(s, WR_FILL_REAL, 0, 3, s->variant % 2 == 0 ? dims : behind)};
    wr_chain_code code[4];
    memset(code, 0, sizeof code);
    code[0] = (wr_chain_code){.op = &wr_op_mul, .n_in = 2, .in = {0, 1}};
    code[1] = (wr_chain_code){.op = &wr_op_add, .n_in = 2, .in = {3, 2}};
    code[2] = (wr_chain_code){.op = &wr_op_tanh, .n_in = 1, .in = {3}};
    code[3] = (wr_chain_code){.op = &wr_op_mul, .n_in = 2, .in = {4, 5}};
    return wr_chain_at(WR_HERE, 3, leaves, 0, 4, code);
}

const wr_op wr_op_chain = {
    .name = "chain",
    .doc = "elementwise rows one after the other, in tiles",
    .traits = WR_ELEMENTWISE,
    .n_in = 1,
    .n_in_max = WR_CHAIN_LEAVES,
    .attrs = {{"code", WR_ATTR_BLOB}, {"like", WR_ATTR_INT}, {"length", WR_ATTR_INT}},
    .shape = chain_shape,
    .cost = chain_cost,
    .cpu = chain_cpu,
    .no_grad = "made after differentiation, by fusion",
    .no_inverse = "made after inversion, by fusion",
    .inplace = 1,
    .sample = chain_sample,
};

wr wr_chain_at(wr_loc loc, int n_leaves, const wr *leaves, int like, int n_code,
               const wr_chain_code *code) {
    wr_attr attr[3] = {{.i = 0}, {.i = like}, {.i = n_code}};
    attr[0].blob = wr_blob_intern(leaves[0].g, code, sizeof *code * (size_t)n_code);
    if (attr[0].blob == 0) return (wr){leaves[0].g, 0};
    return wr_emit(loc, &wr_op_chain, n_leaves, leaves, attr);
}
