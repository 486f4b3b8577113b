/* assign.c: the assignment problem by shortest augmenting paths; see alignments.h.
 *
 * Rows enter one after the other. For a new row, Dijkstra's algorithm over reduced costs cost -
 * row_price - column_price, which are never negative, finds the nearest column without an owner;
 * the matching is then changed along that path, and prices move so that the path's pairs and all
 * old pairs have reduced cost 0. */
#include "models/objectives/alignments.h"

#include <math.h>

typedef struct search {
    int n;
    const double *cost;
    size_t stride;
    double *row_price, *column_price;
    double *distance; /* [n] of each column from the new row */
    int32_t *owner;   /* [n] the row of each column, -1: free */
    int32_t *before;  /* [n] the row from which a column was reached */
    int32_t *column;  /* [n] */
    char *done;       /* [n] */
} search;

size_t wr_assign_workspace(int n) { return (size_t)n * (sizeof(double) + 2 * sizeof(int32_t) + 1); }

/* Shorten the distances of columns through `row`, itself at `distance`. Returns the nearest column
 * that is not done, or -1. */
static int relax(search *s, int row, double distance) {
    const double *cost = s->cost + (size_t)row * s->stride;
    double base = distance - s->row_price[row], least = INFINITY;
    int nearest = -1;
    for (int c = 0; c < s->n; c++) {
        if (s->done[c]) continue;
        double d = base + cost[c] - s->column_price[c];
        if (d < s->distance[c]) {
            s->distance[c] = d;
            s->before[c] = row;
        }
        if (s->distance[c] < least) {
            least = s->distance[c];
            nearest = c;
        }
    }
    return nearest;
}

/* The free column that is nearest to a new row; -1 when none can be reached. */
static int find_free(search *s, int row) {
    for (int c = 0; c < s->n; c++) {
        s->distance[c] = INFINITY;
        s->done[c] = 0;
    }
    double distance = 0;
    for (;;) {
        int c = relax(s, row, distance);
        if (c < 0) return -1;
        if (s->owner[c] < 0) return c;
        s->done[c] = 1;
        distance = s->distance[c];
        row = s->owner[c];
    }
}

static void move_prices(search *s, int row, int last) {
    double length = s->distance[last];
    s->row_price[row] += length;
    for (int c = 0; c < s->n; c++) {
        if (!s->done[c]) continue;
        s->row_price[s->owner[c]] += length - s->distance[c];
        s->column_price[c] -= length - s->distance[c];
    }
}

static void augment(search *s, int row, int last) {
    int c = last;
    for (;;) {
        int r = s->before[c], next = s->column[r];
        s->owner[c] = r;
        s->column[r] = c;
        if (r == row) return;
        c = next;
    }
}

double wr_assign(int n, const double *cost, size_t stride, int32_t *column, double *row_price,
                 double *column_price, void *workspace) {
    search s = {.n = n, .cost = cost, .stride = stride, .column = column};
    s.row_price = row_price;
    s.column_price = column_price;
    s.distance = workspace;
    s.owner = (int32_t *)(s.distance + n);
    s.before = s.owner + n;
    s.done = (char *)(s.before + n);
    for (int i = 0; i < n; i++) {
        row_price[i] = column_price[i] = 0;
        s.owner[i] = column[i] = -1;
    }
    double total = 0;
    for (int row = 0; row < n; row++) {
        int last = find_free(&s, row);
        if (last < 0) return INFINITY;
        move_prices(&s, row, last);
        augment(&s, row, last);
    }
    for (int row = 0; row < n; row++)
        total += cost[(size_t)row * stride + (size_t)column[row]];
    return total;
}
