/* recipe_nearest.c: the name a user probably meant; see recipe_nearest.h. */
#include "models/recipe_nearest.h"

#include <ctype.h>
#include <string.h>

enum { WORD_MAX = 63 };

static size_t word_length(const char *word) {
    size_t n = strlen(word);
    return n < WORD_MAX ? n : WORD_MAX;
}

static bool same_letter(char a, char b) {
    return tolower((unsigned char)a) == tolower((unsigned char)b);
}

static size_t smallest(size_t a, size_t b, size_t c) {
    size_t least = a < b ? a : b;
    return least < c ? least : c;
}

size_t wr_word_distance(const char *a, const char *b) {
    size_t n = word_length(a), m = word_length(b);
    size_t row[3][WORD_MAX + 1];
    size_t *before = row[0], *above = row[1], *now = row[2];
    for (size_t j = 0; j <= m; j++)
        above[j] = before[j] = j;
    for (size_t i = 1; i <= n; i++) {
        now[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t replaced = above[j - 1] + (same_letter(a[i - 1], b[j - 1]) ? 0 : 1);
            now[j] = smallest(above[j] + 1, now[j - 1] + 1, replaced);
            bool swapped = i > 1 && j > 1 && same_letter(a[i - 1], b[j - 2]) &&
                           same_letter(a[i - 2], b[j - 1]);
            if (swapped && before[j - 2] + 1 < now[j]) now[j] = before[j - 2] + 1;
        }
        size_t *oldest = before;
        before = above;
        above = now;
        now = oldest;
    }
    return above[m];
}

/* A beginning of at least three letters counts as near: `chec` means `checkpoint_every`. */
static bool begins_like(const char *word, const char *candidate) {
    size_t n = strlen(word);
    return n >= 3 && strncmp(word, candidate, n) == 0;
}

void wr_nearest_try(wr_nearest *nearest, const char *candidate) {
    size_t n = word_length(nearest->word), m = word_length(candidate);
    size_t longer = n > m ? n : m;
    size_t distance = wr_word_distance(nearest->word, candidate);
    size_t allowed = longer / 3 > 0 ? longer / 3 : 1;
    if (begins_like(nearest->word, candidate)) {
        if (distance > allowed) distance = allowed;
    }
    if (distance > allowed || distance >= longer) return;
    if (nearest->best != NULL && distance >= nearest->distance) return;
    nearest->best = candidate;
    nearest->distance = distance;
}
