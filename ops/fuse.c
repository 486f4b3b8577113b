/* fuse.c: rewriting rules as data: pattern and guard in a rule, the fused row as its result. */
#include "ops/fuse.h"

#include "ops/attention_fuse.h"
#include "ops/elementwise.h"
#include "ops/fold.h"
#include "ops/layout.h"
#include "ops/matmul.h"

#include <stdlib.h>
#include <string.h>

/* ---- looking at the old graph ---- */

static const wr_node *node(const wr_rewrite *r, uint32_t id) { return wr_node_at(r->old, id); }
static uint32_t input(const wr_rewrite *r, uint32_t id, int k) {
    return wr_node_inputs(r->old, id)[k];
}
static const wr_attr *attrs(const wr_rewrite *r, uint32_t id) { return wr_node_attrs(r->old, id); }
static bool is(const wr_rewrite *r, uint32_t id, const wr_op *op) { return node(r, id)->op == op; }
static bool once(const wr_rewrite *r, uint32_t id) { return r->users[id] == 1; }
static wr_loc place(const wr_rewrite *r, uint32_t id) {
    return *wr_loc_at(r->old, node(r, id)->loc);
}
static wr none(const wr_rewrite *r) { return (wr){r->now, 0}; }

static bool same_dims(const wr_graph *g, uint32_t a, uint32_t b) {
    const wr_node *x = wr_node_at(g, a), *y = wr_node_at(g, b);
    return x->rank == y->rank && memcmp(x->dim, y->dim, sizeof(wr_dim) * x->rank) == 0;
}

/* The value of a scalar float constant. */
static bool constant_value(const wr_rewrite *r, uint32_t id, double *value) {
    const wr_node *x = node(r, id);
    if (x->op != &wr_op_const || x->rank != 0 || x->dtype == WR_I32) return false;
    const void *data = wr_blob_at(r->old, attrs(r, id)[WR_CONST_BLOB].blob, NULL);
    float f;
    memcpy(&f, data, sizeof f);
    *value = (double)f;
    if (x->dtype == WR_F64) memcpy(value, data, sizeof *value);
    return true;
}

/* ---- simplify ---- */

static wr drop_marks(const wr_rewrite *r, uint32_t id) {
    bool mark = is(r, id, &wr_op_leaf) || is(r, id, &wr_op_stop_gradient);
    return mark ? wr_rewrite_map(r, input(r, id, 0)) : none(r);
}

static wr join_reshapes(const wr_rewrite *r, uint32_t id) {
    if (!is(r, id, &wr_op_reshape)) return none(r);
    uint32_t x = input(r, id, 0);
    while (is(r, x, &wr_op_reshape) || is(r, x, &wr_op_leaf) || is(r, x, &wr_op_stop_gradient))
        x = input(r, x, 0);
    wr_type t = wr_type_of((wr){r->now, r->map[x]});
    const wr_node *n = node(r, id);
    if (t.rank == n->rank && memcmp(t.dim, n->dim, sizeof(wr_dim) * n->rank) == 0)
        return wr_rewrite_map(r, x);
    return wr_reshape_at(place(r, id), wr_rewrite_map(r, x), n->rank, n->dim);
}

/* k1 (k2 x) = (k1 k2) x; 1 x = x; x + 0 = x. */
static wr join_scales(const wr_rewrite *r, uint32_t id) {
    uint32_t x = node(r, id)->n_in > 0 ? input(r, id, 0) : 0;
    if (is(r, id, &wr_op_shift) && attrs(r, id)[0].r == 0) return wr_rewrite_map(r, x);
    if (!is(r, id, &wr_op_scale)) return none(r);
    double k = attrs(r, id)[0].r;
    if (k == 1) return wr_rewrite_map(r, x);
    if (!is(r, x, &wr_op_scale)) return none(r);
    return wr_real_at(place(r, id), &wr_op_scale, wr_rewrite_map(r, input(r, x, 0)),
                      k * attrs(r, x)[0].r);
}

/* A scalar constant times or plus a tensor becomes an attribute. */
static wr constant_operand(const wr_rewrite *r, uint32_t id) {
    bool product = is(r, id, &wr_op_mul), sum = is(r, id, &wr_op_add);
    if (!product && !sum) return none(r);
    for (int k = 0; k < 2; k++) {
        double value;
        uint32_t other = input(r, id, 1 - k);
        if (!constant_value(r, input(r, id, k), &value) || node(r, other)->rank == 0) continue;
        if (value == (product ? 1 : 0)) return wr_rewrite_map(r, other);
        return wr_real_at(place(r, id), product ? &wr_op_scale : &wr_op_shift,
                          wr_rewrite_map(r, other), value);
    }
    return none(r);
}

static wr double_negation(const wr_rewrite *r, uint32_t id) {
    if (!is(r, id, &wr_op_neg) || !is(r, input(r, id, 0), &wr_op_neg)) return none(r);
    return wr_rewrite_map(r, input(r, input(r, id, 0), 0));
}

/* a + (-b) = a - b. */
static wr add_negation(const wr_rewrite *r, uint32_t id) {
    if (!is(r, id, &wr_op_add) || !is(r, input(r, id, 1), &wr_op_neg)) return none(r);
    return wr_binary_at(place(r, id), &wr_op_sub, wr_rewrite_map(r, input(r, id, 0)),
                        wr_rewrite_map(r, input(r, input(r, id, 1), 0)));
}

static const wr_rule SIMPLIFY[] = {wr_fold_constant, drop_marks,      join_reshapes, join_scales,
                                   constant_operand, double_negation, add_negation,  NULL};
const wr_pass wr_pass_simplify = {.name = "simplify", .rules = SIMPLIFY};

/* ---- products with what follows them ---- */

typedef struct biased {
    uint32_t product, bias;
} biased;

/* x W + bias, the product being used here alone. */
static bool match_bias(const wr_rewrite *r, uint32_t id, biased *m) {
    if (!is(r, id, &wr_op_add)) return false;
    for (int k = 0; k < 2; k++) {
        uint32_t x = input(r, id, k), b = input(r, id, 1 - k);
        if (!is(r, x, &wr_op_matmul) || !once(r, x) || attrs(r, x)[0].i || node(r, b)->rank != 1 ||
            node(r, input(r, x, 1))->rank != 2 || !same_dims(r->old, x, id))
            continue;
        *m = (biased){x, b};
        return true;
    }
    return false;
}

static wr emit_linear(const wr_rewrite *r, uint32_t id, const biased *m, wr_act act) {
    return wr_linear_at(place(r, id), wr_rewrite_map(r, input(r, m->product, 0)),
                        wr_rewrite_map(r, input(r, m->product, 1)), wr_rewrite_map(r, m->bias),
                        attrs(r, m->product)[1].i, act);
}

static wr fuse_bias(const wr_rewrite *r, uint32_t id) {
    biased m;
    return match_bias(r, id, &m) ? emit_linear(r, id, &m, WR_ACT_NONE) : none(r);
}

static wr fuse_activation(const wr_rewrite *r, uint32_t id) {
    bool relu = is(r, id, &wr_op_relu), gelu = is(r, id, &wr_op_gelu);
    biased m;
    if ((!relu && !gelu) || !once(r, input(r, id, 0)) || !match_bias(r, input(r, id, 0), &m))
        return none(r);
    return emit_linear(r, id, &m, relu ? WR_ACT_RELU : WR_ACT_GELU);
}

static const wr_rule PRODUCTS[] = {fuse_activation, fuse_bias, NULL};
const wr_pass wr_pass_products = {.name = "products", .joins = true, .rules = PRODUCTS};

/* c + a b in c's buffer; not for products that need no second operand in memory before them. */
static wr fuse_sum(const wr_rewrite *r, uint32_t id) {
    if (!is(r, id, &wr_op_add)) return none(r);
    for (int k = 1; k >= 0; k--) {
        uint32_t x = input(r, id, k), c = input(r, id, 1 - k);
        if (!is(r, x, &wr_op_matmul) || !once(r, x) || !once(r, c) || !same_dims(r->old, x, id) ||
            !same_dims(r->old, c, id) || (node(r, c)->op->traits & WR_SOURCE))
            continue;
        return wr_matmul_add_at(place(r, id), wr_rewrite_map(r, input(r, x, 0)),
                                wr_rewrite_map(r, input(r, x, 1)), wr_rewrite_map(r, c),
                                attrs(r, x)[0].i, attrs(r, x)[1].i);
    }
    return none(r);
}

static const wr_rule SUMS[] = {fuse_sum, NULL};
const wr_pass wr_pass_sums = {.name = "sums of products", .joins = true, .rules = SUMS};

/* ---- chains of elementwise rows ---- */

typedef struct group {
    uint32_t leaf[WR_CHAIN_LEAVES];
    int n_leaves, n_code;
} group;

typedef struct chains {
    uint32_t *root;  /* per node: the last node of its group, itself for a root, 0: no member */
    group **group;   /* per root */
    uint32_t *epoch; /* per node: stateful rows before it; a chain never crosses one */
    uint32_t n;
} chains;

static bool chainable(const wr_node *x) {
    const wr_op *op = x->op;
    return (op->traits & WR_ELEMENTWISE) && op != &wr_op_chain && op->extra != NULL &&
           x->dtype != WR_I32 && x->n_in <= 3 && wr_op_attr_count(op) <= 1 &&
           (op->attrs[0].name == NULL || op->attrs[0].kind == WR_ATTR_REAL);
}

/* What a chain reads for operand `id`: what a broadcast repeats, since the chain repeats itself. */
static uint32_t leaf_of(const wr_rewrite *r, uint32_t id) {
    return is(r, id, &wr_op_broadcast) && node(r, id)->dtype != WR_I32 ? input(r, id, 0) : id;
}

static bool has_leaf(const group *g, uint32_t id) {
    for (int i = 0; i < g->n_leaves; i++)
        if (g->leaf[i] == id) return true;
    return false;
}

/* Put node `id` into the group: it stops being a leaf, its operands become leaves. */
static bool join(const wr_rewrite *r, group *g, uint32_t id) {
    group with = *g;
    for (int i = 0; i < with.n_leaves; i++)
        if (with.leaf[i] == id) with.leaf[i--] = with.leaf[--with.n_leaves];
    for (int k = 0; k < node(r, id)->n_in; k++) {
        uint32_t x = input(r, id, k);
        if (has_leaf(&with, x)) continue;
        if (with.n_leaves == WR_CHAIN_LEAVES) return false;
        with.leaf[with.n_leaves++] = x;
    }
    if (++with.n_code > WR_CHAIN_LENGTH) return false;
    *g = with;
    return true;
}

/* The group that all users of `id` belong to, 0: none or several. `users_root` is gathered while
 * walking backwards: 0 nobody yet, UINT32_MAX several. */
static void note_user(uint32_t *users_root, uint32_t id, uint32_t root) {
    if (users_root[id] == 0)
        users_root[id] = root == 0 ? UINT32_MAX : root;
    else if (users_root[id] != root)
        users_root[id] = UINT32_MAX;
}

static bool assign(const wr_rewrite *r, chains *c, uint32_t *users_root, uint32_t id) {
    uint32_t root = users_root[id];
    bool inner = root != 0 && root != UINT32_MAX && same_dims(r->old, id, root) &&
                 node(r, id)->dtype == node(r, root)->dtype && c->epoch[id] == c->epoch[root] &&
                 join(r, c->group[root], id);
    if (inner) {
        c->root[id] = root;
        return true;
    }
    c->group[id] = calloc(1, sizeof(group));
    if (c->group[id] == NULL) return false;
    c->root[id] = id;
    join(r, c->group[id], id);
    return true;
}

static void chains_end(void *pass) {
    chains *c = pass;
    for (uint32_t id = 0; c->group != NULL && id < c->n; id++)
        free(c->group[id]);
    free(c->root);
    free(c->group);
    free(c->epoch);
    free(c);
}

static bool is_root_output(const wr_rewrite *r, uint32_t id, const uint32_t *counted) {
    return r->users[id] != counted[id]; /* somebody outside the graph fetches it */
}

static bool assign_all(const wr_rewrite *r, chains *c) {
    uint32_t *users_root = calloc(c->n, sizeof *users_root);
    uint32_t *counted = calloc(c->n, sizeof *counted);
    bool ok = users_root != NULL && counted != NULL;
    for (uint32_t id = c->n - 1; ok && id > 0; id--) {
        if (!r->live[id]) continue;
        if (is_root_output(r, id, counted)) users_root[id] = UINT32_MAX;
        if (chainable(node(r, id))) ok = assign(r, c, users_root, id);
        for (int k = 0; k < node(r, id)->n_in; k++) {
            note_user(users_root, input(r, id, k), c->root[id]);
            counted[input(r, id, k)]++;
        }
    }
    free(users_root);
    free(counted);
    return ok;
}

static void *chains_begin(const wr_rewrite *r, bool *failed) {
    chains *c = calloc(1, sizeof *c);
    *failed = true;
    if (c == NULL) return NULL;
    c->n = wr_node_count(r->old);
    c->root = calloc(c->n, sizeof *c->root);
    c->group = calloc(c->n, sizeof(void *));
    c->epoch = calloc(c->n, sizeof *c->epoch);
    if (c->root == NULL || c->group == NULL || c->epoch == NULL) {
        chains_end(c);
        return NULL;
    }
    for (uint32_t id = 1; id < c->n; id++) {
        bool writes = r->live[id] && (node(r, id)->op->traits & WR_STATEFUL);
        c->epoch[id] = c->epoch[id - 1] + (writes ? 1 : 0);
    }
    *failed = !assign_all(r, c);
    return c;
}

/* Leaves as the chain reads them: broadcasts looked through unless no full-sized leaf would be
 * left. Returns the index of a full-sized leaf, -1: none. */
static int resolve_leaves(const wr_rewrite *r, uint32_t root, const group *g, uint32_t *leaf) {
    int like = -1;
    for (int i = 0; i < g->n_leaves; i++) {
        leaf[i] = leaf_of(r, g->leaf[i]);
        if (like < 0 && same_dims(r->old, leaf[i], root)) like = i;
    }
    for (int i = 0; like < 0 && i < g->n_leaves; i++)
        if (same_dims(r->old, g->leaf[i], root)) {
            leaf[i] = g->leaf[i];
            like = i;
        }
    return like;
}

static int write_code(const wr_rewrite *r, const chains *c, uint32_t root, const group *g,
                      wr_chain_code *code) {
    uint32_t member[WR_CHAIN_LENGTH];
    int n = 0;
    for (uint32_t id = root; id > 0 && n < g->n_code; id--)
        if (c->root[id] == root) member[n++] = id;
    for (int i = 0; i < n / 2; i++) {
        uint32_t swap = member[i];
        member[i] = member[n - 1 - i];
        member[n - 1 - i] = swap;
    }
    memset(code, 0, sizeof *code * WR_CHAIN_LENGTH);
    for (int s = 0; s < n; s++) {
        const wr_node *x = node(r, member[s]);
        code[s].op = x->op;
        code[s].n_in = x->n_in;
        if (x->op->attrs[0].name != NULL) code[s].attr[0] = attrs(r, member[s])[0];
        for (int k = 0; k < x->n_in; k++) {
            uint32_t operand = input(r, member[s], k);
            code[s].in[k] = -1;
            for (int i = 0; i < g->n_leaves; i++)
                if (g->leaf[i] == operand) code[s].in[k] = i;
            for (int i = 0; i < s; i++)
                if (member[i] == operand) code[s].in[k] = g->n_leaves + i;
        }
    }
    return n;
}

static wr emit_chain(const wr_rewrite *r, uint32_t id) {
    const chains *c = r->pass;
    if (c->root[id] != id) return none(r);
    const group *g = c->group[id];
    uint32_t leaf[WR_CHAIN_LEAVES];
    int like = resolve_leaves(r, id, g, leaf);
    bool repeats = memcmp(leaf, g->leaf, sizeof *leaf * (size_t)g->n_leaves) != 0;
    if (like < 0 || (g->n_code < 2 && !repeats)) return none(r);
    wr_chain_code code[WR_CHAIN_LENGTH];
    int n = write_code(r, c, id, g, code);
    wr leaves[WR_CHAIN_LEAVES];
    for (int i = 0; i < g->n_leaves; i++)
        leaves[i] = wr_rewrite_map(r, leaf[i]);
    return wr_chain_at(place(r, id), g->n_leaves, leaves, like, n, code);
}

static const wr_rule CHAINS[] = {emit_chain, NULL};
const wr_pass wr_pass_chains = {
    .name = "chains", .joins = true, .begin = chains_begin, .end = chains_end, .rules = CHAINS};

const wr_pass *const *wr_standard_passes(void) {
    static const wr_pass *const passes[] = {&wr_pass_simplify, &wr_pass_attention,
                                            &wr_pass_products, &wr_pass_sums,
                                            &wr_pass_chains,   NULL};
    return passes;
}
