/* layout.c: Graphviz' layout of a picture's text, where Weir was built with it. */
#include "viz/draw.h"

#include <string.h>

#ifdef WEIR_HAVE_GRAPHVIZ
#include <errno.h>
#include <gvc.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

bool wr_draw_has_layout(void) { return true; }

/* Graphviz' last complaint in one line. */
static wr_status refuse(const char *what, wr_error *err, wr_status status) {
    const char *said = aglasterr();
    size_t n = said == NULL ? 0 : strcspn(said, "\n");
    return wr_fail(err, status, "Graphviz cannot %s%s%.*s", what, n > 0 ? ": " : "", (int)n,
                   n > 0 ? said : "");
}

static wr_status render(GVC_t *gvc, Agraph_t *graph, const char *format, const char *path,
                        wr_error *err) {
    char *bytes = NULL;
    unsigned n = 0;
    if (gvRenderData(gvc, graph, format, &bytes, &n) != 0 || bytes == NULL) {
        char what[64];
        snprintf(what, sizeof what, "write the format %s", format);
        return refuse(what, err, WR_ERR_LIBRARY);
    }
    wr_status status = wr_file_replace(path, bytes, n, err);
    gvFreeRenderData(bytes);
    return status;
}

static wr_status layout_here(const char *dot, const char *format, const char *path, wr_error *err) {
    agseterr(AGMAX); /* keep what it says instead of printing it */
    GVC_t *gvc = gvContext();
    if (gvc == NULL) return refuse("start", err, WR_ERR_LIBRARY);
    Agraph_t *graph = agmemread(dot);
    if (graph == NULL) return refuse("read the text", err, WR_ERR_INPUT);
    if (gvLayout(gvc, graph, "dot") != 0) return refuse("find a layout", err, WR_ERR_LIBRARY);
    return render(gvc, graph, format, path, err);
}

/* Crossings of a graph of thousands of boxes can keep Graphviz busy for hours. */
enum { LAYOUT_SECONDS = 120 };

/* In the child: lay out, hand the outcome to the parent. Nothing is freed: the process ends. */
WR_NORETURN static void run_child(int out, const char *dot, const char *format, const char *path) {
    wr_error outcome = {0};
    struct rlimit limit = {.rlim_cur = LAYOUT_SECONDS, .rlim_max = LAYOUT_SECONDS + 5};
    signal(SIGXCPU, SIG_DFL);
    setrlimit(RLIMIT_CPU, &limit); /* not by the clock: other programs may keep the processor */
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody waits for it then */
    outcome.status = layout_here(dot, format, path, &outcome);
    const char *at = (const char *)&outcome;
    for (size_t left = sizeof outcome; left > 0;) {
        ssize_t put = write(out, at, left);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) break;
        at += put;
        left -= (size_t)put;
    }
    _exit(0);
}

/* What the child says; false when it ended before that. */
static bool read_outcome(int in, wr_error *outcome) {
    char *at = (char *)outcome;
    size_t left = sizeof *outcome;
    while (left > 0) {
        ssize_t got = read(in, at, left);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        at += got;
        left -= (size_t)got;
    }
    return true;
}

/* Why the child ended without a word. */
static wr_status explain_end(int how, const char *path, wr_error *err) {
    if (WIFSIGNALED(how) && WTERMSIG(how) == SIGXCPU)
        return wr_fail(err, WR_ERR_LIBRARY,
                       "%s: Graphviz found no layout in %d s of processor time; draw less: open "
                       "fewer levels, one "
                       "scope, or alike layers once; or write the format dot",
                       path, (int)LAYOUT_SECONDS);
    return wr_fail(err, WR_ERR_LIBRARY, "%s: Graphviz crashed; write the format dot instead", path);
}

/* In a process of its own: Graphviz leaks, its text plugin keeps pointers into graphs that are
 * freed, so that a second layout in one process reads them, and a crash of it must not be ours. */
static wr_status layout(const char *dot, const char *format, const char *path, wr_error *err) {
    int ends[2];
    if (pipe(ends) != 0) return wr_fail(err, WR_ERR_IO, "%s: no pipe: %s", path, strerror(errno));
    pid_t child = fork();
    if (child == 0) run_child(ends[1], dot, format, path);
    int problem = errno;
    close(ends[1]);
    wr_error outcome = {0};
    bool said = child > 0 && read_outcome(ends[0], &outcome);
    close(ends[0]);
    if (child < 0)
        return wr_fail(err, WR_ERR_IO, "%s: no process to draw in: %s", path, strerror(problem));
    int how = 0;
    while (waitpid(child, &how, 0) < 0 && errno == EINTR)
        continue;
    if (!said) return explain_end(how, path, err);
    if (outcome.status == WR_OK) return WR_OK;
    return wr_fail(err, outcome.status, "%s", outcome.text);
}

#else

bool wr_draw_has_layout(void) { return false; }

static wr_status layout(const char *dot, const char *format, const char *path, wr_error *err) {
    (void)dot;
    return wr_fail(err, WR_ERR_LIBRARY,
                   "%s: cannot draw %s, because Weir was built without Graphviz; install "
                   "libgraphviz-dev and build again, or write the format dot and run `dot -T%s`",
                   path, format, format);
}

#endif

wr_status wr_draw_write(const char *dot, const char *format, const char *path, wr_error *err) {
    static const char *const FORMATS[] = {"svg", "png", "pdf"};
    if (strcmp(format, "dot") == 0) return wr_file_replace(path, dot, strlen(dot), err);
    for (size_t i = 0; i < sizeof FORMATS / sizeof FORMATS[0]; i++)
        if (strcmp(format, FORMATS[i]) == 0) return layout(dot, format, path, err);
    return wr_fail(err, WR_ERR_INPUT, "'%s' is no format; allowed are dot, svg, png and pdf",
                   format);
}

wr_status wr_draw_file(const wr_graph *g, const wr_draw_options *o, const char *format,
                       const char *path, wr_error *err) {
    wr_str dot = {0};
    wr_status status = wr_draw_dot(g, o, &dot, err);
    if (status == WR_OK) status = wr_draw_write(wr_str_text(&dot), format, path, err);
    wr_str_free(&dot);
    return status;
}
