/* crash.c: the report of a crash; see crash.h.
 *
 * This file holds the only mutable state of the engine that does not belong to a graph, a program
 * or a session, because a signal belongs to the process: a handler is a function without arguments
 * of ours, and it may run in any thread. So every thread knows the innermost run it is in
 * (thread-local, no other thread writes it), and every run stands in a table, where the handler
 * looks when the signal came to a helper thread of a parallel kernel. Nothing but reports depends
 * on either. */
#define _GNU_SOURCE
#include "graph/crash.h"
#include "graph/trace.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RUNS = 16, STACK_BYTES = 1 << 20, PATIENCE = 20 };

static _Thread_local wr__running *innermost;
static _Atomic(wr__running *) runs[RUNS]; /* the innermost run of each running thread */

/* ---- what runs ---- */

static long this_thread(void) { return syscall(SYS_gettid); }

static int take_slot(wr__running *r) {
    for (int i = 0; i < RUNS; i++) {
        wr__running *none = NULL;
        if (atomic_compare_exchange_strong(&runs[i], &none, r)) return i;
    }
    return -1; /* more runs at a time than the table holds: their threads still know them */
}

void wr__running_begin(wr__running *r, const wr_plan *p) {
    *r = (wr__running){.plan = p, .step = -1, .outer = innermost};
    r->thread = r->outer != NULL ? r->outer->thread : this_thread();
    if (r->outer == NULL) {
        r->slot = take_slot(r);
    } else {
        r->slot = r->outer->slot;
        if (r->slot >= 0) atomic_store(&runs[r->slot], r);
    }
    innermost = r;
}

void wr__running_end(wr__running *r) {
    innermost = r->outer;
    if (r->slot >= 0) atomic_store(&runs[r->slot], r->outer);
}

/* ---- text without allocations ---- */

typedef struct text {
    char bytes[4096];
    size_t n;
} text;

static void put(text *t, const char *s) {
    while (*s != '\0' && t->n < sizeof t->bytes)
        t->bytes[t->n++] = *s++;
}

static void put_number(text *t, uint64_t x, unsigned base) {
    char digit[24];
    int n = 0;
    do {
        digit[n++] = "0123456789abcdef"[x % base];
        x /= base;
    } while (x > 0);
    for (char one[2] = {0}; n > 0;) {
        one[0] = digit[--n];
        put(t, one);
    }
}

static void put_address(text *t, uintptr_t x) {
    put(t, "0x");
    put_number(t, x, 16);
}

static void flush(text *t) {
    for (size_t at = 0; at < t->n;) {
        ssize_t n = write(STDERR_FILENO, t->bytes + at, t->n - at);
        if (n < 0 && errno != EINTR) break;
        if (n > 0) at += (size_t)n;
    }
    t->n = 0;
}

/* ---- the report ---- */

typedef struct known {
    int number;
    const char *name, *meaning;
} known;
static const known SIGNALS[] = {{SIGSEGV, "SIGSEGV", "memory that is not there"},
                                {SIGBUS, "SIGBUS", "memory that cannot be reached"},
                                {SIGFPE, "SIGFPE", "impossible arithmetic"},
                                {SIGILL, "SIGILL", "an instruction that this processor lacks"},
                                {SIGABRT, "SIGABRT", "the program gave up"}};
enum { SIGNAL_COUNT = sizeof SIGNALS / sizeof *SIGNALS };
static struct sigaction before[SIGNAL_COUNT]; /* written once, by wr_crash_handler */
static char stack[STACK_BYTES];               /* the handler's */

static void put_signal(text *t, int number, const siginfo_t *info) {
    const known *k = &SIGNALS[0];
    for (int i = 0; i < SIGNAL_COUNT; i++)
        if (SIGNALS[i].number == number) k = &SIGNALS[i];
    put(t, "weir: crash: ");
    put(t, k->name);
    put(t, " (");
    put(t, k->meaning);
    put(t, ")");
    if (info->si_code > 0 && number != SIGABRT) {
        put(t, number == SIGSEGV || number == SIGBUS ? ", address " : ", at ");
        put_address(t, (uintptr_t)info->si_addr);
    }
    put(t, "\n");
}

static void put_scope(text *t, const wr_graph *g, uint32_t scope) {
    if (scope == 0) return;
    put_scope(t, g, wr_scope_parent(g, scope));
    if (wr_scope_parent(g, scope) != 0) put(t, ".");
    put(t, wr_scope_name(g, scope));
}

static void put_name(text *t, const wr_graph *g, uint32_t id) {
    const wr_node *x = wr_node_at(g, id);
    const char *source = wr_source_name(g, id);
    put(t, "\"");
    if (source[0] != '\0') {
        put(t, source);
    } else {
        put_scope(t, g, x->scope);
        if (x->scope != 0) put(t, ".");
        put(t, x->name != 0 ? wr_text_at(g, x->name) : x->op->name);
    }
    put(t, "\"");
}

/* Its sizes in this run. */
static void put_type(text *t, const wr_plan *p, uint32_t id) {
    const wr_node *x = wr_node_at(p->g, id);
    put(t, wr_dtype_name((wr_dtype)x->dtype));
    put(t, " [");
    for (int i = 0; i < x->rank; i++) {
        if (i > 0) put(t, ", ");
        put_number(t, (uint64_t)p->value[id].dim[i], 10);
    }
    put(t, "]");
}

static void put_place(text *t, const wr_graph *g, uint32_t id) {
    const wr_loc *loc = wr_loc_at(g, wr_node_at(g, id)->loc);
    put(t, loc->file);
    put(t, ":");
    put_number(t, (uint64_t)loc->line, 10);
}

static void put_value(text *t, const wr_plan *p, uint32_t id) {
    put_name(t, p->g, id);
    put(t, " ");
    put_type(t, p, id);
    put(t, "  from ");
    put_place(t, p->g, id);
    put(t, " ");
    put(t, wr_node_at(p->g, id)->op->name);
    put(t, "\n");
}

static void put_run(text *t, const wr__running *r) {
    const wr_plan *p = r->plan;
    if (r->step < 0 || r->step >= p->n_steps) return;
    uint32_t id = p->step[r->step].node;
    const wr_node *x = wr_node_at(p->g, id);
    put_place(t, p->g, id);
    put(t, " in ");
    put(t, wr_loc_at(p->g, x->loc)->func);
    put(t, "(): ");
    put(t, x->op->name);
    put(t, ": crashed in step ");
    put_number(t, (uint64_t)r->step + 1, 10);
    put(t, " of ");
    put_number(t, (uint64_t)p->n_steps, 10);
    put(t, x->role == WR_GRADIENT ? ", in the gradient of this line\n" : "\n");
    put(t, "  result ");
    put_value(t, p, id);
    for (int k = 0; k < x->n_in && k < 6; k++) {
        const char letter[] = {' ', ' ', (char)('a' + k), ' ', '\0'};
        put(t, letter);
        put_value(t, p, wr_node_inputs(p->g, id)[k]);
    }
    if (x->scope != 0) {
        put(t, "  in scope ");
        put_scope(t, p->g, x->scope);
        put(t, "\n");
    }
}

/* The run that the signal belongs to: this thread's, or for a helper thread one of those running.
 */
static const wr__running *find_run(text *t) {
    long thread = this_thread();
    const wr__running *found = NULL;
    for (int i = 0; i < RUNS; i++) {
        const wr__running *r = atomic_load(&runs[i]);
        if (r == NULL) continue;
        if (r->thread == thread) return r;
        if (found != NULL) put(t, "  several graphs were running; this is one of them\n");
        found = r;
    }
    if (innermost != NULL) return innermost;
    put(t, found == NULL ? "  no graph was running\n" : "");
    return found;
}

/* With allocations and libdw, which a crashed process may not survive: only in a child. */
static void explain(const wr__running *r, int n, const uintptr_t *pc) {
    wr_str s = {0};
    text t = {.n = 0};
    if (r != NULL && r->step >= 0)
        wr_trace_of_node(r->plan->g, r->plan->step[r->step].node, "  ", &s);
    wr_str_add(&s, "  stack ");
    wr_trace_print(n, pc, &s);
    put(&t, wr_str_text(&s));
    put(&t, "\n");
    flush(&t);
}

static pid_t fork_quietly(void) {
#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 34)
    return _Fork(); /* fork() itself would wait for locks that the crashed thread may hold */
#else
    return fork();
#endif
}

static bool explain_in_child(const wr__running *r, int n, const uintptr_t *pc) {
    int status = 0;
    pid_t child = fork_quietly();
    if (child == 0) {
        signal(SIGALRM, SIG_DFL);
        alarm(PATIENCE); /* an allocator that crashed with its lock taken never gives it back */
        explain(r, n, pc);
        _exit(0);
    }
    while (child > 0 && waitpid(child, &status, 0) < 0)
        if (errno != EINTR) return false;
    return child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void put_stack(text *t, int n, const uintptr_t *pc) {
    put(t, "  stack");
    for (int i = 0; i < n; i++) {
        put(t, " ");
        put_address(t, pc[i]);
    }
    put(t, "\n");
}

static void report(int number, siginfo_t *info, void *context) {
    (void)context;
    int saved = errno;
    text t = {.n = 0};
    uintptr_t pc[WR_TRACE_FRAMES];
    for (int i = 0; i < SIGNAL_COUNT; i++) /* a crash in here is the end */
        sigaction(SIGNALS[i].number, &before[i], NULL);
    put_signal(&t, number, info);
    const wr__running *r = find_run(&t);
    for (const wr__running *x = r; x != NULL; x = x->outer)
        put_run(&t, x);
    flush(&t);
    int n = wr_trace_here(pc, WR_TRACE_FRAMES);
    if (n > 1 && !explain_in_child(r, n - 1, pc + 1)) put_stack(&t, n - 1, pc + 1);
    flush(&t);
    errno = saved;
    raise(number); /* arrives when this returns: to whoever handled it before */
}

wr_status wr_crash_handler(wr_error *err) {
    static atomic_flag installed = ATOMIC_FLAG_INIT;
    if (atomic_flag_test_and_set(&installed)) return WR_OK;
    stack_t own = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction act = {.sa_flags = SA_SIGINFO | SA_ONSTACK};
    act.sa_sigaction = report;
    sigemptyset(&act.sa_mask);
    if (sigaltstack(&own, NULL) != 0)
        return wr_fail(err, WR_ERR_IO, "no stack for the crash handler: %s", strerror(errno));
    for (int i = 0; i < SIGNAL_COUNT; i++)
        if (sigaction(SIGNALS[i].number, &act, &before[i]) != 0)
            return wr_fail(err, WR_ERR_IO, "no handler for %s: %s", SIGNALS[i].name,
                           strerror(errno));
    return WR_OK;
}
