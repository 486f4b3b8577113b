/* score_grams.c: the tables behind BLEU and chrF; see score_grams.h. */
#include "data/score_grams.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_SLOTS = 1024 };

typedef struct wr__gram_slot {
    uint64_t key; /* parent node << 32 | symbol */
    uint32_t node, epoch;
} gram_slot;

typedef struct wr__gram_node {
    uint32_t stored; /* largest count in one stored sequence */
    uint32_t count;  /* count in sequence number `sequence` */
    uint32_t sequence;
} gram_node;

typedef struct wr__name_slot {
    uint64_t hash;
    size_t at, len;
    uint32_t id, epoch;
} name_slot;

/* Fibonacci hashing (Knuth, volume 3, section 6.4), twice, so that high bits reach the low ones. */
static uint64_t mix(uint64_t x) {
    const uint64_t golden = UINT64_C(0x9e3779b97f4a7c15); /* 2^64 over the golden ratio */
    x *= golden;
    x = (x ^ x >> 32) * golden;
    return x ^ x >> 29;
}

/* ---- n-grams ---- */

void wr__grams_free(wr__grams *g) {
    free(g->slots);
    free(g->nodes);
    *g = (wr__grams){0};
}

/* Double the table (or make the first one), keeping what is in it. */
static bool grams_rehash(wr__grams *g) {
    size_t n = g->n_slots == 0 ? FIRST_SLOTS : g->n_slots * 2;
    gram_slot *slots = calloc(n, sizeof *slots);
    if (slots == NULL) return false;
    for (size_t i = 0; i < g->n_slots; i++) {
        if (g->slots[i].epoch != g->epoch) continue;
        size_t at = mix(g->slots[i].key) & (n - 1);
        while (slots[at].epoch == g->epoch)
            at = (at + 1) & (n - 1);
        slots[at] = g->slots[i];
    }
    free(g->slots);
    g->slots = slots;
    g->n_slots = n;
    return true;
}

wr_status wr__grams_clear(wr__grams *g, wr_error *err) {
    if (g->n_slots == 0 && !grams_rehash(g))
        return wr_fail_memory(err, "n-gram counts", FIRST_SLOTS * sizeof *g->slots);
    if (!wr_grow(&g->nodes, &g->cap_nodes, 1, sizeof *g->nodes))
        return wr_fail_memory(err, "n-gram counts", sizeof *g->nodes);
    if (++g->epoch == 0) { /* wrapped round: the old marks must not look new */
        memset(g->slots, 0, g->n_slots * sizeof *g->slots);
        g->epoch = 1;
    }
    g->n_nodes = 1; /* the root: the empty n-gram */
    g->sequence = 0;
    return WR_OK;
}

/* The child of `parent` along `symbol`, 0 when there is none; `*slot` is its slot or the empty one
 * where it belongs. */
static uint32_t find_child(const wr__grams *g, uint32_t parent, uint32_t symbol, size_t *slot) {
    uint64_t key = (uint64_t)parent << 32 | symbol;
    size_t at = mix(key) & (g->n_slots - 1);
    while (g->slots[at].epoch == g->epoch && g->slots[at].key != key)
        at = (at + 1) & (g->n_slots - 1);
    *slot = at;
    return g->slots[at].epoch == g->epoch ? g->slots[at].node : 0;
}

/* The child, made when missing; 0 when memory is out. */
static uint32_t get_child(wr__grams *g, uint32_t parent, uint32_t symbol) {
    size_t slot;
    uint32_t node = find_child(g, parent, symbol, &slot);
    if (node != 0) return node;
    if (g->n_nodes * 2 > g->n_slots) {
        if (!grams_rehash(g)) return 0;
        find_child(g, parent, symbol, &slot);
    }
    if (!wr_grow(&g->nodes, &g->cap_nodes, g->n_nodes + 1, sizeof *g->nodes)) return 0;
    node = (uint32_t)g->n_nodes++;
    g->nodes[node] = (gram_node){0};
    g->slots[slot] = (gram_slot){(uint64_t)parent << 32 | symbol, node, g->epoch};
    return node;
}

/* One more of this n-gram in the current sequence; returns its count so far. */
static uint32_t count_one(wr__grams *g, uint32_t node) {
    gram_node *x = &g->nodes[node];
    if (x->sequence != g->sequence) {
        x->sequence = g->sequence;
        x->count = 0;
    }
    return ++x->count;
}

wr_status wr__grams_store(wr__grams *g, const uint32_t *x, size_t n, int order, wr_error *err) {
    if (n > (UINT32_MAX - g->n_nodes) / (size_t)order)
        return wr_fail(err, WR_ERR_INPUT, "a sentence of %zu symbols is too long to score", n);
    g->sequence++;
    for (size_t i = 0; i < n; i++) {
        uint32_t node = 0;
        for (size_t k = i; k < n && k < i + (size_t)order; k++) {
            node = get_child(g, node, x[k]);
            if (node == 0)
                return wr_fail_memory(err, "n-gram counts", 2 * g->n_slots * sizeof *g->slots);
            uint32_t count = count_one(g, node);
            if (count > g->nodes[node].stored) g->nodes[node].stored = count;
        }
    }
    return WR_OK;
}

void wr__grams_common(wr__grams *g, const uint32_t *x, size_t n, int order, uint64_t *common) {
    g->sequence++;
    for (size_t i = 0; i < n; i++) {
        uint32_t node = 0;
        for (size_t k = i; k < n && k < i + (size_t)order; k++) {
            size_t slot;
            node = find_child(g, node, x[k], &slot);
            if (node == 0) break; /* no longer n-gram from here is stored either */
            if (count_one(g, node) <= g->nodes[node].stored) common[k - i]++;
        }
    }
}

/* ---- names ---- */

void wr__names_free(wr__names *names) {
    free(names->slots);
    wr_str_free(&names->bytes);
    *names = (wr__names){0};
}

static bool names_rehash(wr__names *names) {
    size_t n = names->n_slots == 0 ? FIRST_SLOTS : names->n_slots * 2;
    name_slot *slots = calloc(n, sizeof *slots);
    if (slots == NULL) return false;
    for (size_t i = 0; i < names->n_slots; i++) {
        if (names->slots[i].epoch != names->epoch) continue;
        size_t at = names->slots[i].hash & (n - 1);
        while (slots[at].epoch == names->epoch)
            at = (at + 1) & (n - 1);
        slots[at] = names->slots[i];
    }
    free(names->slots);
    names->slots = slots;
    names->n_slots = n;
    return true;
}

wr_status wr__names_clear(wr__names *names, wr_error *err) {
    if (names->n_slots == 0 && !names_rehash(names))
        return wr_fail_memory(err, "word numbers", FIRST_SLOTS * sizeof *names->slots);
    if (++names->epoch == 0) {
        memset(names->slots, 0, names->n_slots * sizeof *names->slots);
        names->epoch = 1;
    }
    names->n = 0;
    wr_str_clear(&names->bytes);
    return WR_OK;
}

static uint64_t hash_bytes(const char *at, size_t len) {
    uint64_t h = len, part;
    for (; len >= sizeof part; at += sizeof part, len -= sizeof part) {
        memcpy(&part, at, sizeof part);
        h = mix(h ^ part);
    }
    part = 0;
    memcpy(&part, at, len);
    return mix(h ^ part);
}

wr_status wr__names_get(wr__names *names, const char *at, size_t len, uint32_t *id, wr_error *err) {
    if ((size_t)names->n * 2 >= names->n_slots && !names_rehash(names))
        return wr_fail_memory(err, "word numbers", 2 * names->n_slots * sizeof *names->slots);
    uint64_t hash = hash_bytes(at, len);
    size_t mask = names->n_slots - 1, i = hash & mask;
    for (; names->slots[i].epoch == names->epoch; i = (i + 1) & mask) {
        const name_slot *s = &names->slots[i];
        if (s->hash != hash || s->len != len) continue;
        if (memcmp(names->bytes.text + s->at, at, len) != 0) continue;
        *id = s->id;
        return WR_OK;
    }
    size_t place = names->bytes.len;
    wr_str_bytes(&names->bytes, at, len);
    if (names->bytes.oom) return wr_fail_memory(err, "word numbers", place + len);
    names->slots[i] = (name_slot){hash, place, len, names->n, names->epoch};
    *id = names->n++;
    return WR_OK;
}
