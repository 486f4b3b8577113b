/* The option parser: values, limits, defaults, golden messages, usage text, memory failures. */
#include "cli/cli.h"
#include "helpers/alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct options {
    const char *run, *tokenize;
    wr_list ref, set;
    int64_t beam, seed;
    double alpha;
    bool scores, seed_given;
} options;

enum { ROWS = 8 };

/* The table of an invented command, pointing at `o`. */
static void fill_table(options *o, wr_opt table[ROWS]) {
    const wr_opt rows[ROWS] = {
        {"RUN", WR_OPT_STRING, &o->run, .help = "the run directory", .required = true},
        {"--beam", WR_OPT_INT, &o->beam, .value = "K", .fallback = "5", .min = 1, .max = 100,
         .help = "hypotheses kept"},
        {"--alpha", WR_OPT_REAL, &o->alpha, .fallback = "0.6", .max = 2, .help = "exponent"},
        {"--seed", WR_OPT_INT, &o->seed, .min = 0.5, .given = &o->seed_given, .help = "seed"},
        {"--ref", WR_OPT_MANY, &o->ref, .value = "FILE", .help = "references"},
        {"--set", WR_OPT_LIST, &o->set, .value = "KEY=VALUE", .help = "settings"},
        {"--tokenize", WR_OPT_STRING, &o->tokenize, .choices = "13a|none", .fallback = "13a",
         .help = "how to cut into words, told here at such a length that the line must be broken"},
        {"--scores", WR_OPT_FLAG, &o->scores, .help = "print scores"},
    };
    memcpy(table, rows, sizeof rows);
}

/* Parse `line` (words between single spaces) as arguments of "work". */
static wr_status parse(const char *line, options *o, bool *help, wr_error *err) {
    static char words[512];
    char *argv[64] = {words};
    int argc = 1;
    snprintf(words, sizeof words, "work %s", line);
    for (char *space = words; (space = strchr(space, ' ')) != NULL;) {
        *space++ = '\0';
        if (*space != '\0') argv[argc++] = space;
    }
    wr_opt table[ROWS];
    *o = (options){0};
    fill_table(o, table);
    const wr_cli cli = {.command = "work", .summary = "Works.", .opts = table, .opt_n = ROWS};
    return wr_cli_parse(&cli, argc, argv, help, err);
}

static void free_lists(options *o) {
    wr_list_free(&o->ref);
    wr_list_free(&o->set);
}

static void test_defaults(void **state) {
    (void)state;
    options o;
    wr_error err = {0};
    bool help;
    assert_int_equal(parse("R", &o, &help, &err), WR_OK);
    assert_false(help);
    assert_string_equal(o.run, "R");
    assert_int_equal(o.beam, 5);
    assert_true(o.alpha == 0.6);
    assert_false(o.seed_given);
    assert_string_equal(o.tokenize, "13a");
    assert_false(o.scores);
    assert_int_equal(o.ref.n, 0);
}

static void test_values(void **state) {
    (void)state;
    options o;
    wr_error err = {0};
    bool help;
    const char *line = "--ref a b - --beam=7 --set x=1 --seed 9223372036854775807 --scores "
                       "--set=y=2 --alpha 1e-3 --tokenize none --ref=c -- --R";
    assert_int_equal(parse(line, &o, &help, &err), WR_OK);
    assert_string_equal(o.run, "--R");
    assert_int_equal(o.ref.n, 4);
    assert_string_equal(o.ref.items[2], "-");
    assert_string_equal(o.ref.items[3], "c");
    assert_int_equal(o.set.n, 2);
    assert_string_equal(o.set.items[1], "y=2");
    assert_int_equal(o.beam, 7);
    assert_true(o.seed_given);
    assert_true(o.seed == INT64_MAX);
    assert_true(o.alpha == 1e-3);
    assert_string_equal(o.tokenize, "none");
    assert_true(o.scores);
    free_lists(&o);
}

static void test_golden_messages(void **state) {
    (void)state;
    static const struct {
        const char *line, *message;
    } CASES[] = {
        {"", "work: RUN is missing: the run directory"},
        {"R S", "work: unexpected argument 'S'"},
        {"R --baem 3", "work: unknown option '--baem'; did you mean --beam?"},
        {"R --baem=3", "work: unknown option '--baem'; did you mean --beam?"},
        {"R --whatever", "work: unknown option '--whatever'"},
        {"R -b", "work: unknown option '-b'"},
        {"R --beam", "work: --beam needs a value"},
        {"R --beam --scores", "work: --beam needs a value"},
        {"R --ref --scores", "work: --ref needs a value"},
        {"R --beam x", "work: --beam needs a whole number, but got 'x'"},
        {"R --beam 3.5", "work: --beam needs a whole number, but got '3.5'"},
        {"R --seed 9223372036854775808",
         "work: --seed needs a whole number, but got '9223372036854775808'"},
        {"R --beam 0", "work: --beam must be from 1 to 100, but is 0"},
        {"R --beam 101", "work: --beam must be from 1 to 100, but is 101"},
        {"R --seed -1", "work: --seed must be at least 0.5, but is -1"},
        {"R --alpha nan", "work: --alpha needs a number, but got 'nan'"},
        {"R --alpha 3", "work: --alpha must be from 0 to 2, but is 3"},
        {"R --alpha -1", "work: --alpha must be from 0 to 2, but is -1"},
        {"R --tokenize 13", "work: --tokenize must be one of 13a|none, but is '13'"},
        {"R --scores=yes", "work: --scores takes no value"},
        {"R --beam 1 --beam 2", "work: --beam is given twice"},
    };
    for (size_t i = 0; i < WR_COUNT(CASES); i++) {
        options o;
        wr_error err = {0};
        bool help;
        assert_int_equal(parse(CASES[i].line, &o, &help, &err), WR_ERR_USAGE);
        char message[512];
        snprintf(message, sizeof message, "%s (see `weir work --help`)", CASES[i].message);
        assert_string_equal(err.text, message);
        free_lists(&o);
    }
}

static void test_help(void **state) {
    (void)state;
    options o;
    wr_error err = {0};
    bool help;
    assert_int_equal(parse("--nonsense --help", &o, &help, &err), WR_OK);
    assert_true(help);
    assert_int_equal(parse("-- --help", &o, &help, &err), WR_OK);
    assert_false(help);
    wr_opt table[ROWS];
    fill_table(&o, table);
    const wr_cli cli = {.command = "work",
                        .summary = "Works.",
                        .opts = table,
                        .opt_n = ROWS,
                        .notes = "example: weir work R"};
    wr_str text = {0};
    wr_cli_usage(&cli, &text);
    assert_string_equal(
        wr_str_text(&text),
        "usage: weir work RUN [options]\n"
        "Works.\n"
        "\n"
        "  RUN                     the run directory\n"
        "  --beam K                hypotheses kept (default 5)\n"
        "  --alpha X               exponent (default 0.6)\n"
        "  --seed N                seed\n"
        "  --ref FILE...           references\n"
        "  --set KEY=VALUE         settings (may be given several times)\n"
        "  --tokenize 13a|none     how to cut into words, told here at such a length that the line "
        "must be\n"
        "                          broken (default 13a)\n"
        "  --scores                print scores\n"
        "  --help                  print this\n"
        "\n"
        "example: weir work R\n");
    wr_str_free(&text);
}

static void test_exit_status(void **state) {
    (void)state;
    wr_error err = {.text = "what"};
    assert_int_equal(wr_cli_end(WR_OK, NULL), 0);
    assert_int_equal(wr_cli_end(WR_ERR_USAGE, &err), 2);
    assert_int_equal(wr_cli_end(WR_ERR_INPUT, &err), 1);
    assert_int_equal(wr_cli_end(WR_ERR_IO, &err), 1);
    assert_int_equal(wr_cli_end(WR_ERR_MEMORY, NULL), 1);
}

static void test_failed_allocations(void **state) {
    (void)state;
    for (long n = 1;; n++) {
        options o;
        wr_error err = {0};
        bool help;
        wr_test_fail_allocation(n);
        wr_status status = parse("R --ref 1 2 3 4 5 6 7 8 9 10 --set a --set b", &o, &help, &err);
        bool failed = wr_test_allocation_failed();
        free_lists(&o);
        assert_int_equal(status, failed ? WR_ERR_MEMORY : WR_OK);
        if (failed) assert_non_null(strstr(err.text, "out of memory"));
        if (failed) continue;
        assert_true(n > 3);
        break;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),        cmocka_unit_test(test_values),
        cmocka_unit_test(test_golden_messages), cmocka_unit_test(test_help),
        cmocka_unit_test(test_exit_status),     cmocka_unit_test(test_failed_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
