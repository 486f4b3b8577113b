/* text.h: reading the lines of UTF-8 text files, plain or compressed, and looking at UTF-8.
 *
 * One rule for the whole project: a line ends at "\n" and nowhere else (not at U+2028, U+0085 or a
 * lone "\r"); one "\r" directly before the "\n" or before the end of the file is dropped; the last
 * line need not end in "\n". Everything else reaches the caller byte for byte: a byte order mark,
 * U+00AD, U+200B, control characters, spaces at either end. */
#ifndef WEIR_DATA_TEXT_H
#define WEIR_DATA_TEXT_H

#include "graph/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* All lines of a text file. Line i (from 0) is the string line[i] of len[i] bytes: valid UTF-8, no
 * NUL inside, NUL-terminated. Everything is owned by the wr_text: wr_text_free() it. */
typedef struct wr_text {
    const char **line;
    size_t *len;
    size_t n;
    char *path;  /* as messages name it: the path, or "standard input" for "-" */
    char *bytes; /* the storage behind `line` */
} wr_text;

/* Flags of wr_text_read(). */
enum {
    WR_TEXT_MAY_BE_EMPTY = 1 /* a file of 0 bytes gives 0 lines instead of an error */
};

/* Read the lines of the file `path` ("-": standard input) into `*out`. Whether it is gzip, xz or
 * plain is decided by its first bytes, not by its name; concatenated gzip members and xz streams
 * are read as one text. Errors, each with file and where it applies line and byte column (both from
 * 1): a missing or unreadable file (WR_ERR_IO); an empty file unless allowed; a truncated or
 * damaged archive; a NUL byte; a byte that is not UTF-8 (all WR_ERR_INPUT). On error `*out` is
 * empty and needs no freeing. */
wr_status wr_text_read(const char *path, unsigned flags, wr_text *out, wr_error *err);

/* Free the lines; a zeroed wr_text is fine. */
void wr_text_free(wr_text *text);

/* True when the `n` bytes are well-formed UTF-8 (no surrogates, no overlong forms, nothing above
 * U+10FFFF); else `*bad` (may be NULL) is the offset of the first byte that is not. */
bool wr_utf8_valid(const char *bytes, size_t n, size_t *bad);

/* Bytes of the white-space character at the start of `at` (`n` bytes of valid UTF-8), 0 when there
 * is none. White space is what Unicode calls White_Space plus U+001C..U+001F, the set at which the
 * usual scoring tools split; U+200B and U+FEFF are not in it. */
size_t wr_utf8_space(const char *at, size_t n);

/* How many of the `n` bytes (valid UTF-8) are left when white space at the end is dropped. */
size_t wr_utf8_rstrip(const char *bytes, size_t n);

#ifdef __cplusplus
}
#endif
#endif
