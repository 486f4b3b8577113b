/* flow.c: stacks of flow layers in a graph; see flow.h. */
#include "models/flow.h"

#include "autodiff/invert.h"
#include "graph/op.h"
#include "ops/elementwise.h"
#include "ops/index.h"
#include "ops/layout.h"
#include "ops/mask.h"

/* A step that changes what the layers work on, to be taken back when eps is put together. */
typedef struct move {
    wr_flow_split split; /* 0: a squeeze */
    wr aside;
} move;

typedef struct builder {
    const wr_flow_stack *stack;
    wr_flow_context c; /* its steps are those of the present scale */
    wr x;
    bool density; /* the log-determinant is wanted */
    wr log_det;   /* [N] of the layers so far; poison: of none */
    int n_moves;
    move move[WR_FLOW_PARTS];
} builder;

/* ---- layers in order ---- */

static bool remember(builder *b, move m) {
    if (b->n_moves == WR_FLOW_PARTS) {
        wr_mistake(b->x.g, WR_HERE, "a stack has at most %d items squeeze and factor_out",
                   WR_FLOW_PARTS);
        return false;
    }
    b->move[b->n_moves++] = m;
    return true;
}

static void add_factor_out(builder *b, wr_flow_split split) {
    wr kept = b->x, aside = b->x;
    bool ok = wr_flow_factor_out(b->x, split, &kept, &aside) && remember(b, (move){split, aside});
    b->x = ok ? kept : (wr){b->x.g, 0};
}

static void add_squeeze(builder *b) {
    if (!remember(b, (move){.aside = {b->x.g, 0}})) b->x.id = 0;
    if (wr_is_poison(b->x)) return;
    b->c.steps = wr_flow_halve(&b->c.steps, b->c.max_len);
    b->x = wr_flow_squeeze(b->x);
}

/* The term of a layer stands right behind it, so that what it reads need not wait for the last
 * layer. */
static void add_log_det(builder *b, wr before) {
    if (!b->density || wr_is_poison(b->x)) return;
    wr_bijection f = {
        .n_in = 1, .ins = &before, .masks = &b->c.steps.mask, .n_out = 1, .outs = &b->x};
    wr term = wr_log_det(&f);
    b->log_det = wr_is_poison(b->log_det) ? term : wr_add(b->log_det, term);
}

static void add_list(builder *b, wr_flow_name name);

static void add_item(builder *b, const wr_flow_item *o) {
    wr before = b->x;
    switch (o->kind) {
    case WR_FLOW_ACTNORM:
        b->x = wr_flow_actnorm(b->x, &b->c);
        add_log_det(b, before);
        break;
    case WR_FLOW_LINEAR:
        b->x = wr_flow_linear(b->x, o->form);
        add_log_det(b, before);
        break;
    case WR_FLOW_COUPLING:
        b->x = wr_flow_coupling(b->x, o, &b->c);
        add_log_det(b, before);
        break;
    case WR_FLOW_FACTOR_OUT:
        add_factor_out(b, o->split);
        break;
    case WR_FLOW_SQUEEZE:
        add_squeeze(b);
        break;
    default:
        add_list(b, o->block);
        break;
    }
}

/* Items of one kind are numbered within their list. */
static void add_list(builder *b, wr_flow_name name) {
    const wr_flow_list *list = &b->stack->list[name];
    int seen[WR_FLOW_BLOCK + WR_FLOW_LISTS] = {0};
    for (int i = 0; i < list->n; i++) {
        const wr_flow_item *o = &list->item[i];
        int *number =
            &seen[o->kind == WR_FLOW_BLOCK ? WR_FLOW_BLOCK + (int)o->block : (int)o->kind];
        for (int t = 0; t < o->times && !wr_is_poison(b->x); t++)
            WR_SCOPE (b->x.g, "%s%d", wr_flow_item_name(o), (*number)++) {
                add_item(b, o);
            }
    }
}

/* ---- eps ---- */

/* From the coarsest scale back. */
static wr put_together(const builder *b) {
    wr x = b->x;
    for (int i = b->n_moves - 1; i >= 0; i--)
        x = b->move[i].split == 0 ? wr_flow_unsqueeze(x)
                                  : wr_flow_factor_in(x, b->move[i].aside, b->move[i].split);
    return x;
}

/* The operand and the steps fit the stack. */
static bool check(const builder *b, wr z) {
    wr_graph *g = z.g;
    if (wr_is_poison(z) || wr_is_poison(b->c.steps.len) || wr_is_poison(b->c.source.x))
        return false;
    int unit = wr_flow_length_unit(b->stack);
    bool shaped = wr_rank(z) == 3 && wr_dim_is_literal(wr_dim_of(z, 2));
    wr_error err = {0};
    if (!shaped)
        wr_mistake(g, WR_HERE, "a flow works on z [N, T, D] with a literal D");
    else if (wr_dim_div(g, wr_dim_of(z, 1), wr_n(unit)).id == 0)
        wr_mistake(g, WR_HERE,
                   "the steps of a latent tensor are not known to be a multiple of %d, the length "
                   "unit of the recipe's prior\n  hint: declare the symbol with multiple_of = %d",
                   unit, unit);
    else if (wr_flow_check(b->stack, (int)wr_dim_literal(wr_dim_of(z, 2)), b->c.heads, b->c.hidden,
                           &err) != WR_OK)
        wr_mistake(g, WR_HERE, "%s", err.text);
    else
        return true;
    return false;
}

/* Declare the density direction; eps, or poison. */
static wr declare(builder *b, wr z) {
    wr_graph *g = z.g;
    if (!check(b, z)) return (wr){g, 0};
    wr eps = {g, 0};
    WR_SCOPE (g, "prior") {
        b->x = wr_mask_apply(z, b->c.steps.mask);
        add_list(b, WR_FLOW_LAYERS);
        eps = wr_is_poison(b->x) ? b->x : put_together(b);
    }
    return eps;
}

/* The mask of the finest scale. */
static wr mask_of(const wr_flow_context *c, wr z) {
    if (!wr_is_poison(c->steps.mask) || wr_is_poison(z) || wr_is_poison(c->steps.len))
        return c->steps.mask;
    return wr_sequence_mask(c->steps.len, wr_dim_of(z, 1), wr_dtype_of(z));
}

bool wr_flow_density(const wr_flow_stack *stack, wr z, const wr_flow_context *c,
                     wr_flow_result *r) {
    /* statistics of a start mix the sentences: there is no log-determinant of one */
    bool starts = wr_starts_from_data(c->start);
    builder b = {.stack = stack, .c = *c, .density = !starts, .log_det = {z.g, 0}};
    b.c.steps.mask = mask_of(c, z);
    wr mask = b.c.steps.mask;
    *r = (wr_flow_result){.eps = declare(&b, z), .log_det = {z.g, 0}};
    if (wr_is_poison(r->eps)) return false;
    for (int i = 0; i < b.n_moves; i++)
        if (b.move[i].split != 0) r->part[r->n_parts++] = b.move[i].aside;
    r->part[r->n_parts++] = b.x;
    if (starts) return true;
    wr_bijection f = {.n_in = 1, .ins = &z, .masks = &mask, .n_out = 1, .outs = &r->eps};
    r->log_det = wr_is_poison(b.log_det) ? wr_log_det(&f) : b.log_det; /* no layer has a term */
    wr rebuilt;
    if (c->rebuild && !wr_rebuild(&f, &r->eps, &rebuilt)) return false;
    return !wr_is_poison(r->log_det);
}

wr wr_flow_sample(const wr_flow_stack *stack, wr eps, const wr_flow_context *c, wr *log_det) {
    builder b = {.stack = stack, .c = *c};
    wr unknown = wr_is_poison(eps) ? eps : wr_leaf(eps); /* stands for z: its value is not used */
    b.c.steps.mask = mask_of(c, eps);
    wr mask = b.c.steps.mask, declared = declare(&b, unknown), z = {eps.g, 0};
    if (log_det != NULL) *log_det = z;
    if (wr_is_poison(declared)) return declared;
    wr_bijection f = {.n_in = 1, .ins = &unknown, .masks = &mask, .n_out = 1, .outs = &declared};
    wr_invert(&f, &eps, &z, log_det);
    return z;
}
