/* checkpoint_load.c: checkpoints into sessions; see checkpoint.h. */
#include "optim/checkpoint.h"

#include "optim/optimizer.h"
#include "optim/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- what programs ask for ---- */

typedef struct wanted {
    int n;
    wr_safetensor *tensor; /* names belong to the programs */
} wanted;

static bool is_wanted(const wr_graph *g, uint32_t id, bool parameters) {
    const wr_node *x = wr_node_at(g, id);
    if (parameters) return x->op == &wr_op_param;
    const char *name = wr_source_name(g, id);
    if (x->op != &wr_op_state || strncmp(name, WR_OPTIM_STATES, strlen(WR_OPTIM_STATES)) != 0)
        return false;
    return strncmp(name, WR_OPTIM_SUMS, strlen(WR_OPTIM_SUMS)) != 0;
}

static int find(const wanted *w, const char *name) {
    for (int k = 0; k < w->n; k++)
        if (strcmp(w->tensor[k].name, name) == 0) return k;
    return -1;
}

static wr_status want(wanted *w, const wr_graph *g, uint32_t id, wr_error *err) {
    const wr_node *x = wr_node_at(g, id);
    wr_safetensor t = {.name = wr_source_name(g, id), .dtype = (wr_dtype)x->dtype, .rank = x->rank};
    for (int i = 0; i < x->rank; i++) {
        if (!wr_dim_is_literal(x->dim[i])) return WR_OK; /* sized by each batch: never saved */
        t.dim[i] = wr_dim_literal(x->dim[i]);
    }
    int at = find(w, t.name);
    if (at < 0) {
        w->tensor[w->n++] = t;
        return WR_OK;
    }
    if (wr_safetensor_alike(&t, &w->tensor[at])) return WR_OK;
    return wr_fail(err, WR_ERR_INPUT, "two programs have tensor \"%.200s\" in different shapes",
                   t.name);
}

static wr_status collect(int n, wr_program *const *programs, bool parameters, wanted *w,
                         wr_error *err) {
    size_t most = 1;
    for (int k = 0; k < n; k++)
        most += wr_node_count(wr_program_graph(programs[k]));
    *w = (wanted){.tensor = malloc(sizeof *w->tensor * most)};
    if (w->tensor == NULL) return wr_fail_memory(err, "a checkpoint", sizeof *w->tensor * most);
    for (int k = 0; k < n; k++) {
        const wr_graph *g = wr_program_graph(programs[k]);
        for (uint32_t id = 1; id < wr_node_count(g); id++) {
            if (!wr_program_live(programs[k])[id] || !is_wanted(g, id, parameters)) continue;
            wr_status status = want(w, g, id, err);
            if (status != WR_OK) return status;
        }
    }
    return WR_OK;
}

/* ---- comparing ---- */

enum { LISTED = 8 }; /* of each kind, so that the message stays readable */

typedef struct complaint {
    const char *title;
    int n;
    wr_str text;
} complaint;

static void complain(complaint *c, const wr_safetensor *t, const wr_safetensor *other) {
    if (c->n++ >= LISTED) return;
    wr_str_add(&c->text, "\n    %.100s ", t->name);
    wr_safetensor_describe(t, &c->text);
    if (other == NULL) return;
    wr_str_add(&c->text, ", in the file ");
    wr_safetensor_describe(other, &c->text);
}

static void add_complaint(const complaint *c, wr_str *all) {
    if (c->n == 0) return;
    wr_str_add(all, "\n  %d %s:%s", c->n, c->title, wr_str_text(&c->text));
    if (c->n > LISTED) wr_str_add(all, "\n    and %d more", c->n - LISTED);
}

/* Everything that is missing, wrong or left over, in one message. */
static wr_status compare(const wr_safetensors *f, const wanted *w, bool partial, wr_error *err) {
    complaint missing = {.title = "missing"}, extra = {.title = "not of the model"};
    complaint wrong = {.title = "of another type or shape"};
    for (int k = 0; k < w->n; k++) {
        int at = wr_safetensors_find(f, w->tensor[k].name);
        if (at < 0)
            complain(&missing, &w->tensor[k], NULL);
        else if (!wr_safetensor_alike(&w->tensor[k], &f->tensor[at]))
            complain(&wrong, &w->tensor[k], &f->tensor[at]);
    }
    for (int k = 0; !partial && k < f->n; k++)
        if (find(w, f->tensor[k].name) < 0) complain(&extra, &f->tensor[k], NULL);
    wr_str all = {0};
    add_complaint(&missing, &all);
    add_complaint(&wrong, &all);
    add_complaint(&extra, &all);
    bool fits = missing.n + wrong.n + extra.n == 0;
    if (!fits)
        wr_fail(err, WR_ERR_INPUT,
                "%s: its tensors are not those of the model; is it of another recipe?%s", f->path,
                wr_str_text(&all));
    wr_str_free(&missing.text);
    wr_str_free(&wrong.text);
    wr_str_free(&extra.text);
    wr_str_free(&all);
    return fits ? WR_OK : WR_ERR_INPUT;
}

/* ---- loading ---- */

static wr_status put(wr_session *s, const wr_safetensor *t, bool parameter, const void *data,
                     wr_error *err) {
    int at = wr_session_find(s, t->name);
    if (at < 0)
        return wr_session_define(s, t->name, parameter, t->dtype, t->rank, t->dim, data, err);
    const wr_tensor *held = &wr_session_stored_at(s, at)->tensor;
    wr_safetensor now = {.dtype = held->dtype, .rank = held->rank};
    for (int i = 0; i < held->rank; i++)
        now.dim[i] = held->dim[i];
    bool same = wr_safetensor_alike(&now, t);
    if (same) return wr_session_write(s, at, data, err);
    return wr_fail(err, WR_ERR_INPUT,
                   "tensor \"%.200s\": the session holds it already, in another shape", t->name);
}

static wr_status load_tensors(const wr_safetensors *f, const wanted *w, wr_session *s,
                              bool parameters, wr_error *err) {
    size_t most = 1;
    for (int k = 0; k < f->n; k++)
        if (f->tensor[k].bytes > most) most = f->tensor[k].bytes;
    void *data = malloc(most);
    if (data == NULL) return wr_fail_memory(err, f->path, most);
    wr_status status = WR_OK;
    for (int k = 0; status == WR_OK && k < w->n; k++) {
        int at = wr_safetensors_find(f, w->tensor[k].name);
        status = wr_safetensors_read(f, at, data, err);
        if (status == WR_OK) status = put(s, &f->tensor[at], parameters, data, err);
    }
    free(data);
    return status;
}

wr_status wr_checkpoint_load(const char *path, wr_session *s, int n_programs,
                             wr_program *const *programs, bool partial, wr_error *err) {
    wr_safetensors f;
    wanted w = {0};
    wr_status status = wr_safetensors_open(path, &f, err);
    if (status != WR_OK) return status;
    status = collect(n_programs, programs, true, &w, err);
    if (status == WR_OK) status = compare(&f, &w, partial, err);
    if (status == WR_OK) status = load_tensors(&f, &w, s, true, err);
    free(w.tensor);
    wr_safetensors_close(&f);
    return status;
}

/* ---- resuming ---- */

/* The state file beside the parameters at `path`. */
static wr_status open_states(const char *path, wr_safetensors *f, wr_error *err) {
    wr_str name = {0};
    wr_str_add(&name, "%.*s.state", (int)(strlen(path) - strlen(".safetensors")), path);
    wr_status status = name.oom ? wr_fail_memory(err, path, strlen(path))
                                : wr_safetensors_open(wr_str_text(&name), f, err);
    wr_str_free(&name);
    return status;
}

/* The progress in the state file; it must be of the update that the parameters are of. */
static wr_status read_progress(const wr_safetensors *parameters, const wr_safetensors *states,
                               wr_progress *p, wr_error *err) {
    const char *text = wr_safetensors_meta_of(states, "progress");
    const char *update = wr_safetensors_meta_of(parameters, "update");
    if (text == NULL)
        return wr_fail(err, WR_ERR_INPUT,
                       "%s: has no record of progress: it was not written by "
                       "training",
                       states->path);
    wr_status status = wr_progress_parse(text, states->path, p, err);
    if (status != WR_OK) return status;
    if (update == NULL || strtoll(update, NULL, 10) != p->update)
        return wr_fail(err, WR_ERR_INPUT,
                       "%s is after %" PRId64 " updates, and %s after %.20s: they are not of one "
                       "checkpoint",
                       states->path, p->update, parameters->path,
                       update == NULL ? "an unknown number" : update);
    return WR_OK;
}

/* Without tensors it was saved before the first update: states begin by their initialisers. */
static wr_status load_states(const wr_safetensors *f, wr_session *s, int n_programs,
                             wr_program *const *programs, wr_error *err) {
    if (f->n == 0) return WR_OK;
    wanted w = {0};
    wr_status status = collect(n_programs, programs, false, &w, err);
    if (status == WR_OK) status = compare(f, &w, false, err);
    if (status == WR_OK) status = load_tensors(f, &w, s, false, err);
    free(w.tensor);
    return status;
}

static wr_status resume_from(const char *path, wr_session *s, int n_programs,
                             wr_program *const *programs, wr_progress *progress, wr_error *err) {
    wr_safetensors parameters, states;
    wr_status status = wr_safetensors_open(path, &parameters, err);
    if (status != WR_OK) return status;
    status = open_states(path, &states, err);
    if (status == WR_OK) {
        status = read_progress(&parameters, &states, progress, err);
        if (status == WR_OK) status = wr_checkpoint_load(path, s, n_programs, programs, false, err);
        if (status == WR_OK) status = load_states(&states, s, n_programs, programs, err);
        if (status == WR_OK) wr_session_set_step(s, progress->step);
        wr_safetensors_close(&states);
    }
    wr_safetensors_close(&parameters);
    return status;
}

wr_status wr_checkpoint_resume(const char *folder, wr_session *s, int n_programs,
                               wr_program *const *programs, wr_progress *progress, wr_error *err) {
    wr_str path = {0};
    wr_status status = wr_checkpoint_locate(folder, "last", &path, err);
    if (status == WR_OK)
        status = resume_from(wr_str_text(&path), s, n_programs, programs, progress, err);
    wr_str_free(&path);
    return status;
}
