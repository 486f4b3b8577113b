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

static void print_place(wr_loc loc, wr_str *out) {
    wr_str_add(out, "%s:%d in %s(): ", loc.file, loc.line, loc.func);
}

/* Which of the layers that one line makes, where no operand's name tells it. */
static void print_scope(const wr_graph *g, wr_str *out) {
    if (g->scope == 0) return;
    wr_str_add(out, "  in scope ");
    wr_scope_path(g, g->scope, out);
    wr_str_add(out, "\n");
}

/* ---- operands ---- */

/* The columns of all operands are aligned. */
void wr__operands_print(const wr_graph *g, int n, const uint32_t *ids, wr_str *out) {
    enum { SHOWN = 6 };
    wr_str name[SHOWN] = {{0}}, type[SHOWN] = {{0}};
    int names = 0, types = 0, shown = n < SHOWN ? n : SHOWN;
    for (int i = 0; i < shown; i++) {
        wr_type t = wr_type_of((wr){(wr_graph *)(uintptr_t)g, ids[i]});
        print_name(g, ids[i], &name[i]);
        wr_str_add(&type[i], "%s ", wr_dtype_name(t.dtype));
        wr_type_print(g, &t, &type[i]);
        if ((int)name[i].len > names) names = (int)name[i].len;
        if ((int)type[i].len > types) types = (int)type[i].len;
    }
    for (int i = 0; i < shown; i++) {
        const wr_node *x = &g->node[ids[i]];
        const wr_loc *loc = wr_loc_at(g, x->loc);
        wr_str_add(out, "  %c %-*s %-*s  from %s:%d %s\n", 'a' + i, names, wr_str_text(&name[i]),
                   types, wr_str_text(&type[i]), loc->file, loc->line, x->op->name);
        wr_str_free(&name[i]);
        wr_str_free(&type[i]);
    }
    if (n > shown) wr_str_add(out, "  .. and %d more operands\n", n - shown);
}

static void print_operands(const wr_shape_ctx *c, wr_str *out) {
    uint32_t *ids = malloc(sizeof *ids * ((size_t)c->n_in + 1));
    for (int i = 0; ids != NULL && i < c->n_in; i++)
        ids[i] = c->in[i].id;
    if (ids != NULL)
        wr__operands_print(c->g, c->n_in, ids, out);
    else
        out->oom = true;
    free(ids);
}

/* Does the name of an operand begin with the scope that the mistake was made in? */
static bool names_tell_scope(const wr_shape_ctx *c) {
    for (int i = 0; i < c->n_in; i++)
        if (c->g->node[c->in[i].id].scope == c->g->scope) return true;
    return false;
}

bool wr_shape_fail(wr_shape_ctx *c, const char *rule, const char *hint, const char *fmt, ...) {
    char what[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    wr_str s = {0};
    print_place(c->loc, &s);
    wr_str_add(&s, "%s: %s\n", c->op->name, what);
    print_operands(c, &s);
    if (!names_tell_scope(c)) print_scope(c->g, &s);
    if (rule != NULL) wr_str_add(&s, "  rule: %s\n", rule);
    wr__trace_append(c->g, c->loc, &s);
    if (hint != NULL) wr_str_add(&s, "  hint: %s\n", hint);
    wr__diagnose(c->g, &s);
    wr_str_free(&s);
    return false;
}

/* The whole text, however long: it may list many nodes. */
static void format(wr_str *out, const char *fmt, va_list args) {
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    char *text = n < 0 ? NULL : malloc((size_t)n + 1);
    out->oom = out->oom || text == NULL;
    if (text == NULL) return;
    vsnprintf(text, (size_t)n + 1, fmt, args);
    wr_str_bytes(out, text, (size_t)n);
    free(text);
}

wr wr_mistake(wr_graph *g, wr_loc loc, const char *fmt, ...) {
    wr_str what = {0}, s = {0};
    va_list args;
    va_start(args, fmt);
    format(&what, fmt, args);
    va_end(args);
    /* a hint stands behind the chain of callers */
    const char *text = wr_str_text(&what), *hint = strstr(text, "\n  hint: ");
    int n = hint == NULL ? (int)strlen(text) : (int)(hint - text);
    print_place(loc, &s);
    wr_str_add(&s, "%.*s\n", n, text);
    print_scope(g, &s);
    wr__trace_append(g, loc, &s);
    if (hint != NULL) wr_str_add(&s, "%s\n", hint + 1);
    s.oom = s.oom || what.oom;
    wr__diagnose(g, &s);
    wr_str_free(&s);
    wr_str_free(&what);
    return (wr){g, 0};
}
