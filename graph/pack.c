/* pack.c: best-fit packing of buffer lifetimes into one arena; see plan.h. */
#include "graph/plan.h"

#include <stdlib.h>
#include <string.h>

typedef struct gap {
    size_t at, bytes;
} gap;

typedef struct packer {
    gap *gap; /* free ranges below `end`, ascending, never touching */
    size_t n, cap;
    size_t end, peak;
    uint32_t *expiry; /* intervals in use, a binary heap by last step */
    size_t n_active;
} packer;

static bool give_back(packer *p, size_t at, size_t bytes) {
    size_t lo = 0, hi = p->n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (p->gap[mid].at < at)
            lo = mid + 1;
        else
            hi = mid;
    }
    bool joins_left = lo > 0 && p->gap[lo - 1].at + p->gap[lo - 1].bytes == at;
    bool joins_right = lo < p->n && at + bytes == p->gap[lo].at;
    if (joins_left && joins_right) {
        p->gap[lo - 1].bytes += bytes + p->gap[lo].bytes;
        memmove(&p->gap[lo], &p->gap[lo + 1], sizeof(gap) * (p->n - lo - 1));
        p->n--;
    } else if (joins_left) {
        p->gap[lo - 1].bytes += bytes;
    } else if (joins_right) {
        p->gap[lo].at = at;
        p->gap[lo].bytes += bytes;
    } else {
        if (!wr_grow(&p->gap, &p->cap, p->n + 1, sizeof(gap))) return false;
        memmove(&p->gap[lo + 1], &p->gap[lo], sizeof(gap) * (p->n - lo));
        p->gap[lo] = (gap){at, bytes};
        p->n++;
    }
    if (p->n > 0 && p->gap[p->n - 1].at + p->gap[p->n - 1].bytes == p->end)
        p->end = p->gap[--p->n].at;
    return true;
}

static size_t take(packer *p, size_t bytes) {
    size_t best = p->n;
    for (size_t i = 0; i < p->n; i++)
        if (p->gap[i].bytes >= bytes && (best == p->n || p->gap[i].bytes < p->gap[best].bytes))
            best = i;
    if (best == p->n) {
        size_t at = p->end;
        p->end += bytes;
        if (p->end > p->peak) p->peak = p->end;
        return at;
    }
    size_t at = p->gap[best].at;
    p->gap[best].at += bytes;
    p->gap[best].bytes -= bytes;
    if (p->gap[best].bytes == 0) {
        memmove(&p->gap[best], &p->gap[best + 1], sizeof(gap) * (p->n - best - 1));
        p->n--;
    }
    return at;
}

static void heap_push(packer *p, const int *last, uint32_t x) {
    size_t i = p->n_active++;
    while (i > 0 && last[p->expiry[(i - 1) / 2]] > last[x]) {
        p->expiry[i] = p->expiry[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    p->expiry[i] = x;
}

static uint32_t heap_pop(packer *p, const int *last) {
    uint32_t top = p->expiry[0], x = p->expiry[--p->n_active];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= p->n_active) break;
        if (child + 1 < p->n_active && last[p->expiry[child + 1]] < last[p->expiry[child]]) child++;
        if (last[p->expiry[child]] >= last[x]) break;
        p->expiry[i] = p->expiry[child];
        i = child;
    }
    p->expiry[i] = x;
    return top;
}

size_t wr_pack_intervals(size_t n, const size_t *bytes, const int *first, const int *last,
                         size_t *offset) {
    packer p = {.expiry = malloc(sizeof(uint32_t) * (n + 1))};
    bool ok = p.expiry != NULL;
    for (size_t i = 0; ok && i < n; i++) {
        while (ok && p.n_active > 0 && last[p.expiry[0]] < first[i]) {
            uint32_t done = heap_pop(&p, last);
            ok = give_back(&p, offset[done], bytes[done]);
        }
        offset[i] = take(&p, bytes[i]);
        heap_push(&p, last, (uint32_t)i);
    }
    free(p.gap);
    free(p.expiry);
    return ok ? p.peak : SIZE_MAX;
}
