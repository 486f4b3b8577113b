/* session.c: persistent tensors, plan cache and running; see session.h. */
#define _GNU_SOURCE
#include "graph/session.h"
#include "graph/init.h"
#include "graph/intern.h"
#include "graph/trace.h"
#include "graph/trap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Parameters share large blocks: a matrix of a megabyte in small pages streams at two thirds of the
 * rate that it has in large ones. */
enum { BLOCK_BYTES = 64 << 20, ALIGN = 256 };
typedef struct block {
    char *memory;
    size_t used, bytes;
} block;

typedef struct stored {
    wr_stored pub;
    char *name;
    uint64_t hash; /* of the name */
    int64_t dim[WR_MAX_RANK];
    size_t bytes;
} stored;

typedef struct cached_plan {
    const wr_program *program;
    wr_plan *plan;
    uint32_t *slot; /* per node id: store or input slot */
    uint64_t used;  /* clock of the last use */
} cached_plan;

/* An output on the host. */
typedef struct fetched {
    wr_tensor tensor;
    size_t at; /* in host_bytes */
    bool done;
} fetched;

struct wr_session {
    wr_device *device;
    int threads, plan_cap;
    uint64_t seed, step, clock;
    bool profile, trap_nan, deferred;
    wr_str note; /* why it is the CPU */
    stored *store;
    size_t n_stored, cap_stored;
    block *block;
    size_t n_blocks, cap_blocks;
    cached_plan *plan;
    size_t n_plans, cap_plans;
    void *arena;
    size_t arena_bytes;
    cached_plan *last;
    wr_tensor *output; /* of the last run */
    size_t cap_output;
    fetched *host; /* per output, where the host cannot read the device's memory */
    size_t cap_host;
    char *host_bytes; /* what they are read into */
    size_t cap_host_bytes;
    struct {
        int n;
        wr_dtype dtype[WR_KEPT_NUMBERS];
        double value[WR_KEPT_NUMBERS]; /* where the host can read the device's memory */
    } kept[WR_KEPT_SLOTS];
    wr_session_counters counters;
};

/* ---- life ---- */

static wr_status open_device(wr_session *s, const wr_session_options *o, wr_error *err) {
    wr_device_options d = {.name = o->device, .precision = o->precision, .no_replay = o->no_replay};
    wr_status status = wr_device_open(&d, &s->device, &s->note, err);
    if (status != WR_OK || s->device->host_memory || !o->trap_nan) return status;
    return wr_fail(err, WR_ERR_INPUT,
                   "the trap for NaN looks at every tensor on the host, and device %s keeps them "
                   "in its own memory\n  hint: use --device cpu with --trap-nan",
                   s->device->name);
}

wr_status wr_session_new(const wr_session_options *o, wr_session **session, wr_error *err) {
    *session = NULL;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    wr_session *s = calloc(1, sizeof *s);
    if (s == NULL) return wr_fail_memory(err, "a session", sizeof *s);
    wr_status status = open_device(s, o, err);
    if (status != WR_OK) {
        wr_session_free(s);
        return status;
    }
    s->threads = o->threads > 0 ? o->threads : cores > 0 ? (int)cores : 1;
    s->plan_cap = o->plan_cap > 0 ? o->plan_cap : 64;
    s->seed = o->seed;
    s->profile = o->profile;
    s->trap_nan = o->trap_nan;
    s->deferred = o->deferred;
    *session = s;
    return WR_OK;
}

static void drop_plan(wr_session *s, size_t i) {
    cached_plan gone = s->plan[i];
    s->plan[i] = s->plan[--s->n_plans];
    s->plan[s->n_plans] = (cached_plan){0};
    s->last = NULL;
    wr_plan_free(gone.plan);
    free(gone.slot);
}

/* A parameter's memory belongs to its block, which goes with the session. */
static void give_back(wr_session *s, const stored *x, void *memory) {
    bool in_block = x->pub.trainable && x->bytes < BLOCK_BYTES;
    if (memory != NULL && !in_block) s->device->release(s->device, memory);
}

void wr_session_free(wr_session *s) {
    if (s == NULL) return;
    while (s->n_plans > 0)
        drop_plan(s, 0);
    for (size_t i = 0; i < s->n_stored; i++) {
        give_back(s, &s->store[i], s->store[i].pub.tensor.data);
        free(s->store[i].name);
    }
    for (size_t i = 0; i < s->n_blocks; i++)
        s->device->release(s->device, s->block[i].memory);
    free(s->block);
    if (s->arena != NULL) s->device->release(s->device, s->arena);
    free(s->store);
    free(s->plan);
    free(s->output);
    free(s->host);
    free(s->host_bytes);
    wr_str_free(&s->note);
    if (s->device != NULL) s->device->close(s->device);
    free(s);
}

void wr_session_forget(wr_session *s, const wr_program *p) {
    for (size_t i = s->n_plans; i > 0; i--) {
        const wr_program *of = s->plan[i - 1].program;
        if (of == p || of == wr_program_apart_made(p)) drop_plan(s, i - 1);
    }
}

/* ---- persistent tensors ---- */

static wr_tensor tensor_of(stored *x) {
    wr_tensor t = x->pub.tensor;
    t.dim = x->dim;
    t.n = 1;
    for (int i = 0; i < t.rank; i++)
        t.n *= x->dim[i];
    return t;
}

/* Memory for a tensor: parameters come from blocks and stay, states may change their size. */
static wr_status take(wr_session *s, const stored *x, void **memory, wr_error *err) {
    if (!x->pub.trainable || x->bytes >= BLOCK_BYTES)
        return s->device->alloc(s->device, x->bytes, memory, err);
    size_t need = (x->bytes + ALIGN - 1) / ALIGN * ALIGN;
    block *last = s->n_blocks == 0 ? NULL : &s->block[s->n_blocks - 1];
    if (last == NULL || last->used + need > last->bytes) {
        if (!wr_grow(&s->block, &s->cap_blocks, s->n_blocks + 1, sizeof *s->block))
            return wr_fail_memory(err, "parameters", sizeof *s->block);
        /* the first blocks are small: a small model should not cost 64 MiB */
        size_t bytes = last == NULL ? (size_t)4 << 20 : 2 * last->bytes;
        if (bytes > BLOCK_BYTES) bytes = BLOCK_BYTES;
        if (bytes < need) bytes = need;
        void *fresh = NULL;
        wr_status status = s->device->alloc(s->device, bytes, &fresh, err);
        if (status != WR_OK) return status;
        last = &s->block[s->n_blocks++];
        *last = (block){.memory = fresh, .bytes = bytes};
    }
    *memory = last->memory + last->used;
    last->used += need;
    return WR_OK;
}

/* First values, in place where the host can write the device's memory. */
static wr_status fill_first(wr_session *s, const stored *x, wr_init init, void *memory,
                            wr_error *err) {
    const wr_tensor *t = &x->pub.tensor;
    void *host = s->device->host_memory ? memory : malloc(x->bytes + 1);
    if (host == NULL) return wr_fail_memory(err, x->name, x->bytes);
    wr_status status = wr__init_fill(init, x->name, s->seed, t->dtype, t->rank, x->dim, host, err);
    if (host == memory) return status;
    if (status == WR_OK) status = s->device->upload(s->device, memory, host, x->bytes, err);
    free(host);
    return status;
}

/* Give `x` memory of its size; `data` (host) or the initialiser fills it. */
static wr_status fill_stored(wr_session *s, stored *x, wr_init init, const void *data,
                             wr_error *err) {
    x->pub.tensor = tensor_of(x);
    x->bytes = (size_t)x->pub.tensor.n * wr_dtype_bytes(x->pub.tensor.dtype);
    void *memory = NULL;
    wr_status status = take(s, x, &memory, err);
    if (status == WR_OK && data == NULL) status = fill_first(s, x, init, memory, err);
    if (status == WR_OK && data != NULL)
        status = s->device->upload(s->device, memory, data, x->bytes, err);
    if (status != WR_OK) give_back(s, x, memory);
    x->pub.tensor.data = status == WR_OK ? memory : NULL;
    if (status == WR_OK) s->counters.persistent_bytes += x->bytes;
    return status;
}

static uint64_t name_hash(const char *name) { return wr__hash(name, strlen(name), 0); }

int wr_session_find(const wr_session *s, const char *name) {
    uint64_t hash = name_hash(name);
    for (size_t i = 0; i < s->n_stored; i++)
        if (s->store[i].hash == hash && strcmp(s->store[i].name, name) == 0) return (int)i;
    return -1;
}

static wr_status add_stored(wr_session *s, const char *name, bool trainable, wr_dtype t, int rank,
                            const int64_t *dim, wr_init init, const void *data, wr_error *err) {
    if (!wr_grow(&s->store, &s->cap_stored, s->n_stored + 1, sizeof *s->store))
        return wr_fail_memory(err, name, sizeof *s->store);
    stored *x = &s->store[s->n_stored];
    *x = (stored){.name = wr_strdup(name), .hash = name_hash(name)};
    if (x->name == NULL) return wr_fail_memory(err, name, strlen(name));
    for (int i = 0; i < rank; i++)
        x->dim[i] = dim[i];
    x->pub.name = x->name;
    x->pub.trainable = trainable;
    x->pub.tensor.dtype = t;
    x->pub.tensor.rank = rank;
    wr_status status = fill_stored(s, x, init, data, err);
    if (status != WR_OK) {
        free(x->name);
        return status;
    }
    s->n_stored++;
    return WR_OK;
}

wr_status wr_session_define(wr_session *s, const char *name, bool trainable, wr_dtype t, int rank,
                            const int64_t *dims, const void *data, wr_error *err) {
    if (wr_session_find(s, name) >= 0)
        return wr_fail(err, WR_ERR_INPUT, "tensor \"%s\" exists in the session already", name);
    return add_stored(s, name, trainable, t, rank, dims, (wr_init){0}, data, err);
}

int wr_session_stored(const wr_session *s) { return (int)s->n_stored; }

const wr_stored *wr_session_stored_at(const wr_session *s, int index) {
    stored *x = &s->store[index];
    x->pub.tensor.dim = x->dim; /* the array may have moved */
    return &x->pub;
}

wr_status wr_session_read(wr_session *s, int index, void *to, wr_error *err) {
    const stored *x = &s->store[index];
    return s->device->download(s->device, to, x->pub.tensor.data, x->bytes, err);
}

wr_status wr_session_write(wr_session *s, int index, const void *from, wr_error *err) {
    const stored *x = &s->store[index];
    return s->device->upload(s->device, x->pub.tensor.data, from, x->bytes, err);
}

static wr_status sizes_differ(const wr_graph *g, uint32_t id, const stored *x, wr_error *err) {
    wr_str s = {0};
    wr_node_describe(g, id, &s);
    wr_str_add(&s, ": the session (or its checkpoint) holds it as %s [",
               wr_dtype_name(x->pub.tensor.dtype));
    for (int i = 0; i < x->pub.tensor.rank; i++)
        wr_str_add(&s, "%s%lld", i > 0 ? ", " : "", (long long)x->dim[i]);
    wr_fail(err, WR_ERR_INPUT, "%s]; the model and the checkpoint must be of one recipe",
            wr_str_text(&s));
    wr_str_free(&s);
    return WR_ERR_INPUT;
}

/* A state of another size is made anew (a cache for another batch); a parameter is an error. */
static wr_status match_stored(wr_session *s, const wr_graph *g, uint32_t id, int at,
                              const int64_t *dim, wr_init init, wr_error *err) {
    stored *x = &s->store[at];
    const wr_node *n = wr_node_at(g, id);
    bool same = x->pub.tensor.rank == n->rank && (int)x->pub.tensor.dtype == n->dtype;
    for (int i = 0; same && i < n->rank; i++)
        same = x->dim[i] == dim[i];
    if (same) return WR_OK;
    if (n->op == &wr_op_param || x->pub.tensor.rank != n->rank ||
        (int)x->pub.tensor.dtype != n->dtype)
        return sizes_differ(g, id, x, err);
    give_back(s, x, x->pub.tensor.data);
    s->counters.persistent_bytes -= x->bytes;
    memcpy(x->dim, dim, sizeof *dim * (size_t)n->rank);
    return fill_stored(s, x, init, NULL, err);
}

/* Find or make the persistent tensor of node `id`. */
static wr_status bind_stored(wr_session *s, const wr_graph *g, uint32_t id, const wr_binding *b,
                             uint32_t *slot, wr_error *err) {
    const wr_node *x = wr_node_at(g, id);
    const wr_attr *a = wr_node_attrs(g, id);
    const char *name = wr_source_name(g, id);
    wr_init init = {(wr_init_kind)a[WR_SOURCE_INIT].i, a[WR_SOURCE_A].r, a[WR_SOURCE_B].r};
    int64_t dim[WR_MAX_RANK] = {0};
    for (int i = 0; i < x->rank; i++)
        if ((dim[i] = wr_dims_eval(wr_graph_dims(g), x->dim[i], b)) < 0)
            return wr_fail(err, WR_ERR_INPUT,
                           "state \"%s\": axis %d has a symbol that no fed input gives a value",
                           name, i);
    int at = wr_session_find(s, name);
    wr_status status = at >= 0 ? match_stored(s, g, id, at, dim, init, err)
                               : add_stored(s, name, x->op == &wr_op_param, (wr_dtype)x->dtype,
                                            x->rank, dim, init, NULL, err);
    *slot = at >= 0 ? (uint32_t)at : (uint32_t)s->n_stored - 1;
    return status;
}

static bool is_stored(const wr_node *x) { return x->op == &wr_op_param || x->op == &wr_op_state; }

static bool has_known_size(const wr_node *x) {
    for (int i = 0; i < x->rank; i++)
        if (!wr_dim_is_literal(x->dim[i])) return false;
    return true;
}

/* States sized by what is fed (caches) wait for a run. */
wr_status wr_session_prepare(wr_session *s, const wr_program *p, wr_error *err) {
    const wr_graph *g = wr_program_graph(p);
    wr_binding none = {{0}};
    for (uint32_t id = 1; id < wr_node_count(g); id++) {
        const wr_node *x = wr_node_at(g, id);
        if (!wr_program_live(p)[id] || !is_stored(x)) continue;
        if (x->op == &wr_op_state && !has_known_size(x)) continue;
        uint32_t slot;
        wr_status status = bind_stored(s, g, id, &none, &slot, err);
        if (status != WR_OK) return status;
    }
    return WR_OK;
}

/* ---- feeds ---- */

/* What is wrong with the feed of an input, the input's line and callers, a hint (may be NULL). */
static wr_status feed_error(const wr_graph *g, uint32_t id, const char *what, const char *hint,
                            wr_error *err) {
    wr_str s = {0};
    wr_str_add(&s, "input \"%s\" %s\n  ", wr_source_name(g, id), what);
    wr_node_describe(g, id, &s);
    wr_str_add(&s, "\n");
    wr_trace_of_node(g, id, "  ", &s);
    if (hint != NULL) wr_str_add(&s, "  hint: %s\n", hint);
    wr_status status = s.oom ? wr_fail_memory(err, "a message", s.len)
                             : wr_fail(err, WR_ERR_INPUT, "%.*s", (int)s.len - 1, s.text);
    wr_str_free(&s);
    return status;
}

static wr_status feed_size_error(const wr_graph *g, uint32_t id, int axis, int64_t got,
                                 const char *why, wr_error *err) {
    char what[256];
    snprintf(what, sizeof what, "was fed with size %lld on axis %d: %s", (long long)got, axis, why);
    return feed_error(g, id, what, NULL, err);
}

static wr_status bind_axis(const wr_graph *g, uint32_t id, int axis, int64_t size, wr_binding *b,
                           wr_error *err) {
    const wr_dims *dims = wr_graph_dims(g);
    int sym = wr_dims_symbol_of(dims, wr_node_at(g, id)->dim[axis]);
    if (sym < 0 || (b->value[sym] == size && size != 0)) return WR_OK; /* 0: no value yet */
    const wr_symbol *x = wr_dims_symbol_at(dims, sym);
    if (b->value[sym] != 0) {
        char why[128];
        snprintf(why, sizeof why, "its symbol %s is %lld already, by an axis before it", x->name,
                 (long long)b->value[sym]);
        return feed_size_error(g, id, axis, size, why, err);
    }
    if (size < x->min || size > x->max || size % x->multiple_of != 0) {
        wr_str s = {0};
        wr_str_add(&s, "%s takes %lld to %lld, in multiples of %lld", x->name, (long long)x->min,
                   (long long)x->max, (long long)x->multiple_of);
        wr_status status = feed_size_error(g, id, axis, size, wr_str_text(&s), err);
        wr_str_free(&s);
        return status;
    }
    b->value[sym] = size;
    return WR_OK;
}

static wr_status match_feed(const wr_program *p, int n, const wr_feed *feeds, int k, int *feed_of,
                            wr_error *err) {
    const wr_graph *g = wr_program_graph(p);
    uint32_t id = wr_program_input(p, k);
    const char *name = wr_source_name(g, id);
    feed_of[k] = -1;
    for (int i = 0; i < n; i++) {
        if (strcmp(feeds[i].name, name) != 0) continue;
        if (feed_of[k] >= 0) return feed_error(g, id, "is fed twice", NULL, err);
        feed_of[k] = i;
    }
    if (feed_of[k] < 0)
        return feed_error(g, id, "is not fed", "wr_session_run needs a wr_feed of that name", err);
    int rank = wr_node_at(g, id)->rank, fed = feeds[feed_of[k]].rank;
    if (fed == rank) return WR_OK;
    char what[128];
    snprintf(what, sizeof what, "is fed with %d %s, but has %d", fed, fed == 1 ? "axis" : "axes",
             rank);
    return feed_error(g, id, what, NULL, err);
}

static wr_status bind_feeds(const wr_program *p, int n, const wr_feed *feeds, int *feed_of,
                            wr_binding *b, wr_error *err) {
    const wr_graph *g = wr_program_graph(p);
    memset(b, 0, sizeof *b);
    for (int k = 0; k < wr_program_inputs(p); k++) {
        wr_status status = match_feed(p, n, feeds, k, feed_of, err);
        uint32_t id = wr_program_input(p, k);
        for (int i = 0; status == WR_OK && i < wr_node_at(g, id)->rank; i++)
            status = bind_axis(g, id, i, feeds[feed_of[k]].dim[i], b, err);
        if (status != WR_OK) return status;
    }
    for (int k = 0; k < wr_program_inputs(p); k++) {
        uint32_t id = wr_program_input(p, k);
        for (int i = 0; i < wr_node_at(g, id)->rank; i++) {
            int64_t size = feeds[feed_of[k]].dim[i];
            if (wr_dims_eval(wr_graph_dims(g), wr_node_at(g, id)->dim[i], b) != size)
                return feed_size_error(g, id, i, size, "that is not what it was declared as", err);
        }
    }
    return WR_OK;
}

/* ---- plans ---- */

static wr_status assign_slots(wr_session *s, const wr_program *p, const wr_binding *b,
                              uint32_t *slot, wr_error *err) {
    const wr_graph *g = wr_program_graph(p);
    for (uint32_t id = 1; id < wr_node_count(g); id++) {
        if (!wr_program_live(p)[id] || !is_stored(wr_node_at(g, id))) continue;
        wr_status status = bind_stored(s, g, id, b, &slot[id], err);
        if (status != WR_OK) return status;
    }
    for (int k = 0; k < wr_program_inputs(p); k++)
        slot[wr_program_input(p, k)] = (uint32_t)k;
    return WR_OK;
}

static void evict_oldest(wr_session *s) {
    size_t oldest = 0;
    for (size_t i = 1; i < s->n_plans; i++)
        if (s->plan[i].used < s->plan[oldest].used) oldest = i;
    drop_plan(s, oldest);
    s->counters.plan_evictions++;
}

static wr_status make_plan(wr_session *s, const wr_program *p, const wr_binding *b, wr_error *err) {
    const wr_graph *g = wr_program_graph(p);
    uint32_t *slot = calloc(wr_node_count(g), sizeof *slot);
    uint32_t *roots = malloc(sizeof *roots * ((size_t)wr_program_outputs(p) + 1));
    wr_plan *plan = NULL;
    bool ok = slot != NULL && roots != NULL &&
              wr_grow(&s->plan, &s->cap_plans, s->n_plans + 1, sizeof *s->plan);
    wr_status status = ok ? assign_slots(s, p, b, slot, err) : wr_fail_memory(err, "a plan", 0);
    for (int k = 0; ok && k < wr_program_outputs(p); k++)
        roots[k] = wr_program_root(p, k);
    if (status == WR_OK)
        status = wr_plan_new(g, wr_program_live(p), wr_program_outputs(p), roots, b, s->device,
                             &(wr_slots){slot}, s->threads, &plan, err);
    free(roots);
    if (status != WR_OK) {
        free(slot);
        return status;
    }
    plan->profile = s->profile;
    if (s->trap_nan && !wr__trap_plan(plan)) {
        wr_plan_free(plan);
        free(slot);
        return wr_fail_memory(err, "the trap for NaN", wr_node_count(g));
    }
    s->counters.plan_misses++;
    s->counters.plan_seconds += plan->seconds;
    if (s->n_plans >= (size_t)s->plan_cap) evict_oldest(s);
    s->plan[s->n_plans++] = (cached_plan){.program = p, .plan = plan, .slot = slot};
    return WR_OK;
}

static wr_status find_plan(wr_session *s, const wr_program *p, const wr_binding *b,
                           cached_plan **found, wr_error *err) {
    *found = NULL;
    for (size_t i = 0; i < s->n_plans && *found == NULL; i++)
        if (s->plan[i].program == p && memcmp(&s->plan[i].plan->binding, b, sizeof *b) == 0)
            *found = &s->plan[i];
    if (*found != NULL) {
        s->counters.plan_hits++;
    } else {
        wr_status status = make_plan(s, p, b, err);
        if (status != WR_OK) return status;
        *found = &s->plan[s->n_plans - 1];
    }
    (*found)->used = ++s->clock;
    return WR_OK;
}

/* ---- running ---- */

static double gibibytes(size_t bytes) { return (double)bytes / (double)((size_t)1 << 30); }

/* The arena does not fit the device: what is in it, and what makes it smaller. */
static wr_status arena_too_large(const wr_session *s, const wr_plan *p, wr_error *err) {
    wr_str device = {0}, table = {0};
    if (s->device->describe != NULL) s->device->describe(s->device, &device);
    wr__plan_peak_print(p, 8, &table);
    *err = (wr_error){0};
    wr_fail(err, WR_ERR_MEMORY,
            "out of memory on device %s (%s): this plan needs %.2f GiB besides %.2f GiB of "
            "parameters and states\n  at its peak, step %d of %d:%s\n  hint: a smaller token "
            "budget: data.max_tokens (or data.max_sentences) of the recipe",
            s->device->name, wr_str_text(&device), gibibytes(p->input_bytes + p->arena_bytes),
            gibibytes(s->counters.persistent_bytes), p->peak_step + 1, p->n_steps,
            wr_str_text(&table));
    wr_str_free(&device);
    wr_str_free(&table);
    return WR_ERR_MEMORY;
}

static wr_status reserve_arena(wr_session *s, const wr_plan *p, wr_error *err) {
    size_t bytes = p->input_bytes + p->arena_bytes;
    if (bytes <= s->arena_bytes) return WR_OK;
    if (s->arena != NULL) s->device->release(s->device, s->arena);
    s->arena = NULL;
    s->arena_bytes = 0;
    wr_status status = s->device->alloc(s->device, bytes, &s->arena, err);
    if (status == WR_OK) s->arena_bytes = s->counters.arena_bytes = bytes;
    if (status == WR_ERR_MEMORY && !s->device->host_memory && err != NULL)
        return arena_too_large(s, p, err);
    return status;
}

static void *data_of(const wr_session *s, const cached_plan *c, uint32_t id, const wr_feed *feeds,
                     const int *feed_of) {
    const wr_value *v = &c->plan->value[id];
    switch (v->place) {
    case WR_PLACE_ARENA:
        return (char *)s->arena + c->plan->input_bytes + v->offset;
    case WR_PLACE_STORE:
        return s->store[v->index].pub.tensor.data;
    case WR_PLACE_CONST:
        return wr__plan_constant(c->plan, id);
    case WR_PLACE_INPUT:
        if (!s->device->host_memory) return (char *)s->arena + v->offset;
        return (void *)(uintptr_t)feeds[feed_of[v->index]].data;
    case WR_PLACE_NONE:
        break;
    }
    return NULL;
}

static void resolve(wr_session *s, cached_plan *c, const wr_feed *feeds, const int *feed_of) {
    wr_plan *p = c->plan;
    for (size_t i = 0; i < p->n_tensors; i++)
        p->tensor[i].data = data_of(s, c, p->tensor_node[i], feeds, feed_of);
    for (int i = 0; i < p->n_steps; i++)
        p->step[i].call.workspace = (char *)s->arena + p->input_bytes + p->step[i].workspace_offset;
}

static wr_status note_outputs(wr_session *s, const cached_plan *c, const wr_program *p,
                              const wr_feed *feeds, const int *feed_of, wr_error *err) {
    size_t n = (size_t)wr_program_outputs(p);
    if (!wr_grow(&s->output, &s->cap_output, n + 1, sizeof *s->output))
        return wr_fail_memory(err, "outputs", n * sizeof *s->output);
    for (size_t k = 0; k < n; k++) {
        uint32_t id = wr_program_root(p, (int)k);
        const wr_node *x = wr_node_at(c->plan->g, id);
        wr_tensor t = {.data = data_of(s, c, id, feeds, feed_of),
                       .dim = c->plan->value[id].dim,
                       .rank = x->rank,
                       .dtype = (wr_dtype)x->dtype,
                       .n = 1};
        for (int i = 0; i < t.rank; i++)
            t.n *= t.dim[i];
        s->output[k] = t;
    }
    return WR_OK;
}

/* Where outputs come to on the host; nothing is read yet. */
static wr_status reserve_host(wr_session *s, const wr_program *p, wr_error *err) {
    size_t n = (size_t)wr_program_outputs(p), bytes = 0;
    if (s->device->host_memory) return WR_OK;
    if (!wr_grow(&s->host, &s->cap_host, n + 1, sizeof *s->host))
        return wr_fail_memory(err, "outputs", n * sizeof *s->host);
    for (size_t k = 0; k < n; k++) {
        s->host[k] = (fetched){.tensor = s->output[k], .at = bytes};
        size_t size = (size_t)s->output[k].n * wr_dtype_bytes(s->output[k].dtype);
        bytes += (size + ALIGN - 1) / ALIGN * ALIGN;
    }
    if (!wr_grow(&s->host_bytes, &s->cap_host_bytes, bytes + 1, 1))
        return wr_fail_memory(err, "outputs", bytes);
    return WR_OK;
}

static wr_status feed_device(wr_session *s, const cached_plan *c, const wr_program *p,
                             const wr_feed *feeds, const int *feed_of, wr_error *err) {
    int n = 0;
    if (s->device->host_memory) return WR_OK;
    wr_transfer *list = malloc(sizeof *list * ((size_t)wr_program_inputs(p) + 1));
    if (list == NULL) return wr_fail_memory(err, "feeds", sizeof *list);
    for (int k = 0; k < wr_program_inputs(p); k++) {
        const wr_value *v = &c->plan->value[wr_program_input(p, k)];
        if (v->place == WR_PLACE_INPUT && v->bytes > 0)
            list[n++] =
                (wr_transfer){(char *)s->arena + v->offset, feeds[feed_of[k]].data, v->bytes};
    }
    wr_status status = n == 0 ? WR_OK : s->device->feed(s->device, n, list, err);
    free(list);
    return status;
}

static bool has_fixed_size(const wr_graph *g, uint32_t id) {
    const wr_node *x = wr_node_at(g, id);
    for (int i = 0; i < x->rank; i++)
        if (!wr_dim_is_literal(x->dim[i])) return false;
    return true;
}

/* States of symbolic size may have been made for another binding since this plan was made. */
static wr_status rebind_states(wr_session *s, const cached_plan *c, wr_error *err) {
    const wr_graph *g = c->plan->g;
    const bool *live = wr_program_live(c->program);
    for (uint32_t id = 1; id < wr_node_count(g); id++) {
        if (!live[id] || wr_node_at(g, id)->op != &wr_op_state || has_fixed_size(g, id)) continue;
        wr_status status = bind_stored(s, g, id, &c->plan->binding, &c->slot[id], err);
        if (status != WR_OK) return status;
    }
    return WR_OK;
}

static wr_status look_at_outputs(const wr_session *s, const cached_plan *c, const wr_program *p,
                                 wr_error *err) {
    wr_status status = WR_OK;
    for (int k = 0; status == WR_OK && k < wr_program_outputs(p); k++)
        status = wr__trap_output(c->plan, k, &s->output[k], wr_program_root(p, k), err);
    return status;
}

wr_status wr_session_run(wr_session *s, wr_program *p, int n_feeds, const wr_feed *feeds,
                         wr_error *err) {
    wr_status status = s->trap_nan ? wr_program_apart(p, &p, err) : WR_OK;
    if (status != WR_OK) return status;
    int *feed_of = calloc((size_t)wr_program_inputs(p) + 1, sizeof *feed_of);
    if (feed_of == NULL) return wr_fail_memory(err, "feeds", sizeof *feed_of);
    wr_binding b;
    cached_plan *c = NULL;
    s->last = NULL;
    status = bind_feeds(p, n_feeds, feeds, feed_of, &b, err);
    if (status == WR_OK) status = find_plan(s, p, &b, &c, err);
    if (status == WR_OK) status = rebind_states(s, c, err);
    if (status == WR_OK) status = reserve_arena(s, c->plan, err);
    /* before the run: a run that changed states never fails for want of memory */
    if (status == WR_OK) status = note_outputs(s, c, p, feeds, feed_of, err);
    if (status == WR_OK) status = reserve_host(s, p, err);
    if (status == WR_OK) status = feed_device(s, c, p, feeds, feed_of, err);
    if (status == WR_OK) {
        resolve(s, c, feeds, feed_of);
        wr_run_env env = {.threads = s->threads,
                          .seed = s->seed,
                          .step = s->step,
                          .device = s->device,
                          .err = err};
        status = s->device->run(s->device, c->plan, &env);
        if (status == WR_OK && !s->deferred) status = wr_session_wait(s, err);
        if (status == WR_OK && s->trap_nan) status = look_at_outputs(s, c, p, err);
    }
    if (status == WR_OK) {
        s->last = c;
        s->counters.runs++;
    }
    free(feed_of);
    return status;
}

wr_status wr_session_wait(wr_session *s, wr_error *err) {
    return s->device->wait == NULL ? WR_OK : s->device->wait(s->device, err);
}

const wr_tensor *wr_session_output(wr_session *s, int k) {
    if (s->device->host_memory) return &s->output[k];
    fetched *f = &s->host[k];
    if (f->done) return &f->tensor;
    size_t bytes = (size_t)f->tensor.n * wr_dtype_bytes(f->tensor.dtype);
    f->tensor.data = s->host_bytes + f->at;
    f->done = true;
    if (s->device->download(s->device, f->tensor.data, s->output[k].data, bytes, NULL) != WR_OK)
        memset(f->tensor.data, 0xff, bytes);
    return &f->tensor;
}

static double number_at(const void *data, wr_dtype t) {
    if (t == WR_F64) return *(const double *)data;
    return t == WR_F32 ? (double)*(const float *)data : (double)*(const int32_t *)data;
}

wr_status wr_session_keep(wr_session *s, int slot, int n, wr_error *err) {
    wr_transfer t[WR_KEPT_NUMBERS];
    if (slot < 0 || slot >= WR_KEPT_SLOTS || n > WR_KEPT_NUMBERS)
        return wr_fail(err, WR_ERR_USAGE,
                       "keeping %d outputs in slot %d: at most %d in slots 0 to %d", n, slot,
                       WR_KEPT_NUMBERS, WR_KEPT_SLOTS - 1);
    if (s->last == NULL || n > wr_program_outputs(s->last->program))
        return wr_fail(err, WR_ERR_USAGE, "keeping %d outputs: the last run has not that many", n);
    s->kept[slot].n = 0;
    for (int k = 0; k < n; k++) {
        const wr_tensor *x = &s->output[k];
        if (x->n != 1)
            return wr_fail(err, WR_ERR_USAGE,
                           "output %d has %lld elements: only scalars can be kept", k,
                           (long long)x->n);
        s->kept[slot].dtype[k] = x->dtype;
        t[k] = (wr_transfer){.from = x->data, .bytes = wr_dtype_bytes(x->dtype)};
        if (s->device->host_memory) s->kept[slot].value[k] = number_at(x->data, x->dtype);
    }
    s->kept[slot].n = n;
    return s->device->host_memory ? WR_OK : s->device->keep(s->device, slot, n, t, err);
}

wr_status wr_session_kept(wr_session *s, int slot, double *value, wr_error *err) {
    const uint64_t *number = NULL;
    if (slot < 0 || slot >= WR_KEPT_SLOTS)
        return wr_fail(err, WR_ERR_USAGE, "slot %d: there are 0 to %d", slot, WR_KEPT_SLOTS - 1);
    if (!s->device->host_memory) {
        wr_status status = s->device->recall(s->device, slot, &number, err);
        if (status != WR_OK) return status;
    }
    for (int k = 0; k < s->kept[slot].n; k++)
        value[k] =
            number == NULL ? s->kept[slot].value[k] : number_at(&number[k], s->kept[slot].dtype[k]);
    return WR_OK;
}

const char *wr_session_device(const wr_session *s) { return s->device->name; }
const char *wr_session_note(const wr_session *s) { return wr_str_text(&s->note); }
const wr_plan *wr_session_plan(const wr_session *s) {
    return s->last == NULL ? NULL : s->last->plan;
}
void wr_session_profile(wr_session *s, bool on) {
    s->profile = on;
    for (size_t i = 0; i < s->n_plans; i++) {
        wr_plan *p = s->plan[i].plan;
        p->profile = on;
        for (int k = 0; k < p->n_steps; k++)
            p->step[k].seconds = 0;
    }
}
int wr_session_launches(const wr_session *s) {
    const wr_plan *p = wr_session_plan(s);
    if (p == NULL) return 0;
    return s->device->launches == NULL ? p->n_steps : s->device->launches(s->device, p);
}
void wr_session_set_step(wr_session *s, uint64_t step) { s->step = step; }
uint64_t wr_session_step(const wr_session *s) { return s->step; }
wr_session_counters wr_session_count(const wr_session *s) { return s->counters; }
int wr_session_threads(const wr_session *s) { return s->threads; }
