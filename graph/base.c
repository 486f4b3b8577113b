/* base.c: status, strings and files; see base.h for the contracts. */
#define _GNU_SOURCE
#include "graph/base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

wr_status wr_fail(wr_error *err, wr_status status, const char *fmt, ...) {
    if (err == NULL || err->status != WR_OK) return status;
    err->status = status;
    va_list args;
    va_start(args, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, args);
    va_end(args);
    return status;
}

wr_status wr_fail_memory(wr_error *err, const char *what, size_t bytes) {
    return wr_fail(err, WR_ERR_MEMORY,
                   "out of memory: %zu bytes for %s; use a smaller token budget or a smaller model",
                   bytes, what);
}

void wr__assert_failed(const char *expr, const char *file, int line) {
    fprintf(stderr, "weir: %s:%d: internal error: %s is false; please report this\n", file, line,
            expr);
    abort();
}

static bool str_reserve(wr_str *s, size_t extra) {
    if (s->oom) return false;
    if (s->text == NULL || s->len + extra + 1 > s->cap) {
        size_t cap = (s->len + extra + 1) * 2;
        if (cap < 64) cap = 64;
        char *text = realloc(s->text, cap);
        if (text == NULL) {
            s->oom = true;
            return false;
        }
        s->text = text;
        s->cap = cap;
    }
    return true;
}

void wr_str_add(wr_str *s, const char *fmt, ...) {
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n >= 0 && str_reserve(s, (size_t)n)) {
        vsnprintf(s->text + s->len, (size_t)n + 1, fmt, again);
        s->len += (size_t)n;
    }
    va_end(again);
}

void wr_str_bytes(wr_str *s, const void *bytes, size_t n) {
    if (!str_reserve(s, n)) return;
    if (n > 0) memcpy(s->text + s->len, bytes, n);
    s->len += n;
    s->text[s->len] = '\0';
}

const char *wr_str_text(const wr_str *s) { return s->text == NULL || s->oom ? "" : s->text; }

void wr_str_clear(wr_str *s) {
    s->len = 0;
    s->oom = false;
    if (s->text != NULL) s->text[0] = '\0';
}

void wr_str_free(wr_str *s) {
    free(s->text);
    *s = (wr_str){0};
}

bool wr_grow(void *array, size_t *cap, size_t need, size_t size) {
    if (need <= *cap) return true;
    size_t want = *cap * 2 > need ? *cap * 2 : need;
    if (want < 8) want = 8;
    void *old;
    memcpy(&old, array, sizeof old);
    void *grown = realloc(old, want * size);
    if (grown == NULL) return false;
    memcpy(array, &grown, sizeof grown);
    *cap = want;
    return true;
}

char *wr_strdup(const char *text) {
    size_t n = strlen(text) + 1;
    char *copy = malloc(n);
    if (copy != NULL) memcpy(copy, text, n);
    return copy;
}

/* Read what is left of `fd` into a growing buffer. */
static wr_status read_all(int fd, const char *path, char **data, size_t *n, wr_error *err) {
    struct stat st;
    size_t cap = fstat(fd, &st) == 0 && st.st_size > 0 ? (size_t)st.st_size + 1 : 4096;
    size_t len = 0;
    char *buf = malloc(cap);
    if (buf == NULL) return wr_fail_memory(err, path, cap);
    for (;;) {
        if (len + 1 >= cap && !wr_grow(&buf, &cap, cap * 2, 1)) {
            free(buf);
            return wr_fail_memory(err, path, cap * 2);
        }
        ssize_t got = read(fd, buf + len, cap - len - 1);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            free(buf);
            return wr_fail(err, WR_ERR_IO, "%s: cannot read: %s", path, strerror(errno));
        }
        if (got == 0) break;
        len += (size_t)got;
    }
    buf[len] = '\0';
    *data = buf;
    *n = len;
    return WR_OK;
}

wr_status wr_file_read(const char *path, char **data, size_t *n, wr_error *err) {
    *data = NULL;
    *n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return wr_fail(err, WR_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    wr_status status = read_all(fd, path, data, n, err);
    close(fd);
    return status;
}

wr_status wr_replace_begin(wr_replace *r, const char *path, wr_error *err) {
    *r = (wr_replace){.fd = -1};
    size_t n = strlen(path) + 5;
    r->path = wr_strdup(path);
    r->tmp = malloc(n);
    if (r->path == NULL || r->tmp == NULL) {
        free(r->path);
        free(r->tmp);
        *r = (wr_replace){.fd = -1};
        return wr_fail_memory(err, path, n);
    }
    snprintf(r->tmp, n, "%s.tmp", path);
    r->fd = open(r->tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (r->fd >= 0) return WR_OK;
    wr_fail(err, WR_ERR_IO, "%s: cannot create: %s", r->tmp, strerror(errno));
    free(r->tmp);
    r->tmp = NULL; /* not ours: nothing to unlink */
    wr_replace_abandon(r);
    return WR_ERR_IO;
}

wr_status wr_replace_write(wr_replace *r, const void *data, size_t n, wr_error *err) {
    const char *at = data;
    while (n > 0) {
        ssize_t put = write(r->fd, at, n);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0)
            return wr_fail(err, WR_ERR_IO,
                           "%s: cannot write: %s; the file it would replace is "
                           "unchanged",
                           r->tmp, strerror(errno));
        at += put;
        n -= (size_t)put;
    }
    return WR_OK;
}

/* Make a rename durable: sync the directory that holds `path`. */
static void sync_parent(const char *path) {
    const char *slash = strrchr(path, '/');
    char *dir = slash == NULL ? wr_strdup(".") : strndup(path, (size_t)(slash - path) + 1);
    if (dir == NULL) return;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(dir);
    if (fd < 0) return;
    fsync(fd);
    close(fd);
}

wr_status wr_replace_commit(wr_replace *r, wr_error *err) {
    bool synced = fsync(r->fd) == 0;
    bool closed = close(r->fd) == 0;
    r->fd = -1;
    if (!synced || !closed || rename(r->tmp, r->path) != 0) {
        wr_status status =
            wr_fail(err, WR_ERR_IO, "%s: cannot finish writing: %s", r->path, strerror(errno));
        wr_replace_abandon(r);
        return status;
    }
    sync_parent(r->path);
    free(r->tmp);
    r->tmp = NULL;
    wr_replace_abandon(r);
    return WR_OK;
}

void wr_replace_abandon(wr_replace *r) {
    if (r->fd >= 0) close(r->fd);
    if (r->tmp != NULL) unlink(r->tmp);
    free(r->tmp);
    free(r->path);
    *r = (wr_replace){.fd = -1};
}

wr_status wr_file_replace(const char *path, const void *data, size_t n, wr_error *err) {
    wr_replace r;
    wr_status status = wr_replace_begin(&r, path, err);
    if (status != WR_OK) return status;
    status = wr_replace_write(&r, data, n, err);
    if (status == WR_OK) return wr_replace_commit(&r, err);
    wr_replace_abandon(&r);
    return status;
}

wr_status wr_make_dirs(const char *path, wr_error *err) {
    char *copy = wr_strdup(path);
    if (copy == NULL) return wr_fail_memory(err, path, strlen(path) + 1);
    wr_status status = WR_OK;
    for (char *p = copy + 1; status == WR_OK; p++) {
        if (*p != '/' && *p != '\0') continue;
        char old = *p;
        *p = '\0';
        if (mkdir(copy, 0777) != 0 && errno != EEXIST)
            status =
                wr_fail(err, WR_ERR_IO, "%s: cannot make the directory: %s", copy, strerror(errno));
        *p = old;
        if (old == '\0') break;
    }
    struct stat st;
    if (status == WR_OK && (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)))
        status = wr_fail(err, WR_ERR_IO, "%s: exists and is not a directory", path);
    free(copy);
    return status;
}

double wr_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
