/* numbers.h: the names of whole numbers in several languages, as a parallel corpus without limit
 * that needs no download.
 *
 * Names follow each language's own spelling:
 *   en  two hundred and thirty-four; one thousand and one; one hundred thousand one hundred
 *   de  zweihundertvierunddreißig; eintausendeins; eine Million zweihunderttausend
 *   fr  deux cent trente-quatre; mille un; quatre-vingts; deux cents millions (traditional
 *       hyphens: only below one hundred and without "et") */
#ifndef WEIR_DATA_NUMBERS_H
#define WEIR_DATA_NUMBERS_H

#include "graph/base.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { WR_NUMBER_MAX = 999999999 };

typedef enum wr_number_lang { WR_NUMBER_EN, WR_NUMBER_DE, WR_NUMBER_FR } wr_number_lang;
enum { WR_NUMBER_LANGS = 3 };

/* "en", "de" or "fr". */
const char *wr_number_lang_code(wr_number_lang lang);

/* The language of a code; WR_ERR_INPUT names those there are. */
wr_status wr_number_lang_find(const char *code, wr_number_lang *lang, wr_error *err);

/* Append the name of n, 0 <= n <= WR_NUMBER_MAX. */
void wr_number_name(wr_number_lang lang, uint32_t n, wr_str *out);

/* How many numbers of each split to draw, from 0 to `max`. */
typedef struct wr_number_split {
    size_t train, valid, test;
    uint32_t max;
    uint64_t seed;
} wr_number_split;

/* The numbers drawn, all different: train first, then valid, then test; free() `value`. */
typedef struct wr_numbers {
    uint32_t *value;
    size_t train, valid, test;
} wr_numbers;

/* Draw distinct numbers: the count of decimal digits uniformly, then a number of that many digits
 * uniformly (a length whose numbers are used up gives way to the others), so that short names are
 * as frequent as long ones. Valid and test get only numbers from 100 on: the words of the small
 * ones may occur nowhere else. The same arguments give the same numbers everywhere. Errors:
 * WR_ERR_INPUT when there are not enough numbers; WR_ERR_MEMORY. */
wr_status wr_numbers_draw(const wr_number_split *split, wr_numbers *out, wr_error *err);

#ifdef __cplusplus
}
#endif
#endif
