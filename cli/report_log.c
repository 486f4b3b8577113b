/* report_log.c: see report_log.h. */
#include "cli/report_log.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

double wr_report_number(const cJSON *line, const char *name) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(line, name);
    return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

/* Takes `line`, or frees it. False when memory is out. */
static bool take_line(wr_report_log *log, cJSON *line) {
    const char *kind = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(line, "kind"));
    double update = wr_report_number(line, "update");
    bool valid = kind != NULL && strcmp(kind, "valid") == 0;
    bool train = kind != NULL && strcmp(kind, "train") == 0;
    if (!isfinite(update) || (!valid && !train)) {
        cJSON_Delete(line);
        return true;
    }
    while (log->n > 0 && (wr_report_number(log->valid[log->n - 1], "update") > update ||
                          (valid && wr_report_number(log->valid[log->n - 1], "update") == update)))
        cJSON_Delete(log->valid[--log->n]);
    if (train) {
        cJSON_Delete(log->train);
        log->train = line;
        return true;
    }
    if (!wr_grow(&log->valid, &log->cap, log->n + 1, sizeof(cJSON *))) {
        cJSON_Delete(line);
        return false;
    }
    log->valid[log->n++] = line;
    return true;
}

wr_status wr_report_log_read(const char *path, wr_report_log *log, wr_error *err) {
    char *text = NULL;
    size_t n = 0;
    if (access(path, F_OK) != 0) return WR_OK;
    wr_status status = wr_file_read(path, &text, &n, err);
    if (status != WR_OK) return status;
    for (size_t at = 0; at < n && status == WR_OK;) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t length = end == NULL ? n - at : (size_t)(end - (text + at));
        if (!take_line(log, cJSON_ParseWithLength(text + at, length)))
            status = wr_fail_memory(err, path, n);
        at += length + 1;
    }
    free(text);
    return status;
}

void wr_report_log_free(wr_report_log *log) {
    for (size_t i = 0; i < log->n; i++)
        cJSON_Delete(log->valid[i]);
    free((void *)log->valid);
    cJSON_Delete(log->train);
    *log = (wr_report_log){0};
}
