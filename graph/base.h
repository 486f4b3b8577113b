/* base.h: status codes, error text, growing strings and whole-file input and output.
 *
 * Every fallible function returns a wr_status and takes a wr_error that receives one clear message:
 * what is wrong, where (FILE:LINE when there is one), what is allowed, what to do. The message ends
 * without a newline. Nothing here aborts, and nothing here keeps global state. */
#ifndef WEIR_BASE_H
#define WEIR_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum wr_status {
    WR_OK = 0,
    WR_ERR_INPUT,  /* the user's data, options, recipe or graph is wrong */
    WR_ERR_USAGE,  /* the command line is wrong (exit status 2) */
    WR_ERR_IO,     /* the operating system refused: missing file, full disk, permission */
    WR_ERR_MEMORY, /* an allocation failed */
    WR_ERR_LIBRARY /* a library below us failed, or a bug of our own was caught */
} wr_status;

enum { WR_ERROR_TEXT = 4096 };

/* The first failure of a call chain; later ones do not overwrite it. Zero-initialise before use. */
typedef struct wr_error {
    wr_status status;
    char text[WR_ERROR_TEXT];
} wr_error;

#if defined(__GNUC__)
#define WR_PRINTF(fmt_arg, first_arg) __attribute__((format(printf, fmt_arg, first_arg)))
#define WR_NORETURN                   __attribute__((noreturn))
#else
#define WR_PRINTF(fmt_arg, first_arg)
#define WR_NORETURN
#endif

/* Record a failure in `err` (may be NULL) unless it already holds one; returns `status`. */
wr_status wr_fail(wr_error *err, wr_status status, const char *fmt, ...) WR_PRINTF(3, 4);

/* Record "out of memory" with what was being allocated; returns WR_ERR_MEMORY. */
wr_status wr_fail_memory(wr_error *err, const char *what, size_t bytes);

/* A library bug: prints the expression and its place on stderr and stops the process. Never used
 * for anything a user can cause. */
WR_NORETURN void wr__assert_failed(const char *expr, const char *file, int line);
#define WR_ASSERT(cond) ((cond) ? (void)0 : wr__assert_failed(#cond, __FILE__, __LINE__))

/* A growing, always NUL-terminated string. Zero-initialise. After a failed allocation `oom` is set,
 * further appends do nothing, and wr_str_text() returns "". */
typedef struct wr_str {
    char *text;
    size_t len, cap;
    bool oom;
} wr_str;

void wr_str_add(wr_str *s, const char *fmt, ...) WR_PRINTF(2, 3);
void wr_str_bytes(wr_str *s, const void *bytes, size_t n);
const char *wr_str_text(const wr_str *s);
void wr_str_clear(wr_str *s);
void wr_str_free(wr_str *s);

/* Grow `*array` (elements of `size` bytes, capacity `*cap`) to hold at least `need` elements.
 * False when memory is out; the array is then unchanged. */
bool wr_grow(void *array, size_t *cap, size_t need, size_t size);

/* Copy of a string, NULL when memory is out. */
char *wr_strdup(const char *text);

/* Read a whole regular file. `*data` gets one extra NUL byte behind `*n` bytes; free() it. */
wr_status wr_file_read(const char *path, char **data, size_t *n, wr_error *err);

/* Write a file so that a kill at any moment leaves the old one or the new one, never a part:
 * write to `path.tmp`, fsync, rename, fsync the directory. */
wr_status wr_file_replace(const char *path, const void *data, size_t n, wr_error *err);

/* The same for output written piece by piece: begin, write, then commit or abandon. */
typedef struct wr_replace {
    int fd;
    char *path, *tmp;
} wr_replace;
wr_status wr_replace_begin(wr_replace *r, const char *path, wr_error *err);
wr_status wr_replace_write(wr_replace *r, const void *data, size_t n, wr_error *err);
wr_status wr_replace_commit(wr_replace *r, wr_error *err);
void wr_replace_abandon(wr_replace *r);

/* Make a directory and its parents; one that exists is fine. */
wr_status wr_make_dirs(const char *path, wr_error *err);

/* Seconds on the monotonic clock. */
double wr_now(void);

#ifdef __cplusplus
}
#endif
#endif
