/* memory.c: holders and buffers of a plan; see memory_internal.h. */
#include "viz/memory_internal.h"
#include "viz/picture.h"

#include <stdlib.h>
#include <string.h>

uint32_t wr__memory_maker(const wr_graph *g, uint32_t id) {
    return wr_node_at(g, id)->op == &wr_op_output ? wr_node_inputs(g, id)[0] : id;
}

/* ---- holders ---- */

/* Of each group of scopes values and gradients; behind them two that have no scope. */
static size_t holder_of_group(size_t group, bool gradient) { return 2 * group + gradient; }
static size_t parameter_gradients(const wr__memory *m) { return 2 * m->groups.n; }
static size_t workspaces(const wr__memory *m) { return 2 * m->groups.n + 1; }

static bool is_backward(const wr_node *x) {
    return x->role == WR_GRADIENT || x->role == WR_RECOMPUTED;
}

static bool name_holders(wr__memory *m) {
    wr_str name = {0};
    bool ok = true;
    for (size_t i = 0; i < m->n_holders && ok; i++) {
        wr_str_clear(&name);
        if (i == parameter_gradients(m))
            wr_str_add(&name, "gradients of parameters");
        else if (i == workspaces(m))
            wr_str_add(&name, "workspaces of kernels");
        else
            wr_str_add(&name, "%s%s", i < 2 ? "outside of scopes" : m->groups.name[i / 2],
                       i % 2 == 1 ? ", backward" : "");
        m->holder[i].name = wr_strdup(wr_str_text(&name));
        ok = m->holder[i].name != NULL && !name.oom;
    }
    wr_str_free(&name);
    return ok;
}

/* Which buffers hold what an optimizer reads? By root node. */
static bool *find_parameter_gradients(const wr_plan *p) {
    bool *found = calloc(wr_node_count(p->g), sizeof *found);
    for (int i = 0; found != NULL && i < p->n_steps; i++) {
        const wr_node *x = wr_node_at(p->g, p->step[i].node);
        for (int k = 0; (x->op->traits & WR_STATEFUL) && k < x->n_in; k++)
            found[p->value[wr_node_inputs(p->g, p->step[i].node)[k]].root] = true;
    }
    return found;
}

/* ---- buffers ---- */

static bool is_buffer(const wr_plan *p, uint32_t id) {
    const wr_value *v = &p->value[id];
    return v->place == WR_PLACE_ARENA && v->root == id && v->bytes > 0 && v->first >= 0;
}

static bool add_buffer(wr__memory *m, size_t *cap, wr__buffer b) {
    if (!wr_grow(&m->buffer, cap, m->n_buffers + 1, sizeof *m->buffer)) return false;
    if (b.last >= m->steps) b.last = m->steps - 1;
    if (b.last < b.first) b.last = b.first;
    m->buffer[m->n_buffers++] = b;
    return true;
}

static bool add_values(wr__memory *m, size_t *cap) {
    const wr_plan *p = m->p;
    bool *gradient = find_parameter_gradients(p), ok = gradient != NULL;
    for (uint32_t id = 1; ok && id < wr_node_count(p->g); id++) {
        if (!is_buffer(p, id)) continue;
        const wr_value *v = &p->value[id];
        const wr_node *x = wr_node_at(p->g, wr__memory_maker(p->g, id));
        bool of_parameter = gradient[id] && is_backward(x);
        size_t holder = of_parameter
                            ? parameter_gradients(m)
                            : holder_of_group(m->groups.of_scope[x->scope], is_backward(x));
        ok = add_buffer(m, cap,
                        (wr__buffer){.node = id,
                                     .holder = (uint32_t)holder,
                                     .offset = v->offset,
                                     .bytes = v->bytes,
                                     .first = v->first,
                                     .last = v->last});
    }
    free(gradient);
    return ok;
}

static bool add_workspaces(wr__memory *m, size_t *cap) {
    for (int i = 0; i < m->p->n_steps; i++) {
        const wr_step *s = &m->p->step[i];
        if (s->workspace_bytes == 0) continue;
        wr__buffer b = {.node = s->node,
                        .holder = (uint32_t)workspaces(m),
                        .offset = s->workspace_offset,
                        .bytes = s->workspace_bytes,
                        .first = i,
                        .last = i,
                        .workspace = true};
        if (!add_buffer(m, cap, b)) return false;
    }
    return true;
}

static int by_bytes(const void *left, const void *right) {
    const wr__buffer *a = left, *b = right;
    if (a->bytes != b->bytes) return a->bytes > b->bytes ? -1 : 1;
    if (a->first != b->first) return a->first < b->first ? -1 : 1;
    return a->node < b->node ? -1 : a->node > b->node;
}

/* ---- over the steps ---- */

/* Buffers take whole units in the arena (the planner counts its peak so, too). */
static double taken(size_t bytes) {
    enum { UNIT = 256 };
    size_t units = (bytes + UNIT - 1) / UNIT;
    return (double)(units * UNIT);
}

static bool sum_steps(wr__memory *m) {
    size_t steps = (size_t)m->steps;
    for (size_t i = 0; i < m->n_buffers; i++) {
        const wr__buffer *b = &m->buffer[i];
        wr__holder *h = &m->holder[b->holder];
        if (h->at == NULL) h->at = calloc(steps + 1, sizeof *h->at);
        if (h->at == NULL) return false;
        h->n++;
        h->at[b->first] += taken(b->bytes);
        h->at[b->last + 1] -= taken(b->bytes);
    }
    for (size_t k = 0; k < m->n_holders; k++)
        for (size_t i = 0; m->holder[k].at != NULL && i < steps; i++) {
            if (i > 0) m->holder[k].at[i] += m->holder[k].at[i - 1];
            if (m->holder[k].at[i] > m->holder[k].most) m->holder[k].most = m->holder[k].at[i];
        }
    return true;
}

static void find_peak(wr__memory *m) {
    for (int i = 0; i < m->steps; i++) {
        double now = 0;
        for (size_t k = 0; k < m->n_holders; k++)
            now += m->holder[k].at != NULL ? m->holder[k].at[i] : 0;
        if (now <= m->peak) continue;
        m->peak = now;
        m->peak_step = i;
    }
    for (size_t k = 0; k < m->n_holders; k++)
        if (m->holder[k].at != NULL) m->holder[k].peak = m->holder[k].at[m->peak_step];
    for (size_t i = 0; i < m->n_buffers; i++) {
        const wr__buffer *b = &m->buffer[i];
        m->holder[b->holder].n_peak += b->first <= m->peak_step && b->last >= m->peak_step;
    }
}

/* Is `a` before `b`? Those that hold most at some step are first, as far as `shown` goes; among
 * them and among the others those that hold most at the peak. */
static bool comes_before(const wr__memory *m, const size_t *above, size_t shown, size_t a,
                         size_t b) {
    const wr__holder *x = &m->holder[a], *y = &m->holder[b];
    bool first = above[a] < shown, second = above[b] < shown;
    if (first != second) return first;
    if (x->peak != y->peak) return x->peak > y->peak;
    if (x->most != y->most) return x->most > y->most;
    return a < b;
}

/* How many hold more at some step, per holder. */
static void rank_by_most(const wr__memory *m, size_t *above) {
    for (size_t i = 0; i < m->n_holders; i++) {
        above[i] = 0;
        for (size_t k = 0; k < m->n_holders; k++) {
            double a = m->holder[k].most, b = m->holder[i].most;
            above[i] += a > b || (a == b && k < i);
        }
    }
}

/* Put the holders in order, and say it to the buffers. */
static bool sort_holders(wr__memory *m, size_t shown) {
    size_t *above = malloc(m->n_holders * sizeof *above);
    uint32_t *place = calloc(m->n_holders, sizeof *place);
    wr__holder *sorted = malloc(m->n_holders * sizeof *sorted);
    bool ok = above != NULL && place != NULL && sorted != NULL;
    if (ok) rank_by_most(m, above);
    for (size_t i = 0; ok && i < m->n_holders; i++) {
        for (size_t k = 0; k < m->n_holders; k++)
            place[i] += k != i && comes_before(m, above, shown, k, i);
        sorted[place[i]] = m->holder[i];
    }
    for (size_t i = 0; ok && i < m->n_buffers; i++)
        m->buffer[i].holder = place[m->buffer[i].holder];
    if (ok) memcpy(m->holder, sorted, m->n_holders * sizeof *sorted);
    free(above);
    free(place);
    free(sorted);
    return ok;
}

/* Bytes that are not in the arena. */
static void sum_others(wr__memory *m) {
    for (uint32_t id = 1; id < wr_node_count(m->p->g); id++) {
        const wr_value *v = &m->p->value[id];
        const wr_op *op = wr_node_at(m->p->g, id)->op;
        if (v->place == WR_PLACE_NONE || v->root != id) continue;
        if (op == &wr_op_param) m->parameters += (double)v->bytes;
        if (op == &wr_op_state) m->states += (double)v->bytes;
        if (op == &wr_op_const) m->constants += (double)v->bytes;
        if (op == &wr_op_input) m->inputs += (double)v->bytes;
    }
}

wr_status wr__memory_begin(wr__memory *m, const wr_plan *p, int depth, size_t shown,
                           wr_error *err) {
    *m = (wr__memory){.p = p, .steps = p->n_steps > 0 ? p->n_steps : 1};
    size_t cap = 0;
    bool ok = wr_scope_groups_new(&m->groups, p->g, depth);
    size_t n = 2 * m->groups.n + 2;
    m->holder = ok ? calloc(n, sizeof *m->holder) : NULL;
    if (m->holder != NULL) m->n_holders = n;
    ok = m->holder != NULL && name_holders(m) && add_values(m, &cap) && add_workspaces(m, &cap);
    if (ok && m->n_buffers > 0) qsort(m->buffer, m->n_buffers, sizeof *m->buffer, by_bytes);
    ok = ok && sum_steps(m);
    if (!ok) return wr_fail_memory(err, "the memory of a plan", (size_t)m->steps * sizeof(double));
    find_peak(m);
    sum_others(m);
    if (!sort_holders(m, shown)) return wr_fail_memory(err, "the memory of a plan", n);
    return WR_OK;
}

void wr__memory_end(wr__memory *m) {
    for (size_t i = 0; i < m->n_holders; i++) {
        free(m->holder[i].name);
        free(m->holder[i].at);
    }
    free(m->holder);
    free(m->buffer);
    wr_scope_groups_free(&m->groups);
    *m = (wr__memory){0};
}

/* ---- words ---- */

void wr__memory_print_bytes(wr_str *out, double bytes) {
    static const char *const UNITS[] = {"B", "kB", "MB", "GB", "TB"};
    int unit = 0;
    for (; bytes >= 999.5 && unit < 4; unit++)
        bytes /= 1000;
    wr_str_add(out, "%.*f %s", unit > 0 && bytes < 99.95 ? 1 : 0, bytes, UNITS[unit]);
}

void wr__memory_print_name(const wr_plan *p, const wr__buffer *b, wr_str *out) {
    uint32_t id = wr__memory_maker(p->g, b->node);
    const wr_node *x = wr_node_at(p->g, id);
    if (b->workspace) wr_str_add(out, "workspace of ");
    wr_scope_path(p->g, x->scope, out);
    wr_str_add(out, "%s%s", x->scope != 0 ? "." : "",
               x->name != 0 ? wr_text_at(p->g, x->name) : x->op->name);
    if (is_backward(x)) wr_str_add(out, " (backward)");
}

void wr__memory_print_type(const wr_plan *p, const wr__buffer *b, wr_str *out) {
    const wr_node *x = wr_node_at(p->g, b->node);
    if (b->workspace) return;
    wr_str_add(out, "%s [", wr_dtype_name((wr_dtype)x->dtype));
    for (int i = 0; i < x->rank; i++)
        wr_str_add(out, "%s%lld", i > 0 ? ", " : "", (long long)p->value[b->node].dim[i]);
    wr_str_add(out, "]");
}

void wr__memory_print_line(const wr_plan *p, const wr__buffer *b, wr_str *out) {
    const wr_node *x = wr_node_at(p->g, wr__memory_maker(p->g, b->node));
    const wr_loc *loc = wr_loc_at(p->g, x->loc);
    wr_str_add(out, "%s:%d", loc->file, loc->line);
}

void wr__memory_print_sum(const wr__memory *m, wr_str *out) {
    wr_str_add(out, "at most ");
    wr__memory_print_bytes(out, m->peak);
    wr_str_add(out, " in use, at step %d of %d", m->peak_step + (m->p->n_steps > 0), m->p->n_steps);
    wr_str_add(out, "; arena ");
    wr__memory_print_bytes(out, (double)m->p->arena_bytes);
    const struct {
        const char *word;
        double bytes;
    } other[] = {{"parameters", m->parameters},
                 {"states", m->states},
                 {"constants", m->constants},
                 {"inputs", m->inputs}};
    const char *before = "; outside of it ";
    for (size_t i = 0; i < sizeof other / sizeof other[0]; i++) {
        if (other[i].bytes <= 0) continue;
        wr_str_add(out, "%s%s ", before, other[i].word);
        wr__memory_print_bytes(out, other[i].bytes);
        before = ", ";
    }
}
