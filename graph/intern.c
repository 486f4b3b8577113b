/* intern.c: see intern.h. */
#include "graph/graph_internal.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

uint64_t wr__hash(const void *data, size_t n, uint64_t seed) {
    const unsigned char *p = data;
    uint64_t h = seed ^ 0x9e3779b97f4a7c15u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    h ^= h >> 32;
    return h * 0xd6e8feb86659fd93u;
}

static bool grow_slots(wr__bytes *b) {
    size_t slots = b->slots == 0 ? 256 : b->slots * 2;
    uint32_t *slot = calloc(slots, sizeof *slot);
    if (slot == NULL) return false;
    for (size_t i = 1; i < b->n; i++) {
        size_t at = b->item[i].hash & (slots - 1);
        while (slot[at] != 0)
            at = (at + 1) & (slots - 1);
        slot[at] = (uint32_t)i;
    }
    free(b->slot);
    b->slot = slot;
    b->slots = slots;
    return true;
}

uint32_t wr__intern(wr__bytes *b, const void *data, size_t n) {
    if (n == 0) return 0;
    if (b->n * 2 >= b->slots && !grow_slots(b)) return 0;
    uint64_t hash = wr__hash(data, n, 0);
    size_t at = hash & (b->slots - 1);
    for (; b->slot[at] != 0; at = (at + 1) & (b->slots - 1)) {
        const wr__interned *x = &b->item[b->slot[at]];
        if (x->hash == hash && x->n == n && memcmp(x->bytes, data, n) == 0) return b->slot[at];
    }
    if (!wr_grow(&b->item, &b->cap, b->n + 1, sizeof *b->item)) return 0;
    char *copy = malloc(n + 1);
    if (copy == NULL) return 0;
    memcpy(copy, data, n);
    copy[n] = '\0';
    b->item[b->n] = (wr__interned){.bytes = copy, .n = n, .hash = hash};
    b->slot[at] = (uint32_t)b->n;
    return (uint32_t)b->n++;
}

wr__shared *wr__shared_new(void) {
    wr__shared *s = calloc(1, sizeof *s);
    if (s == NULL) return NULL;
    s->refs = 1;
    s->dims = wr_dims_new();
    bool ok = s->dims != NULL && wr_grow(&s->bytes.item, &s->bytes.cap, 1, sizeof(wr__interned)) &&
              wr_grow(&s->scope, &s->cap_scopes, 1, sizeof(wr__scope));
    if (!ok) {
        wr__shared_release(s);
        return NULL;
    }
    s->bytes.item[0] = (wr__interned){0};
    s->bytes.n = 1;
    s->scope[0] = (wr__scope){0};
    s->n_scopes = 1;
    return s;
}

void wr__shared_release(wr__shared *s) {
    if (s == NULL || --s->refs > 0) return;
    wr__symbols_free(s->symbols);
    s->refs = INT_MAX / 2; /* what is kept gives back references that it does not hold */
    for (size_t i = s->n_kept; i > 0; i--)
        s->kept[i - 1].release(s->kept[i - 1].object);
    free(s->kept);
    wr_dims_free(s->dims);
    for (size_t i = 1; i < s->bytes.n; i++)
        free(s->bytes.item[i].bytes);
    free(s->bytes.item);
    free(s->bytes.slot);
    free(s->scope);
    free(s);
}

uint32_t wr__scope_child(wr__shared *s, uint32_t parent, const char *name) {
    uint32_t text = wr__intern(&s->bytes, name, strlen(name));
    for (size_t i = 1; i < s->n_scopes; i++)
        if (s->scope[i].parent == parent && s->scope[i].name == text) return (uint32_t)i;
    if (text == 0 || !wr_grow(&s->scope, &s->cap_scopes, s->n_scopes + 1, sizeof *s->scope))
        return UINT32_MAX;
    s->scope[s->n_scopes] = (wr__scope){.parent = parent, .name = text};
    return (uint32_t)s->n_scopes++;
}
