/* diag.c: user mistakes as messages: what, the operands with their lines, the rule, a hint. */
#include "graph/graph_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void wr__out_of_memory(wr_graph *g) {
    if (g->out_of_memory) return;
    g->out_of_memory = true;
}

void wr__diagnose(wr_graph *g, const wr_str *text) {
    char *copy = text->oom ? NULL : wr_strdup(wr_str_text(text));
    if (copy == NULL || !wr_grow(&g->diag, &g->cap_diag, g->n_diag + 1, sizeof *g->diag)) {
        free(copy);
        wr__out_of_memory(g);
        return;
    }
    g->diag[g->n_diag++] = copy;
}

wr wr_no_memory(wr_graph *g) {
    wr__out_of_memory(g);
    return (wr){g, 0};
}

static bool is_out_of_memory(const wr_graph *g) {
    return g->out_of_memory || wr_dims_out_of_memory(g->shared->dims);
}

bool wr_graph_ok(const wr_graph *g) { return g->n_diag == 0 && !is_out_of_memory(g); }
size_t wr_graph_diagnostics(const wr_graph *g) { return g->n_diag; }

void wr_graph_report(const wr_graph *g, wr_str *out) {
    for (size_t i = 0; i < g->n_diag; i++)
        wr_str_add(out, "%s%s", i > 0 ? "\n" : "", g->diag[i]);
    if (is_out_of_memory(g))
        wr_str_add(out, "%sout of memory while building the graph", g->n_diag > 0 ? "\n" : "");
}

wr_status wr_graph_status(const wr_graph *g, wr_error *err) {
    if (is_out_of_memory(g))
        return wr_fail(err, WR_ERR_MEMORY, "out of memory while building the graph");
    if (wr_graph_ok(g)) return WR_OK;
    wr_str s = {0};
    wr_graph_report(g, &s);
    wr_status status = s.oom ? wr_fail_memory(err, "the report of mistakes", s.len)
                             : wr_fail(err, WR_ERR_INPUT, "%s", wr_str_text(&s));
    wr_str_free(&s);
    return status;
}

void wr_type_print(const wr_graph *g, const wr_type *t, wr_str *out) {
    wr_str_add(out, "[");
    for (int i = 0; i < t->rank; i++) {
        if (i > 0) wr_str_add(out, ", ");
        wr_dims_print(g->shared->dims, t->dim[i], out);
    }
    wr_str_add(out, "]");
}

const char *wr_source_name(const wr_graph *g, uint32_t id) {
    const wr_node *x = &g->node[id];
    bool named = (x->op->traits & WR_SOURCE) && x->op->attrs[0].kind == WR_ATTR_TEXT;
    return named ? wr_text_at(g, g->attr[x->attr + WR_SOURCE_NAME].text) : "";
}

static void print_name(const wr_graph *g, uint32_t id, wr_str *out) {
    const wr_node *x = &g->node[id];
    const char *source = wr_source_name(g, id);
    if (source[0] != '\0') {
        wr_str_add(out, "\"%s\"", source);
        return;
    }
    wr_str_add(out, "\"");
    wr_scope_path(g, x->scope, out);
    wr_str_add(out, "%s%s\"", x->scope != 0 ? "." : "",
               x->name != 0 ? wr_text_at(g, x->name) : x->op->name);
}

void wr_node_describe(const wr_graph *g, uint32_t id, wr_str *out) {
    if (id == 0) {
        wr_str_add(out, "(poison: see the mistake above)");
        return;
    }
    const wr_node *x = &g->node[id];
    const wr_loc *loc = wr_loc_at(g, x->loc);
    wr_type t = wr_type_of((wr){(wr_graph *)(uintptr_t)g, id});
    print_name(g, id, out);
    wr_str_add(out, "  %s ", wr_dtype_name(t.dtype));
    wr_type_print(g, &t, out);
    wr_str_add(out, "  from %s:%d %s", loc->file, loc->line, x->op->name);
}

static void print_place(const wr_graph *g, wr_loc loc, wr_str *out) {
    wr_str_add(out, "%s:%d in %s()", loc.file, loc.line, loc.func);
    if (g->scope != 0) {
        wr_str_add(out, " [scope ");
        wr_scope_path(g, g->scope, out);
        wr_str_add(out, "]");
    }
    wr_str_add(out, ": ");
}

bool wr_shape_fail(wr_shape_ctx *c, const char *rule, const char *hint, const char *fmt, ...) {
    char what[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    wr_str s = {0};
    print_place(c->g, c->loc, &s);
    wr_str_add(&s, "%s: %s\n", c->op->name, what);
    for (int i = 0; i < c->n_in && i < 6; i++) {
        wr_str_add(&s, "  %c ", 'a' + i);
        wr_node_describe(c->g, c->in[i].id, &s);
        wr_str_add(&s, "\n");
    }
    if (rule != NULL) wr_str_add(&s, "  rule: %s\n", rule);
    wr__trace_append(c->loc, &s);
    if (hint != NULL) wr_str_add(&s, "  hint: %s\n", hint);
    wr__diagnose(c->g, &s);
    wr_str_free(&s);
    return false;
}

wr wr_mistake(wr_graph *g, wr_loc loc, const char *fmt, ...) {
    char what[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    wr_str s = {0};
    print_place(g, loc, &s);
    wr_str_add(&s, "%s\n", what);
    wr__trace_append(loc, &s);
    wr__diagnose(g, &s);
    wr_str_free(&s);
    return (wr){g, 0};
}
