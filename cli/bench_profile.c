/* bench_profile.c: where the time and the memory of a step go, by row and by scope. */
#include "cli/bench.h"

#include "viz/bars.h"
#include "viz/memory.h"
#include "viz/scope_groups.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Time of the steps that have something in common. */
typedef struct share {
    char name[96];
    double seconds, flops, bytes;
    int n;
} share;

typedef struct shares {
    share *of;
    size_t n, cap;
} shares;

static bool add_step(shares *x, const char *name, const wr_step *s, double runs) {
    size_t at = 0;
    while (at < x->n && strncmp(x->of[at].name, name, sizeof x->of[at].name - 1) != 0)
        at++;
    if (at == x->n) {
        if (!wr_grow(&x->of, &x->cap, x->n + 1, sizeof *x->of)) return false;
        x->of[x->n] = (share){.n = 0};
        snprintf(x->of[x->n++].name, sizeof x->of->name, "%s", name);
    }
    x->of[at].seconds += s->seconds / runs;
    x->of[at].flops += s->flops;
    x->of[at].bytes += s->bytes;
    x->of[at].n++;
    return true;
}

static int by_seconds(const void *left, const void *right) {
    const share *a = left, *b = right;
    if (a->seconds != b->seconds) return a->seconds > b->seconds ? -1 : 1;
    return strcmp(a->name, b->name);
}

static bool gather_rows(const wr_plan *plan, double runs, shares *x) {
    for (int i = 0; i < plan->n_steps; i++)
        if (!add_step(x, wr_node_at(plan->g, plan->step[i].node)->op->name, &plan->step[i], runs))
            return false;
    return true;
}

/* "decoder.layer*", ".. backward"; what has no scope is told by the part of the step it is in. */
static void name_scope(const wr_scope_groups *groups, const wr_node *x, char *name, size_t size) {
    bool backward = x->role == WR_GRADIENT || x->role == WR_RECOMPUTED;
    const char *scope = groups->name[groups->of_scope[x->scope]];
    if (x->op->traits & WR_STATEFUL)
        snprintf(name, size, "update of parameters");
    else
        snprintf(name, size, "%s%s", *scope != '\0' ? scope : "outside of scopes",
                 backward ? ", backward" : "");
}

static bool gather_scopes(const wr_plan *plan, double runs, int depth, shares *x) {
    wr_scope_groups groups;
    bool ok = wr_scope_groups_new(&groups, plan->g, depth);
    for (int i = 0; ok && i < plan->n_steps; i++) {
        char name[sizeof x->of->name];
        name_scope(&groups, wr_node_at(plan->g, plan->step[i].node), name, sizeof name);
        ok = add_step(x, name, &plan->step[i], runs);
    }
    wr_scope_groups_free(&groups);
    return ok;
}

static double total_of(const shares *x) {
    double total = 0;
    for (size_t i = 0; i < x->n; i++)
        total += x->of[i].seconds;
    return total;
}

static double per(double amount, double seconds) { return seconds > 0 ? amount / seconds : 0; }

static void print_shares(const shares *x, const char *what) {
    double total = total_of(x);
    fprintf(stderr, "%-32s %6s %9s %6s %9s %8s\n", what, "steps", "ms", "share", "GFLOP/s", "GB/s");
    for (size_t i = 0; i < x->n; i++) {
        const share *r = &x->of[i];
        fprintf(stderr, "%-32s %6d %9.2f %5.1f%% %9.1f %8.1f\n", r->name, r->n, r->seconds * 1e3,
                100 * per(r->seconds, total), per(r->flops, r->seconds) / 1e9,
                per(r->bytes, r->seconds) / 1e9);
    }
}

enum { NOTE = 48 };

/* The bars of a picture; the rest of many is one. */
static wr_status draw_shares(const shares *x, const char *path, const char *recipe, wr_error *err) {
    enum { BARS = 40 };
    wr_bar_row row[BARS];
    char note[BARS][NOTE], title[200], about[100];
    double total = total_of(x), rest = 0;
    size_t n = 0;
    while (n < x->n && n < BARS - 1 && x->of[n].seconds >= 0.001 * total)
        n++;
    for (size_t i = n; i < x->n; i++)
        rest += x->of[i].seconds;
    for (size_t i = 0; i < (n < x->n ? n + 1 : n); i++) {
        double seconds = i < n ? x->of[i].seconds : rest;
        snprintf(note[i], NOTE, "%.2f ms, %.1f%%", seconds * 1e3, 100 * per(seconds, total));
        row[i] = (wr_bar_row){i < n ? x->of[i].name : "the rest", seconds * 1e3, note[i]};
    }
    const char *slash = strrchr(recipe, '/');
    snprintf(title, sizeof title, "%s: where the time of a step goes",
             slash != NULL ? slash + 1 : recipe);
    snprintf(about, sizeof about, "%.2f ms in all, by scope", total * 1e3);
    wr_bars bars = {
        .title = title, .about = about, .unit = "ms", .row = row, .n = n < x->n ? n + 1 : n};
    wr_str svg = {0};
    wr_status status = wr_bars_svg(&bars, &svg, err);
    if (status == WR_OK) status = wr_file_replace(path, wr_str_text(&svg), svg.len, err);
    wr_str_free(&svg);
    return status;
}

/* Who holds the arena where it is fullest, by row, on stderr. */
static void print_memory_by_row(const wr_plan *plan) {
    typedef struct row {
        const char *name;
        double bytes;
        int n;
    } row;
    row rows[128];
    int n = 0;
    for (uint32_t id = 1; id < wr_node_count(plan->g); id++) {
        const wr_value *v = &plan->value[id];
        if (v->place != WR_PLACE_ARENA || v->root != id) continue;
        if (v->first > plan->peak_step || v->last < plan->peak_step) continue;
        const wr_node *x = wr_node_at(plan->g, id);
        if (x->op == &wr_op_output) x = wr_node_at(plan->g, wr_node_inputs(plan->g, id)[0]);
        int at = 0;
        while (at < n && strcmp(rows[at].name, x->op->name) != 0)
            at++;
        if (at == n && n < 128) rows[n++] = (row){.name = x->op->name};
        if (at == 128) continue;
        rows[at].bytes += (double)v->bytes;
        rows[at].n++;
    }
    fprintf(stderr, "\n%-20s %6s %9s  (at the peak, step %d of %d)\n", "row", "values", "MB",
            plan->peak_step, plan->n_steps);
    while (n > 0) {
        int top = 0;
        for (int i = 1; i < n; i++)
            if (rows[i].bytes > rows[top].bytes) top = i;
        fprintf(stderr, "%-20s %6d %9.2f\n", rows[top].name, rows[top].n, rows[top].bytes / 1e6);
        rows[top] = rows[--n];
    }
}

wr_status wr_bench_profile(const wr_bench *b, int64_t runs, bool memory, wr_error *err) {
    enum { TOP = 10 };
    const wr_plan *plan = wr_session_plan(b->session);
    shares rows = {0}, scopes = {0};
    wr_str table = {0};
    wr_memory_options o = {.depth = (int)b->o->profile_depth, .top = TOP};
    wr_status status = WR_OK;
    if (!gather_rows(plan, (double)runs, &rows) ||
        !gather_scopes(plan, (double)runs, o.depth, &scopes))
        status = wr_fail_memory(err, "a profile", 0);
    if (status == WR_OK && memory) status = wr_memory_table(plan, &o, &table, err);
    if (rows.n > 0) qsort(rows.of, rows.n, sizeof *rows.of, by_seconds);
    if (scopes.n > 0) qsort(scopes.of, scopes.n, sizeof *scopes.of, by_seconds);
    if (status == WR_OK && b->o->profile_svg != NULL)
        status = draw_shares(&scopes, b->o->profile_svg, b->o->recipe, err);
    if (status == WR_OK) {
        print_shares(&rows, "row");
        fprintf(stderr, "\n");
        print_shares(&scopes, "scope");
        if (memory) print_memory_by_row(plan);
        if (memory) fprintf(stderr, "\n%s", wr_str_text(&table));
    }
    free(rows.of);
    free(scopes.of);
    wr_str_free(&table);
    return status;
}
