/* report.c: `weir report`: a training run as one HTML page. */
#include "cli/cli.h"
#include "cli/curves.h"
#include "cli/model_graph.h"
#include "cli/parameter_tree.h"
#include "cli/report_log.h"
#include "optim/checkpoint.h"
#include "viz/html.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct options {
    const char *run, *out;
} options;

/* The page's data while it is written. */
typedef struct report {
    const char *run;
    wr_model_sizes m;
    wr_report_log log;
    wr_str json;
    wr_str path; /* scratch */
} report;

static wr_status join(report *r, const char *name, wr_error *err) {
    wr_str_clear(&r->path);
    wr_str_add(&r->path, "%s/%s", r->run, name);
    return r->path.oom ? wr_fail_memory(err, name, r->path.len) : WR_OK;
}

/* ,"name": */
static void add_key(report *r, const char *name) { wr_str_add(&r->json, ",\"%s\":", name); }

/* ---- curves ---- */

static void add_points(wr_str *json, const char *name, const double *v, size_t n) {
    wr_str_add(json, ",\"%s\":[", name);
    for (size_t i = 0; i < n; i++) {
        if (i > 0) wr_str_add(json, ",");
        wr_html_number(json, v[i]);
    }
    wr_str_add(json, "]");
}

static void add_panels(report *r, const wr_plot *plot, bool *first) {
    for (size_t i = 0; i < plot->n; i++) {
        const wr_panel *panel = &plot->panel[i];
        wr_str_add(&r->json, "%s{\"title\":", *first ? "" : ",");
        wr_html_string(&r->json, panel->title);
        add_key(r, "curves");
        for (size_t k = 0; k < panel->n; k++) {
            const wr_curve *curve = &panel->curve[k];
            wr_str_add(&r->json, "%s{\"label\":", k > 0 ? "," : "[");
            wr_html_string(&r->json, curve->label);
            add_points(&r->json, "x", curve->x, curve->n);
            add_points(&r->json, "y", curve->y, curve->n);
            wr_str_add(&r->json, "}");
        }
        wr_str_add(&r->json, panel->n == 0 ? "[]}" : "]}");
        *first = false;
    }
}

/* Loss terms, scores, learning rate, norm, and the speed where the log tells it. */
static wr_status add_curves(report *r, wr_error *err) {
    wr_curves *curves = NULL;
    wr_str notes = {0};
    wr_error why = {0};
    wr_status status = join(r, "log.jsonl", err);
    bool first = true, missing = status == WR_OK && access(wr_str_text(&r->path), F_OK) != 0;
    if (status == WR_OK && !missing) status = wr_curves_read(&r->run, 1, &curves, &notes, &why);
    add_key(r, "panels");
    wr_str_add(&r->json, "[");
    if (curves != NULL) status = wr_curves_choose(curves, NULL, NULL, err);
    if (curves != NULL && status == WR_OK) {
        wr_error no_speed = {0};
        add_panels(r, wr_curves_plot(curves), &first);
        if (wr_curves_choose(curves, "speed", NULL, &no_speed) == WR_OK)
            add_panels(r, wr_curves_plot(curves), &first);
    }
    wr_str_add(&r->json, "]");
    add_key(r, "notes");
    if (missing)
        wr_str_add(&notes, "There is no log.jsonl: the run was imported, or is an old one.");
    wr_html_string(&r->json, wr_str_text(&notes));
    if (status == WR_ERR_INPUT) status = WR_OK; /* no report yet; the notes say so */
    if (status == WR_OK && notes.oom) status = wr_fail_memory(err, "notes", notes.cap);
    wr_curves_free(curves);
    wr_str_free(&notes);
    return status == WR_OK ? WR_OK : wr_fail(err, status, "%s", why.text);
}

/* ---- validations, samples, checkpoints ---- */

/* All fields of a line: numbers, and the texts for those that are not finite. */
static void add_line(report *r, const cJSON *line) {
    bool first = true;
    wr_str_add(&r->json, "{");
    const cJSON *item = NULL;
    cJSON_ArrayForEach(item, line) {
        if (!cJSON_IsNumber(item) && !cJSON_IsString(item)) continue;
        wr_str_add(&r->json, "%s", first ? "" : ",");
        wr_html_string(&r->json, item->string);
        wr_str_add(&r->json, ":");
        if (cJSON_IsNumber(item))
            wr_html_number(&r->json, item->valuedouble);
        else
            wr_html_string(&r->json, item->valuestring);
        first = false;
    }
    wr_str_add(&r->json, "}");
}

static void add_log(report *r) {
    add_key(r, "valid");
    wr_str_add(&r->json, "[");
    for (size_t i = 0; i < r->log.n; i++) {
        wr_str_add(&r->json, "%s", i > 0 ? "," : "");
        add_line(r, r->log.valid[i]);
    }
    wr_str_add(&r->json, "]");
    add_key(r, "last");
    if (r->log.train != NULL)
        add_line(r, r->log.train);
    else
        wr_str_add(&r->json, "null");
}

/* The update that a pointer of the checkpoints names; -1: there is none. */
static long long named_update(report *r, const char *folder, const char *which) {
    wr_error ignored = {0};
    long long update = -1;
    wr_str path = {0};
    (void)r;
    if (wr_checkpoint_locate(folder, which, &path, &ignored) == WR_OK) {
        const char *slash = strrchr(wr_str_text(&path), '/');
        if (slash != NULL && sscanf(slash, "/step-%lld", &update) != 1) update = -1;
    }
    wr_str_free(&path);
    return update;
}

static int by_update(const void *a, const void *b) {
    long long x = *(const long long *)a, y = *(const long long *)b;
    return (x > y) - (x < y);
}

/* Updates of the step-N.safetensors in a folder, in order. */
static wr_status list_checkpoints(const char *folder, long long **updates, size_t *n,
                                  wr_error *err) {
    DIR *dir = opendir(folder);
    size_t cap = 0;
    wr_status status = WR_OK;
    for (struct dirent *e = NULL; dir != NULL && (e = readdir(dir)) != NULL;) {
        long long update;
        int end = 0;
        if (sscanf(e->d_name, "step-%lld.safetensors%n", &update, &end) != 1 || end == 0 ||
            e->d_name[end] != '\0')
            continue;
        if (!wr_grow(updates, &cap, *n + 1, sizeof **updates)) {
            status = wr_fail_memory(err, "checkpoints", *n * sizeof **updates);
            break;
        }
        (*updates)[(*n)++] = update;
    }
    if (dir != NULL) closedir(dir);
    if (*n > 0) qsort(*updates, *n, sizeof **updates, by_update);
    return status;
}

/* [[update, bytes]...], and which are best and last. */
static wr_status add_checkpoints(report *r, wr_error *err) {
    wr_str folder = {0};
    wr_str_add(&folder, "%s/checkpoints", r->run);
    const char *at = wr_str_text(&folder);
    long long *updates = NULL;
    size_t n = 0;
    wr_status status = folder.oom ? wr_fail_memory(err, "a path", folder.len)
                                  : list_checkpoints(at, &updates, &n, err);
    add_key(r, "checkpoints");
    wr_str_add(&r->json, "[");
    for (size_t i = 0; i < n && status == WR_OK; i++) {
        char name[64];
        struct stat s = {0};
        snprintf(name, sizeof name, "checkpoints/step-%lld.safetensors", updates[i]);
        status = join(r, name, err);
        if (status == WR_OK && stat(wr_str_text(&r->path), &s) != 0) s.st_size = 0;
        wr_str_add(&r->json, "%s[%lld,%lld]", i > 0 ? "," : "", updates[i], (long long)s.st_size);
    }
    wr_str_add(&r->json, "]");
    if (status == WR_OK) {
        add_key(r, "best");
        wr_str_add(&r->json, "%lld", named_update(r, at, "best"));
        add_key(r, "lastSaved");
        wr_str_add(&r->json, "%lld", named_update(r, at, "last"));
        status = join(r, "checkpoints/average", err);
        add_key(r, "average");
        wr_str_add(&r->json, "%s", access(wr_str_text(&r->path), F_OK) == 0 ? "true" : "false");
    }
    free(updates);
    wr_str_free(&folder);
    return status;
}

/* ---- the model ---- */

/* [name, elements, shape or list of what is inside] */
static void add_entry(report *r, const wr_parameter_tree *t, uint32_t id) {
    const wr_tree_entry *e = &t->entry[id];
    wr_str name = {0};
    wr_str_bytes(&name, e->name == NULL ? "" : e->name, e->length);
    wr_str_add(&r->json, "[");
    wr_html_string(&r->json, wr_str_text(&name));
    wr_str_add(&r->json, ",%.0f,", e->elements);
    if (e->is_tensor) {
        wr_str_add(&r->json, "\"[");
        for (int k = 0; k < e->rank; k++)
            wr_str_add(&r->json, "%s%lld", k > 0 ? ", " : "", (long long)e->dim[k]);
        wr_str_add(&r->json, "]\"]");
    } else {
        wr_str_add(&r->json, "[");
        for (uint32_t c = e->child; c != WR_TREE_NONE; c = t->entry[c].sibling) {
            add_entry(r, t, c);
            if (t->entry[c].sibling != WR_TREE_NONE) wr_str_add(&r->json, ",");
        }
        wr_str_add(&r->json, "]]");
    }
    r->json.oom |= name.oom;
    wr_str_free(&name);
}

static wr_status add_parameters(report *r, wr_error *err) {
    wr_graph *g = NULL;
    bool *live = NULL;
    wr_parameter_tree tree = {0};
    wr_status status = wr_model_graph_new(&r->m, &(wr_model_graph_options){0}, &g, &live, err);
    if (status != WR_OK) return status;
    bool ok = wr_parameter_tree_add_graph(&tree, g, live);
    if (!ok) status = wr_fail_memory(err, "the list of parameters", 0);
    add_key(r, "parameters");
    if (ok && tree.n > 0)
        add_entry(r, &tree, 0);
    else
        wr_str_add(&r->json, "[\"\",0,[]]");
    wr_parameter_tree_free(&tree);
    free(live);
    wr_graph_free(g);
    return status;
}

static void add_recipe(report *r) {
    wr_str text = {0};
    wr_recipe_text(&r->m.recipe, &text);
    add_key(r, "recipe");
    wr_html_string(&r->json, wr_str_text(&text));
    add_key(r, "type");
    wr_html_string(&r->json, wr_model_name(r->m.recipe.model.type));
    add_key(r, "vocab");
    wr_str_add(&r->json, "[%d,%d]", r->m.src_vocab, r->m.tgt_vocab);
    add_key(r, "maxUpdates");
    wr_str_add(&r->json, "%lld", (long long)r->m.recipe.train.max_updates);
    add_key(r, "bestBy");
    wr_html_string(&r->json, r->m.recipe.train.best_by == WR_RECIPE_BEST_BLEU ? "bleu" : "nll");
    r->json.oom |= text.oom;
    wr_str_free(&text);
}

/* ---- the page ---- */

/* The directory's name; of "." the whole path. */
static const char *name_run(const char *path, char *name, size_t size) {
    char full[4096];
    const char *real = realpath(path, full) == NULL ? path : full;
    const char *slash = strrchr(real, '/');
    snprintf(name, size, "%.*s", (int)size - 1,
             slash != NULL && slash[1] != '\0' ? slash + 1 : real);
    return name;
}

static wr_status fill(report *r, wr_error *err) {
    char name[256];
    wr_str_add(&r->json, "{\"title\":");
    wr_html_string(&r->json, name_run(r->run, name, sizeof name));
    wr_status status = join(r, "log.jsonl", err);
    if (status == WR_OK) status = wr_report_log_read(wr_str_text(&r->path), &r->log, err);
    if (status == WR_OK) status = add_curves(r, err);
    if (status != WR_OK) return status;
    add_log(r);
    add_recipe(r);
    status = add_checkpoints(r, err);
    if (status == WR_OK) status = add_parameters(r, err);
    wr_str_add(&r->json, "}");
    if (status == WR_OK && r->json.oom) status = wr_fail_memory(err, "a page", r->json.len);
    return status;
}

static wr_status write_report(const options *o, wr_error *err) {
    if (!wr_is_directory(o->run))
        return wr_fail(err, WR_ERR_INPUT,
                       "%s is not a run directory; `weir train` and `weir import` make one",
                       o->run);
    report r = {.run = o->run};
    wr_str page = {0}, out = {0};
    char name[256];
    wr_status status = wr_model_sizes_read(o->run, NULL, &r.m, err);
    if (status == WR_OK) status = fill(&r, err);
    if (status == WR_OK)
        status = wr_html_page(WR_HTML_REPORT, name_run(o->run, name, sizeof name),
                              wr_str_text(&r.json), &page, err);
    if (o->out != NULL)
        wr_str_add(&out, "%s", o->out);
    else
        wr_str_add(&out, "%s/report.html", o->run);
    if (status == WR_OK && out.oom) status = wr_fail_memory(err, "a path", out.len);
    if (status == WR_OK)
        status = wr_file_replace(wr_str_text(&out), wr_str_text(&page), page.len, err);
    if (status == WR_OK) printf("%s\n", wr_str_text(&out));
    wr_report_log_free(&r.log);
    wr_str_free(&r.json);
    wr_str_free(&r.path);
    wr_str_free(&page);
    wr_str_free(&out);
    return status;
}

int wr_cmd_report(int argc, char **argv) {
    options o = {0};
    const wr_opt table[] = {
        {"RUN", WR_OPT_STRING, &o.run, .required = true,
         .help = "a run directory; training may still go on"},
        {"--out", WR_OPT_STRING, &o.out, .value = "F.html",
         .help = "the page to write (default: RUN/report.html)"},
    };
    const wr_cli cli = {.command = "report",
                        .summary = "a training run as a page: curves, samples, configuration",
                        .opts = table,
                        .opt_n = WR_COUNT(table),
                        .notes = "The page needs no network and no other file. Its path is printed."
                                 "\nExample: weir report run && xdg-open run/report.html"};
    int code = wr_cli_begin(&cli, argc, argv);
    if (code >= 0) return code;
    wr_error err = {0};
    return wr_cli_end(write_report(&o, &err), &err);
}
