/* text.c: text files, plain, gzip or xz, into lines; see text.h for the contracts. */
#include "data/text.h"

#include <errno.h>
#include <limits.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utf8proc.h>
#include <zlib.h>

/* More than any preset of xz needs (9e: 65 MiB), far less than a hostile header can ask for. */
static const uint64_t XZ_MEMORY_LIMIT = (uint64_t)1 << 30;

/* ---- looking at UTF-8 ---- */

bool wr_utf8_valid(const char *bytes, size_t n, size_t *bad) {
    size_t i = 0;
    while (i < n) {
        uint64_t eight;
        if (i + sizeof eight <= n) { /* most text is ASCII: eight bytes at a time */
            memcpy(&eight, bytes + i, sizeof eight);
            if ((eight & UINT64_C(0x8080808080808080)) == 0) {
                i += sizeof eight;
                continue;
            }
        }
        if ((unsigned char)bytes[i] < 0x80) {
            i++;
            continue;
        }
        utf8proc_int32_t cp;
        utf8proc_ssize_t left = (utf8proc_ssize_t)(n - i < 4 ? n - i : 4);
        utf8proc_ssize_t got = utf8proc_iterate((const utf8proc_uint8_t *)(bytes + i), left, &cp);
        if (got < 1) {
            if (bad != NULL) *bad = i;
            return false;
        }
        i += (size_t)got;
    }
    return true;
}

static bool is_wide_space(unsigned cp) {
    return cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 ||
           cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

size_t wr_utf8_space(const char *at, size_t n) {
    if (n == 0) return 0;
    unsigned a = (unsigned char)at[0];
    if (a < 0x80) return a == ' ' || (a >= 0x09 && a <= 0x0D) || (a >= 0x1C && a <= 0x1F);
    if (n < 2) return 0;
    unsigned b = (unsigned char)at[1];
    if (a == 0xC2) return b == 0x85 || b == 0xA0 ? 2 : 0; /* next line, no-break space */
    if (a < 0xE1 || a > 0xE3 || n < 3) return 0;
    unsigned c = (unsigned char)at[2];
    return is_wide_space((a & 0x0F) << 12 | (b & 0x3F) << 6 | (c & 0x3F)) ? 3 : 0;
}

size_t wr_utf8_rstrip(const char *bytes, size_t n) {
    while (n > 0) {
        size_t start = n - 1;
        while (start > 0 && ((unsigned char)bytes[start] & 0xC0) == 0x80)
            start--;
        if (wr_utf8_space(bytes + start, n - start) == 0) break;
        n = start;
    }
    return n;
}

/* ---- bytes of a file ---- */

/* A growing buffer that always keeps one byte free behind its content. */
typedef struct buffer {
    char *data;
    size_t n, cap;
} buffer;

static bool buffer_room(buffer *b, size_t extra) {
    return wr_grow(&b->data, &b->cap, b->n + extra + 1, 1);
}

static wr_status read_stdin(buffer *b, wr_error *err) {
    enum { STEP = 1 << 16 };
    for (;;) {
        if (!buffer_room(b, STEP)) return wr_fail_memory(err, "standard input", b->n + STEP);
        ssize_t got = read(STDIN_FILENO, b->data + b->n, b->cap - b->n - 1);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            return wr_fail(err, WR_ERR_IO, "standard input: cannot read: %s", strerror(errno));
        if (got == 0) break;
        b->n += (size_t)got;
    }
    b->data[b->n] = '\0';
    return WR_OK;
}

static wr_status read_file(const char *path, buffer *b, wr_error *err) {
    wr_status status = wr_file_read(path, &b->data, &b->n, err);
    if (status == WR_OK) b->cap = b->n + 1;
    return status;
}

/* ---- decompression ---- */

static wr_status archive_error(const char *path, const char *kind, bool cut, wr_error *err) {
    if (cut)
        return wr_fail(err, WR_ERR_INPUT,
                       "%s: the %s data end too early; the file is truncated: copy it again", path,
                       kind);
    return wr_fail(err, WR_ERR_INPUT,
                   "%s: the %s data are damaged; test the file with `%s -t` and copy it again",
                   path, kind, strcmp(kind, "xz") == 0 ? "xz" : "gzip");
}

static bool all_zero(const char *at, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (at[i] != '\0') return false;
    return true;
}

/* Point zlib at the input from `used` on; its counters are 32 bits wide, so feed it in parts. */
static void gzip_feed(z_stream *z, const buffer *in, size_t *used) {
    if (z->avail_in > 0) return;
    size_t left = in->n - *used;
    z->next_in = (Bytef *)(in->data + *used);
    z->avail_in = left > INT_MAX ? (uInt)INT_MAX : (uInt)left;
    *used += z->avail_in;
}

/* After a member's end: true when another one follows, which inflate is then ready for. */
static bool gzip_next_member(z_stream *z, const buffer *in, size_t used) {
    size_t left = z->avail_in + (in->n - used);
    return left > 0 && !all_zero((const char *)z->next_in, left) && inflateReset(z) == Z_OK;
}

static wr_status gzip_loop(z_stream *z, const buffer *in, buffer *out, const char *path,
                           wr_error *err) {
    size_t used = 0;
    for (;;) {
        gzip_feed(z, in, &used);
        if (!buffer_room(out, 1 << 16)) return wr_fail_memory(err, path, out->n + (1 << 16));
        size_t room = out->cap - out->n - 1;
        uInt want = room > INT_MAX ? (uInt)INT_MAX : (uInt)room;
        z->next_out = (Bytef *)(out->data + out->n);
        z->avail_out = want;
        int rc = inflate(z, Z_NO_FLUSH);
        out->n += want - z->avail_out;
        if (rc == Z_MEM_ERROR) return wr_fail_memory(err, path, 1 << 16);
        if (rc == Z_STREAM_END && !gzip_next_member(z, in, used)) return WR_OK;
        if (rc == Z_STREAM_END || rc == Z_OK) continue;
        bool cut = rc == Z_BUF_ERROR && z->avail_in == 0 && used == in->n;
        return archive_error(path, "gzip", cut, err);
    }
}

static wr_status gunzip(const buffer *in, buffer *out, const char *path, wr_error *err) {
    z_stream z = {0};
    int rc = inflateInit2(&z, 15 + 16); /* 32 KiB window, gzip header */
    if (rc == Z_MEM_ERROR) return wr_fail_memory(err, path, 1 << 16);
    if (rc != Z_OK)
        return wr_fail(err, WR_ERR_LIBRARY, "%s: zlib does not start (status %d)", path, rc);
    wr_status status = gzip_loop(&z, in, out, path, err);
    inflateEnd(&z);
    return status;
}

static wr_status xz_error(lzma_ret rc, const char *path, wr_error *err) {
    if (rc == LZMA_MEM_ERROR) return wr_fail_memory(err, path, 1 << 16);
    if (rc == LZMA_MEMLIMIT_ERROR)
        return wr_fail(err, WR_ERR_INPUT,
                       "%s: unpacking needs more than 1 GiB of memory; compress it with `xz -9` or "
                       "a lower level",
                       path);
    return archive_error(path, "xz", rc == LZMA_BUF_ERROR, err);
}

static wr_status xz_loop(lzma_stream *s, buffer *out, const char *path, wr_error *err) {
    for (;;) {
        if (!buffer_room(out, 1 << 16)) return wr_fail_memory(err, path, out->n + (1 << 16));
        s->next_out = (uint8_t *)(out->data + out->n);
        s->avail_out = out->cap - out->n - 1;
        lzma_ret rc = lzma_code(s, LZMA_FINISH);
        out->n = (size_t)((char *)s->next_out - out->data);
        if (rc == LZMA_STREAM_END) return WR_OK;
        if (rc != LZMA_OK) return xz_error(rc, path, err);
    }
}

static wr_status unxz(const buffer *in, buffer *out, const char *path, wr_error *err) {
    lzma_stream s = LZMA_STREAM_INIT;
    lzma_ret rc = lzma_stream_decoder(&s, XZ_MEMORY_LIMIT, LZMA_CONCATENATED);
    if (rc != LZMA_OK) return xz_error(rc, path, err);
    s.next_in = (const uint8_t *)in->data;
    s.avail_in = in->n;
    wr_status status = xz_loop(&s, out, path, err);
    lzma_end(&s);
    return status;
}

/* Replace the content of `b` by what it unpacks to when it is an archive. */
static wr_status unpack(buffer *b, const char *path, wr_error *err) {
    static const char gzip_magic[] = {'\x1f', '\x8b'};
    static const char xz_magic[] = {'\xfd', '7', 'z', 'X', 'Z', '\0'};
    bool gz = b->n >= sizeof gzip_magic && memcmp(b->data, gzip_magic, sizeof gzip_magic) == 0;
    bool xz = b->n >= sizeof xz_magic && memcmp(b->data, xz_magic, sizeof xz_magic) == 0;
    if (!gz && !xz) return WR_OK;
    buffer out = {0};
    wr_status status = WR_OK;
    if (!buffer_room(&out, b->n * 4)) {
        status = wr_fail_memory(err, path, b->n * 4);
    } else {
        status = gz ? gunzip(b, &out, path, err) : unxz(b, &out, path, err);
    }
    if (status != WR_OK) {
        free(out.data);
        return status;
    }
    out.data[out.n] = '\0';
    free(b->data);
    *b = out;
    return WR_OK;
}

/* ---- lines ---- */

static void find_place(const char *bytes, size_t at, size_t *line, size_t *column) {
    *line = 1;
    *column = at + 1;
    for (size_t i = 0; i < at; i++) {
        if (bytes[i] != '\n') continue;
        ++*line;
        *column = at - i;
    }
}

static wr_status check_bytes(const buffer *b, const char *path, wr_error *err) {
    size_t at, line, column;
    bool utf16 =
        b->n >= 2 && (memcmp(b->data, "\xff\xfe", 2) == 0 || memcmp(b->data, "\xfe\xff", 2) == 0);
    if (utf16)
        return wr_fail(err, WR_ERR_INPUT,
                       "%s:1: the file is UTF-16, only UTF-8 is read; convert it with `iconv -f "
                       "UTF-16 -t UTF-8`",
                       path);
    const char *nul = b->n > 0 ? memchr(b->data, '\0', b->n) : NULL;
    if (nul != NULL) {
        find_place(b->data, (size_t)(nul - b->data), &line, &column);
        return wr_fail(err, WR_ERR_INPUT,
                       "%s:%zu: byte %zu of the line is NUL, which no text holds; is this a text "
                       "file? If so, take it out with `tr -d '\\000'`",
                       path, line, column);
    }
    if (wr_utf8_valid(b->data, b->n, &at)) return WR_OK;
    find_place(b->data, at, &line, &column);
    return wr_fail(
        err, WR_ERR_INPUT,
        "%s:%zu: byte %zu of the line (0x%02x) is not UTF-8; convert the file, e.g. with "
        "`iconv -f ISO-8859-1 -t UTF-8`",
        path, line, column, (unsigned)(unsigned char)b->data[at]);
}

static size_t count_lines(const buffer *b) {
    size_t n = 0;
    const char *at = b->data, *end = b->data + b->n;
    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        n++;
        if (stop == NULL) break;
        at = stop + 1;
    }
    return n;
}

static void cut_lines(char *at, char *end, wr_text *out) {
    for (size_t i = 0; i < out->n; i++) {
        char *stop = memchr(at, '\n', (size_t)(end - at));
        if (stop == NULL) stop = end;
        size_t len = (size_t)(stop - at);
        if (len > 0 && at[len - 1] == '\r') len--;
        at[len] = '\0';
        out->line[i] = at;
        out->len[i] = len;
        at = stop + 1;
    }
}

/* Make `out` of the bytes; takes them over when it succeeds. */
static wr_status split_lines(buffer *b, wr_text *out, wr_error *err) {
    size_t n = count_lines(b), room = n > 0 ? n : 1;
    out->line = malloc(room * sizeof *out->line);
    out->len = malloc(room * sizeof *out->len);
    if (out->line == NULL || out->len == NULL)
        return wr_fail_memory(err, out->path, room * (sizeof *out->line + sizeof *out->len));
    out->n = n;
    out->bytes = b->data;
    cut_lines(b->data, b->data + b->n, out);
    *b = (buffer){0};
    return WR_OK;
}

wr_status wr_text_read(const char *path, unsigned flags, wr_text *out, wr_error *err) {
    *out = (wr_text){0};
    bool from_stdin = strcmp(path, "-") == 0;
    out->path = wr_strdup(from_stdin ? "standard input" : path);
    if (out->path == NULL) return wr_fail_memory(err, "a file name", strlen(path) + 1);
    buffer b = {0};
    wr_status status = from_stdin ? read_stdin(&b, err) : read_file(path, &b, err);
    if (status == WR_OK) status = unpack(&b, out->path, err);
    if (status == WR_OK && b.n == 0 && (flags & WR_TEXT_MAY_BE_EMPTY) == 0)
        status = wr_fail(err, WR_ERR_INPUT, "%s: the file is empty; at least one line is needed",
                         out->path);
    if (status == WR_OK) status = check_bytes(&b, out->path, err);
    if (status == WR_OK) status = split_lines(&b, out, err);
    free(b.data);
    if (status != WR_OK) wr_text_free(out);
    return status;
}

void wr_text_free(wr_text *text) {
    free(text->line);
    free(text->len);
    free(text->path);
    free(text->bytes);
    *text = (wr_text){0};
}
