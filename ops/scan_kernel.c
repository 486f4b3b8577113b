/* scan_kernel.c: running a body once per step; see scan.h.
 *
 * The body is planned once per plan of the graph around it. A step allocates nothing: its buffers
 * lie in the row's workspace, and its operands point into the sequences where time is their first
 * axis (otherwise one position is gathered). A carried state has two buffers that change places, or
 * one where the body writes it in place. */
#include "ops/scan_internal.h"
#include "ops/shape.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGN = 256 };

/* Where a tensor of the body's plan is found in a step. */
typedef enum source {
    FROM_ARENA,   /* at an offset */
    FROM_OPERAND, /* operand `index` of the row, or one step of it */
    FROM_RESULT   /* the place of root `index` */
} source;
typedef struct fixup {
    uint32_t tensor, index;
    source from;
    size_t offset;
} fixup;

typedef struct loop {
    const wr__scan_body *b;
    wr_device *device; /* of the plan around it */
    wr_plan *plan;
    uint32_t *slot;
    bool *in_place; /* per carried state */
    bool *placed;   /* per root: the body writes it where it goes */
    fixup *fix;     /* of the plan's tensors, then of the roots */
    size_t n_tensors;
    size_t *carry_at, *gather_at; /* offsets in the workspace */
    size_t *carry_bytes;
    size_t workspace, arena_at;
    void **operand, **result; /* this step's pointers */
} loop;

static size_t round_up(size_t n) { return (n + ALIGN - 1) / ALIGN * ALIGN; }
static size_t bytes_of(const wr_tensor *t) { return (size_t)t->n * wr_dtype_bytes(t->dtype); }
static int n_roots(const loop *l) { return wr__scan_roots(l->b); }

/* ---- making ---- */

static uint32_t group_of(const wr_plan *p, uint32_t id) {
    while (p->value[id].root != id)
        id = p->value[id].root;
    return id;
}

static wr_status make_plan(loop *l, const wr_call *c) {
    wr_program *program = l->b->program;
    const wr_graph *g = wr_program_graph(program);
    uint32_t roots[3 * WR_SCAN_MOST];
    l->slot = calloc(wr_node_count(g), sizeof *l->slot);
    if (l->slot == NULL) return wr_fail_memory(c->env->err, "a loop", 0);
    for (int k = 0; k < wr__scan_operands(l->b); k++)
        if (l->b->feed[k] >= 0) l->slot[wr_program_input(program, l->b->feed[k])] = (uint32_t)k;
    for (int k = 0; k < n_roots(l); k++)
        roots[k] = wr_program_root(program, k);
    return wr_plan_new(g, wr_program_live(program), n_roots(l), roots, c->binding, l->device,
                       &(wr_slots){l->slot}, c->env->threads, &l->plan, c->env->err);
}

/* Does the step that makes root `id` read carried state k as its in-place operand, last of all? */
static bool can_write_in_place(const loop *l, int k, uint32_t id) {
    const wr_plan *p = l->plan;
    const wr_node *x = wr_node_at(p->g, id);
    if (x->op->inplace == 0 || x->op->inplace > x->n_in) return false;
    const uint32_t *in = wr_node_inputs(p->g, id);
    uint32_t group = group_of(p, in[x->op->inplace - 1]);
    const wr_value *v = &p->value[group];
    for (int i = 0; i < x->n_in; i++)
        if (i != x->op->inplace - 1 && group_of(p, in[i]) == group) return false;
    return v->place == WR_PLACE_INPUT && v->index == (uint32_t)k && v->last == p->value[id].first &&
           p->value[id].bytes == v->bytes;
}

/* Let roots be written where they go: the first root of each group of buffers. Carried states come
 * before outputs, since they always have a place. */
static void place_roots(loop *l) {
    const wr__scan_body *b = l->b;
    const wr_plan *p = l->plan;
    for (int i = 0; i < b->n_carry + b->n_out; i++) {
        int k = i < b->n_carry ? b->n_out + i : i - b->n_carry;
        uint32_t id = wr_program_root(b->program, k), group = group_of(p, id);
        bool taken = p->value[group].place != WR_PLACE_ARENA;
        for (int j = 0; !taken && j < b->n_out + b->n_carry; j++)
            taken = l->placed[j] && group_of(p, wr_program_root(b->program, j)) == group;
        l->placed[k] = !taken;
        if (!taken && i < b->n_carry && group == id) l->in_place[i] = can_write_in_place(l, i, id);
    }
}

static fixup fixup_of(const loop *l, uint32_t tensor, uint32_t id) {
    const wr_plan *p = l->plan;
    const wr_value *v = &p->value[id];
    fixup f = {.tensor = tensor, .from = FROM_ARENA, .offset = v->offset};
    if (v->place == WR_PLACE_INPUT) {
        f.from = FROM_OPERAND;
        f.index = v->index;
    }
    uint32_t group = group_of(p, id);
    for (int k = 0; v->place == WR_PLACE_ARENA && k < l->b->n_out + l->b->n_carry; k++)
        if (l->placed[k] && group_of(p, wr_program_root(l->b->program, k)) == group) {
            f.from = FROM_RESULT;
            f.index = (uint32_t)k;
        }
    return f;
}

/* Constants keep their pointer; the others are found in each step. */
static void make_fixups(loop *l) {
    wr_plan *p = l->plan;
    for (size_t i = 0; i < p->n_tensors; i++) {
        uint32_t id = p->tensor_node[i];
        if (p->value[id].place == WR_PLACE_CONST)
            p->tensor[i].data = wr__plan_constant(p, id);
        else if (p->value[id].place != WR_PLACE_NONE)
            l->fix[l->n_tensors++] = fixup_of(l, (uint32_t)i, id);
    }
    for (int k = 0; k < n_roots(l); k++)
        l->fix[l->n_tensors + (size_t)k] = fixup_of(l, 0, wr_program_root(l->b->program, k));
}

static void lay_out(loop *l, const wr_call *c) {
    const wr__scan_body *b = l->b;
    size_t at = 0;
    for (int k = 0; k < b->n_carry; k++) {
        l->carry_bytes[k] = bytes_of(&c->in[k]);
        l->carry_at[k] = at;
        at += round_up(l->carry_bytes[k]) * (l->in_place[k] ? 1 : 2);
    }
    for (int k = 0; k < b->n_step; k++) {
        const wr_tensor *x = &c->in[b->n_carry + k];
        int64_t steps = x->dim[b->step_axis[k]];
        bool gathered = wr_extent(x, 0, b->step_axis[k]) != 1 && b->feed[b->n_carry + k] >= 0;
        l->gather_at[k] = at;
        if (gathered && steps > 0) at += round_up(bytes_of(x) / (size_t)steps);
    }
    l->arena_at = at;
    l->workspace = at + round_up(l->plan->arena_bytes);
}

static void loop_release(void *prepared) {
    loop *l = prepared;
    if (l == NULL) return;
    wr_plan_free(l->plan);
    free(l->slot);
    free(l->in_place);
    free(l->placed);
    free(l->fix);
    free(l->carry_at);
    free(l->gather_at);
    free(l->carry_bytes);
    free(l->operand);
    free(l->result);
    free(l);
}

static bool reserve(loop *l) {
    const wr__scan_body *b = l->b;
    size_t roots = (size_t)n_roots(l) + 1, carry = (size_t)b->n_carry + 1;
    l->in_place = calloc(carry, sizeof *l->in_place);
    l->carry_at = calloc(carry, sizeof *l->carry_at);
    l->carry_bytes = calloc(carry, sizeof *l->carry_bytes);
    l->gather_at = calloc((size_t)b->n_step + 1, sizeof *l->gather_at);
    l->placed = calloc(roots, sizeof *l->placed);
    l->result = calloc(roots, sizeof *l->result);
    l->operand = calloc((size_t)wr__scan_operands(b) + 1, sizeof *l->operand);
    l->fix = calloc(l->plan->n_tensors + roots, sizeof *l->fix);
    return l->in_place != NULL && l->carry_at != NULL && l->carry_bytes != NULL &&
           l->gather_at != NULL && l->placed != NULL && l->result != NULL && l->operand != NULL &&
           l->fix != NULL;
}

static wr_status loop_make(const wr_call *c, void **prepared) {
    loop *l = calloc(1, sizeof *l);
    if (l == NULL) return wr_fail_memory(c->env->err, "a loop", sizeof *l);
    l->b = wr_graph_kept(c->g, c->attr[WR__SCAN_BODY].i);
    l->device = c->env->device;
    wr_status status = make_plan(l, c);
    if (status == WR_OK && !reserve(l)) status = wr_fail_memory(c->env->err, "a loop", 0);
    if (status != WR_OK) {
        loop_release(l);
        return status;
    }
    place_roots(l);
    make_fixups(l);
    lay_out(l, c);
    *prepared = l;
    return WR_OK;
}

static size_t loop_workspace(const wr_call *c, const void *prepared) {
    (void)c;
    return ((const loop *)prepared)->workspace;
}

const wr_prepare wr__scan_prepare = {loop_make, loop_release, loop_workspace};

/* The body is planned for its cost, once more than for running. */
wr_cost wr__scan_cost(const wr_call *c) {
    wr_cost cost = {.bytes = wr_bytes_moved(c)};
    if (c->g == NULL || c->binding == NULL) return cost;
    wr_error err = {0};
    wr_run_env env = {.threads = c->env->threads, .device = c->env->device, .err = &err};
    wr_call call = *c;
    void *made = NULL;
    call.env = &env;
    if (loop_make(&call, &made) == WR_OK) {
        const loop *l = made;
        double steps = (double)c->attr[WR__SCAN_STEPS].i;
        cost.flops = steps * l->plan->flops;
        for (int i = 0; i < l->plan->n_steps; i++)
            cost.bytes += steps * l->plan->step[i].bytes;
    }
    loop_release(made);
    return cost;
}

/* ---- running ---- */

/* One position of an axis: `outer` blocks of `block` bytes, `stride` apart. */
typedef struct strip {
    char *first;
    int64_t outer;
    size_t block, stride;
} strip;

static strip strip_of(const wr_tensor *x, int axis, int64_t t) {
    strip s = {.outer = wr_extent(x, 0, axis)};
    s.block = (size_t)wr_extent(x, axis + 1, x->rank) * wr_dtype_bytes(x->dtype);
    s.stride = s.block * (size_t)x->dim[axis];
    s.first = (char *)x->data + (size_t)t * s.block;
    return s;
}

static wr_status gather(const loop *l, const wr_call *c, const strip *s, char *to) {
    return l->device->copy(l->device, c->env,
                           &(wr_blocks){to, s->first, s->outer, s->block, s->block, s->stride});
}

static wr_status scatter(const loop *l, const wr_call *c, const strip *s, const char *from) {
    return l->device->copy(l->device, c->env,
                           &(wr_blocks){s->first, from, s->outer, s->block, s->stride, s->block});
}

static wr_status move(const loop *l, const wr_call *c, void *to, const void *from, size_t bytes) {
    if (bytes == 0) return WR_OK;
    return l->device->copy(l->device, c->env, &(wr_blocks){to, from, 1, bytes, bytes, bytes});
}

static char *carry_buffer(const loop *l, const wr_call *c, int k, int64_t i) {
    size_t apart = l->in_place[k] ? 0 : round_up(l->carry_bytes[k]) * (size_t)(i & 1);
    return (char *)c->workspace + l->carry_at[k] + apart;
}

/* Pointers of iteration i at position t: operands, and the places of results (NULL: the arena). */
static wr_status point(loop *l, const wr_call *c, int64_t i, int64_t t) {
    const wr__scan_body *b = l->b;
    wr_status status = WR_OK;
    for (int k = 0; k < b->n_carry; k++) {
        l->operand[k] = carry_buffer(l, c, k, i);
        l->result[b->n_out + k] = carry_buffer(l, c, k, i + 1);
    }
    for (int k = 0; status == WR_OK && k < b->n_step; k++) {
        if (b->feed[b->n_carry + k] < 0) continue;
        strip s = strip_of(&c->in[b->n_carry + k], b->step_axis[k], t);
        char *to = s.outer == 1 ? s.first : (char *)c->workspace + l->gather_at[k];
        if (s.outer != 1) status = gather(l, c, &s, to);
        l->operand[b->n_carry + k] = to;
    }
    for (int k = 0; k < b->n_out; k++) {
        strip s = strip_of(&c->out[k], b->out_axis[k], t);
        l->result[k] = c->out[k].data != NULL && s.outer == 1 ? s.first : NULL;
    }
    return status;
}

static void *locate(const loop *l, const wr_call *c, const fixup *f) {
    if (f->from == FROM_OPERAND) return l->operand[f->index];
    if (f->from == FROM_RESULT && l->result[f->index] != NULL) return l->result[f->index];
    return (char *)c->workspace + l->arena_at + f->offset;
}

/* Where root k of the body is now. */
static void *root_data(const loop *l, const wr_call *c, int k) {
    const wr_plan *p = l->plan;
    uint32_t id = wr_program_root(l->b->program, k);
    if (p->value[id].place == WR_PLACE_CONST) return wr__plan_constant(p, id);
    return locate(l, c, &l->fix[l->n_tensors + (size_t)k]);
}

static wr_status save_states(const loop *l, const wr_call *c, int64_t t) {
    wr_status status = WR_OK;
    for (int k = 0; status == WR_OK && k < l->b->n_carry; k++) {
        const wr_tensor *saved = &c->out[n_roots(l) + k];
        if (saved->data == NULL) continue;
        status = move(l, c, (char *)saved->data + (size_t)t * l->carry_bytes[k], l->operand[k],
                      l->carry_bytes[k]);
    }
    return status;
}

/* Results that the body did not write where they go. */
static wr_status deliver(const loop *l, const wr_call *c, int64_t t) {
    const wr__scan_body *b = l->b;
    wr_status status = WR_OK;
    for (int k = 0; status == WR_OK && k < b->n_out; k++) {
        if (c->out[k].data == NULL || (l->placed[k] && l->result[k] != NULL)) continue;
        strip s = strip_of(&c->out[k], b->out_axis[k], t);
        status = scatter(l, c, &s, root_data(l, c, k));
    }
    for (int k = 0; status == WR_OK && k < b->n_sum; k++) {
        const wr_tensor *sum = &c->out[b->n_out + b->n_carry + k];
        if (sum->data != NULL)
            status = l->device->add(l->device, c->env, sum->dtype, sum->n, sum->data,
                                    root_data(l, c, b->n_out + b->n_carry + k));
    }
    for (int k = 0; status == WR_OK && k < b->n_carry; k++)
        if (!l->placed[b->n_out + k])
            status = move(l, c, l->result[b->n_out + k], root_data(l, c, b->n_out + k),
                          l->carry_bytes[k]);
    return status;
}

static wr_status run_step(loop *l, const wr_call *c, int64_t i, int64_t t) {
    wr_run_env env = *c->env;
    wr_status status = point(l, c, i, t);
    if (status == WR_OK) status = save_states(l, c, t);
    if (status != WR_OK) return status;
    for (size_t f = 0; f < l->n_tensors; f++)
        l->plan->tensor[l->fix[f].tensor].data = locate(l, c, &l->fix[f]);
    for (int k = 0; k < l->plan->n_steps; k++)
        l->plan->step[k].call.workspace =
            (char *)c->workspace + l->arena_at + l->plan->step[k].workspace_offset;
    status = l->device->run_steps(l->device, l->plan, &env);
    return status == WR_OK ? deliver(l, c, t) : status;
}

static wr_status begin(loop *l, const wr_call *c) {
    const wr__scan_body *b = l->b;
    wr_status status = WR_OK;
    for (int k = 0; status == WR_OK && k < b->n_carry; k++)
        status = move(l, c, carry_buffer(l, c, k, 0), c->in[k].data, l->carry_bytes[k]);
    for (int k = 0; k < b->n_const; k++)
        l->operand[b->n_carry + b->n_step + k] = c->in[b->n_carry + b->n_step + k].data;
    for (int k = 0; status == WR_OK && k < b->n_sum; k++) {
        const wr_tensor *sum = &c->out[b->n_out + b->n_carry + k];
        if (sum->data != NULL)
            status = l->device->zero(l->device, c->env, sum->data, bytes_of(sum));
    }
    return status;
}

/* Any device's: it moves data through the device's functions alone. */
wr_status wr__scan_cpu(const wr_call *c) {
    loop *l = c->prepared;
    int64_t steps = c->attr[WR__SCAN_STEPS].i;
    wr_status status = begin(l, c);
    for (int64_t i = 0; status == WR_OK && i < steps; i++)
        status = run_step(l, c, i, c->attr[WR__SCAN_REVERSE].i ? steps - 1 - i : i);
    for (int k = 0; status == WR_OK && k < l->b->n_carry; k++) {
        const wr_tensor *last = &c->out[l->b->n_out + k];
        if (last->data != NULL)
            status = move(l, c, last->data, carry_buffer(l, c, k, steps), l->carry_bytes[k]);
    }
    return status;
}
