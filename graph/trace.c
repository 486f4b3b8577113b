/* trace.c: recording the stack of callers; see trace.h. Symbols are in trace_print.c. */
#include "graph/trace.h"
#include "graph/graph_internal.h"

#include <stdlib.h>
#include <string.h>

/* How stacks are remembered. A node's stack is nearly always one that was seen before: layers are
 * built in loops. On x86-64 a return address lies right below the frame's canonical address, so a
 * stack seen before can be recognised by reading: if all its return addresses still stand in their
 * places, from the innermost outwards, the frames between are the same ones. That costs a load and
 * a compare per frame, where libunwind interprets tables. Elsewhere every stack is walked. */
enum { SETS = 256, WAYS = 8, MOST = WR_TRACE_FRAMES };

typedef struct seen {
    uintptr_t base; /* the frame that asked; 0: empty */
    uint32_t trace;
    uint16_t n, slot[MOST]; /* where the return addresses lie, in words above `base` */
} seen;

struct wr__tracer {
    bool on;
    wr_trace_counts counts;
    seen *table;     /* SETS of WAYS, by source line and base: the same line has several callers */
    size_t last;     /* the stack recorded last: the next one shares its outer frames */
    unsigned oldest; /* the way that is given up next */
};

wr__tracer *wr__tracer_new(void) {
    wr__tracer *t = calloc(1, sizeof *t);
    if (t != NULL) t->on = wr_trace_available();
    return t;
}

void wr__tracer_free(wr__tracer *t) {
    if (t == NULL) return;
    free(t->table);
    free(t);
}

void wr_graph_record_traces(wr_graph *g, bool on) {
    if (g->tracer != NULL) g->tracer->on = on && wr_trace_available();
}

wr_trace_counts wr_trace_count(const wr_graph *g) {
    return g->tracer == NULL ? (wr_trace_counts){0} : g->tracer->counts;
}

#ifndef WEIR_TRACE

bool wr_trace_available(void) { return false; }

int wr_trace_here(uintptr_t *pc, int most) {
    (void)pc, (void)most;
    return 0;
}

uint32_t wr__trace_record(wr_graph *g, const wr_loc *loc) {
    (void)g, (void)loc;
    return 0;
}

#else

#define UNW_LOCAL_ONLY
#include <libunwind.h>

bool wr_trace_available(void) { return true; }

int __attribute__((noinline)) wr_trace_here(uintptr_t *pc, int most) {
    unw_context_t context;
    unw_cursor_t cursor;
    int n = 0;
    if (unw_getcontext(&context) != 0 || unw_init_local(&cursor, &context) != 0) return 0;
    while (n < most && unw_step(&cursor) > 0) {
        unw_word_t ip;
        if (unw_get_reg(&cursor, UNW_REG_IP, &ip) != 0 || ip == 0) break;
        pc[n++] = (uintptr_t)ip;
    }
    return n;
}

static const uintptr_t *stored_stack(const wr_graph *g, uint32_t trace, int *n) {
    size_t bytes;
    const void *pc = wr_blob_at(g, trace, &bytes);
    *n = (int)(bytes / sizeof(uintptr_t));
    return pc;
}

static uint32_t store_stack(wr_graph *g, int n, const uintptr_t *pc) {
    size_t before = g->shared->bytes.n;
    uint32_t id = wr__intern(&g->shared->bytes, pc, sizeof *pc * (size_t)n);
    if (g->shared->bytes.n > before) {
        g->tracer->counts.stacks++;
        g->tracer->counts.frames += (size_t)n;
    }
    if (id == 0) wr__out_of_memory(g);
    return id;
}

#if defined(__x86_64__)

/* Reads other functions' frames, of which the sanitizers have their own opinion. */
#if defined(__clang__)
#define READS_THE_STACK __attribute__((noinline, no_sanitize("address", "thread", "undefined")))
#else
#define READS_THE_STACK                                                                            \
    __attribute__((noinline, no_sanitize_address, no_sanitize_thread, no_sanitize_undefined))
#endif

/* Do the return addresses from number `first` of a stored stack stand where they stood? */
static bool READS_THE_STACK stands(const seen *s, const uintptr_t *pc, int first) {
    const uintptr_t *word = (const uintptr_t *)s->base; /* NOLINT: an address of this stack */
    for (int i = first; i < s->n; i++)
        if (word[s->slot[i]] != pc[i]) return false;
    return true;
}

typedef struct walk {
    int n;
    uintptr_t pc[MOST], at[MOST]; /* return addresses and where they lie */
} walk;

/* From frame w->n - 1 outwards, is the rest that of `s`? Then it is copied. */
static bool joins(wr_graph *g, walk *w, const seen *s) {
    int n, i = 0;
    if (s->base == 0 || s->trace == 0) return false;
    const uintptr_t *pc = stored_stack(g, s->trace, &n);
    uintptr_t at = w->at[w->n - 1];
    while (i < s->n && s->base + sizeof(uintptr_t) * s->slot[i] < at)
        i++;
    if (i == s->n || s->base + sizeof(uintptr_t) * s->slot[i] != at || pc[i] != w->pc[w->n - 1])
        return false;
    if (w->n + s->n - i - 1 > MOST || !stands(s, pc, i)) return false;
    for (i++; i < s->n; i++, w->n++) {
        w->pc[w->n] = pc[i];
        w->at[w->n] = s->base + sizeof(uintptr_t) * s->slot[i];
    }
    return true;
}

/* Walk the stack from the frame whose canonical address is `from`, until it joins the last one. */
static void walk_stack(wr_graph *g, uintptr_t from, walk *w) {
    const seen *last = &g->tracer->table[g->tracer->last];
    unw_context_t context;
    unw_cursor_t cursor;
    w->n = 0;
    g->tracer->counts.walked++;
    if (unw_getcontext(&context) != 0 || unw_init_local(&cursor, &context) != 0) return;
    while (w->n < MOST && unw_step(&cursor) > 0) {
        unw_word_t ip, sp;
        if (unw_get_reg(&cursor, UNW_REG_IP, &ip) != 0 || ip == 0) return;
        if (unw_get_reg(&cursor, UNW_REG_SP, &sp) != 0) return;
        if (sp - sizeof(uintptr_t) < from) continue; /* our own frames */
        w->pc[w->n] = (uintptr_t)ip;
        w->at[w->n++] = (uintptr_t)sp - sizeof(uintptr_t);
        if (joins(g, w, last)) return;
    }
}

static size_t set_of(uintptr_t base, const wr_loc *loc) {
    uint64_t h = base ^ (uintptr_t)loc->func ^ ((uint64_t)(uint32_t)loc->line << 20);
    return (h * 0x9e3779b97f4a7c15u >> 40) % SETS * WAYS;
}

/* Remember where the return addresses lie, where that fits. */
static void remember(seen *s, uintptr_t base, uint32_t trace, const walk *w) {
    *s = (seen){.base = base, .trace = trace, .n = (uint16_t)w->n};
    for (int i = 0; i < w->n; i++) {
        uintptr_t words = (w->at[i] - base) / sizeof(uintptr_t);
        if (words > UINT16_MAX) {
            *s = (seen){0};
            return;
        }
        s->slot[i] = (uint16_t)words;
    }
}

uint32_t __attribute__((noinline)) wr__trace_record(wr_graph *g, const wr_loc *loc) {
    wr__tracer *t = g->tracer;
    if (t == NULL || !t->on) return 0;
    if (t->table == NULL && (t->table = calloc((size_t)SETS * WAYS, sizeof *t->table)) == NULL) {
        wr__out_of_memory(g);
        return 0;
    }
    uintptr_t base = (uintptr_t)__builtin_frame_address(0);
    size_t set = set_of(base, loc);
    t->counts.asked++;
    for (size_t i = set; i < set + WAYS; i++) {
        const seen *s = &t->table[i];
        int n;
        if (s->base != base || !stands(s, stored_stack(g, s->trace, &n), 0)) continue;
        t->last = i;
        return s->trace;
    }
    walk w;
    walk_stack(g, base, &w);
    uint32_t trace = w.n == 0 ? 0 : store_stack(g, w.n, w.pc);
    if (trace == 0) return 0;
    t->last = set + t->oldest++ % WAYS;
    remember(&t->table[t->last], base, trace, &w);
    return trace;
}

#else

uint32_t wr__trace_record(wr_graph *g, const wr_loc *loc) {
    uintptr_t pc[MOST];
    (void)loc;
    if (g->tracer == NULL || !g->tracer->on) return 0;
    g->tracer->counts.asked++;
    g->tracer->counts.walked++;
    int n = wr_trace_here(pc, MOST);
    return n == 0 ? 0 : store_stack(g, n, pc);
}

#endif
#endif
