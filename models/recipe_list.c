/* recipe_list.c: lists of items in a recipe; see recipe.h. */
#include "models/recipe.h"

#include <string.h>

static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/* What an item may hold: YAML needs no quotes for any of it. */
static bool is_allowed(char c) {
    return is_letter(c) || (c >= '0' && c <= '9') || (c != '\0' && strchr("_=.+-", c) != NULL);
}

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/* Why the item cannot be one, or NULL. */
static const char *wrong(const char *item, size_t n) {
    if (n == 0) return "an item is empty";
    if (!is_letter(item[0])) return "must begin with a letter";
    for (size_t i = 0; i < n; i++)
        if (!is_allowed(item[i]) && !is_blank(item[i]))
            return "may hold letters, digits, blanks and _ = . + - only";
    return NULL;
}

static void trim(const char **item, size_t *n) {
    while (*n > 0 && is_blank((*item)[*n - 1]))
        --*n;
    for (; *n > 0 && is_blank(**item); ++*item)
        --*n;
}

bool wr_recipe_list_add(wr_recipe_list *list, const char *item, size_t n, wr_str *why) {
    trim(&item, &n);
    const char *problem = wrong(item, n);
    if (problem != NULL) {
        if (n > 0) wr_str_add(why, "'%.*s' ", (int)(n < 100 ? n : 100), item);
        wr_str_add(why, "%s", problem);
        return false;
    }
    size_t begin = strlen(list->text), at = begin;
    for (size_t i = 0; i < n && at < WR_RECIPE_LIST_BYTES - 2; i++) {
        if (is_blank(item[i]) && list->text[at - 1] == ' ') continue;
        list->text[at++] = is_blank(item[i]) ? ' ' : item[i];
        if (i + 1 < n) continue;
        list->text[at] = '\n';
        return true;
    }
    memset(list->text + begin, 0, WR_RECIPE_LIST_BYTES - begin);
    wr_str_add(why,
               "the list is longer than %d bytes; give a part of it a name, such as prior.step, or "
               "repeat an item with xN",
               WR_RECIPE_LIST_BYTES - 1);
    return false;
}

const char *wr_recipe_list_next(const char **at, size_t *n) {
    const char *item = *at;
    *n = strcspn(item, "\n");
    if (*n == 0) return NULL;
    *at = item + *n + (item[*n] == '\n');
    return item;
}
