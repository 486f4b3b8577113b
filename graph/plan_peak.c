/* plan_peak.c: what fills a plan's arena at its peak, for the message that memory is out. */
#include "graph/plan.h"

#include <stdlib.h>

typedef struct held {
    size_t bytes;
    uint32_t node;
} held;

static int larger_first(const void *a, const void *b) {
    const held *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes > y->bytes ? -1 : 1;
    return x->node < y->node ? -1 : x->node > y->node;
}

static bool holds(const wr_plan *p, uint32_t id) {
    const wr_value *v = &p->value[id];
    return v->place == WR_PLACE_ARENA && v->root == id && v->bytes > 0 &&
           v->first <= p->peak_step && v->last >= p->peak_step;
}

void wr__plan_peak_print(const wr_plan *p, int most, wr_str *out) {
    uint32_t nodes = wr_node_count(p->g);
    held *list = malloc(sizeof *list * nodes);
    size_t n = 0;
    if (list == NULL) return; /* a table for people: the message is whole without it */
    for (uint32_t id = 1; id < nodes; id++)
        if (holds(p, id)) list[n++] = (held){p->value[id].bytes, id};
    qsort(list, n, sizeof *list, larger_first);
    for (size_t i = 0; i < n && i < (size_t)most; i++) {
        wr_str_add(out, "\n  %10.1f MiB  ", (double)list[i].bytes / (1 << 20));
        wr_node_describe(p->g, list[i].node, out);
    }
    if (n > (size_t)most) wr_str_add(out, "\n  and %zu smaller ones", n - (size_t)most);
    free(list);
}
