/* recipe_table.h: the table of all recipe keys and how values are read and written; internal to
 * models/recipe*.c. */
#ifndef WEIR_RECIPE_TABLE_H
#define WEIR_RECIPE_TABLE_H

#include "models/recipe.h"

typedef enum wr__key_kind {
    WR__KEY_INT,    /* int */
    WR__KEY_WIDE,   /* int64_t */
    WR__KEY_REAL,   /* double */
    WR__KEY_BOOL,   /* bool */
    WR__KEY_CHOICE, /* an enum; its value is the position of the word in `choices` */
    WR__KEY_LAYERS  /* wr_recipe_list */
} wr__key_kind;

typedef struct wr__key {
    const char *path; /* "model.dim"; every part but the last is a section */
    wr__key_kind kind;
    size_t offset;        /* in wr_recipe */
    const char *fallback; /* the default, as written in a recipe */
    double min, max;      /* limits of numbers, included ... */
    bool above, below;    /* ... or excluded: value > min, value < max */
    const char *choices;  /* "pre|post|" */
    const char *help;
    unsigned types;            /* 1 << wr_recipe_model_type of all that use it; 0: all do */
    const char *flowseq, *nat; /* the defaults of these model types; NULL: `fallback` */
} wr__key;

/* All keys, in the order of saving; keys of a section stand together. */
extern const wr__key wr__keys[];
extern const size_t wr__key_n;

/* Does this type of model use the key? */
bool wr__key_used(const wr__key *key, wr_recipe_model_type type);

/* The key of a path, or NULL. */
const wr__key *wr__key_find(const char *path);

/* Its default for this type. */
const char *wr__key_default(const wr__key *key, wr_recipe_model_type type);

/* The word of the choice that is number `value`: `*n` bytes. */
const char *wr__key_word(const wr__key *key, int value, size_t *n);

/* Append what the key allows: "a whole number from 1 to 100", "one of pre, post". */
void wr__key_allowed(const wr__key *key, wr_str *text);

/* Read `text` (quoted: the YAML had quotes, so it is no number) into the recipe; false when it is
 * not allowed. Not for WR__KEY_LAYERS, whose items recipe.c checks one by one. */
bool wr__key_read(const wr__key *key, const char *text, bool quoted, wr_recipe *recipe);

/* Append the value as wr__key_read() takes it; reals with as many digits as they need. */
void wr__key_write(const wr__key *key, const wr_recipe *recipe, wr_str *text);

#endif
