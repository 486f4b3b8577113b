/* signs.c: arrows that are left out. What many boxes read is given a sign, and its readers tell the
 * sign; what the gradient reads of the forward part is counted. */
#include "viz/picture.h"

#include <stdlib.h>
#include <string.h>

enum { READERS = 5 }; /* so many cells make a sign */

/* What a view that has no box of its own renames. */
static uint32_t source_of(const wr__picture *p, uint32_t id) {
    while (wr__view_is_passed(p, id) && p->cell_of[wr_node_inputs(p->g, id)[0]] == p->cell_of[id])
        id = p->same[wr_node_inputs(p->g, id)[0]];
    return id;
}

static int by_cell(const void *left, const void *right) {
    const wr__reading *a = left, *b = right;
    if (a->cell != b->cell) return a->cell < b->cell ? -1 : 1;
    return a->sign < b->sign ? -1 : a->sign > b->sign;
}

/* Sort and drop what is there twice. */
static size_t tidy(wr__reading *x, size_t n) {
    size_t kept = 0;
    if (n > 0) qsort(x, n, sizeof *x, by_cell);
    for (size_t i = 0; i < n; i++)
        if (kept == 0 || by_cell(&x[kept - 1], &x[i]) != 0) x[kept++] = x[i];
    return kept;
}

bool wr__cell_is_apart(const wr__picture *p, uint32_t cell) {
    const wr__cell *x = &p->cell[cell];
    return p->group[x->is_group ? x->index : p->group_of[x->index]].derived;
}

static bool is_kept(const wr__picture *p, const wr__edge *edge) {
    return !wr__cell_is_apart(p, edge->from) && wr__cell_is_apart(p, edge->to);
}

/* Count what the cells of the gradient read of the forward part. */
static void count_kept(wr__picture *p, wr__reading *pair) {
    size_t n = 0;
    for (size_t i = 0; i < p->n_edges; i++) {
        if (!is_kept(p, &p->edge[i])) continue;
        p->edge[i].told = true;
        pair[n++] = (wr__reading){p->edge[i].to, source_of(p, p->edge[i].tensor)};
    }
    n = tidy(pair, n);
    for (size_t i = 0; i < n; i++)
        p->cell[pair[i].cell].kept++;
}

/* Give a sign to each source with enough readers. `pair` [n_edges]: sources as `sign`, readers as
 * `cell`. Returns how many signs there are. */
static uint32_t choose(wr__picture *p, wr__reading *pair) {
    uint32_t *readers = p->sign; /* counts first, signs then */
    size_t n = 0;
    for (size_t i = 0; i < p->n_edges; i++)
        if (!p->edge[i].told)
            pair[n++] = (wr__reading){p->edge[i].to, source_of(p, p->edge[i].tensor)};
    n = tidy(pair, n);
    for (size_t i = 0; i < n; i++)
        readers[pair[i].sign]++;
    uint32_t signs = 0;
    for (uint32_t id = 1; id < p->n_nodes; id++)
        p->sign[id] = readers[id] >= READERS ? ++signs : 0;
    return signs;
}

/* Outside of the scope asked for, draw what has an arrow or gives a sign. */
static void drop_outside(wr__picture *p) {
    for (size_t i = 0; i < p->n_cells; i++)
        p->cell[i].drawn = p->cell[i].inside;
    for (size_t i = 0; i < p->n_edges; i++)
        if (!p->edge[i].told) p->cell[p->edge[i].from].drawn = p->cell[p->edge[i].to].drawn = true;
    for (size_t i = 0; i < p->n_edges; i++)
        if (p->edge[i].told && p->cell[p->edge[i].to].inside && !is_kept(p, &p->edge[i]))
            p->cell[p->edge[i].from].drawn = true;
}

bool wr__picture_sign(wr__picture *p) {
    p->sign = calloc(p->n_nodes, sizeof *p->sign);
    p->gives = calloc(p->n_edges + 1, sizeof *p->gives);
    p->reads = calloc(p->n_edges + 1, sizeof *p->reads);
    if (p->sign == NULL || p->gives == NULL || p->reads == NULL) return false;
    if (p->o->every_arrow) return true;
    count_kept(p, p->reads);
    p->n_signs = choose(p, p->reads);
    for (size_t i = 0; i < p->n_edges; i++) {
        wr__edge *edge = &p->edge[i];
        uint32_t sign = p->sign[source_of(p, edge->tensor)];
        if (sign == 0 || edge->told) continue;
        edge->told = true;
        p->gives[p->n_gives++] = (wr__reading){edge->from, sign};
        p->reads[p->n_reads++] = (wr__reading){edge->to, sign};
    }
    p->n_gives = tidy(p->gives, p->n_gives);
    p->n_reads = tidy(p->reads, p->n_reads);
    drop_outside(p);
    return true;
}
