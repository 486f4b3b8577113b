/* emit.c: making nodes: arity and type checks, shape rule, hash-consing; and the graph's own rows.
 */
#include "graph/graph_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool check_arity(wr_shape_ctx *c) {
    const wr_op *op = c->op;
    int most = op->n_in_max == 0 ? op->n_in : op->n_in_max;
    if (c->n_in >= op->n_in && c->n_in <= most) return true;
    return wr_shape_fail(c, op->doc, NULL, "takes %d to %d operands, got %d", op->n_in, most,
                         c->n_in);
}

static bool check_dtypes(wr_shape_ctx *c) {
    if (c->op->traits & WR_MIXED) return true;
    for (int i = 1; i < c->n_in; i++)
        if (wr_dtype_of(c->in[i]) != wr_dtype_of(c->in[0]))
            return wr_shape_fail(c, "all operands have one dtype", "convert one with wr_cast",
                                 "operand types differ (%s and %s)",
                                 wr_dtype_name(wr_dtype_of(c->in[0])),
                                 wr_dtype_name(wr_dtype_of(c->in[i])));
    return true;
}

static bool check_dims_made(wr_shape_ctx *c) {
    for (int k = 0; k < c->n_out; k++)
        for (int i = 0; i < c->out[k].rank; i++)
            if (c->out[k].dim[i].id == 0)
                return wr_shape_fail(c, NULL, "declare the symbol with a suitable multiple_of",
                                     "the size of axis %d of the result cannot be written as a "
                                     "whole number of its symbols",
                                     i);
    return true;
}

static wr finish(wr_graph *g, const wr_shape_ctx *c, bool unique) {
    uint32_t small[16], *in = small;
    if (c->n_in > 16 && (in = malloc(sizeof *in * (size_t)c->n_in)) == NULL) {
        wr__out_of_memory(g);
        return (wr){g, 0};
    }
    for (int i = 0; i < c->n_in; i++)
        in[i] = c->in[i].id;
    wr__made m = {.op = c->op,
                  .loc = c->loc,
                  .scope = g->scope,
                  .n_in = c->n_in,
                  .in = in,
                  .attr = c->attr,
                  .type = c->out,
                  .n_out = c->n_out,
                  .unique = unique,
                  .origin = g->derivation.origin,
                  .role = g->derivation.role};
    if (m.origin != 0 && m.role != WR_FORWARD) { /* a derived node stands where its origin stands */
        m.scope = g->node[m.origin].scope;
        m.loc_id = g->node[m.origin].loc;
    }
    uint32_t id = wr__node_add(g, &m);
    if (in != small) free(in);
    if (id == 0) wr__out_of_memory(g);
    return (wr){g, id};
}

wr wr_emit_in(wr_graph *g, wr_loc loc, const wr_op *op, int n_in, const wr *in, const wr_attr *attr,
              bool unique) {
    wr poison = {g, 0};
    wr_shape_ctx c = {.g = g,
                      .op = op,
                      .loc = loc,
                      .n_in = n_in,
                      .in = in,
                      .attr = attr,
                      .n_out = wr_op_outputs(op)};
    for (int i = 0; i < n_in; i++) {
        if (in[i].id == 0) return poison;
        if (in[i].g != g) {
            c.n_in = i;
            wr_shape_fail(&c, "all operands belong to one graph", NULL,
                          "operand %d belongs to another graph", i);
            return poison;
        }
    }
    if (!check_arity(&c) || !check_dtypes(&c) || !op->shape(&c) || !check_dims_made(&c))
        return poison;
    return finish(g, &c, unique || (op->traits & WR_STATEFUL) != 0);
}

wr wr_emit(wr_loc loc, const wr_op *op, int n_in, const wr *in, const wr_attr *attr) {
    for (int i = 0; i < n_in; i++)
        if (in[i].g == NULL) return (wr){0};
    return wr_emit_in(in[0].g, loc, op, n_in, in, attr, false);
}

wr wr_output(wr x, int k) {
    if (x.id == 0 || k == 0) return x;
    WR_ASSERT(k < x.g->node[x.id].n_out);
    return (wr){x.g, x.id + (uint32_t)k};
}

wr_dim wr_sym_at(wr_loc loc, wr_graph *g, const char *name, int64_t min, int64_t max,
                 int64_t multiple_of) {
    wr_dim d = wr_dims_symbol(g->shared->dims, name, min, max, multiple_of);
    if (d.id == 0)
        wr_mistake(g, loc,
                   "symbol \"%s\" with range %lld to %lld, multiple of %lld: a symbol is declared "
                   "once, 0 <= min <= max, multiple_of >= 1, at most %d symbols, short names",
                   name, (long long)min, (long long)max, (long long)multiple_of, WR_MAX_SYMBOLS);
    return d;
}

/* ---- sources ---- */

static wr add_source(wr_loc loc, wr_graph *g, const wr_op *op, const wr_attr *attr, wr_dtype t,
                     int rank, const wr_dim *dims) {
    wr_type type = {.dtype = t, .rank = rank};
    if (rank < 0 || rank > WR_MAX_RANK)
        return wr_mistake(g, loc, "%s: rank %d; a tensor has at most %d axes", op->name, rank,
                          WR_MAX_RANK);
    for (int i = 0; i < rank; i++) {
        type.dim[i] = dims[i];
        if (dims[i].id == 0)
            return wr_mistake(g, loc,
                              "%s: the size of axis %d is not a whole number of declared "
                              "symbols; check multiple_of in wr_sym",
                              op->name, i);
    }
    wr__made m = {.op = op, .loc = loc, .scope = g->scope, .attr = attr, .type = &type};
    uint32_t id = wr__node_add(g, &m);
    if (id == 0) wr__out_of_memory(g);
    return (wr){g, id};
}

static uint32_t full_name(wr_graph *g, const char *name) {
    wr_str s = {0};
    wr_scope_path(g, g->scope, &s);
    wr_str_add(&s, "%s%s", g->scope != 0 ? "." : "", name);
    uint32_t text = s.oom ? 0 : wr_text_intern(g, wr_str_text(&s));
    wr_str_free(&s);
    return text;
}

/* The source of that op and full name, 0: none yet. */
static uint32_t find_source(const wr_graph *g, const wr_op *op, uint32_t text) {
    for (uint32_t id = 1; id < g->n; id++)
        if (g->node[id].op == op && g->attr[g->node[id].attr].text == text) return id;
    return 0;
}

static bool same_type(const wr_graph *g, uint32_t id, wr_dtype t, int rank, const wr_dim *dims) {
    const wr_node *x = &g->node[id];
    return x->dtype == t && x->rank == rank &&
           memcmp(x->dim, dims, sizeof(wr_dim) * (size_t)rank) == 0;
}

static wr persistent(wr_loc loc, wr_graph *g, const wr_op *op, const char *name, wr_dtype t,
                     int rank, const wr_dim *dims, wr_init init) {
    uint32_t text = full_name(g, name);
    if (text == 0) {
        wr__out_of_memory(g);
        return (wr){g, 0};
    }
    uint32_t old = find_source(g, op, text);
    if (old != 0) {
        if (same_type(g, old, t, rank, dims)) return (wr){g, old};
        wr_type type = {.dtype = t, .rank = rank > WR_MAX_RANK ? WR_MAX_RANK : rank};
        wr_str s = {0};
        memcpy(type.dim, dims, sizeof *dims * (size_t)type.rank);
        wr_str_add(&s, "as %s ", wr_dtype_name(t));
        wr_type_print(g, &type, &s);
        wr_str_add(&s, "; it is ");
        wr_node_describe(g, old, &s);
        wr_mistake(g, loc, "%s \"%s\": asked for again %s", op->name, wr_text_at(g, text),
                   wr_str_text(&s));
        wr_str_free(&s);
        return (wr){g, 0};
    }
    wr_attr attr[4] = {{.i = 0}, {.i = init.kind}, {.r = init.a}, {.r = init.b}};
    attr[WR_SOURCE_NAME].text = text;
    return add_source(loc, g, op, attr, t, rank, dims);
}

wr wr_param_at(wr_loc loc, wr_graph *g, const char *name, wr_dtype t, int rank, const wr_dim *dims,
               wr_init init) {
    for (int i = 0; i < rank; i++)
        if (!wr_dim_is_literal(dims[i]))
            return wr_mistake(g, loc,
                              "parameter \"%s\": axis %d is symbolic; a parameter has "
                              "fixed sizes (wr_n(512))",
                              name, i);
    return persistent(loc, g, &wr_op_param, name, t, rank, dims, init);
}

wr wr_state_at(wr_loc loc, wr_graph *g, const char *name, wr_dtype t, int rank, const wr_dim *dims,
               wr_init init) {
    return persistent(loc, g, &wr_op_state, name, t, rank, dims, init);
}

wr wr_input_at(wr_loc loc, wr_graph *g, const char *name, wr_dtype t, int rank,
               const wr_dim *dims) {
    return persistent(loc, g, &wr_op_input, name, t, rank, dims, (wr_init){0});
}

wr wr_const_at(wr_loc loc, wr_graph *g, wr_dtype t, int rank, const int64_t *dims,
               const void *data) {
    wr_dim d[WR_MAX_RANK] = {{0}};
    size_t n = 1;
    for (int i = 0; i < rank && i < WR_MAX_RANK; i++) {
        d[i] = wr_n(dims[i]);
        n *= (size_t)dims[i];
    }
    wr_attr attr[1] = {{.i = 0}};
    attr[WR_CONST_BLOB].blob = wr_blob_intern(g, data, n * wr_dtype_bytes(t));
    if (attr[WR_CONST_BLOB].blob == 0 && n > 0) return (wr){g, 0};
    return add_source(loc, g, &wr_op_const, attr, t, rank, d);
}

wr wr_scalar_at(wr_loc loc, wr_graph *g, wr_dtype t, double value) {
    float f = (float)value;
    int32_t i = (int32_t)value;
    const void *data = t == WR_F32 ? (const void *)&f : t == WR_F64 ? (const void *)&value : &i;
    return wr_const_at(loc, g, t, 0, NULL, data);
}

/* Sources and outputs get their types where they are made, never by rule. */
static bool no_rule(wr_shape_ctx *c) {
    return wr_shape_fail(c, NULL, NULL, "is not built this way");
}

#define SOURCE_FIELDS                                                                              \
    .traits = WR_SOURCE, .shape = no_rule, .no_grad = "a source: gradients end here",              \
    .no_inverse = "a source has no operand", .no_sample = "a source"
const wr_op wr_op_input = {
    .name = "input",
    .doc = "a tensor fed at every run",
    SOURCE_FIELDS,
    .attrs = {
        {"name", WR_ATTR_TEXT}, {"init", WR_ATTR_INT}, {"a", WR_ATTR_REAL}, {"b", WR_ATTR_REAL}}};
const wr_op wr_op_param = {
    .name = "parameter",
    .doc = "a trainable tensor",
    SOURCE_FIELDS,
    .attrs = {
        {"name", WR_ATTR_TEXT}, {"init", WR_ATTR_INT}, {"a", WR_ATTR_REAL}, {"b", WR_ATTR_REAL}}};
const wr_op wr_op_state = {
    .name = "state",
    .doc = "a persistent tensor that is not trained",
    SOURCE_FIELDS,
    .attrs = {
        {"name", WR_ATTR_TEXT}, {"init", WR_ATTR_INT}, {"a", WR_ATTR_REAL}, {"b", WR_ATTR_REAL}}};
const wr_op wr_op_const = {
    .name = "constant", .doc = "fixed contents", SOURCE_FIELDS, .attrs = {{"data", WR_ATTR_BLOB}}};
const wr_op wr_op_output = {.name = "output",
                            .doc = "another output of its operand",
                            .n_in = 1,
                            .attrs = {{"index", WR_ATTR_INT}},
                            .shape = no_rule,
                            .no_grad = "belongs to the row of its operand",
                            .no_inverse = "belongs to the row of its operand",
                            .no_sample = "belongs to the row of its operand"};
