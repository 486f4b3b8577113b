/* report_log.h: what a report tells of RUN/log.jsonl beside its curves: validations and samples. */
#ifndef WEIR_CLI_REPORT_LOG_H
#define WEIR_CLI_REPORT_LOG_H

#include "graph/base.h"

#include <cJSON.h>

typedef struct wr_report_log {
    cJSON **valid; /* validation lines in order of updates */
    size_t n, cap;
    cJSON *train; /* the last report, or NULL */
} wr_report_log;

/* Read a log. A missing file is an empty log. Of lines with the same update the last one counts,
 * and a line takes back validations of later updates before it (a run that was killed and resumed).
 * Lines that are no JSON objects with kind and update are passed over. Zero-initialise; free also
 * after a failure. Errors: WR_ERR_IO, WR_ERR_MEMORY. */
wr_status wr_report_log_read(const char *path, wr_report_log *log, wr_error *err);
void wr_report_log_free(wr_report_log *log);

/* A number of a line, or NAN. */
double wr_report_number(const cJSON *line, const char *name);

#endif
