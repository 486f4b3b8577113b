/* trace.c: the call stack of a mistake, by LLVM's libunwind (program counters) and elfutils' libdw
 * (names and lines). Built in when CMake finds both (WEIR_TRACE); without them nothing is added. */
#define _GNU_SOURCE
#include "graph/graph_internal.h"

#ifndef WEIR_TRACE

void wr__trace_append(wr_loc loc, wr_str *out) {
    (void)loc;
    (void)out;
}

#else

#define UNW_LOCAL_ONLY
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>
#include <libunwind.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_FRAMES = 64, MAX_PRINTED = 12 };

typedef struct frame {
    const char *function, *file; /* NULL: unknown */
    int line;
} frame;

typedef struct tracer {
    Dwfl *dwfl;
    size_t root;          /* length of the source folder's path in front of file names */
    const char *own_file; /* that path is this file's without "graph/trace.c" */
    bool begun, ended;
    int printed;
    wr_loc loc;
    wr_str *out;
} tracer;

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

static int unwind(uintptr_t *pc) {
    unw_context_t context;
    unw_cursor_t cursor;
    int n = 0;
    if (unw_getcontext(&context) != 0 || unw_init_local(&cursor, &context) != 0) return 0;
    do {
        unw_word_t ip;
        if (unw_get_reg(&cursor, UNW_REG_IP, &ip) != 0 || ip == 0) break;
        pc[n] = (uintptr_t)ip - (n > 0); /* a return address lies behind its call */
        n++;
    } while (n < MAX_FRAMES && unw_step(&cursor) > 0);
    return n;
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

/* Inside the builders: the user's part has not begun yet. */
static bool is_internal(const frame *f) {
    if (f->file == NULL) return f->function == NULL || begins(f->function, "wr_");
    return begins(f->file, "graph/") || begins(f->file, "ops/") || begins(f->file, "autodiff/");
}

static void print_frame(tracer *t, frame f) {
    if (f.file != NULL && strncmp(f.file, t->own_file, t->root) == 0) f.file += t->root;
    if (t->ended || t->printed == MAX_PRINTED || (!t->begun && is_internal(&f))) return;
    bool said = !t->begun && f.function != NULL && is_function(f.function, t->loc.func);
    t->begun = true;
    if (f.function == NULL) t->ended = true;
    if (said || t->ended) { /* the message begins with it */
        t->ended = t->ended || is_function(f.function, "main");
        return;
    }
    wr_str_add(t->out, "%s%.*s", t->printed == 0 ? "  called from " : " <- ",
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
static void print_inlined(tracer *t, Dwfl_Module *module, Dwarf_Addr pc, frame *f) {
    Dwarf_Addr bias;
    Dwarf_Die *unit = dwfl_module_addrdie(module, pc, &bias), *at, *around;
    int n = unit == NULL ? 0 : dwarf_getscopes(unit, pc - bias, &at);
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

static void print_address(tracer *t, uintptr_t pc) {
    Dwfl_Module *module = dwfl_addrmodule(t->dwfl, pc);
    if (module == NULL) return;
    frame f = {.function = dwfl_module_addrname(module, pc)};
    Dwfl_Line *line = dwfl_module_getsrc(module, pc);
    if (line != NULL) f.file = dwfl_lineinfo(line, NULL, &f.line, NULL, NULL, NULL);
    print_inlined(t, module, pc, &f);
    print_frame(t, f);
}

/* Where the source folder ends in the names of files, by this function's own. */
static void find_root(tracer *t, uintptr_t pc) {
    static const char own[] = "graph/trace.c";
    Dwfl_Module *module = dwfl_addrmodule(t->dwfl, pc);
    Dwfl_Line *line = module == NULL ? NULL : dwfl_module_getsrc(module, pc);
    const char *file = line == NULL ? NULL : dwfl_lineinfo(line, NULL, NULL, NULL, NULL, NULL);
    size_t n = file == NULL ? 0 : strlen(file);
    if (n < sizeof own - 1 || strcmp(file + n - (sizeof own - 1), own) != 0) return;
    t->own_file = file;
    t->root = n - (sizeof own - 1);
}

void wr__trace_append(wr_loc loc, wr_str *out) {
    uintptr_t pc[MAX_FRAMES];
    int n = unwind(pc);
    tracer t = {.dwfl = n == 0 ? NULL : open_process(), .loc = loc, .out = out};
    if (t.dwfl == NULL) return;
    find_root(&t, pc[0]);
    t.ended = t.root == 0; /* without line tables nobody could tell the user's part from ours */
    for (int i = 0; i < n && !t.ended; i++)
        print_address(&t, pc[i]);
    if (t.printed > 0) wr_str_add(out, "\n");
    dwfl_end(t.dwfl);
}

#endif
