/* parameter_tree.c: see parameter_tree.h. */
#include "cli/parameter_tree.h"
#include "graph/op.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t new_entry(wr_parameter_tree *t, uint32_t parent, const char *name, size_t length) {
    if (!wr_grow(&t->entry, &t->cap, t->n + 1, sizeof *t->entry)) return WR_TREE_NONE;
    uint32_t id = (uint32_t)t->n++;
    t->entry[id] = (wr_tree_entry){.name = name,
                                   .length = length,
                                   .child = WR_TREE_NONE,
                                   .last_child = WR_TREE_NONE,
                                   .sibling = WR_TREE_NONE};
    if (parent == WR_TREE_NONE) return id;
    wr_tree_entry *up = &t->entry[parent];
    if (up->child == WR_TREE_NONE)
        up->child = id;
    else
        t->entry[up->last_child].sibling = id;
    up->last_child = id;
    return id;
}

static uint32_t find_scope(const wr_parameter_tree *t, uint32_t parent, const char *name,
                           size_t length) {
    uint32_t c = t->entry[parent].child;
    for (; c != WR_TREE_NONE; c = t->entry[c].sibling) {
        const wr_tree_entry *x = &t->entry[c];
        if (!x->is_tensor && x->length == length && memcmp(x->name, name, length) == 0) break;
    }
    return c;
}

bool wr_parameter_tree_add(wr_parameter_tree *t, const char *name, wr_dtype dtype, int rank,
                           const int64_t *dim) {
    if (t->n == 0 && new_entry(t, WR_TREE_NONE, "", 0) == WR_TREE_NONE) return false;
    double elements = 1;
    for (int k = 0; k < rank; k++)
        elements *= (double)dim[k];
    uint32_t at = 0;
    for (const char *dot; (dot = strchr(name, '.')) != NULL; name = dot + 1) {
        size_t length = (size_t)(dot - name);
        t->entry[at].elements += elements;
        t->entry[at].tensors++;
        uint32_t scope = find_scope(t, at, name, length);
        if (scope == WR_TREE_NONE) scope = new_entry(t, at, name, length);
        if (scope == WR_TREE_NONE) return false;
        at = scope;
    }
    t->entry[at].elements += elements;
    t->entry[at].tensors++;
    uint32_t leaf = new_entry(t, at, name, strlen(name));
    if (leaf == WR_TREE_NONE) return false;
    wr_tree_entry *x = &t->entry[leaf];
    x->is_tensor = true;
    x->dtype = dtype;
    x->rank = rank;
    memcpy(x->dim, dim, sizeof x->dim[0] * (size_t)rank);
    x->elements = elements;
    return true;
}

bool wr_parameter_tree_add_graph(wr_parameter_tree *t, const wr_graph *g, const bool *live) {
    bool ok = true;
    for (uint32_t id = 1; id < wr_node_count(g) && ok; id++) {
        const wr_node *x = wr_node_at(g, id);
        if (!live[id] || x->op != &wr_op_param) continue;
        int64_t dim[WR_MAX_RANK];
        for (int k = 0; k < x->rank; k++)
            dim[k] = wr_dim_literal(x->dim[k]);
        ok = wr_parameter_tree_add(t, wr_source_name(g, id), (wr_dtype)x->dtype, x->rank, dim);
    }
    return ok;
}

void wr_parameter_tree_free(wr_parameter_tree *t) {
    free(t->entry);
    *t = (wr_parameter_tree){0};
}

/* ---- printing ---- */

/* "f32 [128, 512]" */
static void print_shape(const wr_tree_entry *x, wr_str *out) {
    wr_str_add(out, "%s [", wr_dtype_name(x->dtype));
    for (int k = 0; k < x->rank; k++)
        wr_str_add(out, "%s%lld", k > 0 ? ", " : "", (long long)x->dim[k]);
    wr_str_add(out, "]");
}

/* The name, a control character as '?', padded to the column of the counts. */
static void print_name(const wr_tree_entry *x, int indent, wr_str *out) {
    enum { COLUMN = 34 };
    wr_str_add(out, "%*s", indent, "");
    for (size_t i = 0; i < x->length; i++)
        wr_str_add(out, "%c", (unsigned char)x->name[i] < 0x20 ? '?' : x->name[i]);
    int left = COLUMN - indent - (int)x->length;
    wr_str_add(out, "%*s", left > 1 ? left : 1, "");
}

static void print_entry(const wr_parameter_tree *t, uint32_t id, int level, int depth,
                        wr_str *out) {
    const wr_tree_entry *x = &t->entry[id];
    print_name(x, 2 * level, out);
    wr_str_add(out, "%14.0f  ", x->elements);
    if (x->is_tensor)
        print_shape(x, out);
    else
        wr_str_add(out, "%u tensor%s", (unsigned)x->tensors, x->tensors == 1 ? "" : "s");
    wr_str_add(out, "\n");
    if (x->is_tensor || (depth >= 0 && level > depth)) return;
    for (uint32_t c = x->child; c != WR_TREE_NONE; c = t->entry[c].sibling)
        print_entry(t, c, level + 1, depth, out);
}

void wr_parameter_tree_print(const wr_parameter_tree *t, int depth, wr_str *out) {
    static const wr_tree_entry NOTHING = {.name = "total", .length = 5};
    if (t->n == 0) {
        print_name(&NOTHING, 2, out);
        wr_str_add(out, "%14d  no tensors\n", 0);
        return;
    }
    for (uint32_t c = t->entry[0].child; c != WR_TREE_NONE; c = t->entry[c].sibling)
        print_entry(t, c, 1, depth, out);
    print_name(&NOTHING, 2, out);
    wr_str_add(out, "%14.0f  %u tensor%s\n", t->entry[0].elements, (unsigned)t->entry[0].tensors,
               t->entry[0].tensors == 1 ? "" : "s");
}
