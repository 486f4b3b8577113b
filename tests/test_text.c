/* test_text.c: data/text.h. The archives below were made by the programs gzip and xz. */
#include "data/text.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* "one\ntwo\n" as `gzip -n` and `xz` write it. */
static const unsigned char gz_two[] = {0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03,
                                       0xcb, 0xcf, 0x4b, 0xe5, 0x2a, 0x29, 0xcf, 0xe7, 0x02, 0x00,
                                       0xe6, 0x0b, 0xba, 0x12, 0x08, 0x00, 0x00, 0x00};
static const unsigned char xz_two[] = {
    0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x04, 0xe6, 0xd6, 0xb4, 0x46, 0x02, 0x00, 0x21, 0x01,
    0x16, 0x00, 0x00, 0x00, 0x74, 0x2f, 0xe5, 0xa3, 0x01, 0x00, 0x07, 0x6f, 0x6e, 0x65, 0x0a, 0x74,
    0x77, 0x6f, 0x0a, 0x00, 0x51, 0xab, 0x9e, 0xaf, 0x57, 0x75, 0x70, 0x49, 0x00, 0x01, 0x20, 0x08,
    0xbb, 0x19, 0xd9, 0xbb, 0x1f, 0xb6, 0xf3, 0x7d, 0x01, 0x00, 0x00, 0x00, 0x00, 0x04, 0x59, 0x5a};

typedef struct fixture {
    char path[64];
} fixture;

static int set_up(void **state) {
    fixture *f = calloc(1, sizeof *f);
    if (f == NULL) return -1;
    snprintf(f->path, sizeof f->path, "/tmp/weir_test_text_XXXXXX");
    int fd = mkstemp(f->path);
    if (fd < 0) return -1;
    close(fd);
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    unlink(f->path);
    free(f);
    return 0;
}

static void write_bytes(const fixture *f, const void *data, size_t n) {
    wr_error err = {0};
    assert_int_equal(wr_file_replace(f->path, data, n, &err), WR_OK);
}

/* Read `data` as a file; it must succeed. */
static wr_text read_good(const fixture *f, const void *data, size_t n, unsigned flags) {
    wr_text text;
    wr_error err = {0};
    write_bytes(f, data, n);
    wr_status status = wr_text_read(f->path, flags, &text, &err);
    assert_string_equal(err.text, "");
    assert_int_equal(status, WR_OK);
    return text;
}

/* Read `data` as a file; it must fail with `status` and a message holding the path and `words`. */
static void read_bad(const fixture *f, const void *data, size_t n, wr_status status,
                     const char *words) {
    wr_text text;
    wr_error err = {0};
    write_bytes(f, data, n);
    assert_int_equal(wr_text_read(f->path, 0, &text, &err), status);
    assert_non_null(strstr(err.text, f->path));
    if (strstr(err.text, words) == NULL) fail_msg("'%s' lacks '%s'", err.text, words);
    assert_null(text.line);
    assert_null(text.bytes);
    assert_int_equal(text.n, 0);
}

static void check_line(const wr_text *text, size_t i, const char *want) {
    assert_true(i < text->n);
    assert_string_equal(text->line[i], want);
    assert_int_equal(text->len[i], strlen(want));
}

static void test_lines(void **state) {
    const char data[] = "one\n\n three \r\nfour\r\r\nlast";
    wr_text text = read_good(*state, data, sizeof data - 1, 0);
    assert_int_equal(text.n, 5);
    check_line(&text, 0, "one");
    check_line(&text, 1, "");
    check_line(&text, 2, " three ");
    check_line(&text, 3, "four\r"); /* only one return goes */
    check_line(&text, 4, "last");
    wr_text_free(&text);
}

static void test_final_newline_makes_no_line(void **state) {
    wr_text text = read_good(*state, "a\nb\n", 4, 0);
    assert_int_equal(text.n, 2);
    wr_text_free(&text);
    text = read_good(*state, "\n", 1, 0);
    assert_int_equal(text.n, 1);
    check_line(&text, 0, "");
    wr_text_free(&text);
}

static void test_other_separators_stay_inside(void **state) {
    /* U+2028, U+0085, form feed, lone return; mark, soft hyphen, zero-width space survive. */
    const char data[] = "\xef\xbb\xbf"
                        "a\xe2\x80\xa8"
                        "b\xc2\x85"
                        "c\f\rd\xc2\xad\xe2\x80\x8b\n";
    wr_text text = read_good(*state, data, sizeof data - 1, 0);
    assert_int_equal(text.n, 1);
    assert_int_equal(text.len[0], sizeof data - 2);
    assert_memory_equal(text.line[0], data, sizeof data - 2);
    wr_text_free(&text);
}

static void test_empty_file(void **state) {
    read_bad(*state, "", 0, WR_ERR_INPUT, "empty");
    wr_text text = read_good(*state, "", 0, WR_TEXT_MAY_BE_EMPTY);
    assert_int_equal(text.n, 0);
    wr_text_free(&text);
}

static void test_missing_file(void **state) {
    (void)state;
    wr_text text;
    wr_error err = {0};
    assert_int_equal(wr_text_read("/nonexistent/file.de", 0, &text, &err), WR_ERR_IO);
    assert_non_null(strstr(err.text, "/nonexistent/file.de"));
    wr_error again = {0};
    assert_int_equal(wr_text_read("/tmp", 0, &text, &again), WR_ERR_IO);
    assert_non_null(strstr(again.text, "/tmp"));
}

static void test_bad_bytes_are_placed(void **state) {
    read_bad(*state,
             "fine\nab\xff"
             "c\n",
             10, WR_ERR_INPUT, ":2: byte 3 of the line (0xff)");
    read_bad(*state, "\xc3", 1, WR_ERR_INPUT, ":1: byte 1 ");             /* cut short */
    read_bad(*state, "\n\nx\xc3\ny", 6, WR_ERR_INPUT, ":3: byte 2 ");     /* cut by the line end */
    read_bad(*state, "\xed\xa0\x80", 3, WR_ERR_INPUT, ":1: byte 1 ");     /* surrogate */
    read_bad(*state, "\xc0\xaf", 2, WR_ERR_INPUT, ":1: byte 1 ");         /* overlong */
    read_bad(*state, "\xf4\x90\x80\x80", 4, WR_ERR_INPUT, ":1: byte 1 "); /* above U+10FFFF */
    read_bad(*state, "12345678\nabcdefghijk\xe9 lait", 26, WR_ERR_INPUT, ":2: byte 12 ");
    read_bad(*state, "a\nb\nc\0d\n", 8, WR_ERR_INPUT, ":3: byte 2 of the line is NUL");
    read_bad(*state,
             "\xff\xfe"
             "a\0",
             4, WR_ERR_INPUT, "UTF-16");
}

static void test_archives(void **state) {
    wr_text text = read_good(*state, gz_two, sizeof gz_two, 0);
    assert_int_equal(text.n, 2);
    check_line(&text, 0, "one");
    check_line(&text, 1, "two");
    wr_text_free(&text);
    text = read_good(*state, xz_two, sizeof xz_two, 0);
    assert_int_equal(text.n, 2);
    check_line(&text, 1, "two");
    wr_text_free(&text);
}

static void test_concatenated_archives(void **state) {
    unsigned char twice[2 * sizeof xz_two + 2 * sizeof gz_two];
    memcpy(twice, gz_two, sizeof gz_two);
    memcpy(twice + sizeof gz_two, gz_two, sizeof gz_two);
    wr_text text = read_good(*state, twice, 2 * sizeof gz_two, 0);
    assert_int_equal(text.n, 4);
    check_line(&text, 3, "two");
    wr_text_free(&text);
    memcpy(twice, xz_two, sizeof xz_two);
    memcpy(twice + sizeof xz_two, xz_two, sizeof xz_two);
    text = read_good(*state, twice, 2 * sizeof xz_two, 0);
    assert_int_equal(text.n, 4);
    check_line(&text, 2, "one");
    wr_text_free(&text);
}

/* Every proper prefix that still shows the magic bytes is an error, never a shorter text. */
static void test_truncated_archives(void **state) {
    for (size_t n = 2; n < sizeof gz_two; n++)
        read_bad(*state, gz_two, n, WR_ERR_INPUT, "truncated");
    for (size_t n = 6; n < sizeof xz_two; n++)
        read_bad(*state, xz_two, n, WR_ERR_INPUT, "truncated");
}

static void test_damaged_archives(void **state) {
    unsigned char copy[sizeof gz_two + sizeof xz_two];
    memcpy(copy, gz_two, sizeof gz_two);
    copy[sizeof gz_two - 8] ^= 1; /* the checksum */
    read_bad(*state, copy, sizeof gz_two, WR_ERR_INPUT, "damaged");
    memcpy(copy, gz_two, sizeof gz_two);
    memcpy(copy + sizeof gz_two, "junk", 4);
    read_bad(*state, copy, sizeof gz_two + 4, WR_ERR_INPUT, "damaged");
    memcpy(copy, xz_two, sizeof xz_two);
    copy[sizeof xz_two / 2] ^= 0x10;
    read_bad(*state, copy, sizeof xz_two, WR_ERR_INPUT, "damaged");
}

static void test_white_space(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t bytes;
    } cases[] = {{" ", 1},
                 {"\t", 1},
                 {"\x1c", 1},
                 {"\xc2\xa0", 2},
                 {"\xc2\x85", 2},
                 {"\xe1\x9a\x80", 3},
                 {"\xe2\x80\x8a", 3},
                 {"\xe2\x80\xa9", 3},
                 {"\xe2\x80\xaf", 3},
                 {"\xe2\x81\x9f", 3},
                 {"\xe3\x80\x80", 3},
                 {"a", 0},
                 {"\x1b", 0},
                 {"\x7f", 0},
                 {"\xc2\xad", 0},
                 {"\xe2\x80\x8b", 0},
                 {"\xef\xbb\xbf", 0},
                 {"\xe1\xa0\x8e", 0},
                 {"\xc3\xa0", 0},
                 {"", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(wr_utf8_space(cases[i].text, strlen(cases[i].text)), cases[i].bytes);
    assert_int_equal(wr_utf8_rstrip("a \xc2\xa0\xe3\x80\x80\n", 8), 1);
    assert_int_equal(wr_utf8_rstrip("a\xe2\x80\x8b ", 5), 4);
    assert_int_equal(wr_utf8_rstrip("  ", 2), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lines, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_final_newline_makes_no_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_separators_stay_inside, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_empty_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_missing_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_bytes_are_placed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_archives, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_concatenated_archives, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_truncated_archives, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damaged_archives, set_up, tear_down),
        cmocka_unit_test(test_white_space),
    };
    return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
