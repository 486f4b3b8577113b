/* sentence_order.c: see sentence_order.h. */
#include "models/sentence_order.h"

#include <stdlib.h>

typedef struct entry {
    size_t src, tgt, index;
} entry;

static int compare(const void *a, const void *b) {
    const entry *x = a, *y = b;
    if (x->src != y->src) return x->src > y->src ? -1 : 1;
    if (x->tgt != y->tgt) return x->tgt > y->tgt ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

size_t *wr__order_by_length(const wr_sentence *src, const wr_sentence *tgt, size_t n) {
    entry *e = malloc(sizeof *e * (n + 1));
    size_t *order = malloc(sizeof *order * (n + 1));
    if (e != NULL && order != NULL) {
        for (size_t i = 0; i < n; i++)
            e[i] = (entry){src[i].n, tgt == NULL ? 0 : tgt[i].n, i};
        qsort(e, n, sizeof *e, compare);
        for (size_t i = 0; i < n; i++)
            order[i] = e[i].index;
    } else {
        free(order);
        order = NULL;
    }
    free(e);
    return order;
}
