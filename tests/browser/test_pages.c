/* test_pages.c: the pages of `weir draw --format html` and `weir report` in a real browser.
 *
 * Needs Chromium (scripts/install-deps). Without one it says so and ends with status 77, which
 * ctest counts as skipped; with WEIR_NEED_BROWSER=1, as in scripts/test, that is a failure. Leaves
 * screenshots in BUILD/browser. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "browser/browser.h"
#include "ops/elementwise.h"
#include "ops/reduce.h"
#include "viz/html.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDER WEIR_BINARY_DIR "/browser"
enum { SKIPPED = 77 };

/* ---- pages to look at ---- */

static void run(const char *command) {
    int status = system(command);
    if (status != 0) fail_msg("status %d of: %s", status, command);
}

#define WEIR WEIR_PROGRAM " "

/* Pages of models, and two short trainings with their reports. */
static int make_pages(void **state) {
    (void)state;
    run("cd " FOLDER " && for r in flowseq-tiny transformer-tiny flowseq-base; do " WEIR
        "draw " WEIR_SOURCE_DIR "/recipes/$r.yaml --out $r.html || exit 1; done && " WEIR
        "draw " WEIR_SOURCE_DIR "/recipes/flowseq-tiny.yaml --out tiny.dot && " WEIR
        "draw " WEIR_SOURCE_DIR "/recipes/flowseq-tiny.yaml --what inverse --out inverse.html");
    run("cd " FOLDER " && (" WEIR
        "synth numbers --langs de-en --count 300 --valid 20 --test 5 --seed 5 --out text && " WEIR
        "prepare --train-src text/train.de --train-tgt text/train.en --valid-src text/valid.de "
        "--valid-tgt text/valid.en --vocab 100 --max-len 60 --joint --out data && " WEIR
        "train " WEIR_SOURCE_DIR "/recipes/flowseq-tiny.yaml --data data --out run --threads 1 "
        "--set model.dim=16 --set model.ffn=16 --set model.heads=2 --set prior.heads=2 "
        "--set prior.hidden=16 --set data.max_tokens=256 --set train.init_batch=40 "
        "--set train.pretrain_updates=12 --set train.max_updates=40 --set train.report_every=2 "
        "--set train.checkpoint_every=10 --set train.valid_every=6 --set train.valid_sentences=8"
        ") > log 2>&1 && " WEIR "report run > said && "
        "test \"$(cat said)\" = run/report.html");
    return 0;
}

static browser *browser_of(void **state) { return *state; }

/* ---- what every page must keep ---- */

/* No two boxes lie on each other, and no text is wider than its box. */
static const char NO_OVERLAP[] =
    "(() => { const boxes = [...document.querySelectorAll('.drawing .box')].map(b => "
    "[b, b.querySelector('rect:last-of-type').getBoundingClientRect()]); "
    "for (const [b, r] of boxes) { for (const t of b.querySelectorAll('text:not(.hand)')) { "
    "const w = t.getBoundingClientRect(); if (w.left < r.left - 1 || w.right > r.right + 1) "
    "return 'wide: ' + t.textContent; } "
    "for (const [c, q] of boxes) if (b !== c && r.left < q.right - 1 && q.left < r.right - 1 && "
    "r.top < q.bottom - 1 && q.top < r.bottom - 1) return b.textContent + ' on ' + c.textContent; "
    "} return ''; })()";

/* No two texts of a chart lie on each other. */
static const char NO_TEXT_OVERLAP[] =
    "(() => { for (const chart of document.querySelectorAll('.plot svg, svg.memory')) { "
    "const texts = [...chart.querySelectorAll('text')].map(t => "
    "[t.textContent, t.getBoundingClientRect()]); "
    "for (const [a, r] of texts) for (const [b, q] of texts) if (r !== q && "
    "r.left < q.right - 0.5 && q.left < r.right - 0.5 && r.top < q.bottom - 1 && "
    "q.top < r.bottom - 1) return a + ' on ' + b; } return ''; })()";

static void is_empty_text(browser *b, const char *expression) {
    char *text = browser_text(b, expression);
    assert_string_equal(text, "");
    free(text);
}

static void open_page(browser *b, const char *name, const char *hash) {
    wr_str path = {0};
    wr_str_add(&path, FOLDER "/%s", name);
    browser_open(b, wr_str_text(&path), hash);
    wr_str_free(&path);
}

/* Open the page of a model and wait for its drawing. */
static void open_model(browser *b, const char *name, const char *hash) {
    open_page(b, name, hash);
    browser_wait(b, "document.querySelector('.drawing .box')");
}

#define BOX(label)                                                                                 \
    "[...document.querySelectorAll('.box')].find(b => "                                            \
    "b.querySelector('.label').textContent.startsWith('" label "'))"
#define HEAD(name)                                                                                 \
    "[...document.querySelectorAll('.frame .head')].find(h => "                                    \
    "h.querySelector('.name').textContent.startsWith('" name "'))"
#define PANEL     "document.querySelector('.panel')"
#define TAB(name) "document.querySelector('[data-tab=" name "]')"

static void search_for(browser *b, const char *words) {
    browser_key(b, "/");
    browser_wait(b, "document.activeElement.classList.contains('search')");
    browser_value(b, "document.activeElement.value = ''");
    browser_type(b, words);
    browser_wait(b, "document.querySelector('.results li.on')");
}

/* ---- the graph ---- */

static void search_finds_a_node(void **state) {
    browser *b = browser_of(state);
    open_model(b, "flowseq-tiny.html", "");
    search_for(b, "encoder.layer1.self.qkv.W");
    browser_key(b, "Enter");
    browser_wait(b, PANEL ".querySelector('h2').textContent === 'encoder.layer1.self.qkv.W'");
    /* It is folded into its like in layer0, which is opened, selected and in sight. */
    browser_wait(b, "document.querySelector('.box.selected .label').textContent === 'W'");
    assert_true(browser_is(b, "(() => { const r = document.querySelector('.box.selected')"
                              ".getBoundingClientRect(); return r.top > 0 && r.left > 0 && "
                              "r.bottom < innerHeight && r.right < innerWidth; })()"));
    assert_true(browser_is(b, PANEL ".textContent.includes('Drawn as its like in')"));
    assert_true(browser_is(b, "/models\\/\\w+\\.c:\\d+ in \\w+\\(\\)/.test(" PANEL
                              ".querySelector('.source').textContent)"));
    assert_true(browser_is(b, PANEL ".textContent.includes('yes, 12.3k numbers')"));
    is_empty_text(b, NO_OVERLAP);
    /* Operations are found by scope, and their readers and operands are links. */
    search_for(b, "layer_norm decoder");
    browser_key(b, "Enter");
    browser_wait(b, PANEL ".textContent.includes('layer_norm')");
    browser_click(b, PANEL ".querySelector('.nodes .link')");
    browser_wait(b, "!" PANEL ".querySelector('h2').textContent.includes('norm')");
    browser_no_complaints(b);
}

static void a_click_opens_a_scope(void **state) {
    browser *b = browser_of(state);
    open_model(b, "flowseq-tiny.html", "");
    browser_click(b, "[...document.querySelectorAll('.tool')].find(t => "
                     "t.textContent === 'close all')");
    browser_wait(b, BOX("encoder"));
    double before = browser_number(b, "document.querySelectorAll('.box').length");
    browser_click(b, BOX("encoder"));
    browser_wait(b, HEAD("encoder"));
    assert_true(browser_number(b, "document.querySelectorAll('.box').length") > before);
    assert_true(browser_is(b, PANEL ".querySelector('h2').textContent === 'encoder'"));
    browser_wait(b, BOX("layer0..1 × 2")); /* two layers that are built alike */
    is_empty_text(b, NO_OVERLAP);
    browser_click(b, BOX("layer0..1 × 2"));
    browser_wait(b, HEAD("layer0..1 × 2"));
    is_empty_text(b, NO_OVERLAP);
    browser_click(b, "[...document.querySelectorAll('.tool')].find(t => "
                     "t.textContent === 'fold layers')");
    browser_wait(b, BOX("layer1"));
    browser_wait(b, HEAD("layer0"));
    browser_click(b, "[...document.querySelectorAll('.tool')].find(t => "
                     "t.textContent === 'fit')");
    browser_click(b, HEAD("encoder"));
    browser_wait(b, BOX("encoder"));
    browser_no_complaints(b);
}

static void keys_go_from_box_to_box(void **state) {
    browser *b = browser_of(state);
    open_model(b, "transformer-tiny.html", "");
    browser_key(b, "ArrowDown");
    browser_wait(b, "document.querySelector('.box.selected')");
    char *first = browser_text(b, "document.querySelector('.box.selected').textContent");
    double top =
        browser_number(b, "document.querySelector('.box.selected').getBoundingClientRect().top");
    browser_key(b, "ArrowDown");
    browser_wait(b, "document.querySelector('.box.selected')");
    assert_true(browser_number(b, "document.querySelector('.box.selected')"
                                  ".getBoundingClientRect().top") > top);
    browser_key(b, "ArrowUp");
    browser_wait(b, "document.querySelector('.box.selected')");
    char *again = browser_text(b, "document.querySelector('.box.selected').textContent");
    browser_key(b, "Escape");
    browser_wait(b, "!document.querySelector('.box.selected')");
    double scale = browser_number(
        b, "document.querySelector('.drawing .box rect').getBoundingClientRect().width");
    browser_key(b, "+");
    assert_true(browser_number(b, "document.querySelector('.drawing .box rect')"
                                  ".getBoundingClientRect().width") > scale * 1.1);
    browser_no_complaints(b);
    free(first);
    free(again);
}

/* The words on all boxes of the shown tab. */
static char *boxes(browser *b) {
    return browser_text(b, "[...document.querySelectorAll('.box')].map(b => b.textContent)"
                           ".sort().join('|')");
}

static void tabs_differ(void **state) {
    browser *b = browser_of(state);
    open_model(b, "flowseq-tiny.html", "");
    char *forward = boxes(b);
    browser_click(b, TAB("gradient"));
    browser_wait(b, HEAD("gradient"));
    char *gradient = boxes(b);
    browser_click(b, TAB("inverse"));
    browser_wait(b, "document.querySelector('.tab.on').textContent === 'inverse' && "
                    "document.querySelector('.drawing .box')");
    char *inverse = boxes(b);
    assert_string_not_equal(forward, inverse);
    assert_string_not_equal(forward, gradient);
    assert_non_null(strstr(forward, "posterior"));
    assert_null(strstr(inverse, "posterior"));
    /* What decoding runs: noise goes in. Derived nodes are of the prior. */
    assert_non_null(strstr(inverse, "eps"));
    search_for(b, "prior inverse");
    is_empty_text(b, NO_OVERLAP);
    browser_no_complaints(b);
    open_page(b, "transformer-tiny.html", "#inverse");
    browser_wait(b, "document.querySelector('.absent')");
    assert_true(browser_is(b, "document.querySelector('.absent').textContent"
                              ".includes('has no flow')"));
    browser_no_complaints(b);
    open_model(b, "inverse.html", ""); /* --what inverse */
    browser_wait(b, "document.querySelector('.tab.on').textContent === 'inverse'");
    free(forward);
    free(gradient);
    free(inverse);
}

static void plan_tells_the_peak(void **state) {
    browser *b = browser_of(state);
    open_page(b, "flowseq-tiny.html", "#plan");
    browser_wait(b, "document.querySelector('.peakname')");
    assert_true(browser_is(b, "/^peak [\\d.]+ [KMG]iB, step \\d+$/.test("
                              "document.querySelector('.peakname').textContent)"));
    assert_int_equal(browser_number(b, "document.querySelectorAll('.top tr').length"), 11);
    /* What is held at the peak sums up to what the planner says. */
    assert_true(browser_is(b, "document.querySelector('.holders h3').textContent.includes("
                              "'the peak: ' + document.querySelector('.tile b').textContent)"));
    browser_point(b, "document.querySelector('.memory')", 0.2, 0.5);
    browser_wait(b, "!document.querySelector('.holders h3').textContent.includes('the peak')");
    is_empty_text(b, NO_TEXT_OVERLAP);
    browser_no_complaints(b);
}

/* The base model: its gradient has tens of thousands of edges. */
static void large_models_stay_quick(void **state) {
    browser *b = browser_of(state);
    struct stat s;
    assert_int_equal(stat(FOLDER "/flowseq-base.html", &s), 0);
    assert_true(s.st_size < 5000000);
    open_model(b, "flowseq-base.html", "#gradient");
    assert_true(browser_number(b, "performance.getEntriesByType('navigation')[0].loadEventEnd") <
                30e3);
    double ms = browser_number(
        b, "(async () => { const t = performance.now(); const box = " BOX(
               "prior") "; box.dispatchEvent(new MouseEvent('click', {bubbles: true})); "
                        "return performance.now() - t; })()");
    print_message("opening the prior of flowseq-base takes %.0f ms\n", ms);
    assert_true(ms < 10e3);
    browser_wait(b, HEAD("prior"));
    is_empty_text(b, NO_OVERLAP);
    browser_no_complaints(b);
}

static void legend_has_the_colours_of_static_pictures(void **state) {
    browser *b = browser_of(state);
    open_model(b, "flowseq-tiny.html", "");
    wr_error err = {0};
    char *dot = NULL;
    size_t n;
    assert_int_equal(wr_file_read(FOLDER "/tiny.dot", &dot, &n, &err), WR_OK);
    cJSON *list = browser_value(b, "[...document.querySelectorAll('.legend i')].map(i => "
                                   "[i.nextSibling.data, i.getAttribute('style')"
                                   ".match(/#[0-9a-f]+/)[0]])");
    int found = 0;
    const cJSON *item = NULL;
    cJSON_ArrayForEach(item, list) {
        const char *word = cJSON_GetArrayItem(item, 0)->valuestring;
        char cell[200];
        snprintf(cell, sizeof cell, "BGCOLOR=\"%s\" COLOR=\"#455a64\">%s<",
                 cJSON_GetArrayItem(item, 1)->valuestring, word);
        char after[100];
        snprintf(after, sizeof after, ">%s</TD>", word);
        if (strstr(dot, after) == NULL) continue; /* only inside of what is closed there */
        if (strstr(dot, cell) == NULL) fail_msg("the static picture has no %s", cell);
        found++;
    }
    assert_true(found >= 5);
    cJSON_Delete(list);
    free(dot);
}

static void dark_is_dark(void **state) {
    browser *b = browser_of(state);
    static const char LIGHTNESS[] = "getComputedStyle(document.body).backgroundColor"
                                    ".match(/\\d+/g).slice(0, 3).reduce((a, v) => a + +v, 0)";
    open_model(b, "flowseq-tiny.html", "");
    browser_dark(b, true);
    assert_true(browser_number(b, LIGHTNESS) < 150);
    browser_dark(b, false);
    assert_true(browser_number(b, LIGHTNESS) > 700);
}

/* ---- odd names ---- */

static const char *const NAMES[] = {
    "</script><script>window.harm = 1</script>",
    "<img src=x onerror='window.harm = 2'>",
    "\"];window.harm = 3;//",
    "__proto__",
    "constructor",
    "line\nbreak \xE2\x80\xA8 and <!-- comment",
    "broken \xC3( UTF-8 \xFF",
    "名前 имя ß",
    "a.b.c",
    "",
    "a very long name that goes on and on, far beyond what any box on the page could ever show",
};
enum { N_NAMES = sizeof NAMES / sizeof *NAMES };

static void write_graph(const char *file, wr_graph *g, const char *title) {
    wr_html_model m = {.title = title,
                       .about = title,
                       .loss = {.g = g},
                       .inverse = {.absent = title},
                       .no_plan = title};
    wr_str page = {0};
    wr_error err = {0};
    assert_int_equal(wr_html_model_page(&m, &page, &err), WR_OK);
    assert_int_equal(wr_file_replace(file, wr_str_text(&page), page.len, &err), WR_OK);
    wr_str_free(&page);
}

static void odd_names_do_no_harm(void **state) {
    browser *b = browser_of(state);
    wr_graph *g = wr_graph_new();
    wr sum = wr_scalar(g, WR_F32, 1);
    for (int i = 0; i < N_NAMES; i++)
        WR_SCOPE (g, "%s", NAMES[i]) {
            wr x = wr_input(g, i % 2 == 0 ? NAMES[i] : "plain", WR_F32, 0, NULL);
            sum = wr_named(wr_add(sum, x), "%s", NAMES[i]);
        }
    write_graph(FOLDER "/odd.html", g, NAMES[0]);
    wr_graph_free(g);
    open_model(b, "odd.html", "");
    assert_true(browser_is(b, "window.harm === undefined && document.title === "
                              "'<\\/script><script>window.harm = 1<\\/script>'"));
    search_for(b, "window.harm");
    browser_key(b, "Enter");
    browser_wait(b, PANEL ".querySelector('h2').textContent.includes('window.harm')");
    browser_click(b, "[...document.querySelectorAll('.tool')].find(t => "
                     "t.textContent === 'fit')");
    search_for(b, "__proto__");
    browser_key(b, "Enter");
    browser_wait(b, PANEL ".querySelector('h2').textContent.includes('__proto__')");
    search_for(b, "имя");
    browser_key(b, "Enter");
    browser_wait(b, PANEL ".querySelector('h2').textContent.includes('имя')");
    browser_click(b, TAB("plan"));
    browser_wait(b, "document.querySelector('.absent').textContent.includes('window.harm')");
    assert_true(browser_is(b, "window.harm === undefined && document.images.length === 0"));
    browser_no_complaints(b);
}

static void empty_and_broken_graphs_have_pages(void **state) {
    browser *b = browser_of(state);
    wr_graph *g = wr_graph_new();
    write_graph(FOLDER "/empty.html", g, "empty");
    open_page(b, "empty.html", "");
    browser_wait(b, "document.querySelector('.drawing')");
    browser_key(b, "ArrowDown");
    browser_no_complaints(b);
    wr x = wr_input(g, "x", WR_F32, WR_DIMS(wr_n(3)));
    wr y = wr_input(g, "y", WR_F32, WR_DIMS(wr_n(4)));
    assert_true(wr_is_poison(wr_add(x, y)));
    write_graph(FOLDER "/broken.html", g, "broken");
    wr_graph_free(g);
    open_model(b, "broken.html", "");
    assert_true(browser_is(b, "/test_pages\\.c:\\d+ in .*add/.test("
                              "document.querySelector('.messages').textContent)"));
    browser_no_complaints(b);
}

/* ---- reports ---- */

static void report_shows_curves_and_samples(void **state) {
    browser *b = browser_of(state);
    open_page(b, "run/report.html", "");
    browser_wait(b, "document.querySelector('.chartcard svg')");
    char *titles = browser_text(
        b, "[...document.querySelectorAll('.chartcard h2')].map(h => h.title).join('|')");
    static const char *const WANTED[] = {"loss terms", "BLEU", "learning rate", "gradient norm",
                                         "tokens per second"};
    for (size_t i = 0; i < sizeof WANTED / sizeof *WANTED; i++)
        if (strstr(titles, WANTED[i]) == NULL) fail_msg("no %s in %s", WANTED[i], titles);
    free(titles);
    /* Every curve is a line on the page, and the legends name the terms of a FlowSeq. */
    assert_true(browser_is(b, "[...document.querySelectorAll('.curveline')].every(p => "
                              "/^M[\\d.]+ [\\d.]+/.test(p.getAttribute('d')))"));
    char *names = browser_text(
        b, "[...document.querySelectorAll('.curve')].map(c => c.textContent).join('|')");
    static const char *const TERMS[] = {"recon", "length", "kl", "reconstruction bleu", "loss"};
    for (size_t i = 0; i < sizeof TERMS / sizeof *TERMS; i++)
        if (strstr(names, TERMS[i]) == NULL) fail_msg("no %s in %s", TERMS[i], names);
    free(names);
    assert_true(browser_number(b, "document.querySelectorAll('.sample').length") >= 4);
    assert_true(browser_is(b, "document.querySelector('.sample td:nth-child(4)').textContent"
                              ".length > 5"));
    /* Each chart reads the same update under the pointer. */
    browser_point(b, "document.querySelector('.chartcard svg')", 0.7, 0.5);
    browser_wait(b, "document.querySelectorAll('.reading b').length >= 6");
    double before = browser_number(b, "document.querySelectorAll('.curveline').length");
    browser_click(b, "document.querySelector('.curve')");
    browser_wait(b, "document.querySelector('.curve.off')");
    assert_int_equal(browser_number(b, "document.querySelectorAll('.curveline').length"),
                     before - 1);
    is_empty_text(b, NO_TEXT_OVERLAP);
    assert_true(browser_is(b, "document.querySelector('.yaml').textContent"
                              ".includes('pretrain_updates: 12')"));
    browser_click(b, "document.querySelectorAll('.parameters summary')[1]");
    browser_wait(b, "document.querySelectorAll('.parameters details[open]').length === 2");
    assert_true(browser_is(b, "[...document.querySelectorAll('.badge')].map(e => e.textContent)"
                              ".join().includes('best')"));
    browser_no_complaints(b);
}

/* A sentence with markup, a torn last line, values that are not finite, a log without a line. */
static void reports_of_odd_logs(void **state) {
    browser *b = browser_of(state);
    run("cd " FOLDER " && rm -rf odd && cp -r run odd && { printf '%s\\n' "
        "'{\"kind\": \"train\", \"update\": 41, \"loss\": \"nan\", \"nll\": 1, \"lr\": 0.1}' "
        "'{\"kind\": \"valid\", \"update\": 41, \"nll\": 1, \"bleu\": 3, \"sample\": "
        "\"<script>window.harm=1</script> | </script> a | b a\"}'; printf '{\"kind\": \"tr'; } "
        ">> odd/log.jsonl && " WEIR "report odd --out odd.report.html && : > odd/log.jsonl && " WEIR
        "report odd --out empty.report.html");
    open_page(b, "odd.report.html", "");
    browser_wait(b, "document.querySelector('.chartcard svg')");
    assert_true(browser_is(b, "window.harm === undefined"));
    assert_true(browser_is(b, "document.querySelector('.sample td:nth-child(2)').textContent === "
                              "'<script>window.harm=1<\\/script>'"));
    assert_true(browser_is(b, "document.querySelector('.sample mark').textContent === 'a'"));
    browser_no_complaints(b);
    open_page(b, "empty.report.html", "");
    browser_wait(b, "document.querySelector('.card')");
    assert_true(browser_is(b, "document.body.textContent.includes('there is no report yet')"));
    browser_no_complaints(b);
}

/* For people to look at; docs/img has such pictures. */
static void screenshots(void **state) {
    browser *b = browser_of(state);
    open_model(b, "flowseq-tiny.html", "");
    browser_click(b, "[...document.querySelectorAll('.tool')].find(t => "
                     "t.textContent === 'close all')");
    search_for(b, "prior.coupling");
    browser_key(b, "Enter");
    browser_wait(b, "document.querySelector('.box')");
    browser_screenshot(b, FOLDER "/page.png");
    open_page(b, "flowseq-tiny.html", "#plan");
    browser_wait(b, "document.querySelector('.peakname')");
    browser_screenshot(b, FOLDER "/plan.png");
    open_page(b, "run/report.html", "");
    browser_wait(b, "document.querySelector('.chartcard svg')");
    browser_screenshot(b, FOLDER "/report.png");
    struct stat s;
    assert_true(stat(FOLDER "/report.png", &s) == 0 && s.st_size > 10000);
}

/* ---- the whole ---- */

static int start(void **state) {
    char *program = browser_find();
    run("rm -rf " FOLDER " && mkdir -p " FOLDER "/profile");
    *state = program == NULL ? NULL : browser_start(program, FOLDER "/profile");
    free(program);
    if (*state == NULL) return -1;
    return make_pages(state);
}

static int stop(void **state) {
    browser_stop(*state);
    run("rm -rf " FOLDER "/profile");
    return 0;
}

int main(void) {
    char *program = browser_find();
    const char *need = getenv("WEIR_NEED_BROWSER");
    if (program == NULL) {
        fprintf(stderr, "test_pages: there is no Chromium; scripts/install-deps installs it\n");
        return need != NULL && need[0] == '1' ? 1 : SKIPPED;
    }
    free(program);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(search_finds_a_node),
        cmocka_unit_test(a_click_opens_a_scope),
        cmocka_unit_test(keys_go_from_box_to_box),
        cmocka_unit_test(tabs_differ),
        cmocka_unit_test(plan_tells_the_peak),
        cmocka_unit_test(large_models_stay_quick),
        cmocka_unit_test(legend_has_the_colours_of_static_pictures),
        cmocka_unit_test(dark_is_dark),
        cmocka_unit_test(odd_names_do_no_harm),
        cmocka_unit_test(empty_and_broken_graphs_have_pages),
        cmocka_unit_test(report_shows_curves_and_samples),
        cmocka_unit_test(reports_of_odd_logs),
        cmocka_unit_test(screenshots),
    };
    return cmocka_run_group_tests_name("pages", tests, start, stop);
}
