/* intern.h: equal byte strings get equal ids; what graphs that derive from one another share. */
#ifndef WEIR_INTERN_H
#define WEIR_INTERN_H

#include "graph/graph.h"

typedef struct wr__interned {
    char *bytes; /* with a NUL behind */
    size_t n;
    uint64_t hash;
} wr__interned;

typedef struct wr__bytes {
    wr__interned *item; /* item[0] is "" */
    size_t n, cap;
    uint32_t *slot; /* open addressing, 0 is empty */
    size_t slots;
} wr__bytes;

typedef struct wr__scope {
    uint32_t parent, name;
    bool recompute, results_too; /* results_too: also what other scopes read */
} wr__scope;

/* What nodes refer to by index: bodies of loops. */
typedef struct wr__kept {
    void *object;
    void (*release)(void *object);
} wr__kept;

/* Dims, strings, locations and scopes of a family of graphs. Counted references. */
typedef struct wr__shared {
    int refs;
    wr_dims *dims;
    wr__bytes bytes;
    wr__scope *scope;
    size_t n_scopes, cap_scopes;
    int64_t next_stream;
    wr__kept *kept;
    size_t n_kept, cap_kept;
    struct wr__symbols *symbols; /* for chains of callers, opened by the first message */
} wr__shared;

wr__shared *wr__shared_new(void);
void wr__shared_release(wr__shared *s);

uint64_t wr__hash(const void *data, size_t n, uint64_t seed);
/* The id of the bytes; 0 for none or when memory is out. */
uint32_t wr__intern(wr__bytes *b, const void *data, size_t n);
/* The child scope of that name, made when new. UINT32_MAX when memory is out. */
uint32_t wr__scope_child(wr__shared *s, uint32_t parent, const char *name);

#endif
