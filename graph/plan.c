/* plan.c: from live nodes and a binding to steps with buffers; see plan.h. */
#include "graph/plan.h"
#include "graph/trace.h"
#include "graph/trap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 256, NO_LAST = -1 };

static size_t align_up(size_t n) { return (n + ALIGN - 1) / ALIGN * ALIGN; }
static bool is_output_node(const wr_node *x) { return x->op == &wr_op_output; }

/* The node that runs for this one: itself, or the op whose further output it is. */
static uint32_t maker(const wr_graph *g, uint32_t id) {
    return is_output_node(wr_node_at(g, id)) ? wr_node_inputs(g, id)[0] : id;
}

bool *wr_live_nodes(const wr_graph *g, int n_roots, const uint32_t *roots) {
    uint32_t n = wr_node_count(g);
    bool *live = calloc(n, sizeof *live);
    if (live == NULL) return NULL;
    for (int i = 0; i < n_roots; i++)
        live[roots[i]] = true;
    for (uint32_t id = n - 1; id > 0; id--) {
        const wr_node *x = wr_node_at(g, id);
        if (x->op->traits & WR_STATEFUL) live[id] = true;
        if (!live[id]) continue;
        for (int k = 0; k < x->n_in; k++)
            live[wr_node_inputs(g, id)[k]] = true;
    }
    return live;
}

typedef struct planner {
    wr_plan *p;
    const wr_graph *g;
    const bool *live;
    wr_device *device;
    const wr_slots *slots;
    wr_run_env env; /* threads, for prepare */
    wr_error *err;
    size_t *shared; /* per root node: largest number of bytes of its group (in place, views) */
} planner;

/* ---- sizes ---- */

static wr_status size_value(planner *pl, uint32_t id) {
    const wr_node *x = wr_node_at(pl->g, id);
    wr_value *v = &pl->p->value[id];
    size_t n = 1;
    for (int i = 0; i < x->rank; i++) {
        v->dim[i] = wr_dims_eval(wr_graph_dims(pl->g), x->dim[i], &pl->p->binding);
        if (v->dim[i] < 0) {
            wr_str s = {0};
            wr_node_describe(pl->g, id, &s);
            wr_fail(pl->err, WR_ERR_INPUT,
                    "axis %d of %s has a symbol that no fed input gives a value", i,
                    wr_str_text(&s));
            wr_str_free(&s);
            return WR_ERR_INPUT;
        }
        n *= (size_t)v->dim[i];
    }
    v->bytes = n * wr_dtype_bytes((wr_dtype)x->dtype);
    return WR_OK;
}

static int64_t count_elements(const wr_value *v, int rank) {
    int64_t n = 1;
    for (int i = 0; i < rank; i++)
        n *= v->dim[i];
    return n;
}

/* ---- steps ---- */

/* Views only rename bytes, unless they write them (a cache). */
static bool runs(const wr_node *x) {
    if ((x->op->traits & WR_VIEW) && !(x->op->traits & WR_STATEFUL)) return false;
    return !(x->op->traits & WR_SOURCE) && !is_output_node(x);
}

typedef struct totals {
    int steps;
    size_t tensors, attrs;
} totals;

static totals count_steps(const planner *pl) {
    totals t = {0};
    for (uint32_t id = 1; id < wr_node_count(pl->g); id++) {
        const wr_node *x = wr_node_at(pl->g, id);
        if (!pl->live[id] || !runs(x)) continue;
        t.steps++;
        t.tensors += (size_t)x->n_in + x->n_out;
        t.attrs += (size_t)wr_op_attr_count(x->op);
    }
    return t;
}

static wr_tensor describe(const wr_plan *p, uint32_t id) {
    const wr_node *x = wr_node_at(p->g, id);
    const wr_value *v = &p->value[id];
    return (wr_tensor){.dim = v->dim,
                       .rank = x->rank,
                       .dtype = (wr_dtype)x->dtype,
                       .n = count_elements(v, x->rank)};
}

static void fill_attrs(planner *pl, uint32_t id, size_t at) {
    const wr_node *x = wr_node_at(pl->g, id);
    const wr_attr *attr = wr_node_attrs(pl->g, id);
    for (int i = 0; x->op->attrs[i].name != NULL; i++) {
        wr_attr a = attr[i];
        pl->p->blob[at + (size_t)i] = NULL;
        if (x->op->attrs[i].kind == WR_ATTR_DIM)
            a.i = wr_dims_eval(wr_graph_dims(pl->g), a.d, &pl->p->binding);
        else if (x->op->attrs[i].kind == WR_ATTR_BLOB)
            pl->p->blob[at + (size_t)i] = wr_blob_at(pl->g, a.blob, NULL);
        pl->p->attr[at + (size_t)i] = a;
    }
}

static void add_step(planner *pl, uint32_t id, size_t *tensor, size_t *attr) {
    wr_plan *p = pl->p;
    const wr_node *x = wr_node_at(pl->g, id);
    wr_step *s = &p->step[p->n_steps];
    s->node = id;
    s->kernel = pl->device->kernel(pl->device, x->op);
    s->call = (wr_call){.in = &p->tensor[*tensor],
                        .out = &p->tensor[*tensor + x->n_in],
                        .n_in = x->n_in,
                        .n_out = x->n_out,
                        .attr = &p->attr[*attr],
                        .blob = &p->blob[*attr],
                        .env = &pl->env,
                        .g = pl->g,
                        .binding = &p->binding};
    for (int k = 0; k < x->n_in; k++)
        p->tensor_node[(*tensor)++] = wr_node_inputs(pl->g, id)[k];
    for (int k = 0; k < x->n_out; k++)
        p->tensor_node[(*tensor)++] = id + (uint32_t)k;
    for (int k = 0; k < x->n_in + x->n_out; k++) {
        size_t at = *tensor - (size_t)(x->n_in + x->n_out) + (size_t)k;
        p->tensor[at] = describe(p, p->tensor_node[at]);
    }
    fill_attrs(pl, id, *attr);
    *attr += (size_t)wr_op_attr_count(x->op);
    p->n_steps++;
}

/* Every op without a kernel, in one message. */
static wr_status check_kernels(planner *pl) {
    wr_str s = {0};
    int missing = 0;
    for (int i = 0; i < pl->p->n_steps; i++) {
        if (pl->p->step[i].kernel != NULL) continue;
        if (missing++ == 0)
            wr_str_add(&s, "these ops have no kernel on device %s:", pl->device->name);
        wr_str_add(&s, "\n  ");
        wr_node_describe(pl->g, pl->p->step[i].node, &s);
        wr_str chain = {0};
        wr_trace_of_node(pl->g, pl->p->step[i].node, "\n    ", &chain);
        wr_str_bytes(&s, wr_str_text(&chain), chain.len > 0 ? chain.len - 1 : 0);
        wr_str_free(&chain);
    }
    if (missing > 0)
        wr_fail(pl->err, WR_ERR_INPUT,
                "%s\n  hint: give their rows a kernel for this device, or run where they have one",
                wr_str_text(&s));
    wr_str_free(&s);
    return missing > 0 ? WR_ERR_INPUT : WR_OK;
}

static wr_status prepare_steps(planner *pl) {
    for (int i = 0; i < pl->p->n_steps; i++) {
        wr_step *s = &pl->p->step[i];
        const wr_op *op = wr_node_at(pl->g, s->node)->op;
        wr_cost cost = {0};
        if (op->cost != NULL) {
            cost = op->cost(&s->call);
        } else {
            cost.flops = (double)s->call.out[0].n;
            for (int k = 0; k < s->call.n_in; k++)
                cost.bytes += (double)s->call.in[k].n * (double)wr_dtype_bytes(s->call.in[k].dtype);
            cost.bytes += (double)s->call.out[0].n * (double)wr_dtype_bytes(s->call.out[0].dtype);
        }
        s->flops = cost.flops;
        s->bytes = cost.bytes;
        pl->p->flops += cost.flops;
        s->workspace_bytes = pl->device->workspace == NULL
                                 ? cost.workspace
                                 : pl->device->workspace(pl->device, op, &s->call);
        s->prepare = pl->device->prepare(pl->device, op);
        if (s->prepare == NULL) continue;
        wr_status status = s->prepare->make(&s->call, &s->call.prepared);
        if (status != WR_OK) {
            s->prepare = NULL;
            return wr_fail(pl->err, status, "%s: cannot prepare its kernel", op->name);
        }
        if (s->prepare->workspace != NULL)
            s->workspace_bytes += s->prepare->workspace(&s->call, s->call.prepared);
    }
    return WR_OK;
}

/* ---- lifetimes ---- */

static uint32_t root_of(const wr_plan *p, uint32_t id) {
    while (p->value[id].root != id)
        id = p->value[id].root;
    return id;
}

static void place_sources(planner *pl) {
    for (uint32_t id = 1; id < wr_node_count(pl->g); id++) {
        const wr_node *x = wr_node_at(pl->g, id);
        wr_value *v = &pl->p->value[id];
        v->root = id;
        v->first = v->last = NO_LAST;
        if (!pl->live[id]) continue;
        v->place = WR_PLACE_ARENA;
        if (x->op == &wr_op_input) v->place = WR_PLACE_INPUT;
        if (x->op == &wr_op_const) v->place = WR_PLACE_CONST;
        if (x->op == &wr_op_param || x->op == &wr_op_state) v->place = WR_PLACE_STORE;
        if (v->place != WR_PLACE_ARENA) v->index = pl->slots->slot[id];
        if (x->op->traits & WR_VIEW) v->root = root_of(pl->p, wr_node_inputs(pl->g, id)[0]);
    }
}

static void note_uses(planner *pl, int n_roots, const uint32_t *roots) {
    wr_plan *p = pl->p;
    size_t t = 0;
    for (int i = 0; i < p->n_steps; i++) {
        const wr_node *x = wr_node_at(p->g, p->step[i].node);
        for (int k = 0; k < x->n_in; k++)
            p->value[root_of(p, p->tensor_node[t++])].last = i;
        for (int k = 0; k < x->n_out; k++) {
            wr_value *v = &p->value[p->tensor_node[t++]];
            v->first = i;
            if (v->last < i) v->last = i;
            if (!pl->live[p->step[i].node + (uint32_t)k]) v->place = WR_PLACE_NONE;
        }
    }
    for (int i = 0; i < n_roots; i++)
        p->value[root_of(p, roots[i])].last = p->n_steps; /* fetched: kept to the end */
}

/* Let output 0 take the operand's buffer where the row allows it and nobody needs it afterwards. */
static void work_in_place(planner *pl) {
    wr_plan *p = pl->p;
    for (int i = 0; i < p->n_steps; i++) {
        uint32_t id = p->step[i].node;
        const wr_node *x = wr_node_at(p->g, id);
        wr_value *v = &p->value[id];
        if (x->op->inplace == 0 || x->op->inplace > x->n_in || v->place != WR_PLACE_ARENA) continue;
        uint32_t operand = wr_node_inputs(p->g, id)[x->op->inplace - 1];
        uint32_t root = root_of(p, operand);
        wr_value *r = &p->value[root];
        bool twice = false;
        for (int k = 0; k < x->n_in; k++)
            if (k != x->op->inplace - 1 && root_of(p, wr_node_inputs(p->g, id)[k]) == root)
                twice = true;
        if (twice || r->place != WR_PLACE_ARENA || r->last != i ||
            p->value[operand].bytes != v->bytes || r->bytes != v->bytes)
            continue;
        v->root = root;
        r->last = v->last;
        p->n_inplace++;
    }
}

typedef struct interval {
    size_t bytes;
    int first, last;
    uint32_t node; /* 0: workspace of step `first` */
} interval;

static int by_first(const void *a, const void *b) {
    const interval *x = a, *y = b;
    if (x->first != y->first) return x->first < y->first ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes > y->bytes ? -1 : 1;
    return x->node < y->node ? -1 : x->node > y->node;
}

static size_t collect_intervals(planner *pl, interval *out) {
    wr_plan *p = pl->p;
    size_t n = 0;
    for (int i = 0; i < p->n_steps; i++) {
        const wr_step *s = &p->step[i];
        for (int k = 0; k < s->call.n_out; k++) {
            uint32_t id = s->node + (uint32_t)k;
            const wr_value *v = &p->value[id];
            if (v->place == WR_PLACE_ARENA && v->root == id && v->bytes > 0)
                out[n++] = (interval){align_up(v->bytes), v->first, v->last, id};
        }
        if (s->workspace_bytes > 0) out[n++] = (interval){align_up(s->workspace_bytes), i, i, 0};
    }
    qsort(out, n, sizeof *out, by_first);
    return n;
}

static void note_peak(wr_plan *p, const interval *iv, size_t n) {
    size_t *delta = calloc((size_t)p->n_steps + 2, sizeof *delta);
    if (delta == NULL) return; /* the peak is for people; the plan is whole without it */
    for (size_t i = 0; i < n; i++) {
        delta[iv[i].first] += iv[i].bytes;
        delta[iv[i].last + 1 > p->n_steps + 1 ? p->n_steps + 1 : iv[i].last + 1] -= iv[i].bytes;
    }
    size_t now = 0;
    for (int i = 0; i <= p->n_steps; i++) {
        now += delta[i];
        if (now > p->live_peak) {
            p->live_peak = now;
            p->peak_step = i;
        }
    }
    free(delta);
}

static void store_offsets(wr_plan *p, const interval *iv, const size_t *offset, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (iv[i].node == 0)
            p->step[iv[i].first].workspace_offset = offset[i];
        else
            p->value[iv[i].node].offset = offset[i];
    }
    for (uint32_t id = 1; id < wr_node_count(p->g); id++) {
        wr_value *v = &p->value[id];
        uint32_t root = root_of(p, id);
        if (root == id || v->place == WR_PLACE_NONE) continue;
        v->place = p->value[root].place;
        v->index = p->value[root].index;
        v->offset = p->value[root].offset;
    }
}

static wr_status place_buffers(planner *pl) {
    wr_plan *p = pl->p;
    size_t most = p->n_tensors + (size_t)p->n_steps + 1; /* outputs and workspaces */
    interval *iv = malloc(sizeof *iv * most);
    size_t *bytes = malloc(sizeof *bytes * most), *offset = malloc(sizeof *offset * most);
    int *first = malloc(sizeof *first * most), *last = malloc(sizeof *last * most);
    bool ok = iv != NULL && bytes != NULL && offset != NULL && first != NULL && last != NULL;
    if (ok) {
        size_t n = collect_intervals(pl, iv);
        for (size_t i = 0; i < n; i++) {
            bytes[i] = iv[i].bytes;
            first[i] = iv[i].first;
            last[i] = iv[i].last;
        }
        p->arena_bytes = wr_pack_intervals(n, bytes, first, last, offset);
        ok = p->arena_bytes != SIZE_MAX;
        if (ok) {
            note_peak(p, iv, n);
            store_offsets(p, iv, offset, n);
        }
    }
    free(iv);
    free(bytes);
    free(offset);
    free(first);
    free(last);
    return ok ? WR_OK : wr_fail_memory(pl->err, "planning", sizeof *iv * most);
}

/* ---- devices with memory of their own ---- */

static bool is_root_in(const planner *pl, uint32_t id, wr_place place) {
    const wr_value *v = &pl->p->value[id];
    return pl->live[id] && v->place == place && v->root == id;
}

/* Offsets of all values in `place`; returns the end. Views follow their root. */
static size_t stack_up(planner *pl, wr_place place) {
    size_t at = 0;
    for (uint32_t id = 1; id < wr_node_count(pl->g); id++) {
        wr_value *v = &pl->p->value[id];
        if (is_root_in(pl, id, place)) {
            v->offset = at;
            at += align_up(v->bytes);
        } else if (v->place == place) {
            v->offset = pl->p->value[root_of(pl->p, id)].offset;
        }
    }
    return at;
}

/* Constants go to the device with the plan; fed tensors get offsets in front of the arena. */
static wr_status place_on_device(planner *pl) {
    wr_plan *p = pl->p;
    p->input_bytes = stack_up(pl, WR_PLACE_INPUT);
    size_t bytes = stack_up(pl, WR_PLACE_CONST);
    if (bytes == 0) return WR_OK;
    char *host = calloc(1, bytes);
    if (host == NULL) return wr_fail_memory(pl->err, "constants", bytes);
    for (uint32_t id = 1; id < wr_node_count(pl->g); id++)
        if (is_root_in(pl, id, WR_PLACE_CONST))
            memcpy(host + p->value[id].offset,
                   wr_blob_at(pl->g, wr_node_attrs(pl->g, id)[WR_CONST_BLOB].blob, NULL),
                   p->value[id].bytes);
    wr_status status = p->device->alloc(p->device, bytes, &p->constants, pl->err);
    if (status == WR_OK) status = p->device->upload(p->device, p->constants, host, bytes, pl->err);
    free(host);
    return status;
}

void *wr__plan_constant(const wr_plan *p, uint32_t id) {
    if (p->constants != NULL) return (char *)p->constants + p->value[id].offset;
    const wr_attr *attr = wr_node_attrs(p->g, root_of(p, id));
    return (void *)(uintptr_t)wr_blob_at(p->g, attr[WR_CONST_BLOB].blob, NULL);
}

/* ---- the whole ---- */

static wr_status allocate(planner *pl) {
    wr_plan *p = pl->p;
    totals t = count_steps(pl);
    p->value = calloc(wr_node_count(pl->g), sizeof *p->value);
    p->step = calloc((size_t)t.steps + 1, sizeof *p->step);
    p->tensor = calloc(t.tensors + 1, sizeof *p->tensor);
    p->tensor_node = calloc(t.tensors + 1, sizeof *p->tensor_node);
    p->attr = calloc(t.attrs + 1, sizeof *p->attr);
    p->blob = calloc(t.attrs + 1, sizeof *p->blob);
    p->n_tensors = t.tensors;
    if (p->value == NULL || p->step == NULL || p->tensor == NULL || p->tensor_node == NULL ||
        p->attr == NULL || p->blob == NULL)
        return wr_fail_memory(pl->err, "a plan", sizeof *p->value * wr_node_count(pl->g));
    return WR_OK;
}

static wr_status make_steps(planner *pl) {
    size_t tensor = 0, attr = 0;
    for (uint32_t id = 1; id < wr_node_count(pl->g); id++) {
        if (!pl->live[id] && !pl->live[maker(pl->g, id)]) continue;
        wr_status status = size_value(pl, id);
        if (status != WR_OK) return status;
    }
    for (uint32_t id = 1; id < wr_node_count(pl->g); id++)
        if (pl->live[id] && runs(wr_node_at(pl->g, id))) add_step(pl, id, &tensor, &attr);
    wr_status status = check_kernels(pl);
    return status == WR_OK ? prepare_steps(pl) : status;
}

wr_status wr_plan_new(const wr_graph *g, const bool *live, int n_roots, const uint32_t *roots,
                      const wr_binding *b, wr_device *d, const wr_slots *slots, int threads,
                      wr_plan **plan, wr_error *err) {
    double start = wr_now();
    wr_plan *p = calloc(1, sizeof *p);
    *plan = NULL;
    if (p == NULL) return wr_fail_memory(err, "a plan", sizeof *p);
    p->g = g;
    p->binding = *b;
    p->device = d;
    planner pl = {.p = p,
                  .g = g,
                  .live = live,
                  .device = d,
                  .slots = slots,
                  .err = err,
                  .env = {.threads = threads, .device = d, .err = err}};
    wr_status status = allocate(&pl);
    if (status == WR_OK) status = make_steps(&pl);
    if (status == WR_OK) {
        place_sources(&pl);
        note_uses(&pl, n_roots, roots);
        work_in_place(&pl);
        status = place_buffers(&pl);
    }
    if (status == WR_OK && !d->host_memory) status = place_on_device(&pl);
    for (int i = 0; i < p->n_steps; i++)
        p->step[i].call.env = NULL; /* the planner's own; a run brings its own */
    if (status != WR_OK) {
        wr_plan_free(p);
        return status;
    }
    p->seconds = wr_now() - start;
    *plan = p;
    return WR_OK;
}

void wr_plan_free(wr_plan *p) {
    if (p == NULL) return;
    if (p->on_device != NULL) p->device->forget(p->device, p);
    for (int i = 0; i < p->n_steps; i++)
        if (p->step[i].prepare != NULL && p->step[i].prepare->release != NULL)
            p->step[i].prepare->release(p->step[i].call.prepared);
    if (p->constants != NULL) p->device->release(p->device, p->constants);
    free(p->value);
    free(p->step);
    free(p->tensor);
    free(p->tensor_node);
    free(p->attr);
    free(p->blob);
    wr__trap_free(p->trap);
    free(p);
}

wr_status wr__step_failed(const wr_plan *p, const wr_step *s, wr_status status, wr_error *err) {
    if (err == NULL) return status;
    wr_error inner = *err;
    *err = (wr_error){0};
    wr_str where = {0};
    wr_node_describe(p->g, s->node, &where);
    wr_str_add(&where, "\n");
    wr_trace_of_node(p->g, s->node, "  ", &where);
    wr_fail(err, status, "%.2600s\n  in %.*s",
            inner.status == WR_OK ? "a kernel failed" : inner.text,
            where.len > 0 ? (int)where.len - 1 : 0, wr_str_text(&where));
    wr_str_free(&where);
    return status;
}

static wr_status run_steps(wr_plan *p, wr_run_env *env, wr__running *r) {
    for (int i = 0; i < p->n_steps; i++) {
        wr_step *s = &p->step[i];
        s->call.env = env;
        r->step = i;
        double start = p->profile ? wr_now() : 0;
        wr_status status = s->kernel(&s->call);
        if (p->profile) s->seconds += wr_now() - start;
        if (status != WR_OK) return wr__step_failed(p, s, status, env->err);
    }
    return WR_OK;
}

wr_status wr_plan_run_steps(wr_plan *p, wr_run_env *env) {
    wr__running r;
    wr__running_begin(&r, p);
    /* the body of a loop traps when the graph around it does */
    bool trap = p->trap != NULL || (r.outer != NULL && r.outer->plan->trap != NULL);
    wr_status status = WR_OK;
    if (trap && !wr__trap_plan(p))
        status = wr_fail_memory(env->err, "the trap for NaN", wr_node_count(p->g));
    else
        status = trap ? wr__trap_run(p, env, &r) : run_steps(p, env, &r);
    wr__running_end(&r);
    return status;
}
