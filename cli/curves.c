/* curves.c: see curves.h. */
#include "cli/curves.h"
#include "models/recipe_nearest.h"

#include <cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Loss terms of more different sizes get panels of their own. */
enum { SAME_SCALE = 20 };

/* What a field is, by its name. */
typedef enum group { LOSS, SCORE, RATE, NORM, SPEED, OTHER } group;

/* One number of one kind of line. */
typedef struct field {
    char *kind, *name;
    double *x, *y; /* [n] */
    size_t n, cap_x, cap_y;
} field;

typedef struct run {
    char *name;
    field *field;
    size_t n, cap;
} run;

/* A kind and name that some run has. */
typedef struct term {
    const char *kind, *name;
    group group;
    double size; /* the median of its absolute values in all runs */
} term;

struct wr_curves {
    run *run;
    size_t runs;
    term *term;
    size_t terms, cap_terms;
    /* the picture */
    wr_panel *panel;
    size_t panels, cap_panels;
    char **text; /* labels and titles */
    size_t texts, cap_texts;
    const char **key;
    wr_plot plot;
};

/* ---- reading ---- */

static field *find_field(const run *r, const char *kind, const char *name) {
    for (size_t i = 0; i < r->n; i++)
        if (strcmp(r->field[i].kind, kind) == 0 && strcmp(r->field[i].name, name) == 0)
            return &r->field[i];
    return NULL;
}

static field *add_field(run *r, const char *kind, const char *name) {
    if (!wr_grow(&r->field, &r->cap, r->n + 1, sizeof *r->field)) return NULL;
    field *f = &r->field[r->n];
    *f = (field){.kind = wr_strdup(kind), .name = wr_strdup(name)};
    r->n++; /* freed with the run, even if only half of it is there */
    return f->kind == NULL || f->name == NULL ? NULL : f;
}

static bool add_value(run *r, const char *kind, const char *name, double x, double y) {
    field *f = find_field(r, kind, name);
    if (f == NULL) f = add_field(r, kind, name);
    if (f == NULL || !wr_grow(&f->x, &f->cap_x, f->n + 1, sizeof *f->x) ||
        !wr_grow(&f->y, &f->cap_y, f->n + 1, sizeof *f->y))
        return false;
    f->x[f->n] = x;
    f->y[f->n++] = y;
    return true;
}

/* Take back what was said of this update and later ones. */
static void forget_from(run *r, const char *kind, double update) {
    for (size_t i = 0; i < r->n; i++) {
        field *f = &r->field[i];
        while (strcmp(f->kind, kind) == 0 && f->n > 0 && f->x[f->n - 1] >= update)
            f->n--;
    }
}

/* Numbers, and the strings that stand for what JSON has no number for. */
static bool is_value(const cJSON *item, double *value) {
    static const char *const words[] = {"nan", "-nan", "inf", "-inf"};
    *value = cJSON_IsNumber(item) ? item->valuedouble : NAN;
    if (cJSON_IsNumber(item)) return true;
    for (size_t i = 0; cJSON_IsString(item) && i < 4; i++)
        if (strcmp(item->valuestring, words[i]) == 0) return true;
    return false;
}

/* One line; false when memory is out. `*used`: it is one of a log. */
static bool read_line(run *r, const char *line, size_t n, bool *used) {
    cJSON *json = cJSON_ParseWithLength(line, n);
    const cJSON *kind = cJSON_GetObjectItemCaseSensitive(json, "kind");
    const cJSON *update = cJSON_GetObjectItemCaseSensitive(json, "update");
    bool ok = true;
    *used = cJSON_IsString(kind) && cJSON_IsNumber(update) && isfinite(update->valuedouble);
    if (*used) forget_from(r, kind->valuestring, update->valuedouble);
    for (const cJSON *item = *used ? json->child : NULL; ok && item != NULL; item = item->next) {
        double value;
        if (item == update || item->string == NULL || !is_value(item, &value)) continue;
        ok = add_value(r, kind->valuestring, item->string, update->valuedouble, value);
    }
    cJSON_Delete(json);
    return ok;
}

/* The log's path: RUN/log.jsonl, or the path itself unless it is a directory. */
static void log_path(const char *path, wr_str *out) {
    struct stat s;
    bool folder = stat(path, &s) == 0 && S_ISDIR(s.st_mode);
    wr_str_add(out, "%s%s", path, folder ? "/log.jsonl" : "");
}

static wr_status read_log(run *r, const char *path, wr_str *notes, wr_error *err) {
    char *text = NULL;
    size_t n = 0, skipped = 0, number = 1, first = 0;
    wr_status status = wr_file_read(path, &text, &n, err);
    if (status != WR_OK) return status;
    for (char *at = text; status == WR_OK && at < text + n; number++) {
        char *end = memchr(at, '\n', (size_t)(text + n - at));
        size_t length = end == NULL ? (size_t)(text + n - at) : (size_t)(end - at);
        bool used = true;
        if (strspn(at, " \t\r") < length && !read_line(r, at, length, &used))
            status = wr_fail_memory(err, path, n);
        if (!used && first == 0) first = number;
        skipped += !used && end != NULL; /* one that was being written is no news */
        at += length + 1;
    }
    if (skipped > 0)
        wr_str_add(notes, "%s:%zu: %zu lines are skipped: not JSON with \"kind\" and \"update\"\n",
                   path, first, skipped);
    free(text);
    return status;
}

/* The directory's name, or the file's. */
static char *name_run(const char *path) {
    size_t n = strlen(path);
    if (n > 10 && strcmp(path + n - 10, "/log.jsonl") == 0) n -= 10;
    while (n > 1 && path[n - 1] == '/')
        n--;
    size_t from = n;
    while (from > 0 && path[from - 1] != '/')
        from--;
    wr_str name = {0};
    wr_str_bytes(&name, path + from, n - from);
    char *copy = name.oom ? NULL : wr_strdup(wr_str_text(&name));
    wr_str_free(&name);
    return copy;
}

static void free_run(run *r) {
    for (size_t i = 0; i < r->n; i++) {
        free(r->field[i].kind);
        free(r->field[i].name);
        free(r->field[i].x);
        free(r->field[i].y);
    }
    free(r->field);
    free(r->name);
    *r = (run){0};
}

static bool has_values(const run *r) {
    for (size_t i = 0; i < r->n; i++)
        if (r->field[i].n > 0) return true;
    return false;
}

static wr_status read_run(wr_curves *c, const char *given, wr_str *notes, wr_error *err) {
    run *r = &c->run[c->runs];
    wr_str path = {0};
    log_path(given, &path);
    r->name = name_run(given);
    wr_status status =
        path.oom || r->name == NULL ? wr_fail_memory(err, "a path", strlen(given)) : WR_OK;
    if (status == WR_OK) status = read_log(r, wr_str_text(&path), notes, err);
    bool empty = status == WR_OK && !has_values(r);
    if (empty)
        wr_str_add(notes,
                   "%s: there is no report yet; training writes one every "
                   "train.report_every updates\n",
                   wr_str_text(&path));
    if (status != WR_OK || empty)
        free_run(r);
    else
        c->runs++;
    wr_str_free(&path);
    return status;
}

/* Runs of the same name are told apart by their paths. */
static wr_status part_names(wr_curves *c, const char *const *paths, size_t n, wr_error *err) {
    if (c->runs != n) return WR_OK; /* some are left out: paths do not belong to runs one by one */
    for (size_t i = 0; i < n; i++) {
        bool twice = false;
        for (size_t k = 0; k < n; k++)
            twice = twice || (k != i && strcmp(c->run[k].name, c->run[i].name) == 0);
        if (!twice) continue;
        char *longer = wr_strdup(paths[i]);
        if (longer == NULL) return wr_fail_memory(err, "a name", strlen(paths[i]));
        free(c->run[i].name);
        c->run[i].name = longer;
    }
    return WR_OK;
}

/* ---- terms ---- */

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* What is no loss term: counters, sizes of the work, settings that follow a schedule, errors in
 * units of their own. */
static group group_of(const char *name) {
    static const char *const other[] = {"epoch",  "seconds", "skipped",     "tokens", "sentences",
                                        "batch",  "step",    "temperature", "phase",  "threads",
                                        "warmup", "samples", "bytes"};
    if (strstr(name, "bleu") != NULL || strstr(name, "chrf") != NULL) return SCORE;
    if (strcmp(name, "lr") == 0 || strcmp(name, "learning_rate") == 0) return RATE;
    if (ends_with(name, "norm")) return NORM;
    if (ends_with(name, "_per_s")) return SPEED;
    for (size_t i = 0; i < sizeof other / sizeof other[0]; i++)
        if (strcmp(name, other[i]) == 0) return OTHER;
    if (strstr(name, "weight") != NULL || ends_with(name, "_seconds") ||
        ends_with(name, "_bytes") || ends_with(name, "_tokens") || ends_with(name, "_error"))
        return OTHER;
    return LOSS;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static wr_status measure_term(const wr_curves *c, term *t, wr_error *err) {
    size_t n = 0, most = 0;
    for (size_t r = 0; r < c->runs; r++) {
        const field *f = find_field(&c->run[r], t->kind, t->name);
        most += f == NULL ? 0 : f->n;
    }
    double *size = malloc(sizeof *size * (most + 1));
    if (size == NULL) return wr_fail_memory(err, "the sizes of a curve", most * sizeof *size);
    for (size_t r = 0; r < c->runs; r++) {
        const field *f = find_field(&c->run[r], t->kind, t->name);
        for (size_t i = 0; f != NULL && i < f->n; i++)
            if (isfinite(f->y[i])) size[n++] = fabs(f->y[i]);
    }
    qsort(size, n, sizeof *size, by_value);
    t->size = n == 0 ? 0 : size[n / 2];
    free(size);
    return WR_OK;
}

static wr_status add_term(wr_curves *c, const field *f, wr_error *err) {
    for (size_t i = 0; i < c->terms; i++)
        if (strcmp(c->term[i].kind, f->kind) == 0 && strcmp(c->term[i].name, f->name) == 0)
            return WR_OK;
    if (!wr_grow(&c->term, &c->cap_terms, c->terms + 1, sizeof *c->term))
        return wr_fail_memory(err, "curves", (c->terms + 1) * sizeof *c->term);
    term *t = &c->term[c->terms++];
    *t = (term){.kind = f->kind, .name = f->name, .group = group_of(f->name)};
    return measure_term(c, t, err);
}

wr_status wr_curves_read(const char *const *paths, size_t n, wr_curves **out, wr_str *notes,
                         wr_error *err) {
    wr_curves *c = calloc(1, sizeof *c);
    *out = NULL;
    if (c == NULL) return wr_fail_memory(err, "curves", sizeof *c);
    c->run = calloc(n, sizeof *c->run);
    wr_status status = c->run == NULL ? wr_fail_memory(err, "runs", n * sizeof *c->run) : WR_OK;
    for (size_t i = 0; status == WR_OK && i < n; i++)
        status = read_run(c, paths[i], notes, err);
    if (status == WR_OK) status = part_names(c, paths, n, err);
    for (size_t r = 0; status == WR_OK && r < c->runs; r++)
        for (size_t i = 0; status == WR_OK && i < c->run[r].n; i++)
            if (c->run[r].field[i].n > 0) status = add_term(c, &c->run[r].field[i], err);
    if (status == WR_OK && notes->oom) status = wr_fail_memory(err, "notes", notes->cap);
    if (status == WR_OK && c->runs == 0)
        status = wr_fail(err, WR_ERR_INPUT, "there is nothing to plot: no log has a report yet");
    if (status == WR_OK)
        *out = c;
    else
        wr_curves_free(c);
    return status;
}

/* ---- panels ---- */

static void free_picture(wr_curves *c) {
    for (size_t i = 0; i < c->panels; i++)
        free((wr_curve *)(uintptr_t)c->panel[i].curve);
    for (size_t i = 0; i < c->texts; i++)
        free(c->text[i]);
    free(c->key);
    c->key = NULL;
    c->panels = c->texts = 0;
    c->plot = (wr_plot){0};
}

void wr_curves_free(wr_curves *c) {
    if (c == NULL) return;
    free_picture(c);
    for (size_t i = 0; i < c->runs; i++)
        free_run(&c->run[i]);
    free(c->run);
    free(c->term);
    free(c->panel);
    free(c->text);
    free(c);
}

/* Keep the text of a wr_str until the picture is freed; NULL when memory is out. Frees `s`. */
static const char *keep(wr_curves *c, wr_str *s, wr_error *err) {
    bool ok = !s->oom && wr_grow(&c->text, &c->cap_texts, c->texts + 1, sizeof *c->text);
    char *copy = ok ? wr_strdup(wr_str_text(s)) : NULL;
    if (copy == NULL)
        wr_fail_memory(err, "a label", s->len);
    else
        c->text[c->texts++] = copy;
    wr_str_free(s);
    return copy;
}

static void add_words(wr_str *s, const char *name) {
    for (; *name != '\0'; name++)
        wr_str_bytes(s, *name == '_' ? " " : name, 1);
}

/* "nll", "valid nll", "bleu", "learning rate". */
static void add_name(wr_str *s, const term *t) {
    if (t->group == RATE) {
        wr_str_add(s, "learning rate");
        return;
    }
    const char *usual = t->group == SCORE ? "valid" : "train";
    if (strcmp(t->kind, usual) != 0) wr_str_add(s, "%s ", t->kind);
    add_words(s, t->name);
}

/* With one run, the best score or the last value: "bleu: best 39.49 at 3364". */
static void add_summary(wr_str *s, const wr_curves *c, const term *t) {
    const field *f = c->runs == 1 ? find_field(&c->run[0], t->kind, t->name) : NULL;
    size_t best = 0;
    if (f == NULL || f->n == 0 || (t->group != SCORE && t->group != LOSS)) return;
    for (size_t i = 0; i < f->n; i++)
        if (t->group != SCORE || f->y[i] > f->y[best] || !isfinite(f->y[best])) best = i;
    if (!isfinite(f->y[best])) return;
    if (t->group == SCORE)
        wr_str_add(s, ": best %.2f at %.0f", f->y[best], f->x[best]);
    else
        wr_str_add(s, ": last %.4g", f->y[best]);
}

static const char *label_term(wr_curves *c, const term *t, wr_error *err) {
    wr_str s = {0};
    add_name(&s, t);
    add_summary(&s, c, t);
    return keep(c, &s, err);
}

/* A panel of the n terms `of`. */
static wr_status add_panel(wr_curves *c, const char *title, const term *const *of, size_t n,
                           wr_error *err) {
    wr_curve *curve = malloc(sizeof *curve * (n * c->runs + 1));
    if (curve == NULL || !wr_grow(&c->panel, &c->cap_panels, c->panels + 1, sizeof *c->panel)) {
        free(curve);
        return wr_fail_memory(err, "curves", n * c->runs * sizeof *curve);
    }
    wr_panel *p = &c->panel[c->panels++];
    *p = (wr_panel){.title = title, .curve = curve};
    for (size_t i = 0; i < n; i++) {
        const char *label = label_term(c, of[i], err);
        if (label == NULL) return WR_ERR_MEMORY;
        for (size_t r = 0; r < c->runs; r++) {
            const field *f = find_field(&c->run[r], of[i]->kind, of[i]->name);
            if (f == NULL || f->n == 0) continue;
            curve[p->n++] = (wr_curve){.label = label,
                                       .x = f->x,
                                       .y = f->y,
                                       .n = f->n,
                                       .colour = (int)(c->runs > 1 ? r : i),
                                       .dash = (int)i};
        }
    }
    return WR_OK;
}

/* The terms of a group, in the order of the logs. */
static size_t choose_terms(const wr_curves *c, group g, const term **of) {
    size_t n = 0;
    for (size_t i = 0; i < c->terms; i++)
        if (c->term[i].group == g) of[n++] = &c->term[i];
    return n;
}

static const char *title_of(wr_curves *c, group g, const term *const *of, size_t n, wr_error *err) {
    static const char *const titles[] = {"loss terms",    "",      "learning rate",
                                         "gradient norm", "speed", ""};
    wr_str s = {0};
    bool bleu = true;
    for (size_t i = 0; i < n; i++)
        bleu = bleu && strstr(of[i]->name, "bleu") != NULL;
    wr_str_add(&s, "%s", g == SCORE ? (bleu ? "BLEU" : "scores") : titles[g]);
    if (n == 1 && (g == NORM || g == SPEED)) {
        wr_str_clear(&s);
        add_name(&s, of[0]);
    }
    return keep(c, &s, err);
}

static wr_status add_scale(wr_curves *c, const term *const *of, size_t n, bool only,
                           wr_error *err) {
    wr_str s = {0};
    wr_str_add(&s, "%s", only ? "loss terms" : "loss terms: ");
    for (size_t i = 0; !only && i < n; i++) {
        if (i > 0) wr_str_add(&s, ", ");
        add_name(&s, of[i]);
    }
    const char *title = keep(c, &s, err);
    return title == NULL ? WR_ERR_MEMORY : add_panel(c, title, of, n, err);
}

/* Panels of terms of about the same size, the largest first. A term that is always 0 goes with the
 * smallest. `some` has room for n. */
static wr_status add_losses(wr_curves *c, const term **of, size_t n, const term **some,
                            wr_error *err) {
    bool only = true;
    wr_status status = WR_OK;
    for (size_t left = n; left > 0 && status == WR_OK;) {
        double most = 0, least = 0;
        size_t taken = 0, kept = 0;
        for (size_t i = 0; i < left; i++)
            most = fmax(most, of[i]->size);
        for (size_t i = 0; i < left; i++)
            if (of[i]->size > 0 && (least == 0 || of[i]->size < least)) least = of[i]->size;
        bool last = most <= SAME_SCALE * least || least == 0;
        for (size_t i = 0; i < left; i++) {
            if (last || of[i]->size * SAME_SCALE >= most)
                some[taken++] = of[i];
            else
                of[kept++] = of[i];
        }
        only = only && kept == 0;
        left = kept;
        status = add_scale(c, some, taken, only, err);
    }
    return status;
}

static wr_status add_group(wr_curves *c, group g, bool *found, wr_error *err) {
    const term **of = malloc(2 * sizeof(term *) * (c->terms + 1));
    if (of == NULL) return wr_fail_memory(err, "curves", c->terms * sizeof(term *));
    size_t n = choose_terms(c, g, of);
    wr_status status = WR_OK;
    *found = n > 0;
    if (n > 0 && g == LOSS) {
        status = add_losses(c, of, n, of + c->terms, err);
    } else if (n > 0) {
        const char *title = title_of(c, g, of, n, err);
        status = title == NULL ? WR_ERR_MEMORY : add_panel(c, title, of, n, err);
    }
    free(of);
    return status;
}

static wr_status add_named(wr_curves *c, const char *name, bool *found, wr_error *err) {
    const term **of = malloc(sizeof(term *) * (c->terms + 1));
    if (of == NULL) return wr_fail_memory(err, "curves", c->terms * sizeof(term *));
    size_t n = 0;
    for (size_t i = 0; i < c->terms; i++)
        if (strcmp(c->term[i].name, name) == 0) of[n++] = &c->term[i];
    wr_status status = WR_OK;
    *found = n > 0;
    if (n > 0) {
        wr_str s = {0};
        add_words(&s, name);
        const char *title = keep(c, &s, err);
        status = title == NULL ? WR_ERR_MEMORY : add_panel(c, title, of, n, err);
    }
    free(of);
    return status;
}

/* ---- --what ---- */

static const struct {
    const char *word;
    group group;
} WORDS[] = {{"loss", LOSS}, {"bleu", SCORE}, {"lr", RATE}, {"norm", NORM}, {"speed", SPEED}};
enum { N_WORDS = sizeof WORDS / sizeof WORDS[0], USUAL_WORDS = 4 };

static wr_status unknown_word(const wr_curves *c, const char *word, wr_error *err) {
    wr_nearest nearest = {.word = word};
    wr_str names = {0};
    for (size_t i = 0; i < c->terms; i++) {
        bool before = false;
        for (size_t k = 0; k < i; k++)
            before = before || strcmp(c->term[k].name, c->term[i].name) == 0;
        if (!before) wr_str_add(&names, "%s%s", i == 0 ? "" : ", ", c->term[i].name);
        wr_nearest_try(&nearest, c->term[i].name);
    }
    wr_status status =
        wr_fail(err, WR_ERR_INPUT,
                "--what: no log has '%s'%s%s%s; there are %s (and loss, bleu, lr, norm, speed "
                "stand for all of a sort that there are)",
                word, nearest.best != NULL ? "; did you mean " : "",
                nearest.best != NULL ? nearest.best : "", nearest.best != NULL ? "?" : "",
                wr_str_text(&names));
    wr_str_free(&names);
    return status;
}

static wr_status add_word(wr_curves *c, const char *word, wr_error *err) {
    bool found = false;
    wr_status status = WR_OK;
    size_t i = 0;
    while (i < N_WORDS && strcmp(WORDS[i].word, word) != 0)
        i++;
    status =
        i < N_WORDS ? add_group(c, WORDS[i].group, &found, err) : add_named(c, word, &found, err);
    return status == WR_OK && !found ? unknown_word(c, word, err) : status;
}

static wr_status add_words_of(wr_curves *c, const char *what, wr_error *err) {
    for (const char *at = what;;) {
        size_t n = strcspn(at, ",");
        wr_str word = {0};
        wr_str_bytes(&word, at, n);
        wr_status status =
            word.oom ? wr_fail_memory(err, "a word", n) : add_word(c, wr_str_text(&word), err);
        wr_str_free(&word);
        if (status != WR_OK || at[n] == '\0') return status;
        at += n + 1;
    }
}

wr_status wr_curves_choose(wr_curves *c, const char *what, const char *title, wr_error *err) {
    free_picture(c);
    wr_status status = what == NULL ? WR_OK : add_words_of(c, what, err);
    for (int i = 0; what == NULL && status == WR_OK && i < USUAL_WORDS; i++) {
        bool ignored;
        status = add_group(c, WORDS[i].group, &ignored, err);
    }
    if (status != WR_OK) return status;
    c->key = malloc(sizeof *c->key * (c->runs + 1));
    if (c->key == NULL) return wr_fail_memory(err, "names", c->runs * sizeof *c->key);
    for (size_t i = 0; i < c->runs; i++)
        c->key[i] = c->run[i].name;
    c->plot = (wr_plot){.title = title != NULL ? title : (c->runs == 1 ? c->run[0].name : ""),
                        .x_label = "updates",
                        .panel = c->panel,
                        .n = c->panels,
                        .key = c->key,
                        .key_n = c->runs > 1 ? c->runs : 0};
    return WR_OK;
}

const wr_plot *wr_curves_plot(const wr_curves *c) { return &c->plot; }
