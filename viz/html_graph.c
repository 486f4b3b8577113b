/* html_graph.c: the nodes and scopes of a graph as columns of numbers; see html_internal.h. */
#include "viz/html_internal.h"
#include "viz/look.h"
#include "viz/picture.h"

#include <stdlib.h>
#include <string.h>

/* ---- words ---- */

static void add_scalar(wr__html *h, const wr_graph *g, uint32_t id) {
    const wr_node *x = wr_node_at(g, id);
    size_t bytes;
    const void *data = wr_blob_at(g, wr_node_attrs(g, id)[WR_CONST_BLOB].blob, &bytes);
    union {
        float f;
        double d;
        int32_t i;
    } value = {.d = 0};
    if (data == NULL || bytes != wr_dtype_bytes((wr_dtype)x->dtype)) return;
    memcpy(&value, data, bytes);
    if (x->dtype == WR_I32)
        wr_str_add(&h->text, "%d", (int)value.i);
    else
        wr_str_add(&h->text, "%.4g", x->dtype == WR_F64 ? value.d : (double)value.f);
}

/* The last part of a source's full name; the rest is its scope's path. */
static const char *short_name(const wr_graph *g, uint32_t id) {
    const char *name = wr_source_name(g, id);
    size_t skip = 0;
    for (uint32_t s = wr_node_at(g, id)->scope; s != 0; s = wr_scope_parent(g, s))
        skip += strlen(wr_scope_name(g, s)) + 1;
    return strlen(name) > skip ? name + skip : name;
}

uint32_t wr__html_label(wr__html *h, const wr_graph *g, uint32_t id) {
    const wr_node *x = wr_node_at(g, id);
    const wr_op *op = x->op;
    if (op == &wr_op_output) return wr__html_label(h, g, wr_node_inputs(g, id)[0]);
    const char *source = short_name(g, id);
    if (source[0] != '\0') return wr__html_intern(h, source);
    if (op == &wr_op_const && x->rank == 0) {
        add_scalar(h, g, id);
        return wr__html_take(h);
    }
    if (x->name != 0) wr_str_add(&h->text, "%s: ", wr_text_at(g, x->name));
    wr_str_add(&h->text, "%s", op->label != NULL ? op->label : op->name);
    bool one = (op->traits & WR_ELEMENTWISE) && wr_op_attr_count(op) == 1;
    if (one && op->attrs[0].kind == WR_ATTR_REAL)
        wr_str_add(&h->text, " %.4g", wr_node_attrs(g, id)[0].r);
    return wr__html_take(h);
}

uint32_t wr__html_type(wr__html *h, const wr_graph *g, uint32_t id) {
    const wr_node *x = wr_node_at(g, id);
    wr_type t = {.dtype = (wr_dtype)x->dtype, .rank = x->rank};
    memcpy(t.dim, x->dim, x->rank * sizeof x->dim[0]);
    wr_str_add(&h->text, "%s ", wr_dtype_name(t.dtype));
    if (t.rank == 0)
        wr_str_add(&h->text, "scalar");
    else
        wr_type_print(g, &t, &h->text);
    return wr__html_take(h);
}

uint32_t wr__html_line(wr__html *h, const wr_graph *g, uint32_t id) {
    const wr_loc *loc = wr_loc_at(g, wr_node_at(g, id)->loc);
    wr_str_add(&h->text, "%s:%d in %s()", loc->file, loc->line, loc->func);
    return wr__html_take(h);
}

uint32_t wr__html_scope(wr__html *h, const wr_graph *g, uint32_t scope) {
    wr_scope_path(g, scope, &h->text);
    return wr__html_take(h);
}

static void add_attr(wr__html *h, const wr_graph *g, const wr_attr_field *field, wr_attr a) {
    wr_str_add(&h->text, "%s: ", field->name);
    switch (field->kind) {
    case WR_ATTR_INT:
        wr_str_add(&h->text, "%lld", (long long)a.i);
        break;
    case WR_ATTR_REAL:
        wr_str_add(&h->text, "%.9g", a.r);
        break;
    case WR_ATTR_BOOL:
        wr_str_add(&h->text, "%s", a.i != 0 ? "yes" : "no");
        break;
    case WR_ATTR_DIM:
        wr_dims_print(wr_graph_dims(g), a.d, &h->text);
        break;
    case WR_ATTR_TEXT:
        wr_str_add(&h->text, "%s", wr_text_at(g, a.text));
        break;
    case WR_ATTR_BLOB: {
        size_t bytes;
        wr_blob_at(g, a.blob, &bytes);
        wr_str_add(&h->text, "%zu bytes", bytes);
        break;
    }
    }
}

/* A line each; a source's own are how it begins, its name is told apart. */
static uint32_t attrs_of(wr__html *h, const wr_graph *g, uint32_t id) {
    const wr_op *op = wr_node_at(g, id)->op;
    bool first = true;
    for (int i = 0; op->attrs[i].name != NULL; i++) {
        if (op->attrs[i].kind == WR_ATTR_TEXT && wr_source_name(g, id)[0] != '\0') continue;
        wr_str_add(&h->text, "%s", first ? "" : "\n");
        add_attr(h, g, &op->attrs[i], wr_node_attrs(g, id)[i]);
        first = false;
    }
    return wr__html_take(h);
}

/* ---- columns ---- */

typedef struct ops {
    const wr_op **op; /* in order of appearance */
    size_t n, cap;
} ops;

static size_t op_index(wr__html *h, ops *o, const wr_op *op) {
    for (size_t i = 0; i < o->n; i++)
        if (o->op[i] == op) return i;
    if (!wr_grow(&o->op, &o->cap, o->n + 1, sizeof(const wr_op *))) {
        h->oom = true;
        return 0;
    }
    o->op[o->n] = op;
    return o->n++;
}

typedef unsigned long (*column)(wr__html *h, const wr__picture *p, uint32_t id);

static unsigned long label_column(wr__html *h, const wr__picture *p, uint32_t id) {
    return wr__html_label(h, p->g, id);
}
static unsigned long name_column(wr__html *h, const wr__picture *p, uint32_t id) {
    const char *source = wr_source_name(p->g, id);
    if (source[0] != '\0') return wr__html_intern(h, source);
    return wr__html_intern(h, wr_text_at(p->g, wr_node_at(p->g, id)->name));
}
static unsigned long type_column(wr__html *h, const wr__picture *p, uint32_t id) {
    return wr__html_type(h, p->g, id);
}
static unsigned long line_column(wr__html *h, const wr__picture *p, uint32_t id) {
    return wr__html_line(h, p->g, id);
}
static unsigned long attrs_column(wr__html *h, const wr__picture *p, uint32_t id) {
    return attrs_of(h, p->g, id);
}
static unsigned long role_column(wr__html *h, const wr__picture *p, uint32_t id) {
    (void)h;
    return wr_node_at(p->g, id)->role;
}
/* The place of the node it comes from, from 1; 0: none. */
static unsigned long origin_column(wr__html *h, const wr__picture *p, uint32_t id) {
    (void)h;
    uint32_t origin = wr_node_at(p->g, id)->origin;
    return origin != 0 && p->drawn[origin] ? p->pos[origin] + 1ul : 0;
}
static unsigned long id_column(wr__html *h, const wr__picture *p, uint32_t id) {
    (void)h;
    (void)p;
    return id;
}

static void add_column(wr__html *h, const wr__picture *p, const char *name, column value) {
    wr_str_add(h->out, "\"%s\":[", name);
    for (uint32_t i = 0; i < p->n_order; i++)
        wr_str_add(h->out, "%s%lu", i > 0 ? "," : "", value(h, p, p->order[i]));
    wr_str_add(h->out, "],");
}

static void add_ops(wr__html *h, const wr__picture *p) {
    ops o = {0};
    wr_str_add(h->out, "\"op\":[");
    for (uint32_t i = 0; i < p->n_order; i++)
        wr_str_add(h->out, "%s%zu", i > 0 ? "," : "",
                   op_index(h, &o, wr_node_at(p->g, p->order[i])->op));
    wr_str_add(h->out, "],\"ops\":[");
    for (size_t i = 0; i < o.n; i++) {
        bool output = o.op[i] == &wr_op_output;
        wr_str_add(h->out, "%s[", i > 0 ? "," : "");
        wr_html_string(h->out, o.op[i]->name);
        wr_str_add(h->out, ",%d,", output ? -1 : (int)wr__kind_of(o.op[i]));
        wr_html_string(h->out, o.op[i]->doc == NULL ? "" : o.op[i]->doc);
        wr_str_add(h->out, "]");
    }
    wr_str_add(h->out, "],");
    free(o.op);
}

/* Places of all operands, node by node, and how many each node has. */
static void add_inputs(wr__html *h, const wr__picture *p) {
    wr_str_add(h->out, "\"nin\":[");
    for (uint32_t i = 0; i < p->n_order; i++) {
        const wr_node *x = wr_node_at(p->g, p->order[i]);
        uint32_t n = 0;
        for (int k = 0; k < x->n_in; k++)
            n += p->drawn[wr_node_inputs(p->g, p->order[i])[k]];
        wr_str_add(h->out, "%s%u", i > 0 ? "," : "", (unsigned)n);
    }
    wr_str_add(h->out, "],\"in\":[");
    bool first = true;
    for (uint32_t i = 0; i < p->n_order; i++) {
        const wr_node *x = wr_node_at(p->g, p->order[i]);
        for (int k = 0; k < x->n_in; k++) {
            uint32_t operand = wr_node_inputs(p->g, p->order[i])[k];
            if (!p->drawn[operand]) continue;
            wr_str_add(h->out, "%s%u", first ? "" : ",", (unsigned)p->pos[operand]);
            first = false;
        }
    }
    wr_str_add(h->out, "],");
}

static void add_costs(wr__html *h, const wr__picture *p) {
    for (int k = 0; k < 2; k++) {
        const double *cost = k == 0 ? p->flops : p->bytes;
        wr_str_add(h->out, k == 0 ? "\"flops\":[" : "\"bytes\":[");
        for (uint32_t i = 0; i < p->n_order; i++)
            wr_str_add(h->out, "%s%.5g", i > 0 ? "," : "", cost[p->order[i]]);
        wr_str_add(h->out, "],");
    }
}

/* Nine numbers for each scope: name, path, parent, is it derived, first node, number of nodes, the
 * scope that is drawn in its place, how many it stands for, and the last of those names. */
static void add_groups(wr__html *h, const wr__picture *p) {
    wr_str_add(h->out, "\"groups\":[");
    for (size_t i = 0; i < p->n_groups; i++) {
        const wr__group *x = &p->group[i];
        uint32_t name = wr__html_intern(h, wr_scope_name(p->g, x->scope));
        if (x->repeats > 1) name = wr__html_intern(h, wr_scope_name(p->g, p->group[x->low].scope));
        uint32_t high = wr__html_intern(h, wr_scope_name(p->g, p->group[x->high].scope));
        wr_str_add(h->out, "%s%u,%u,%d,%d,%u,%u,%u,%u,%u", i > 0 ? "," : "", (unsigned)name,
                   (unsigned)wr__html_scope(h, p->g, x->scope), i == 0 ? -1 : (int)x->parent,
                   x->derived ? 1 : 0, (unsigned)x->first, (unsigned)x->n, (unsigned)x->alike,
                   (unsigned)x->repeats, (unsigned)high);
    }
    wr_str_add(h->out, "],");
}

wr_status wr__html_graph(wr__html *h, const wr_html_graph *x, wr_error *err) {
    wr_draw_options o = {.depth = -1, .live = x->live, .binding = x->binding};
    wr__picture p;
    wr_status status = wr__picture_begin(&p, x->g, &o, err);
    if (status == WR_OK) {
        wr_str report = {0};
        wr_graph_report(x->g, &report);
        wr_str_add(h->out, "{");
        add_ops(h, &p);
        add_column(h, &p, "label", label_column);
        add_column(h, &p, "name", name_column);
        add_column(h, &p, "type", type_column);
        add_column(h, &p, "line", line_column);
        add_column(h, &p, "attrs", attrs_column);
        add_column(h, &p, "role", role_column);
        add_column(h, &p, "origin", origin_column);
        add_column(h, &p, "id", id_column);
        add_inputs(h, &p);
        if (x->binding != NULL) add_costs(h, &p);
        add_groups(h, &p);
        wr_str_add(h->out, "\"messages\":");
        wr_html_string(h->out, wr_str_text(&report));
        wr_str_add(h->out, "}");
        h->oom |= report.oom;
        wr_str_free(&report);
    }
    wr__picture_end(&p);
    return status;
}
