/* axe_align.c: the tables of AXE and the way back through them; see alignments.h. */
#include "models/objectives/alignments.h"

#include <math.h>

/* The tables, [N+1, T+1] each: row i targets done, column j positions done. */
typedef struct tables {
    const wr_gathered *s;
    double penalty;
    double *best;  /* A, or F of MPLE's form */
    double *owned; /* M of MPLE's form */
    char *move;    /* the operation that reached `best` */
    char *inside;  /* the operation that reached `owned`: A or T */
    size_t width;  /* T + 1 */
} tables;

size_t wr_axe_workspace(int positions, int targets) {
    size_t cells = ((size_t)positions + 1) * ((size_t)targets + 1);
    return cells * 2 * (sizeof(double) + 1);
}

static tables tables_in(const wr_gathered *s, double penalty, void *workspace) {
    size_t width = (size_t)s->positions + 1, cells = width * ((size_t)s->targets + 1);
    tables t = {.s = s, .penalty = penalty, .best = workspace, .width = width};
    t.owned = t.best + cells;
    t.move = (char *)(t.owned + cells);
    t.inside = t.move + cells;
    return t;
}

/* What position j (from 1, 0 counts as 1) pays to say target i (from 1). */
static double price(const wr_gathered *s, int i, int j) {
    return -s->lp[(size_t)(j > 0 ? j - 1 : 0) * s->stride + (size_t)(i - 1)];
}

static double skip_price(const wr_gathered *s, int j) {
    return -s->lp[(size_t)(j - 1) * s->stride + (size_t)s->extra];
}

/* A penalty of 0 makes skipping free, even of what is impossible. */
static double penalised(const tables *t, int i, int j) {
    return t->penalty == 0 ? 0 : t->penalty * price(t->s, i, j);
}

/* Fill the border row 0 (positions skipped) of a table. */
static void fill_first_row(const tables *t) {
    t->best[0] = 0;
    for (int j = 1; j <= t->s->positions; j++) {
        t->best[j] = t->best[j - 1] + skip_price(t->s, j);
        t->move[j] = 'P';
        t->owned[j] = INFINITY;
    }
    t->owned[0] = INFINITY;
}

static void better(double cost, char move, double *best, char *best_move) {
    if (cost < *best) {
        *best = cost;
        *best_move = move;
    }
}

static void fill_original(const tables *t) {
    for (int i = 1; i <= t->s->targets; i++) {
        double *row = t->best + (size_t)i * t->width, *above = row - t->width;
        char *move = t->move + (size_t)i * t->width;
        row[0] = above[0] + penalised(t, i, 0);
        move[0] = 'T';
        for (int j = 1; j <= t->s->positions; j++) {
            row[j] = above[j - 1] + price(t->s, i, j);
            move[j] = 'A';
            better(row[j - 1] + skip_price(t->s, j), 'P', &row[j], &move[j]);
            better(above[j] + penalised(t, i, j), 'T', &row[j], &move[j]);
        }
    }
}

static void fill_mple(const tables *t) {
    for (int i = 1; i <= t->s->targets; i++) {
        size_t at = (size_t)i * t->width;
        double *best = t->best + at, *owned = t->owned + at;
        char *move = t->move + at, *inside = t->inside + at;
        best[0] = owned[0] = INFINITY;
        for (int j = 1; j <= t->s->positions; j++) {
            const double *above = best - t->width, *owned_above = owned - t->width;
            owned[j] = above[j - 1] + price(t->s, i, j);
            inside[j] = 'A';
            better(owned_above[j] + penalised(t, i, j), 'T', &owned[j], &inside[j]);
            double skipped = best[j - 1] + skip_price(t->s, j);
            /* ties in the order A, P, T */
            bool own = inside[j] == 'A' ? owned[j] <= skipped : owned[j] < skipped;
            best[j] = own ? owned[j] : skipped;
            move[j] = own ? inside[j] : 'P';
        }
    }
}

/* ---- the way back ---- */

static void reverse(char *text, size_t n) {
    for (size_t k = 0; k < n / 2; k++) {
        char c = text[k];
        text[k] = text[n - 1 - k];
        text[n - 1 - k] = c;
    }
    text[n] = '\0';
}

/* What the step `move` from (i, j) adds. */
static void account(const tables *t, char move, int i, int j, double *w, const wr_axe_path *path) {
    int p = j > 0 ? j - 1 : 0;
    double *row = w + (size_t)p * t->s->stride;
    if (move == 'P') {
        row[t->s->extra] += 1;
    } else {
        row[i - 1] += move == 'A' ? 1 : t->penalty;
        if (path->position != NULL) path->position[i - 1] = p;
    }
    if (path->said != NULL && move != 'T') path->said[p] = move == 'A' ? i - 1 : -1;
}

static void walk_back(const tables *t, wr_axe_form form, double *w, const wr_axe_path *path) {
    int i = t->s->targets, j = t->s->positions;
    size_t steps = 0;
    bool owned = false; /* MPLE's form: inside the run of position j */
    while (i > 0 || j > 0) {
        size_t at = (size_t)i * t->width + (size_t)j;
        char move = owned ? t->inside[at] : t->move[at];
        account(t, move, i, j, w, path);
        if (path->operations != NULL) path->operations[steps++] = move;
        owned = form == WR_AXE_MPLE && move == 'T';
        i -= move != 'P';
        j -= move != 'T';
    }
    if (path->operations != NULL) reverse(path->operations, steps);
}

double wr_axe(const wr_gathered *s, wr_axe_form form, double skip_penalty, double *w,
              const wr_axe_path *path, void *workspace) {
    static const wr_axe_path none = {0};
    if (s->positions <= 0) return INFINITY;
    tables t = tables_in(s, skip_penalty, workspace);
    fill_first_row(&t);
    if (form == WR_AXE_ORIGINAL)
        fill_original(&t);
    else
        fill_mple(&t);
    double loss = t.best[(size_t)s->targets * t.width + (size_t)s->positions];
    if (!(loss < INFINITY)) return INFINITY;
    walk_back(&t, form, w, path == NULL ? &none : path);
    return loss;
}
