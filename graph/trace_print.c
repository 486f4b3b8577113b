/* trace_print.c: program counters as functions, files and lines, by elfutils' libdw; see trace.h.
 */
#define _GNU_SOURCE
#include "graph/graph_internal.h"
#include "graph/trace.h"

#ifndef WEIR_TRACE

void wr__symbols_free(wr__symbols *s) { (void)s; }

void wr__trace_append(wr_graph *g, wr_loc loc, wr_str *out) { (void)g, (void)loc, (void)out; }

void wr_trace_of_node(const wr_graph *g, uint32_t id, const char *prefix, wr_str *out) {
    (void)g, (void)id, (void)prefix, (void)out;
}

void wr_trace_print(int n, const uintptr_t *pc, wr_str *out) { (void)n, (void)pc, (void)out; }

#else

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_CALLERS = 12, MOST_FRAMES = 40 }; /* printed: of the user's, of a whole stack */

typedef struct frame {
    const char *function, *file; /* NULL: unknown */
    int line;
} frame;

struct wr__symbols {
    Dwfl *dwfl;
    const char *own_file; /* as line tables call this file; NULL: they do not know it */
    size_t root;          /* length of the source folder's path in front of file names */
};

/* One chain being printed. */
typedef struct printer {
    const wr__symbols *symbols;
    bool all;          /* internal functions too */
    const char *maker; /* the user's function that is named already; NULL: none */
    bool begun, ended;
    int printed;
    const char *prefix;
    wr_str *out;
} printer;

/* ---- symbols of the process ---- */

/* Line tables are read from the program and its libraries alone; nothing is fetched. */
static int no_debuginfo(Dwfl_Module *module, void **user, const char *name, Dwarf_Addr base,
                        const char *file, const char *link, GElf_Word crc, char **found) {
    (void)module, (void)user, (void)name, (void)base, (void)file, (void)link, (void)crc;
    (void)found;
    return -1;
}

static Dwfl *open_process(void) {
    static const Dwfl_Callbacks callbacks = {.find_elf = dwfl_linux_proc_find_elf,
                                             .find_debuginfo = no_debuginfo};
    Dwfl *dwfl = dwfl_begin(&callbacks);
    if (dwfl == NULL) return NULL;
    if (dwfl_linux_proc_report(dwfl, getpid()) != 0 || dwfl_report_end(dwfl, NULL, NULL) != 0) {
        dwfl_end(dwfl);
        return NULL;
    }
    return dwfl;
}

/* The compilation unit of an address. GCC writes a table of them; for units of clang, which does
 * not, they are asked one after the other. NULL: none with debug information. */
static Dwarf_Die *unit_of(Dwfl_Module *module, Dwarf_Addr pc, Dwarf_Addr *bias) {
    Dwarf_Die *unit = dwfl_module_addrdie(module, pc, bias);
    if (unit != NULL && dwarf_haspc(unit, pc - *bias) > 0) return unit;
    unit = NULL; /* in a mixture of both, the table gives the unit before */
    while ((unit = dwfl_module_nextcu(module, unit, bias)) != NULL)
        if (dwarf_haspc(unit, pc - *bias) > 0) return unit;
    return NULL;
}

/* The file and line of an address of the unit. */
static void find_line(Dwarf_Die *unit, Dwarf_Addr pc, frame *f) {
    Dwarf_Line *line = unit == NULL ? NULL : dwarf_getsrc_die(unit, pc);
    f->file = line == NULL ? NULL : dwarf_linesrc(line, NULL, NULL);
    if (line != NULL) dwarf_lineno(line, &f->line);
}

/* Where the source folder ends in the names of files, by this function's own. */
static void find_root(wr__symbols *s) {
    static const char own[] = "graph/trace_print.c";
    uintptr_t pc = (uintptr_t)&find_root;
    Dwfl_Module *module = dwfl_addrmodule(s->dwfl, pc);
    Dwarf_Addr bias = 0;
    frame f = {0};
    Dwarf_Die *unit = module == NULL ? NULL : unit_of(module, pc, &bias);
    find_line(unit, pc - bias, &f);
    size_t n = f.file == NULL ? 0 : strlen(f.file);
    if (n < sizeof own - 1 || strcmp(f.file + n - (sizeof own - 1), own) != 0) return;
    s->own_file = f.file;
    s->root = n - (sizeof own - 1);
}

static bool symbols_open(wr__symbols *s) {
    *s = (wr__symbols){.dwfl = open_process()};
    if (s->dwfl == NULL) return false;
    find_root(s);
    return true;
}

void wr__symbols_free(wr__symbols *s) {
    if (s == NULL) return;
    dwfl_end(s->dwfl);
    free(s);
}

/* The symbols, opened by the first message of a family of graphs. NULL: not to be had. */
static const wr__symbols *symbols_of(wr__shared *shared, wr_str *out) {
    if (shared->symbols != NULL) return shared->symbols;
    wr__symbols *s = malloc(sizeof *s);
    out->oom = out->oom || s == NULL;
    if (s == NULL || !symbols_open(s)) {
        free(s);
        return NULL;
    }
    return shared->symbols = s;
}

/* ---- frames ---- */

/* Is it that function? Copies that the compiler specialised are called "f.isra.0" and the like. */
static bool is_function(const char *symbol, const char *name) {
    size_t n = strcspn(symbol, ".");
    return strlen(name) == n && strncmp(symbol, name, n) == 0;
}

static bool begins(const char *text, const char *with) {
    return strncmp(text, with, strlen(with)) == 0;
}

/* Of the engine: builders before the user's part has begun, and in between what calls back (the
 * body of a loop). */
static bool is_internal(const frame *f, bool begun) {
    if (f->file == NULL) return !begun && (f->function == NULL || begins(f->function, "wr_"));
    return begins(f->file, "graph/") || begins(f->file, "ops/") || begins(f->file, "autodiff/");
}

static void print_frame(printer *t, frame f) {
    const wr__symbols *s = t->symbols;
    if (f.file != NULL && s->root > 0 && strncmp(f.file, s->own_file, s->root) == 0)
        f.file += s->root;
    if (t->ended || t->printed == (t->all ? MOST_FRAMES : MOST_CALLERS)) return;
    if (f.function == NULL && t->all) return;
    if (!t->all && is_internal(&f, t->begun)) return;
    bool said =
        !t->begun && t->maker != NULL && f.function != NULL && is_function(f.function, t->maker);
    t->begun = true;
    if (f.function == NULL) t->ended = true;
    if (said || t->ended) { /* the message begins with it */
        t->ended = t->ended || is_function(f.function, "main");
        return;
    }
    wr_str_add(t->out, "%s%.*s", t->printed == 0 ? t->prefix : " <- ",
               (int)strcspn(f.function, "."), f.function);
    if (f.file != NULL) wr_str_add(t->out, " %s:%d", f.file, f.line);
    t->printed++;
    t->ended = is_function(f.function, "main");
}

/* The line of a call that was inlined: attributes of the inlined function's entry. */
static void caller_place(Dwarf_Die *inlined, Dwarf_Die *unit, frame *f) {
    Dwarf_Attribute attr;
    Dwarf_Word value;
    Dwarf_Files *files;
    f->file = NULL;
    if (dwarf_formudata(dwarf_attr(inlined, DW_AT_call_line, &attr), &value) == 0)
        f->line = (int)value;
    if (dwarf_getsrcfiles(unit, &files, NULL) == 0 &&
        dwarf_formudata(dwarf_attr(inlined, DW_AT_call_file, &attr), &value) == 0)
        f->file = dwarf_filesrc(files, value, NULL, NULL);
}

/* The functions that were inlined at the address, from the innermost, each with its line; leaves in
 * `f` the place in the function that holds them all. */
static void print_inlined(printer *t, Dwarf_Die *unit, Dwarf_Addr pc, frame *f) {
    Dwarf_Die *at, *around;
    int n = unit == NULL ? 0 : dwarf_getscopes(unit, pc, &at);
    if (n <= 0) return;
    int m = dwarf_getscopes_die(&at[0], &around);
    for (int i = 0; i < m; i++) {
        if (dwarf_tag(&around[i]) != DW_TAG_inlined_subroutine) continue;
        frame inner = {dwarf_diename(&around[i]), f->file, f->line};
        if (inner.function != NULL) print_frame(t, inner);
        caller_place(&around[i], unit, f);
    }
    if (m > 0) free(around);
    free(at);
}

static void print_address(printer *t, uintptr_t pc) {
    Dwfl_Module *module = dwfl_addrmodule(t->symbols->dwfl, pc);
    if (module == NULL) return;
    frame f = {.function = dwfl_module_addrname(module, pc)};
    Dwarf_Addr bias = 0;
    Dwarf_Die *unit = unit_of(module, pc, &bias);
    find_line(unit, pc - bias, &f);
    print_inlined(t, unit, pc - bias, &f);
    print_frame(t, f);
}

/* ---- chains ---- */

/* A return address lies behind its call. */
static void print_chain(printer *t, int n, const uintptr_t *pc) {
    for (int i = 0; i < n && !t->ended; i++)
        print_address(t, pc[i] - 1);
}

/* The user's part of a stack; without line tables of our own nobody could tell where it begins. */
static void print_user_chain(wr__shared *shared, const char *maker, int n, const uintptr_t *pc,
                             const char *prefix, wr_str *out) {
    const wr__symbols *s = n > 0 ? symbols_of(shared, out) : NULL;
    if (s == NULL || s->root == 0) return;
    printer t = {.symbols = s, .maker = maker, .prefix = prefix, .out = out};
    print_chain(&t, n, pc);
    if (t.printed > 0) wr_str_add(out, "\n");
}

void wr__trace_append(wr_graph *g, wr_loc loc, wr_str *out) {
    uintptr_t pc[WR_TRACE_FRAMES];
    int n = wr_trace_here(pc, WR_TRACE_FRAMES);
    print_user_chain(g->shared, loc.func, n, pc, "  called from ", out);
}

void wr_trace_of_node(const wr_graph *g, uint32_t id, const char *prefix, wr_str *out) {
    const wr__place *place = wr__place_at(g, g->node[id].loc);
    if (id == 0 || place == NULL || place->trace == 0) return;
    size_t bytes;
    const uintptr_t *pc = wr_blob_at(g, place->trace, &bytes);
    wr_str text = {0};
    wr_str_add(&text, "%scalled from ", prefix);
    print_user_chain(g->shared, place->loc.func, (int)(bytes / sizeof *pc), pc, wr_str_text(&text),
                     out);
    wr_str_free(&text);
}

void wr_trace_print(int n, const uintptr_t *pc, wr_str *out) {
    wr__symbols s;
    if (n == 0 || !symbols_open(&s)) return;
    printer t = {.symbols = &s, .all = true, .prefix = "", .out = out};
    print_chain(&t, n, pc);
    dwfl_end(s.dwfl);
}

#endif
