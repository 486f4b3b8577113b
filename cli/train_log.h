/* train_log.h: RUN/log.jsonl, a JSON object a line; see docs/files.md. */
#ifndef WEIR_CLI_TRAIN_LOG_H
#define WEIR_CLI_TRAIN_LOG_H

#include "graph/base.h"

typedef struct wr_train_log {
    int fd;
    char *path;
    wr_str line;
} wr_train_log;

/* Open for appending. When resuming at `update`, lines of later updates are dropped, so that the
 * log is what an uninterrupted run would have written. `update` < 0: begin anew. */
wr_status wr_train_log_open(wr_train_log *log, const char *path, int64_t update, wr_error *err);
void wr_train_log_close(wr_train_log *log);

/* Build a line: begin with its update and kind ("train", "valid"), add fields, end. */
void wr_log_begin(wr_train_log *log, const char *kind, int64_t update);
void wr_log_number(wr_train_log *log, const char *name, double value);
void wr_log_text(wr_train_log *log, const char *name, const char *value);
wr_status wr_log_end(wr_train_log *log, wr_error *err);

#endif
