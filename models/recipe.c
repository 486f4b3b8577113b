/* recipe.c: YAML and `--set` to a recipe and back; see recipe.h for the contracts.
 *
 * libyaml parses and knows the line of every node, which libcyaml (that stands on it) does not hand
 * to later checks; the table of keys is the schema. */
#include "models/recipe.h"
#include "models/recipe_flowseq.h"
#include "models/recipe_nat.h"
#include "models/recipe_nearest.h"
#include "models/recipe_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { PATH_MAX_BYTES = 256 };

/* Where a key's value came from: a line of the file, a --set, or neither (the default). */
typedef struct origin {
    size_t line;
    const char *set;
} origin;

typedef struct loader {
    const char *name; /* of the file */
    wr_recipe *recipe;
    origin *origins; /* [wr__key_n] */
    yaml_document_t *document;
    wr_error *err;
} loader;

/* "FILE:LINE", or "--set key=value"; FILE alone for a default. */
static void add_place(const loader *l, origin from, wr_str *text) {
    if (from.set != NULL)
        wr_str_add(text, "--set %s", from.set);
    else if (from.line > 0)
        wr_str_add(text, "%s:%zu", l->name, from.line);
    else
        wr_str_add(text, "%s", l->name);
}

/* "PLACE: WHAT"; takes over `what`. */
static wr_status fail_at(const loader *l, origin from, wr_str *what) {
    wr_str place = {0};
    add_place(l, from, &place);
    if (place.oom || what->oom)
        wr_fail_memory(l->err, "a message about a recipe", what->cap);
    else
        wr_fail(l->err, WR_ERR_INPUT, "%s: %s", wr_str_text(&place), wr_str_text(what));
    wr_str_free(&place);
    wr_str_free(what);
    return l->err != NULL ? l->err->status : WR_ERR_INPUT;
}

/* ---- names ---- */

static const char *last_part(const char *path) {
    const char *dot = strrchr(path, '.');
    return dot == NULL ? path : dot + 1;
}

static bool is_section(const char *path) {
    size_t n = strlen(path);
    for (size_t i = 0; i < wr__key_n; i++)
        if (strncmp(wr__keys[i].path, path, n) == 0 && wr__keys[i].path[n] == '.') return true;
    return false;
}

/* The length of "model" in "model.dim". */
static size_t section_length(const char *path) { return (size_t)(last_part(path) - path) - 1; }

/* Whether key `i` is the first one with its section; `*n` is the length of the section's name. */
static bool begins_section(size_t i, size_t *n) {
    const char *path = wr__keys[i].path;
    *n = section_length(path);
    return i == 0 || strncmp(wr__keys[i - 1].path, path, *n + 1) != 0;
}

/* The key that was probably meant: the same last part in another section, or the nearest path. */
static const char *nearest_key(const char *path) {
    for (size_t i = 0; i < wr__key_n; i++)
        if (strcmp(last_part(wr__keys[i].path), last_part(path)) == 0) return wr__keys[i].path;
    wr_nearest nearest = {.word = path};
    for (size_t i = 0; i < wr__key_n; i++)
        wr_nearest_try(&nearest, wr__keys[i].path);
    return nearest.best;
}

/* Append what may stand in the section of `path`: its keys, or the names of the sections. */
static void add_neighbours(const char *path, wr_str *text) {
    size_t n = (size_t)(last_part(path) - path);
    size_t length;
    const char *comma = "";
    for (size_t i = 0; i < wr__key_n; i++) {
        const char *known = wr__keys[i].path;
        bool inside = n > 0 && strncmp(known, path, n) == 0;
        if (inside)
            wr_str_add(text, "%s%s", comma, known + n);
        else if (n == 0 && begins_section(i, &length))
            wr_str_add(text, "%s%.*s", comma, (int)length, known);
        else
            continue;
        comma = ", ";
    }
}

/* The section that was probably meant goes to `best` (PATH_MAX_BYTES); false when none is near. */
static bool nearest_section(const char *word, char *best) {
    wr_nearest nearest = {.word = word};
    char name[PATH_MAX_BYTES];
    size_t n;
    for (size_t i = 0; i < wr__key_n; i++) {
        if (!begins_section(i, &n)) continue;
        snprintf(name, sizeof name, "%.*s", (int)n, wr__keys[i].path);
        wr_nearest_try(&nearest, name);
        if (nearest.best != name) continue;
        memcpy(best, name, sizeof name);
        nearest.best = best;
    }
    return nearest.best != NULL;
}

static wr_status fail_unknown(const loader *l, origin from, const char *path) {
    wr_str what = {0};
    char section[PATH_MAX_BYTES];
    const char *meant = nearest_key(path);
    bool top = strchr(path, '.') == NULL;
    if (top && nearest_section(path, section)) meant = section;
    wr_str_add(&what, "unknown key '%s'", path);
    if (meant != NULL) wr_str_add(&what, "; did you mean '%s'?", meant);
    wr_str_add(&what, "%s allowed %s", meant != NULL ? "" : ";", top ? "at the top: " : "there: ");
    add_neighbours(path, &what);
    return fail_at(l, from, &what);
}

/* ---- values ---- */

static wr_status fail_value(const loader *l, origin from, const wr__key *key, const char *is) {
    wr_str what = {0};
    wr_str_add(&what, "%s must be ", key->path);
    wr__key_allowed(key, &what);
    wr_str_add(&what, ", but is %s", is);
    return fail_at(l, from, &what);
}

static wr_status set_value(loader *l, origin from, const wr__key *key, const char *text,
                           bool quoted) {
    if (wr__key_read(key, text, quoted, l->recipe)) {
        l->origins[key - wr__keys] = from;
        return WR_OK;
    }
    wr_str is = {0};
    if (text[0] == '\0' && !quoted)
        wr_str_add(&is, "empty");
    else
        wr_str_add(&is, quoted ? "the text '%s'" : "'%s'", text);
    wr_status status = fail_value(l, from, key, wr_str_text(&is));
    wr_str_free(&is);
    return status;
}

/* ---- lists ---- */

static const char *const PRIMITIVES[] = {"actnorm", "linear", "coupling", "factor_out", "squeeze"};
enum { PRIMITIVE_N = sizeof PRIMITIVES / sizeof PRIMITIVES[0] };

/* The name that items call the block of this list by; NULL: it is no block. */
static const char *block_name(const wr__key *key) {
    if (key->kind != WR__KEY_LAYERS || strcmp(last_part(key->path), "layers") == 0) return NULL;
    return last_part(key->path);
}

static bool names_layer(const char *word, wr_nearest *nearest) {
    for (size_t i = 0; i < PRIMITIVE_N + wr__key_n; i++) {
        const char *name = i < PRIMITIVE_N ? PRIMITIVES[i] : block_name(&wr__keys[i - PRIMITIVE_N]);
        if (name == NULL) continue;
        if (strcmp(name, word) == 0) return true;
        wr_nearest_try(nearest, name);
    }
    return false;
}

static wr_status fail_layer(const loader *l, origin from, const wr__key *key,
                            const wr_nearest *nearest) {
    wr_str what = {0};
    wr_str_add(&what, "%s: '%s' is no layer", key->path, nearest->word);
    if (nearest->best != NULL) wr_str_add(&what, "; did you mean '%s'?", nearest->best);
    wr_str_add(&what, "%s allowed: ", nearest->best != NULL ? "" : ";");
    for (size_t i = 0; i < PRIMITIVE_N; i++)
        wr_str_add(&what, "%s%s", i > 0 ? ", " : "", PRIMITIVES[i]);
    const char *comma = ", and the blocks ";
    for (size_t i = 0; i < wr__key_n; i++) {
        if (block_name(&wr__keys[i]) == NULL) continue;
        wr_str_add(&what, "%s%s", comma, block_name(&wr__keys[i]));
        comma = ", ";
    }
    return fail_at(l, from, &what);
}

/* Append one item of `n` bytes; check_prior() sees to its options. */
static wr_status add_item(loader *l, origin from, const wr__key *key, const char *item, size_t n) {
    wr_recipe_list *list = (wr_recipe_list *)((char *)l->recipe + key->offset);
    size_t begin = strlen(list->text);
    wr_str why = {0}, what = {0};
    if (!wr_recipe_list_add(list, item, n, &why)) {
        wr_str_add(&what, "%s: %s", key->path, wr_str_text(&why));
        what.oom = what.oom || why.oom;
        wr_str_free(&why);
        return fail_at(l, from, &what);
    }
    char word[PATH_MAX_BYTES];
    snprintf(word, sizeof word, "%.*s", (int)strcspn(list->text + begin, " \n"),
             list->text + begin);
    wr_nearest nearest = {.word = word};
    return names_layer(word, &nearest) ? WR_OK : fail_layer(l, from, key, &nearest);
}

static void begin_list(loader *l, origin from, const wr__key *key) {
    memset((char *)l->recipe + key->offset, 0, sizeof(wr_recipe_list));
    l->origins[key - wr__keys] = from;
}

static bool is_blank_text(const char *text, size_t n) { return strspn(text, " \t\r\n") >= n; }

/* "[a, b]" or "a, b". */
static wr_status read_list(loader *l, origin from, const wr__key *key, const char *text) {
    size_t n = strlen(text);
    if (n == 0) return fail_value(l, from, key, "empty");
    if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
        text++;
        n -= 2;
    }
    begin_list(l, from, key);
    if (is_blank_text(text, n)) return WR_OK;
    for (;;) {
        size_t item = strcspn(text, ",");
        if (item > n) item = n;
        wr_status status = add_item(l, from, key, text, item);
        if (status != WR_OK || item == n) return status;
        text += item + 1;
        n -= item + 1;
    }
}

static wr_status set_text(loader *l, origin from, const wr__key *key, const char *text,
                          bool quoted) {
    if (key->kind == WR__KEY_LAYERS) return read_list(l, from, key, text);
    return set_value(l, from, key, text, quoted);
}

/* The defaults: of transformer for all keys; of `type` for those that nothing was said about. */
static wr_status set_defaults(loader *l, bool all, wr_recipe_model_type type) {
    for (size_t i = 0; i < wr__key_n; i++) {
        const wr__key *key = &wr__keys[i];
        bool said = l->origins[i].line > 0 || l->origins[i].set != NULL;
        const char *text = wr__key_default(key, type);
        if (!all && (said || text == key->fallback)) continue;
        wr_status status = set_text(l, (origin){0}, key, text, false);
        if (status != WR_OK) return status;
    }
    return WR_OK;
}

/* ---- the YAML document ---- */

static wr_status walk_mapping(loader *l, const yaml_node_t *mapping, const char *section);

static const char *node_kind(const yaml_node_t *node) {
    if (node->type == YAML_MAPPING_NODE) return "a mapping";
    return node->type == YAML_SEQUENCE_NODE ? "a list" : "a value";
}

static origin line_of(const yaml_node_t *node) {
    return (origin){.line = node->start_mark.line + 1};
}

static const char *scalar(const yaml_node_t *node) { return (const char *)node->data.scalar.value; }

static wr_status walk_list(loader *l, const wr__key *key, origin from, const yaml_node_t *list) {
    begin_list(l, from, key);
    const yaml_node_item_t *end = list->data.sequence.items.top;
    for (const yaml_node_item_t *i = list->data.sequence.items.start; i < end; i++) {
        const yaml_node_t *node = yaml_document_get_node(l->document, *i);
        if (node->type != YAML_SCALAR_NODE)
            return fail_value(l, line_of(node), key,
                              node->type == YAML_MAPPING_NODE ? "a list with a mapping in it"
                                                              : "a list with a list in it");
        wr_status status = add_item(l, line_of(node), key, scalar(node), node->data.scalar.length);
        if (status != WR_OK) return status;
    }
    return WR_OK;
}

/* One "key: value" below `section` ("" at the top). */
static wr_status walk_pair(loader *l, const yaml_node_t *key_node, const yaml_node_t *node,
                           const char *section) {
    wr_str what = {0};
    if (key_node->type != YAML_SCALAR_NODE) {
        wr_str_add(&what, "a key must be a word, but is %s", node_kind(key_node));
        return fail_at(l, line_of(key_node), &what);
    }
    char path[PATH_MAX_BYTES];
    snprintf(path, sizeof path, "%s%s%.100s", section, section[0] != '\0' ? "." : "",
             scalar(key_node));
    origin here = line_of(key_node);
    const wr__key *key = wr__key_find(path);
    if (key == NULL && !is_section(path)) return fail_unknown(l, here, path);
    if (key == NULL && node->type == YAML_MAPPING_NODE) return walk_mapping(l, node, path);
    if (key == NULL) {
        wr_str_add(&what, "%s must be a section with keys below it, but is %s", path,
                   node_kind(node));
        return fail_at(l, here, &what);
    }
    if (l->origins[key - wr__keys].line > 0) {
        wr_str_add(&what, "%s stands here again; it was set in line %zu", path,
                   l->origins[key - wr__keys].line);
        return fail_at(l, here, &what);
    }
    if (node->type == YAML_SEQUENCE_NODE && key->kind == WR__KEY_LAYERS)
        return walk_list(l, key, here, node);
    if (node->type != YAML_SCALAR_NODE) return fail_value(l, here, key, node_kind(node));
    bool quoted = node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    return set_text(l, here, key, scalar(node), quoted);
}

static wr_status walk_mapping(loader *l, const yaml_node_t *mapping, const char *section) {
    const yaml_node_pair_t *end = mapping->data.mapping.pairs.top;
    for (const yaml_node_pair_t *pair = mapping->data.mapping.pairs.start; pair < end; pair++) {
        const yaml_node_t *key = yaml_document_get_node(l->document, pair->key);
        const yaml_node_t *value = yaml_document_get_node(l->document, pair->value);
        wr_status status = walk_pair(l, key, value, section);
        if (status != WR_OK) return status;
    }
    return WR_OK;
}

static wr_status fail_yaml(const loader *l, const yaml_parser_t *parser) {
    if (parser->error == YAML_MEMORY_ERROR) return wr_fail_memory(l->err, l->name, 0);
    wr_str what = {0};
    wr_str_add(&what, "this is not YAML: %s%s%s", parser->problem != NULL ? parser->problem : "",
               parser->context != NULL ? " " : "", parser->context != NULL ? parser->context : "");
    return fail_at(l, (origin){.line = parser->problem_mark.line + 1}, &what);
}

static wr_status walk_document(loader *l, yaml_parser_t *parser) {
    const yaml_node_t *root = yaml_document_get_root_node(l->document);
    wr_str what = {0};
    if (root == NULL) return WR_OK; /* an empty file: all defaults */
    if (root->type != YAML_MAPPING_NODE) {
        wr_str_add(&what, "a recipe is a mapping of sections, but this is %s", node_kind(root));
        return fail_at(l, line_of(root), &what);
    }
    wr_status status = walk_mapping(l, root, "");
    if (status != WR_OK) return status;
    yaml_document_t next;
    if (!yaml_parser_load(parser, &next)) return fail_yaml(l, parser);
    const yaml_node_t *more = yaml_document_get_root_node(&next);
    size_t line = more == NULL ? 0 : more->start_mark.line + 1;
    yaml_document_delete(&next);
    if (more == NULL) return WR_OK;
    wr_str_add(&what, "a second document begins here; a recipe is one");
    return fail_at(l, (origin){.line = line}, &what);
}

static wr_status read_yaml(loader *l, const char *text, size_t n) {
    yaml_parser_t parser;
    yaml_document_t document;
    if (!yaml_parser_initialize(&parser)) return wr_fail_memory(l->err, l->name, 0);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, n);
    wr_status status;
    if (yaml_parser_load(&parser, &document)) {
        l->document = &document;
        status = walk_document(l, &parser);
        l->document = NULL;
        yaml_document_delete(&document);
    } else {
        status = fail_yaml(l, &parser);
    }
    yaml_parser_delete(&parser);
    return status;
}

/* ---- --set ---- */

static wr_status apply_set(loader *l, const char *set) {
    origin from = {.set = set};
    wr_str what = {0};
    const char *equals = strchr(set, '=');
    if (equals == NULL) {
        wr_str_add(&what, "a setting is key.path=value, e.g. train.seed=7");
        return fail_at(l, from, &what);
    }
    char path[PATH_MAX_BYTES];
    snprintf(path, sizeof path, "%.*s", (int)(equals - set < 200 ? equals - set : 200), set);
    const wr__key *key = wr__key_find(path);
    if (key != NULL) return set_text(l, from, key, equals + 1, false);
    if (!is_section(path)) return fail_unknown(l, from, path);
    wr_str_add(&what, "%s is a section; name one of its keys, e.g. train.seed=7", path);
    return fail_at(l, from, &what);
}

/* ---- checks that look at several keys ---- */

/* A conflict between two keys is told where the later of the two was set. */
static wr_status conflict(const loader *l, const char *a, const char *b, wr_str *what) {
    origin first = l->origins[wr__key_find(a) - wr__keys];
    origin second = l->origins[wr__key_find(b) - wr__keys];
    bool use_first = first.set != NULL || (second.set == NULL && first.line >= second.line);
    return fail_at(l, use_first ? first : second, what);
}

static const char *type_name(wr_recipe_model_type type, char *name, size_t size) {
    size_t n;
    const char *word = wr__key_word(wr__key_find("model.type"), (int)type, &n);
    snprintf(name, size, "%.*s", (int)n, word);
    return name;
}

/* Nobody may set a key that would do nothing. */
static wr_status check_used(const loader *l) {
    wr_recipe_model_type type = l->recipe->model.type, other = WR_RECIPE_TRANSFORMER;
    char name[PATH_MAX_BYTES];
    wr_str what = {0};
    for (size_t i = 0; i < wr__key_n; i++) {
        origin from = l->origins[i];
        if (wr__key_used(&wr__keys[i], type) || (from.line == 0 && from.set == NULL)) continue;
        while (!wr__key_used(&wr__keys[i], other))
            other++;
        wr_str_add(&what, "%s is a key of model.type = %s, ", wr__keys[i].path,
                   type_name(other, name, sizeof name));
        wr_str_add(&what, "but model.type = %s, where it would do nothing; leave it out",
                   type_name(type, name, sizeof name));
        return fail_at(l, from, &what);
    }
    return WR_OK;
}

enum {
    TRANSFORMER = 1 << WR_RECIPE_TRANSFORMER,
    FLOWSEQ = 1 << WR_RECIPE_FLOWSEQ,
    NAT = 1 << WR_RECIPE_NAT
};

/* The choices that only some types of model can take. */
static const struct {
    const char *path;
    int value, types;
} CHOICES_OF_TYPES[] = {
    {"model.embeddings", WR_RECIPE_EMBED_TARGET, TRANSFORMER | NAT},
    {"train.valid_decode", WR_RECIPE_VALID_GREEDY, TRANSFORMER},
    {"train.valid_decode", WR_RECIPE_VALID_BEAM, TRANSFORMER},
    {"train.valid_decode", WR_RECIPE_VALID_ARGMAX, FLOWSEQ | NAT},
    {"train.valid_decode", WR_RECIPE_VALID_METHOD, NAT},
    {"decode.method", WR_RECIPE_GREEDY, TRANSFORMER},
    {"decode.method", WR_RECIPE_BEAM, TRANSFORMER},
    {"decode.method", WR_RECIPE_ARGMAX, FLOWSEQ | NAT},
    {"decode.method", WR_RECIPE_NPD, FLOWSEQ},
    {"decode.method", WR_RECIPE_IWD, FLOWSEQ},
    {"decode.method", WR_RECIPE_MASK_PREDICT, NAT},
    {"decode.method", WR_RECIPE_CTC, NAT},
    {"decode.method", WR_RECIPE_CTC_BEAM, NAT},
    {"decode.method", WR_RECIPE_METHOD_AUTO, NAT},
};
enum { CHOICE_OF_TYPE_N = sizeof CHOICES_OF_TYPES / sizeof CHOICES_OF_TYPES[0] };

static bool fits_type(const char *path, int value, wr_recipe_model_type type) {
    for (int i = 0; i < CHOICE_OF_TYPE_N; i++)
        if (strcmp(CHOICES_OF_TYPES[i].path, path) == 0 && CHOICES_OF_TYPES[i].value == value)
            return (CHOICES_OF_TYPES[i].types >> type & 1) != 0;
    return true;
}

static wr_status fail_choice(const loader *l, const wr__key *key, int value) {
    wr_recipe_model_type type = l->recipe->model.type;
    char name[PATH_MAX_BYTES];
    wr_str what = {0};
    size_t n;
    const char *word = wr__key_word(key, value, &n);
    wr_str_add(&what, "%s = %.*s does not go with model.type = %s; allowed: ", key->path, (int)n,
               word, type_name(type, name, sizeof name));
    const char *comma = "";
    word = key->choices;
    for (int i = 0; *word != '\0'; i++, word += n + 1) {
        n = strcspn(word, "|");
        if (!fits_type(key->path, i, type)) continue;
        wr_str_add(&what, "%s%.*s", comma, (int)n, word);
        comma = ", ";
    }
    return conflict(l, key->path, "model.type", &what);
}

static wr_status check_choices(const loader *l) {
    for (int i = 0; i < CHOICE_OF_TYPE_N; i++) {
        const wr__key *key = wr__key_find(CHOICES_OF_TYPES[i].path);
        int value;
        memcpy(&value, (const char *)l->recipe + key->offset, sizeof value);
        if (!fits_type(key->path, value, l->recipe->model.type)) return fail_choice(l, key, value);
    }
    return WR_OK;
}

/* "1, 2, 4, 8": the divisors of `n` up to 64. */
static void add_divisors(int n, wr_str *text) {
    const char *comma = "";
    for (int d = 1; d <= n && d <= 64; d++) {
        if (n % d != 0) continue;
        wr_str_add(text, "%s%d", comma, d);
        comma = ", ";
    }
}

static wr_status check_model(const loader *l) {
    const wr_recipe_model *m = &l->recipe->model;
    wr_str what = {0};
    if (m->dim % m->heads != 0) {
        wr_str_add(&what, "model.heads = %d does not divide model.dim = %d; allowed: ", m->heads,
                   m->dim);
        add_divisors(m->dim, &what);
        return conflict(l, "model.heads", "model.dim", &what);
    }
    if (m->dim % 2 != 0) {
        wr_str_add(&what, "model.dim = %d must be even for sinusoidal positions", m->dim);
        return conflict(l, "model.dim", "model.dim", &what);
    }
    if (l->recipe->data.max_tokens < m->max_len) {
        wr_str_add(&what,
                   "data.max_tokens = %d must be at least model.max_len = %d, or the longest "
                   "sentence fits into no batch",
                   l->recipe->data.max_tokens, m->max_len);
        return conflict(l, "data.max_tokens", "model.max_len", &what);
    }
    const wr_recipe_data *d = &l->recipe->data;
    if (m->embeddings == WR_RECIPE_EMBED_JOINT && d->src_vocab != d->tgt_vocab) {
        wr_str_add(&what,
                   "data.src_vocab = %d and data.tgt_vocab = %d must be equal, as "
                   "model.embeddings = joint",
                   d->src_vocab, d->tgt_vocab);
        return conflict(l, "data.src_vocab", "data.tgt_vocab", &what);
    }
    return WR_OK;
}

static wr_status check_train(const loader *l) {
    static const char *const WAYS[] = {[WR_RECIPE_TRANSFORMER] = "greedy or beam",
                                       [WR_RECIPE_FLOWSEQ] = "argmax",
                                       [WR_RECIPE_NAT] = "argmax or method"};
    const wr_recipe_train *t = &l->recipe->train;
    wr_str what = {0};
    if (t->average_best > t->keep_best) {
        wr_str_add(&what, "train.average_best = %d must be at most train.keep_best = %d",
                   t->average_best, t->keep_best);
        return conflict(l, "train.average_best", "train.keep_best", &what);
    }
    if (t->best_by == WR_RECIPE_BEST_BLEU && t->valid_decode == WR_RECIPE_VALID_NONE) {
        wr_str_add(&what,
                   "train.best_by = bleu needs translations of the validation data, but "
                   "train.valid_decode = none; allowed: best_by nll, or valid_decode %s",
                   WAYS[l->recipe->model.type]);
        return conflict(l, "train.best_by", "train.valid_decode", &what);
    }
    return WR_OK;
}

static wr_status check_optim(const loader *l) {
    const wr_recipe_optim *o = &l->recipe->optim;
    wr_str what = {0};
    if (o->weight_decay > 0 && o->type == WR_RECIPE_ADAM) {
        wr_str_add(&what, "optim.weight_decay = %g needs optim.type = adamw; adam allows only 0",
                   o->weight_decay);
        return conflict(l, "optim.weight_decay", "optim.type", &what);
    }
    if (o->lr_start > o->lr) {
        wr_str_add(&what, "optim.lr_start = %g must be at most optim.lr = %g", o->lr_start, o->lr);
        return conflict(l, "optim.lr_start", "optim.lr", &what);
    }
    if (o->lr_end > o->lr) {
        wr_str_add(&what, "optim.lr_end = %g must be at most optim.lr = %g", o->lr_end, o->lr);
        return conflict(l, "optim.lr_end", "optim.lr", &what);
    }
    if (l->recipe->model.type == WR_RECIPE_FLOWSEQ && o->pretrain_lr_start > o->lr) {
        wr_str_add(&what, "optim.pretrain_lr_start = %g must be at most optim.lr = %g",
                   o->pretrain_lr_start, o->lr);
        return conflict(l, "optim.pretrain_lr_start", "optim.lr", &what);
    }
    bool ends = o->schedule == WR_RECIPE_LINEAR || o->schedule == WR_RECIPE_COSINE;
    int main_phase = l->recipe->train.max_updates;
    if (l->recipe->model.type == WR_RECIPE_FLOWSEQ) main_phase -= l->recipe->train.pretrain_updates;
    int horizon = o->horizon > 0 ? o->horizon : main_phase;
    const char *by = o->horizon > 0 ? "optim.horizon" : "train.max_updates";
    if (ends && o->warmup >= horizon) {
        wr_str_add(&what, "optim.warmup = %d must be below %s%s = %d, where the schedule ends",
                   o->warmup, by,
                   main_phase < l->recipe->train.max_updates && o->horizon == 0
                       ? " - train.pretrain_updates"
                       : "",
                   horizon);
        return conflict(l, "optim.warmup", by, &what);
    }
    return WR_OK;
}

/* The lists must make a prior of this width. The message names key and item. */
static wr_status check_prior(const loader *l) {
    if (l->recipe->model.type != WR_RECIPE_FLOWSEQ) return WR_OK;
    wr_flow_stack *stack = malloc(sizeof *stack);
    if (stack == NULL) return wr_fail_memory(l->err, "a prior", sizeof *stack);
    wr_error why = {0};
    wr_status status = wr_recipe_prior_stack(l->recipe, stack, &why);
    free(stack);
    if (status == WR_OK) return WR_OK;
    if (status != WR_ERR_INPUT) return wr_fail(l->err, status, "%s", why.text);
    wr_str what = {0};
    wr_str_add(&what, "%s", why.text);
    return fail_at(l, (origin){0}, &what);
}

/* Does the key hold its default? */
static wr_status check_default(const loader *l, const wr__key *key, bool *same) {
    wr_str value = {0};
    wr__key_write(key, l->recipe, &value);
    wr_status status = value.oom ? wr_fail_memory(l->err, key->path, value.cap) : WR_OK;
    *same = strcmp(wr_str_text(&value), wr__key_default(key, l->recipe->model.type)) == 0;
    wr_str_free(&value);
    return status;
}

/* Objective, lengths and decoding must go together, and no key may be changed that would do
 * nothing. */
static wr_status check_nat(const loader *l) {
    if (l->recipe->model.type != WR_RECIPE_NAT) return WR_OK;
    wr_recipe_conflict c = {0};
    if (!wr_recipe_nat_fits(l->recipe, &c)) return conflict(l, c.a, c.b, &c.what);
    for (size_t i = 0; i < wr__key_n; i++) {
        bool same;
        wr_status status = check_default(l, &wr__keys[i], &same);
        if (status != WR_OK) return status;
        if (same || wr_recipe_nat_uses(l->recipe, wr__keys[i].path, &c)) continue;
        return conflict(l, c.a, c.b, &c.what);
    }
    wr_error why = {0};
    wr_objective_config objective;
    wr_status status = wr_recipe_objective_of(l->recipe, &objective, &why);
    if (status == WR_OK) return WR_OK;
    if (status != WR_ERR_INPUT) return wr_fail(l->err, status, "%s", why.text);
    wr_str_add(&c.what, "%s", why.text);
    return fail_at(l, (origin){0}, &c.what);
}

static wr_status check_all(const loader *l) {
    wr_status status = check_used(l);
    if (status == WR_OK) status = check_choices(l);
    if (status == WR_OK) status = check_model(l);
    if (status == WR_OK) status = check_train(l);
    if (status == WR_OK) status = check_optim(l);
    if (status == WR_OK) status = check_prior(l);
    if (status == WR_OK) status = check_nat(l);
    return status;
}

/* ---- the public functions ---- */

wr_status wr_recipe_parse(const char *text, size_t n, const char *name, const char *const *set,
                          size_t set_n, wr_recipe *recipe, wr_error *err) {
    memset(recipe, 0, sizeof *recipe);
    origin *origins = calloc(wr__key_n, sizeof *origins);
    if (origins == NULL) return wr_fail_memory(err, "a recipe", wr__key_n * sizeof *origins);
    loader l = {.name = name, .recipe = recipe, .origins = origins, .err = err};
    wr_status status = set_defaults(&l, true, WR_RECIPE_TRANSFORMER);
    if (status == WR_OK) status = read_yaml(&l, text, n);
    for (size_t i = 0; i < set_n && status == WR_OK; i++)
        status = apply_set(&l, set[i]);
    if (status == WR_OK) status = set_defaults(&l, false, recipe->model.type);
    if (status == WR_OK) status = check_all(&l);
    free(origins);
    return status;
}

wr_status wr_recipe_load(const char *path, const char *const *set, size_t set_n, wr_recipe *recipe,
                         wr_error *err) {
    char *text;
    size_t n;
    wr_status status = wr_file_read(path, &text, &n, err);
    if (status != WR_OK) return status;
    status = wr_recipe_parse(text, n, path, set, set_n, recipe, err);
    free(text);
    return status;
}

/* Was it saved by a version in which the keys of decoding did nothing in this type of model? */
static bool saved_without_decoding(const char *text) {
    const char *begin = "model:\n  type: nat\n";
    return strncmp(text, begin, strlen(begin)) == 0 && strstr(text, "\n  iterations: ") == NULL;
}

wr_status wr_recipe_load_saved(const char *path, const char *const *set, size_t set_n,
                               wr_recipe *recipe, wr_error *err) {
    static const char *const MEANT[] = {"decode.method=auto", "decode.normalisation=length",
                                        "decode.alpha=1"};
    enum { MEANT_N = sizeof MEANT / sizeof MEANT[0] };
    char *text;
    size_t n, more = 0;
    wr_status status = wr_file_read(path, &text, &n, err);
    if (status != WR_OK) return status;
    const char **all = malloc((set_n + MEANT_N) * sizeof *all);
    if (saved_without_decoding(text)) more = MEANT_N;
    for (size_t i = 0; all != NULL && i < more; i++)
        all[i] = MEANT[i];
    for (size_t i = 0; all != NULL && i < set_n; i++)
        all[more + i] = set[i];
    status = all == NULL ? wr_fail_memory(err, "settings", set_n * sizeof *all)
                         : wr_recipe_parse(text, n, path, all, more + set_n, recipe, err);
    free(all);
    free(text);
    return status;
}

void wr_recipe_text(const wr_recipe *recipe, wr_str *text) {
    const char *section = "";
    for (size_t i = 0; i < wr__key_n; i++) {
        const wr__key *key = &wr__keys[i];
        if (!wr__key_used(key, recipe->model.type)) continue;
        size_t n = section_length(key->path);
        if (strncmp(section, key->path, n + 1) != 0) wr_str_add(text, "%.*s:\n", (int)n, key->path);
        section = key->path;
        wr_str_add(text, "  %s: ", last_part(key->path));
        wr__key_write(key, recipe, text);
        wr_str_add(text, "\n");
    }
}

wr_status wr_recipe_save(const wr_recipe *recipe, const char *path, wr_error *err) {
    wr_str text = {0};
    wr_recipe_text(recipe, &text);
    wr_status status = text.oom ? wr_fail_memory(err, "the text of a recipe", text.cap)
                                : wr_file_replace(path, text.text, text.len, err);
    wr_str_free(&text);
    return status;
}

/* "`beam`; flowseq: `argmax`" */
static void add_default(const wr__key *key, wr_str *text) {
    wr_str_add(text, "`%s`", key->fallback);
    if (key->flowseq != NULL) wr_str_add(text, "; flowseq: `%s`", key->flowseq);
    if (key->nat != NULL) wr_str_add(text, "; nat: `%s`", key->nat);
}

/* Of which types the key is when not of all. */
static void add_types(const wr__key *key, wr_str *text) {
    char name[PATH_MAX_BYTES];
    for (int t = 0; key->types >> t != 0; t++)
        if ((key->types >> t & 1) != 0)
            wr_str_add(text, "(%s) ", type_name((wr_recipe_model_type)t, name, sizeof name));
}

void wr_recipe_reference(wr_str *text) {
    size_t n;
    for (size_t i = 0; i < wr__key_n; i++) {
        const wr__key *key = &wr__keys[i];
        if (begins_section(i, &n)) {
            wr_str_add(text, "%s## `%.*s`\n\n", i == 0 ? "" : "\n", (int)n, key->path);
            wr_str_add(text, "| key | allowed | default | meaning |\n|---|---|---|---|\n");
        }
        wr_str_add(text, "| `%s` | ", last_part(key->path));
        wr__key_allowed(key, text);
        wr_str_add(text, " | ");
        add_default(key, text);
        wr_str_add(text, " | ");
        add_types(key, text);
        wr_str_add(text, "%s |\n", key->help);
    }
}
