/* filter.h: from lines of text to sentence pairs of token ids, with the pairs that cannot be used
 * dropped and counted. */
#ifndef WEIR_DATA_FILTER_H
#define WEIR_DATA_FILTER_H

#include "graph/base.h"
#include "data/pairs.h"
#include "data/subword.h"
#include "data/text.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What to drop. All zero: nothing, so that pair i is line i. */
typedef struct wr_filter {
    bool empty;       /* pairs with a side of no token (an empty line, only white space) */
    size_t max_len;   /* longer sides, in tokens without begin and end; 0: any length */
    double max_ratio; /* tokens of the longer side / of the shorter; 0: any ratio */
    bool duplicates;  /* pairs whose two lines occurred before */
} wr_filter;

/* How many pairs were read and kept, and why the others were dropped: each is counted once, under
 * the first reason in the order duplicate, empty, too long, ratio. */
typedef struct wr_filter_report {
    size_t lines, kept, duplicate, empty, too_long, ratio;
} wr_filter_report;

/* Append one line of text such as "29000 pairs, 28911 kept; dropped: 12 empty, 77 longer than 128
 * tokens". */
void wr_filter_describe(const wr_filter *filter, const wr_filter_report *report, wr_str *out);

/* WR_ERR_INPUT naming both files and counts unless they have as many lines. */
wr_status wr_filter_same_lines(const wr_text *src, const wr_text *tgt, wr_error *err);

/* Called now and then with the share of the lines done, 0..1. */
typedef void wr_filter_progress(void *context, double fraction);

/* Encode the lines and append the pairs that pass to `out`. `progress` may be NULL. Errors:
 * different numbers of lines (WR_ERR_INPUT), WR_ERR_MEMORY, WR_ERR_LIBRARY. */
wr_status wr_filter_encode(const wr_text *src, const wr_text *tgt, const wr_subword *src_model,
                           const wr_subword *tgt_model, const wr_filter *filter,
                           wr_filter_progress *progress, void *context, wr_corpus *out,
                           wr_filter_report *report, wr_error *err);

#ifdef __cplusplus
}
#endif
#endif
