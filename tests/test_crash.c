/* test_crash.c: a child process crashes inside a kernel; its report names the node, and its exit
 * status is the signal's. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "graph/crash.h"
#include "graph/session.h"
#include "graph/trace.h"
#include "ops/elementwise.h"
#include "ops/scan.h"

#include <omp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- a row that crashes ---- */

typedef enum how { BY_ADDRESS, BY_SIGNAL, BY_ABORT, IN_A_HELPER, BY_RECURSION } how;

static bool same_shape(wr_shape_ctx *c) {
    c->out[0] = wr_type_of(c->in[0]);
    return true;
}

static int __attribute__((noinline)) sink_deeper(volatile int *depth) {
    volatile char frame[4096];
    frame[0] = (char)*depth;
    *depth += 1;
    if (*depth == 0) return 0; /* for a compiler that knows better */
    return sink_deeper(depth) + frame[0];
}

static wr_status __attribute__((noinline)) crashing_kernel(const wr_call *c) {
    volatile uintptr_t nowhere = 4096;
    volatile int depth = 0;
    switch ((how)c->attr[0].i) {
    case BY_ADDRESS:
        *(volatile int *)nowhere = 1;
        break;
    case BY_SIGNAL:
        raise(SIGFPE);
        break;
    case BY_ABORT:
        abort();
    case IN_A_HELPER:
#pragma omp parallel num_threads(2)
        if (omp_get_thread_num() == 1) *(volatile int *)nowhere = 1;
        break;
    case BY_RECURSION:
        return sink_deeper(&depth) == 0 ? WR_OK : WR_ERR_INPUT;
    }
    return WR_OK;
}

static const wr_op CRASHING = {.name = "my_row",
                               .doc = "crashes",
                               .n_in = 1,
                               .attrs = {{"how", WR_ATTR_INT}},
                               .shape = same_shape,
                               .cpu = crashing_kernel};

enum { MADE = __LINE__ + 2 };
static wr __attribute__((noinline)) my_layer(wr x, how way) {
    wr y = wr_emit(WR_HERE, &CRASHING, 1, &x, (wr_attr[]){{.i = way}});
    return wr_named(y, "h");
}

static bool body(wr_scan_step *s) {
    s->next[0] = my_layer(s->carry[0], BY_ADDRESS);
    return true;
}

static void run_graph(how way, bool in_a_loop) {
    static const float data[6] = {0};
    wr_graph *g = wr_graph_new();
    wr_dim B = wr_sym(g, "B", 1, 9, 1);
    wr x = wr_input(g, "x", WR_F32, WR_DIMS(B, wr_n(3))), y = wr_neg(x);
    WR_SCOPE (g, "enc") {
        WR_SCOPE (g, "layer%d", 3) {
            if (in_a_loop) {
                wr_scan_spec spec = {.body = body, .n_carry = 1, .carry = &x, .steps = wr_n(2)};
                wr_scan(&spec, &y, NULL, NULL);
            } else {
                y = my_layer(y, way);
            }
        }
    }
    y = wr_tanh(y);
    wr_error err = {0};
    wr_session_options o = {.threads = 1};
    wr_session *s = NULL;
    wr_program *p = NULL;
    wr_feed feed = {.name = "x", .data = data, .rank = 2, .dim = {2, 3}};
    bool ok = wr_program_new(g, 1, &y, NULL, &p, &err) == WR_OK &&
              wr_session_new(&o, &s, &err) == WR_OK &&
              wr_session_run(s, p, 1, &feed, &err) == WR_OK;
    fprintf(stderr, "survived: %d %s\n", ok, err.text);
}

/* ---- a child ---- */

typedef struct child {
    char text[16384];
    int status;
} child;

static void become_child(int to, how way, bool in_a_loop) {
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    wr_error err = {0};
    struct rlimit none = {0};
    setrlimit(RLIMIT_CORE, &none);
    dup2(to, STDERR_FILENO);
    for (int i = 0; i < 5; i++) /* a sanitizer's, cmocka's */
        signal(signals[i], SIG_DFL);
    bool ok = wr_crash_handler(&err) == WR_OK;
    ok = ok && wr_crash_handler(&err) == WR_OK; /* once more does no harm */
    if (ok) run_graph(way, in_a_loop);
    _exit(3);
}

static void crash(child *c, how way, bool in_a_loop) {
    int ends[2];
    size_t n = 0;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) become_child(ends[1], way, in_a_loop);
    assert_true(pid > 0);
    close(ends[1]);
    for (ssize_t got; (got = read(ends[0], c->text + n, sizeof c->text - 1 - n)) > 0;)
        n += (size_t)got;
    c->text[n] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(pid, &c->status, 0), pid);
    print_message("%s", c->text);
}

static void assert_has(const child *c, const char *fmt, ...) WR_PRINTF(2, 3);
static void assert_has(const child *c, const char *fmt, ...) {
    char expected[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(expected, sizeof expected, fmt, args);
    va_end(args);
    if (strstr(c->text, expected) == NULL) fail_msg("no \"%s\" in\n%s", expected, c->text);
}

/* The signal ended it, after one report with the node. */
static void assert_report(const child *c, int number, const char *name) {
    const char *f = __FILE__;
    assert_has(c, "weir: crash: %s (", name);
    assert_has(c, "\n%s:%d in my_layer(): my_row: crashed in step ", f, MADE);
    assert_has(c, "\n  result \"enc.layer3.h\" f32 [2, 3]  from %s:%d my_row\n", f, MADE);
    assert_has(c, "\n  in scope enc.layer3\n");
    assert_null(strstr(strstr(c->text, "weir: crash: ") + 1, "weir: crash: "));
    assert_true(WIFSIGNALED(c->status));
    assert_int_equal(WTERMSIG(c->status), number);
}

/* Where traces are built in, the callers of the row and the stack come with lines. */
static void assert_stack(const child *c) {
    if (!wr_trace_available()) return;
    assert_has(c, "\n  called from run_graph %s:", __FILE__);
    assert_has(c, "crashing_kernel %s:", __FILE__);
    assert_has(c, " <- run_steps graph/plan.c:");
}

static void test_address(void **state) {
    child c;
    (void)state;
    crash(&c, BY_ADDRESS, false);
    assert_report(&c, SIGSEGV, "SIGSEGV");
    assert_has(&c, ", address 0x1000\n");
    assert_has(&c, "crashed in step 2 of 3\n");
    assert_has(&c, "\n  a \"neg\" f32 [2, 3]  from %s:", __FILE__);
    assert_stack(&c);
}

static void test_raised(void **state) {
    child c;
    (void)state;
    crash(&c, BY_SIGNAL, false);
    assert_report(&c, SIGFPE, "SIGFPE");
    assert_stack(&c);
}

static void test_abort(void **state) {
    child c;
    (void)state;
    crash(&c, BY_ABORT, false);
    assert_report(&c, SIGABRT, "SIGABRT");
    assert_stack(&c);
}

/* A helper thread of a parallel kernel knows no node: the table of runs does. */
static void test_helper(void **state) {
    child c;
    (void)state;
    crash(&c, IN_A_HELPER, false);
    assert_report(&c, SIGSEGV, "SIGSEGV");
}

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define THREAD_SANITIZER
#endif
#endif

/* The stack is used up: the report has one of its own. */
static void test_stack_overflow(void **state) {
    child c;
    (void)state;
#ifdef THREAD_SANITIZER
    skip(); /* its own handler stands before ours and has no stack for that */
#endif
    crash(&c, BY_RECURSION, false);
    assert_report(&c, SIGSEGV, "SIGSEGV");
}

/* In the body of a loop: the row of the body, then the loop's. */
static void test_loop(void **state) {
    child c;
    (void)state;
    crash(&c, BY_ADDRESS, true);
    assert_report(&c, SIGSEGV, "SIGSEGV");
    assert_has(&c, " in run_graph(): scan: crashed in step ");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_address),        cmocka_unit_test(test_raised),
        cmocka_unit_test(test_abort),          cmocka_unit_test(test_helper),
        cmocka_unit_test(test_stack_overflow), cmocka_unit_test(test_loop),
    };
    return cmocka_run_group_tests_name("crash", tests, NULL, NULL);
}
