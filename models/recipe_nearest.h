/* recipe_nearest.h: the name a user probably meant. */
#ifndef WEIR_RECIPE_NEAREST_H
#define WEIR_RECIPE_NEAREST_H

#include <stdbool.h>
#include <stddef.h>

/* How far `a` is from `b`: the number of letters inserted, removed, replaced or swapped with their
 * neighbour (the restricted Damerau-Levenshtein distance), letter case ignored. Words longer than
 * 63 bytes are compared by their first 63. */
size_t wr_word_distance(const char *a, const char *b);

/* Keeps the nearest of the candidates it is shown. Start with {.word = what the user typed}; after
 * the last wr_nearest_try(), `best` is the candidate to suggest or NULL when none is near enough
 * (at most a third of the longer word, and always less than all of it). `best` is the pointer that
 * was passed. Of equally near candidates the first one stays. */
typedef struct wr_nearest {
    const char *word;
    const char *best;
    size_t distance;
} wr_nearest;
void wr_nearest_try(wr_nearest *nearest, const char *candidate);

#endif
