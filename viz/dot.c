/* dot.c: a picture as text in Graphviz' language. */
#include "viz/look.h"
#include "viz/picture.h"

#include <string.h>

static const char INK[] = "#455a64", DERIVED_INK[] = "#c2185b", RESULT_INK[] = "#1b5e20";

/* Clusters get darker inside. */
static const char *const CLUSTER_FILL[] = {"#f7f9fa", "#eef2f4", "#e4eaed", "#dae2e6"};

typedef struct writer {
    const wr__picture *p;
    const wr_graph *g;
    wr_str *out;
    wr_str text; /* for what is being escaped */
    bool used[WR__KIND_COUNT];
} writer;

/* Append ` name="TEXT"` with what was gathered in `text`, and empty that. */
static void flush_text(writer *w, const char *name) {
    wr_str_add(w->out, " %s=\"", name);
    wr__escape(w->out, wr_str_text(&w->text), strcmp(name, "tooltip") == 0 ? 'l' : 'n');
    wr_str_add(w->out, "\"");
    if (w->text.oom) w->out->oom = true;
    wr_str_clear(&w->text);
}

/* ---- words ---- */

/* "[B, T, 512]", "i32 [B]"; f32 is not said. */
static void print_type(writer *w, uint32_t id) {
    const wr_node *x = wr_node_at(w->g, id);
    wr_type t = {.dtype = (wr_dtype)x->dtype, .rank = x->rank};
    memcpy(t.dim, x->dim, x->rank * sizeof x->dim[0]);
    if (t.dtype != WR_F32) wr_str_add(&w->text, "%s ", wr_dtype_name(t.dtype));
    if (t.rank == 0)
        wr_str_add(&w->text, "scalar");
    else
        wr_type_print(w->g, &t, &w->text);
}

static void print_scalar(writer *w, uint32_t id) {
    const wr_node *x = wr_node_at(w->g, id);
    size_t bytes;
    const void *data = wr_blob_at(w->g, wr_node_attrs(w->g, id)[WR_CONST_BLOB].blob, &bytes);
    union {
        float f;
        double d;
        int32_t i;
    } value = {.d = 0};
    if (data == NULL || bytes != wr_dtype_bytes((wr_dtype)x->dtype)) return;
    memcpy(&value, data, bytes);
    if (x->dtype == WR_I32)
        wr_str_add(&w->text, "%d", (int)value.i);
    else
        wr_str_add(&w->text, "%.4g", x->dtype == WR_F64 ? value.d : (double)value.f);
}

/* The last part of a source's full name when its scope's cluster tells the rest. */
static const char *short_name(writer *w, uint32_t id, bool inside) {
    const char *name = wr_source_name(w->g, id);
    size_t skip = 0;
    for (uint32_t s = wr_node_at(w->g, id)->scope; s != 0; s = wr_scope_parent(w->g, s))
        skip += strlen(wr_scope_name(w->g, s)) + 1;
    return inside && strlen(name) > skip ? name + skip : name;
}

/* Elementwise rows whose one attribute is a number say it: "scale 0.5". */
static void print_op(writer *w, uint32_t id) {
    const wr_op *op = wr_node_at(w->g, id)->op;
    wr_str_add(&w->text, "%s", op->label != NULL ? op->label : op->name);
    bool one = (op->traits & WR_ELEMENTWISE) && wr_op_attr_count(op) == 1;
    if (one && op->attrs[0].kind == WR_ATTR_REAL)
        wr_str_add(&w->text, " %.4g", wr_node_attrs(w->g, id)[0].r);
}

static void print_node_label(writer *w, uint32_t id, bool inside) {
    const wr_node *x = wr_node_at(w->g, id);
    const char *source = short_name(w, id, inside);
    if (!inside && x->scope != 0 && source[0] == '\0') {
        wr_scope_path(w->g, x->scope, &w->text);
        wr_str_add(&w->text, "\n");
    }
    if (source[0] != '\0')
        wr_str_add(&w->text, "%s", source);
    else if (x->op == &wr_op_const && x->rank == 0)
        print_scalar(w, id);
    else if (x->name != 0)
        wr_str_add(&w->text, "%s: ", wr_text_at(w->g, x->name));
    if (source[0] == '\0' && !(x->op == &wr_op_const && x->rank == 0)) print_op(w, id);
    if (x->op == &wr_op_const && x->rank == 0) return;
    wr_str_add(&w->text, "\n");
    print_type(w, id);
}

static void print_attr(writer *w, const wr_attr_field *field, wr_attr a) {
    wr_str_add(&w->text, "\n%s: ", field->name);
    switch (field->kind) {
    case WR_ATTR_INT:
        wr_str_add(&w->text, "%lld", (long long)a.i);
        break;
    case WR_ATTR_REAL:
        wr_str_add(&w->text, "%.9g", a.r);
        break;
    case WR_ATTR_BOOL:
        wr_str_add(&w->text, "%s", a.i != 0 ? "yes" : "no");
        break;
    case WR_ATTR_DIM:
        wr_dims_print(wr_graph_dims(w->g), a.d, &w->text);
        break;
    case WR_ATTR_TEXT:
        wr_str_add(&w->text, "%s", wr_text_at(w->g, a.text));
        break;
    case WR_ATTR_BLOB: {
        size_t bytes;
        wr_blob_at(w->g, a.blob, &bytes);
        wr_str_add(&w->text, "%zu bytes", bytes);
        break;
    }
    }
}

static void print_cost(writer *w, double flops, double bytes, const char *before) {
    if (flops <= 0 && bytes <= 0) return;
    wr_str_add(&w->text, "%s", before);
    wr__print_count(&w->text, flops);
    wr_str_add(&w->text, " operations, ");
    wr__print_count(&w->text, bytes);
    wr_str_add(&w->text, " bytes");
}

static const char *role_word(wr_role role) {
    switch (role) {
    case WR_FORWARD:
        return "";
    case WR_GRADIENT:
        return "gradient";
    case WR_INVERSE:
        return "inverse";
    case WR_FUSED:
        return "fused";
    case WR_RECOMPUTED:
        return "computed again";
    }
    return "";
}

static void print_sizes(writer *w, const wr_node *x) {
    if (w->p->o->binding == NULL || x->rank == 0) return;
    wr_str_add(&w->text, "\nsizes:");
    for (int i = 0; i < x->rank; i++) {
        int64_t n = wr_dims_eval(wr_graph_dims(w->g), x->dim[i], w->p->o->binding);
        if (n < 0)
            wr_str_add(&w->text, " ?");
        else
            wr_str_add(&w->text, " %lld", (long long)n);
    }
}

static void print_node_tooltip(writer *w, uint32_t id) {
    const wr_node *x = wr_node_at(w->g, id);
    const wr_loc *loc = wr_loc_at(w->g, x->loc);
    wr_node_describe(w->g, id, &w->text);
    wr_str_add(&w->text, "\nin %s() at %s:%d", loc->func, loc->file, loc->line);
    if (x->op->doc != NULL) wr_str_add(&w->text, "\n%s: %s", x->op->name, x->op->doc);
    for (int i = 0; x->op->attrs[i].name != NULL; i++)
        print_attr(w, &x->op->attrs[i], wr_node_attrs(w->g, id)[i]);
    if (x->role != WR_FORWARD) wr_str_add(&w->text, "\nrole: %s", role_word((wr_role)x->role));
    if (x->origin != 0) {
        wr_str_add(&w->text, "\nfrom: ");
        wr_node_describe(w->g, x->origin, &w->text);
    }
    print_sizes(w, x);
    print_cost(w, w->p->flops[id], w->p->bytes[id], "\n");
}

/* ---- groups ---- */

static const char *derived_word(const writer *w, const wr__group *group) {
    wr_role first = WR_RECOMPUTED;
    for (uint32_t i = 0; i < group->n; i++) {
        wr_role role = (wr_role)wr_node_at(w->g, w->p->order[group->first + i])->role;
        if (role != WR_RECOMPUTED) return role_word(role);
    }
    return role_word(first);
}

/* Is everything in it derived? */
static bool is_derived_group(const wr__group *group) {
    return group->derived || (group->ops > 0 && group->derived_ops == group->ops);
}

/* "layer0..5 x 6". */
static void print_group_name(writer *w, uint32_t id, bool full) {
    const wr__group *group = &w->p->group[id];
    if (group->derived && (full || group->scope == 0))
        wr_str_add(&w->text, "%s%s", derived_word(w, group), group->scope == 0 ? "" : " of ");
    if (group->scope == 0) return;
    if (full && group->repeats == 1) {
        wr_scope_path(w->g, group->scope, &w->text);
        return;
    }
    wr_str_add(&w->text, "%s", wr_scope_name(w->g, w->p->group[group->low].scope));
    if (group->repeats == 1) return;
    const char *high = wr_scope_name(w->g, w->p->group[group->high].scope);
    size_t digits = strlen(high);
    while (digits > 0 && high[digits - 1] >= '0' && high[digits - 1] <= '9')
        digits--;
    wr_str_add(&w->text, "..%s  \xC3\x97 %u", high + digits, (unsigned)group->repeats);
}

static void print_group_content(writer *w, const wr__group *group) {
    bool only = w->p->o->only_parameters;
    if (!only) wr_str_add(&w->text, "%u op%s", (unsigned)group->ops, group->ops == 1 ? "" : "s");
    if (group->parameters > 0 || only) {
        if (!only) wr_str_add(&w->text, ", ");
        wr__print_count(&w->text, group->parameters);
        wr_str_add(&w->text, " parameters");
    }
    if (group->repeats > 1) wr_str_add(&w->text, " each");
}

/* "(3)"; a circled digit as far as fonts have them. */
static void print_sign(wr_str *out, uint32_t sign) {
    if (sign <= 20)
        wr_str_add(out, "\xE2\x91%c", (char)(0x9F + sign));
    else
        wr_str_add(out, "(%u)", (unsigned)sign);
}

static void print_readings(writer *w, const char *word, const wr__reading *x, size_t n,
                           uint32_t cell) {
    size_t low = 0, high = n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (x[mid].cell < cell)
            low = mid + 1;
        else
            high = mid;
    }
    for (size_t i = low; i < n && x[i].cell == cell; i++) {
        if (i == low) wr_str_add(&w->text, "\n%s ", word);
        print_sign(&w->text, x[i].sign);
    }
}

/* What it has signs instead of arrows for. */
static void print_signs(writer *w, uint32_t cell) {
    print_readings(w, "reads", w->p->reads, w->p->n_reads, cell);
    print_readings(w, "gives", w->p->gives, w->p->n_gives, cell);
    uint32_t kept = w->p->cell[cell].kept;
    if (kept > 0)
        wr_str_add(&w->text, "\nreads %u value%s of the forward part", (unsigned)kept,
                   kept == 1 ? "" : "s");
}

static void print_group_label(writer *w, uint32_t id, bool inside) {
    const wr__group *group = &w->p->group[id];
    print_group_name(w, id, !inside);
    wr_str_add(&w->text, "\n");
    print_group_content(w, group);
    if (group->flops <= 0) return;
    wr_str_add(&w->text, "\n");
    wr__print_count(&w->text, group->flops);
    wr_str_add(&w->text, " operations");
}

static void print_group_tooltip(writer *w, uint32_t id) {
    const wr__group *group = &w->p->group[id];
    print_group_name(w, id, true);
    wr_str_add(&w->text, "\n");
    print_group_content(w, group);
    print_cost(w, group->flops, group->bytes, "\n");
}

/* ---- cells ---- */

static void print_cell_id(writer *w, uint32_t id) {
    const wr__cell *cell = &w->p->cell[id];
    wr_str_add(w->out, "%s%u", cell->is_group ? "s" : "n", (unsigned)cell->index);
}

static void write_cell_look(writer *w, wr__kind kind, bool derived, bool is_result) {
    const char *border = derived ? DERIVED_INK : is_result ? RESULT_INK : wr__looks[kind].border;
    wr_str_add(w->out, " fillcolor=\"%s\"", wr__looks[kind].fill);
    if (strcmp(border, INK) != 0) wr_str_add(w->out, " color=\"%s\"", border);
    if (is_result) wr_str_add(w->out, " penwidth=2.5");
    if (kind == WR__KIND_OUTSIDE) wr_str_add(w->out, " style=\"filled,rounded,dashed\"");
    if (kind == WR__KIND_CLOSED) wr_str_add(w->out, " peripheries=2");
    w->used[kind] = true;
    w->used[WR__KIND_DERIVED] |= derived;
    w->used[WR__KIND_RESULT] |= is_result;
}

static void write_cell(writer *w, uint32_t id) {
    const wr__cell *cell = &w->p->cell[id];
    if (!cell->drawn) return;
    wr_str_add(w->out, "  ");
    print_cell_id(w, id);
    wr_str_add(w->out, " [");
    bool derived, source = false;
    wr__kind kind = WR__KIND_CLOSED;
    if (cell->is_group) {
        print_group_label(w, cell->index, cell->inside);
        print_signs(w, id);
        flush_text(w, "label");
        print_group_tooltip(w, cell->index);
        derived = is_derived_group(&w->p->group[cell->index]);
    } else {
        const wr_node *x = wr_node_at(w->g, cell->index);
        print_node_label(w, cell->index, cell->inside);
        print_signs(w, id);
        flush_text(w, "label");
        print_node_tooltip(w, cell->index);
        derived = wr__node_is_derived(x);
        kind = wr__kind_of(x->op);
        source = (x->op->traits & WR_SOURCE) != 0;
    }
    flush_text(w, "tooltip");
    bool is_result = cell->is_result && cell->inside && !source && !w->p->o->only_parameters;
    write_cell_look(w, cell->inside ? kind : WR__KIND_OUTSIDE, derived, is_result);
    wr_str_add(w->out, "];\n");
}

static void write_cells(writer *w, const wr__group *group) {
    for (uint32_t c = group->first_cell; c != WR__NONE; c = w->p->cell[c].next)
        write_cell(w, c);
}

static void write_group(writer *w, uint32_t id) {
    const wr__group *group = &w->p->group[id];
    if (!group->open || group->alike != id) return;
    bool cluster = id != 0 && wr__group_in_focus(w->p, id);
    if (cluster) {
        int level = group->depth < 4 ? group->depth : 3;
        wr_str_add(w->out, "  subgraph cluster_%u {\n    graph [", (unsigned)id);
        print_group_name(w, id, id == w->p->focus || id == w->p->derived_focus);
        flush_text(w, "label");
        print_group_tooltip(w, id);
        flush_text(w, "tooltip");
        wr_str_add(w->out, " fillcolor=\"%s\" color=\"%s\"", CLUSTER_FILL[level],
                   is_derived_group(group) ? DERIVED_INK : "#90a4ae");
        wr_str_add(w->out, " labelloc=t labeljust=l fontsize=13 "
                           "style=\"filled,rounded\"];\n");
    }
    write_cells(w, group);
    for (uint32_t c = group->child; c != WR__NONE; c = w->p->group[c].sibling)
        write_group(w, c);
    if (cluster) wr_str_add(w->out, "  }\n");
}

/* ---- edges ---- */

enum { EDGE_TYPES = 3 };

static bool same_ends(const wr__edge *a, const wr__edge *b) {
    return a->from == b->from && a->to == b->to && a->next == b->next && a->told == b->told;
}

static bool same_type(const writer *w, uint32_t a, uint32_t b) {
    const wr_node *x = wr_node_at(w->g, a), *y = wr_node_at(w->g, b);
    return x->dtype == y->dtype && x->rank == y->rank &&
           memcmp(x->dim, y->dim, x->rank * sizeof x->dim[0]) == 0;
}

/* The different types that go along, a line each, at most `limit` of them. The margin keeps a
 * label off its edge. */
static void print_edge_types(writer *w, const wr__edge *edge, size_t n, int limit,
                             const char *margin) {
    int shown = 0, hidden = 0;
    for (size_t i = 0; i < n; i++) {
        bool known = false;
        for (size_t k = 0; k < i && !known; k++)
            known = same_type(w, edge[k].tensor, edge[i].tensor);
        if (known) continue;
        if (shown == limit) {
            hidden++;
            continue;
        }
        wr_str_add(&w->text, "%s%s", shown++ > 0 ? "\n" : "", margin);
        print_type(w, edge[i].tensor);
    }
    if (hidden > 0) wr_str_add(&w->text, "\n%sand %d more", margin, hidden);
}

static size_t count_tensors(const wr__edge *edge, size_t n) {
    size_t count = 1;
    for (size_t i = 1; i < n; i++)
        count += edge[i].tensor != edge[i - 1].tensor;
    return count;
}

/* A box of a single value tells its type itself. What a closed scope hands to its gradient is only
 * counted; the tooltip has the types. */
static void print_edge_label(writer *w, const wr__edge *edge, size_t n) {
    const char *margin = "   ";
    const wr__cell *from = &w->p->cell[edge->from];
    bool own = from->is_group || wr_node_at(w->g, edge->tensor)->op == &wr_op_output ||
               !same_type(w, from->index, edge->tensor);
    bool kept = !wr__cell_is_apart(w->p, edge->from) && wr__cell_is_apart(w->p, edge->to);
    size_t tensors = count_tensors(edge, n);
    if (own && kept && tensors > 1)
        wr_str_add(&w->text, "%s%zu tensors", margin, tensors);
    else if (own)
        print_edge_types(w, edge, n, EDGE_TYPES, margin);
    if (edge->next) wr_str_add(&w->text, "%s%sto the next", own ? "\n" : "", margin);
}

static void write_edge(writer *w, const wr__edge *edge, size_t n) {
    wr_str_add(w->out, "  ");
    print_cell_id(w, edge->from);
    wr_str_add(w->out, " -> ");
    print_cell_id(w, edge->to);
    wr_str_add(w->out, " [");
    print_edge_label(w, edge, n);
    if (w->text.len > 0) flush_text(w, "label");
    print_edge_types(w, edge, n, 1000, "");
    flush_text(w, "tooltip");
    if (edge->next) wr_str_add(w->out, " style=dashed constraint=false");
    const wr__cell *from = &w->p->cell[edge->from];
    bool source = !from->is_group && (wr_node_at(w->g, from->index)->op->traits & WR_SOURCE);
    if (source) wr_str_add(w->out, " color=\"#b0bec5\"");
    wr_str_add(w->out, "];\n");
}

static void write_edges(writer *w) {
    for (size_t i = 0, n; i < w->p->n_edges && !w->p->o->only_parameters; i += n) {
        const wr__edge *edge = &w->p->edge[i];
        for (n = 1; i + n < w->p->n_edges && same_ends(edge, edge + n);)
            n++;
        if (!edge->told) write_edge(w, edge, n);
    }
}

/* ---- the whole ---- */

/* Append a line, broken at spaces into lines of about `most` letters. */
static void print_wrapped(wr_str *out, const char *line, size_t n, size_t most) {
    size_t width = 0;
    for (size_t i = 0; i < n; i++) {
        bool full = width >= most && line[i] == ' ';
        wr_str_bytes(out, full ? "\n   " : &line[i], full ? 4 : 1);
        width = full ? 4 : width + 1;
    }
}

/* Are the texts the same but for the number of spaces between words? */
static bool same_words(const char *a, size_t n, const char *b) {
    for (size_t i = 0; i < n; i++) {
        if (a[i] == ' ' && i + 1 < n && a[i + 1] == ' ') continue;
        while (b[0] == ' ' && b[1] == ' ')
            b++;
        if (a[i] != *b++) return false;
    }
    return *b == '\0';
}

/* The node that a line of a mistake describes as an operand ("  a DESCRIPTION"); 0: none. */
static uint32_t find_operand(writer *w, const char *line, size_t n) {
    if (n < 5 || memcmp(line, "  ", 2) != 0 || line[3] != ' ') return 0;
    wr_str said = {0};
    uint32_t found = 0;
    for (uint32_t id = 1; id < w->p->n_nodes && found == 0 && !said.oom; id++) {
        if (!w->p->drawn[id]) continue;
        wr_str_clear(&said);
        wr_node_describe(w->g, id, &said);
        if (same_words(line + 4, n - 4, wr_str_text(&said))) found = id;
    }
    if (said.oom) w->out->oom = true;
    wr_str_free(&said);
    return found;
}

/* One mistake: a red box with the message, behind its operands. */
static void write_mistake(writer *w, int number, const char *text, size_t n) {
    enum { WIDTH = 84 };
    wr_str_add(&w->text, "mistake %d", number);
    for (size_t at = 0, len; at < n; at += len + 1) {
        len = strcspn(text + at, "\n");
        wr_str_add(&w->text, "\n");
        print_wrapped(&w->text, text + at, len, WIDTH);
        uint32_t operand = find_operand(w, text + at, len);
        uint32_t cell = operand == 0 ? WR__NONE : w->p->cell_of[operand];
        if (cell == WR__NONE || !w->p->cell[cell].drawn) continue;
        wr_str_add(w->out, "  ");
        print_cell_id(w, cell);
        wr_str_add(w->out, " -> mistake%d [ color=\"#b71c1c\" penwidth=2];\n", number);
    }
    wr_str_add(w->out, "  mistake%d [ label=\"", number);
    wr__escape(w->out, wr_str_text(&w->text), 'l');
    wr_str_add(w->out, "\\l\" fillcolor=\"#ffcdd2\" color=\"#b71c1c\" fontcolor=\"#7f0000\" "
                       "penwidth=2.5];\n");
    if (w->text.oom) w->out->oom = true;
    wr_str_clear(&w->text);
}

/* The report has a paragraph for each. */
static void write_mistakes(writer *w) {
    if (wr_graph_ok(w->g)) return;
    wr_str report = {0};
    wr_graph_report(w->g, &report);
    const char *at = wr_str_text(&report);
    for (int number = 1; *at != '\0'; number++) {
        const char *end = strstr(at, "\n\n");
        size_t n = end == NULL ? strlen(at) : (size_t)(end - at);
        write_mistake(w, number, at, n);
        at += n + strspn(at + n, "\n");
    }
    if (report.oom) w->out->oom = true;
    wr_str_free(&report);
}

enum { LEGEND_COLUMNS = 4 };

static void write_legend_cell(writer *w, int n, const wr__look *l, int border) {
    if (n % LEGEND_COLUMNS == 0) wr_str_add(w->out, "%s<TR>", n > 0 ? "</TR>" : "");
    wr_str_add(w->out, "<TD BORDER=\"%d\" BGCOLOR=\"%s\" COLOR=\"%s\">%s</TD>", border, l->fill,
               l->border, l->word);
}

static void write_legend(writer *w) {
    int n = 0;
    for (int k = 0; k < WR__KIND_COUNT; k++) {
        if (w->used[k])
            write_legend_cell(w, n++, &wr__looks[k],
                              k == WR__KIND_RESULT || k == WR__KIND_DERIVED ? 2 : 1);
    }
    static const wr__look MISTAKE = {"mistake", "#ffcdd2", "#b71c1c"};
    if (!wr_graph_ok(w->g)) write_legend_cell(w, n++, &MISTAKE, 2);
    if (n > 0) wr_str_add(w->out, "</TR>");
}

/* Title, sums and legend: the label of the whole graph, below it. */
static void write_caption(writer *w) {
    bool forward = w->p->focus != WR__NONE;
    const wr__group *all = &w->p->group[forward ? w->p->focus : w->p->derived_focus];
    wr_str_add(w->out, "  label=<<TABLE BORDER=\"0\" CELLSPACING=\"4\" CELLPADDING=\"4\">");
    if (w->p->o->title != NULL) {
        wr_str_add(w->out, "<TR><TD COLSPAN=\"%d\"><B>", LEGEND_COLUMNS);
        wr__escape_html(w->out, w->p->o->title);
        wr_str_add(w->out, "</B></TD></TR>");
    }
    wr_str_add(w->out, "<TR><TD COLSPAN=\"%d\">", LEGEND_COLUMNS);
    if (w->p->n_order == 0) wr_str_add(&w->text, "an empty graph: ");
    print_group_content(w, all);
    print_cost(w, all->flops, all->bytes, ", ");
    wr__escape_html(w->out, wr_str_text(&w->text));
    wr_str_clear(&w->text);
    wr_str_add(w->out, "</TD></TR>");
    write_legend(w);
    if (w->p->n_signs > 0)
        wr_str_add(w->out,
                   "<TR><TD COLSPAN=\"%d\">\xE2\x91\xA0: what many boxes read, told without "
                   "arrows</TD></TR>",
                   LEGEND_COLUMNS);
    wr_str_add(w->out, "</TABLE>>;\n");
}

static void write_all(writer *w) {
    wr_str_add(w->out,
               "digraph weir {\n"
               "  graph [charset=\"UTF-8\" rankdir=%s compound=true fontname=\"Helvetica\" "
               "fontsize=11 labelloc=b nodesep=0.25 ranksep=0.35 bgcolor=white];\n"
               "  node [shape=box style=\"filled,rounded\" fontname=\"Helvetica\" fontsize=11 "
               "height=0.3 margin=\"0.11,0.05\" color=\"%s\"];\n"
               "  edge [fontname=\"Helvetica\" fontsize=9 color=\"#607d8b\" "
               "fontcolor=\"#37474f\" arrowsize=0.6];\n",
               w->p->o->only_parameters ? "LR" : "TB", INK);
    write_group(w, 0);
    write_edges(w);
    write_mistakes(w);
    write_caption(w);
    wr_str_add(w->out, "}\n");
}

wr_status wr_draw_dot(const wr_graph *g, const wr_draw_options *o, wr_str *out, wr_error *err) {
    wr__picture p;
    wr_status status = wr__picture_begin(&p, g, o, err);
    if (status == WR_OK) {
        writer w = {.p = &p, .g = g, .out = out};
        write_all(&w);
        if (out->oom || w.text.oom) status = wr_fail_memory(err, "the text of a picture", out->len);
        wr_str_free(&w.text);
    }
    wr__picture_end(&p);
    return status;
}
