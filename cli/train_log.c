/* train_log.c: see train_log.h. */
#define _GNU_SOURCE
#include "cli/train_log.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Does the line belong to an update up to `update`? A torn line (a kill while writing) does not. */
static bool keeps(const char *line, size_t n, int64_t update) {
    cJSON *json = cJSON_ParseWithLength(line, n);
    const cJSON *at = cJSON_GetObjectItemCaseSensitive(json, "update");
    bool keep = cJSON_IsNumber(at) && at->valuedouble <= (double)update;
    cJSON_Delete(json);
    return keep;
}

static wr_status drop_later_lines(const char *path, int64_t update, wr_error *err) {
    char *text = NULL;
    size_t n = 0;
    if (access(path, F_OK) != 0) return WR_OK;
    wr_status status = wr_file_read(path, &text, &n, err);
    if (status != WR_OK) return status;
    wr_str kept = {0};
    for (char *at = text; at < text + n;) {
        char *end = memchr(at, '\n', (size_t)(text + n - at));
        size_t len = end == NULL ? (size_t)(text + n - at) : (size_t)(end - at);
        if (end != NULL && keeps(at, len, update)) wr_str_bytes(&kept, at, len + 1);
        at += len + 1;
    }
    status = kept.oom ? wr_fail_memory(err, path, n)
                      : wr_file_replace(path, wr_str_text(&kept), kept.len, err);
    wr_str_free(&kept);
    free(text);
    return status;
}

wr_status wr_train_log_open(wr_train_log *log, const char *path, int64_t update, wr_error *err) {
    *log = (wr_train_log){.fd = -1, .path = wr_strdup(path)};
    if (log->path == NULL) return wr_fail_memory(err, path, strlen(path));
    wr_status status = update >= 0 ? drop_later_lines(path, update, err) : WR_OK;
    if (status != WR_OK) return status;
    log->fd =
        open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | (update < 0 ? O_TRUNC : 0), 0666);
    if (log->fd < 0) return wr_fail(err, WR_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    return WR_OK;
}

void wr_train_log_close(wr_train_log *log) {
    if (log->fd >= 0) close(log->fd);
    free(log->path);
    wr_str_free(&log->line);
    *log = (wr_train_log){.fd = -1};
}

void wr_log_begin(wr_train_log *log, const char *kind, int64_t update) {
    wr_str_clear(&log->line);
    wr_str_add(&log->line, "{\"kind\": \"%s\", \"update\": %lld", kind, (long long)update);
}

void wr_log_number(wr_train_log *log, const char *name, double value) {
    if (isfinite(value))
        wr_str_add(&log->line, ", \"%s\": %.9g", name, value);
    else /* JSON has no number for it */
        wr_str_add(&log->line, ", \"%s\": \"%f\"", name, value);
}

void wr_log_text(wr_train_log *log, const char *name, const char *value) {
    cJSON *json = cJSON_CreateString(value);
    char *quoted = json == NULL ? NULL : cJSON_PrintUnformatted(json);
    wr_str_add(&log->line, ", \"%s\": %s", name, quoted == NULL ? "null" : quoted);
    cJSON_free(quoted);
    cJSON_Delete(json);
}

wr_status wr_log_end(wr_train_log *log, wr_error *err) {
    wr_str_add(&log->line, "}\n");
    if (log->line.oom) return wr_fail_memory(err, log->path, log->line.len);
    const char *at = wr_str_text(&log->line);
    for (size_t left = log->line.len; left > 0;) {
        ssize_t put = write(log->fd, at, left);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0)
            return wr_fail(err, WR_ERR_IO, "%s: cannot write: %s; the checkpoints are not affected",
                           log->path, strerror(errno));
        at += put;
        left -= (size_t)put;
    }
    return WR_OK;
}
