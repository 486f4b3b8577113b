/* checkpoint.c: saving, finding and averaging checkpoints; see checkpoint.h. */
#include "optim/checkpoint.h"

#include "optim/optimizer.h"
#include "optim/safetensors.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char PARAMETERS[] = ".safetensors", STATES[] = ".state";

/* "FOLDER/step-N.SUFFIX" in a fresh string. */
static wr_status step_path(const char *folder, int64_t update, const char *suffix, wr_str *path,
                           wr_error *err) {
    wr_str_add(path, "%s/step-%" PRId64 "%s", folder, update, suffix);
    return path->oom ? wr_fail_memory(err, folder, strlen(folder)) : WR_OK;
}

/* ---- saving ---- */

static bool begins_with(const char *text, const char *start) {
    return strncmp(text, start, strlen(start)) == 0;
}

static bool is_saved_state(const char *name) {
    return begins_with(name, WR_OPTIM_STATES) && !begins_with(name, WR_OPTIM_SUMS);
}

/* The session's tensors that go into one file. */
typedef struct selection {
    wr_session *s;
    int n;
    int *index; /* in the session */
    wr_safetensor *tensor;
} selection;

static wr_status select_tensors(wr_session *s, bool parameters, selection *x, wr_error *err) {
    size_t most = (size_t)wr_session_stored(s) + 1;
    *x = (selection){.s = s,
                     .index = malloc(sizeof *x->index * most),
                     .tensor = calloc(most, sizeof *x->tensor)};
    if (x->index == NULL || x->tensor == NULL)
        return wr_fail_memory(err, "a checkpoint", sizeof *x->tensor * most);
    for (int k = 0; k < wr_session_stored(s); k++) {
        const wr_stored *from = wr_session_stored_at(s, k);
        if (parameters ? !from->trainable : from->trainable || !is_saved_state(from->name))
            continue;
        wr_safetensor *t = &x->tensor[x->n];
        t->name = from->name;
        t->dtype = from->tensor.dtype;
        t->rank = from->tensor.rank;
        for (int i = 0; i < t->rank; i++)
            t->dim[i] = from->tensor.dim[i];
        x->index[x->n++] = k;
    }
    return WR_OK;
}

static wr_status selected_bytes(void *user, int index, void *to, wr_error *err) {
    const selection *x = user;
    return wr_session_read(x->s, x->index[index], to, err);
}

static wr_status save_file(const char *folder, wr_session *s, const wr_progress *p, bool parameters,
                           const char *progress, wr_error *err) {
    wr_str path = {0}, update = {0};
    selection x = {0};
    wr_str_add(&update, "%" PRId64, p->update);
    wr_safetensors_meta meta[] = {{"update", wr_str_text(&update)}, {"progress", progress}};
    wr_status status = step_path(folder, p->update, parameters ? PARAMETERS : STATES, &path, err);
    if (status == WR_OK && update.oom) status = wr_fail_memory(err, folder, 0);
    if (status == WR_OK) status = select_tensors(s, parameters, &x, err);
    if (status == WR_OK)
        status = wr_safetensors_write(wr_str_text(&path), x.n, x.tensor, parameters ? 1 : 2, meta,
                                      selected_bytes, &x, err);
    free(x.index);
    free(x.tensor);
    wr_str_free(&path);
    wr_str_free(&update);
    return status;
}

static wr_status point(const char *folder, const char *which, int64_t update, wr_error *err) {
    wr_str path = {0}, text = {0};
    wr_str_add(&path, "%s/%s", folder, which);
    wr_str_add(&text, "step-%" PRId64 "\n", update);
    wr_status status = path.oom || text.oom
                           ? wr_fail_memory(err, folder, 0)
                           : wr_file_replace(wr_str_text(&path), wr_str_text(&text), text.len, err);
    wr_str_free(&path);
    wr_str_free(&text);
    return status;
}

/* "12" -> 12, up to `end`. */
static bool read_digits(const char *text, const char *end, int64_t *value) {
    *value = 0;
    if (text == end || end - text > 18) return false;
    for (; text < end; text++) {
        if (*text < '0' || *text > '9') return false;
        *value = 10 * *value + (*text - '0');
    }
    return true;
}

/* "step-12.state" -> 12, with that suffix. */
static bool read_step_name(const char *name, const char *suffix, int64_t *update) {
    static const char STEP[] = "step-";
    size_t n = strlen(name), tail = strlen(suffix);
    if (n <= tail || !begins_with(name, STEP) || strcmp(name + n - tail, suffix) != 0) return false;
    return read_digits(name + strlen(STEP), name + n - tail, update);
}

/* Does nothing need this file of ours any more? Other people's files stay. */
static bool is_stale(const char *name, const wr_progress *p) {
    int64_t update;
    if (read_step_name(name, ".safetensors.tmp", &update) ||
        read_step_name(name, ".state.tmp", &update))
        return true; /* of a save that was killed */
    if (read_step_name(name, STATES, &update)) return update != p->update;
    if (!read_step_name(name, PARAMETERS, &update) || update == p->update) return false;
    for (int k = 0; k < p->n_best; k++)
        if (p->best[k].update == update) return false;
    return true;
}

/* A file that cannot be removed only takes space: no reason to stop a training run. */
static void remove_stale(const char *folder, const wr_progress *p) {
    DIR *dir = opendir(folder);
    if (dir == NULL) return;
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;)
        if (is_stale(entry->d_name, p)) unlinkat(dirfd(dir), entry->d_name, 0);
    closedir(dir);
}

wr_status wr_checkpoint_save(const char *folder, wr_session *s, wr_progress *progress,
                             wr_error *err) {
    wr_str text = {0};
    progress->step = wr_session_step(s);
    wr_progress_text(progress, &text);
    wr_status status = text.oom ? wr_fail_memory(err, folder, 0) : wr_make_dirs(folder, err);
    if (status == WR_OK) status = save_file(folder, s, progress, true, NULL, err);
    if (status == WR_OK) status = save_file(folder, s, progress, false, wr_str_text(&text), err);
    if (status == WR_OK) status = point(folder, "last", progress->update, err);
    if (status == WR_OK && progress->n_best > 0)
        status = point(folder, "best", progress->best[0].update, err);
    if (status == WR_OK) remove_stale(folder, progress);
    wr_str_free(&text);
    return status;
}

/* ---- finding ---- */

/* The update that a pointer file names. */
static wr_status read_pointer(const char *folder, const char *which, int64_t *update,
                              wr_error *err) {
    wr_str path = {0};
    char *text = NULL;
    size_t n = 0;
    wr_str_add(&path, "%s/%s", folder, which);
    wr_status status = path.oom ? wr_fail_memory(err, folder, 0)
                                : wr_file_read(wr_str_text(&path), &text, &n, err);
    if (status == WR_OK && n > 0 && text[n - 1] == '\n') text[--n] = '\0';
    if (status == WR_OK && (strlen(text) != n || !read_step_name(text, "", update)))
        status = wr_fail(err, WR_ERR_INPUT,
                         "%s: is damaged: it should hold one line \"step-N\" that names a "
                         "checkpoint of its folder",
                         wr_str_text(&path));
    free(text);
    wr_str_free(&path);
    return status;
}

bool wr_checkpoint_exists(const char *folder) {
    wr_str path = {0};
    wr_str_add(&path, "%s/last", folder);
    bool exists = !path.oom && access(wr_str_text(&path), F_OK) == 0;
    wr_str_free(&path);
    return exists;
}

wr_status wr_checkpoint_locate(const char *folder, const char *which, wr_str *path, wr_error *err) {
    int64_t update = 0;
    bool pointer = strcmp(which, "last") == 0 || strcmp(which, "best") == 0;
    if (!pointer && strcmp(which, "average") != 0 && !read_step_name(which, "", &update))
        return wr_fail(err, WR_ERR_INPUT,
                       "checkpoint \"%s\": allowed are last, best, average and step-N", which);
    size_t before = path->len;
    wr_status status = pointer ? read_pointer(folder, which, &update, err) : WR_OK;
    if (status == WR_OK && strcmp(which, "average") == 0)
        wr_str_add(path, "%s/average", folder);
    else if (status == WR_OK)
        status = step_path(folder, update, PARAMETERS, path, err);
    if (status != WR_OK) return status;
    if (path->oom) return wr_fail_memory(err, folder, 0);
    if (access(wr_str_text(path) + before, R_OK) == 0) return WR_OK;
    return wr_fail(err, WR_ERR_IO, "%s: cannot read checkpoint \"%s\": %s",
                   wr_str_text(path) + before, which, strerror(errno));
}

/* ---- averaging ---- */

typedef struct averaging {
    int n;
    wr_safetensors *file; /* n, with the tensors of the first one in the same order or another */
    double *sum;
    void *one; /* room for the largest tensor */
} averaging;

static void add_to_sum(const wr_safetensor *t, const void *from, double *sum) {
    int64_t n = (int64_t)(t->bytes / wr_dtype_bytes(t->dtype));
    for (int64_t i = 0; i < n; i++)
        sum[i] += t->dtype == WR_F32 ? (double)((const float *)from)[i] : ((const double *)from)[i];
}

static void write_mean(const wr_safetensor *t, const double *sum, int n, void *to) {
    int64_t elements = (int64_t)(t->bytes / wr_dtype_bytes(t->dtype));
    for (int64_t i = 0; i < elements; i++) {
        double mean = sum[i] / n;
        if (t->dtype == WR_F32)
            ((float *)to)[i] = (float)mean;
        else
            ((double *)to)[i] = mean;
    }
}

static wr_status average_bytes(void *user, int index, void *to, wr_error *err) {
    const averaging *a = user;
    const wr_safetensor *t = &a->file[0].tensor[index];
    memset(a->sum, 0, sizeof *a->sum * (t->bytes / wr_dtype_bytes(t->dtype)));
    for (int k = 0; k < a->n; k++) {
        int at = wr_safetensors_find(&a->file[k], t->name);
        wr_status status = wr_safetensors_read(&a->file[k], at, a->one, err);
        if (status != WR_OK) return status;
        add_to_sum(t, a->one, a->sum);
    }
    write_mean(t, a->sum, a->n, to);
    return WR_OK;
}

/* Do all files have the tensors of the first one, of float type? */
static wr_status check_alike(const averaging *a, wr_error *err) {
    const wr_safetensors *first = &a->file[0];
    for (int k = 0; k < a->n; k++) {
        if (a->file[k].n != first->n)
            return wr_fail(err, WR_ERR_INPUT,
                           "%s has %d tensors, and %s has %d: they cannot be "
                           "averaged",
                           a->file[k].path, a->file[k].n, first->path, first->n);
        for (int i = 0; i < first->n; i++) {
            const wr_safetensor *t = &first->tensor[i];
            int at = wr_safetensors_find(&a->file[k], t->name);
            if (t->dtype == WR_I32 || at < 0 || !wr_safetensor_alike(t, &a->file[k].tensor[at]))
                return wr_fail(err, WR_ERR_INPUT,
                               "%s: tensor \"%.200s\" is missing, of another shape than in %s, or "
                               "of whole numbers: it cannot be averaged",
                               a->file[k].path, t->name, first->path);
        }
    }
    return WR_OK;
}

static wr_status average_open(averaging *a, const char *folder, const int64_t *updates, int n,
                              wr_error *err) {
    for (; a->n < n; a->n++) {
        wr_str path = {0};
        wr_status status = step_path(folder, updates[a->n], PARAMETERS, &path, err);
        if (status == WR_OK) status = wr_safetensors_open(wr_str_text(&path), &a->file[a->n], err);
        wr_str_free(&path);
        if (status != WR_OK) return status;
    }
    size_t most = 1;
    for (int i = 0; i < a->file[0].n; i++)
        if (a->file[0].tensor[i].bytes > most) most = a->file[0].tensor[i].bytes;
    a->one = malloc(most);
    a->sum = malloc(most * 2); /* f32 may become double */
    if (a->one == NULL || a->sum == NULL) return wr_fail_memory(err, "an average", 3 * most);
    return check_alike(a, err);
}

static wr_status average_write(averaging *a, const char *folder, const int64_t *updates,
                               wr_error *err) {
    wr_str path = {0}, list = {0};
    wr_str_add(&path, "%s/average", folder);
    for (int k = 0; k < a->n; k++)
        wr_str_add(&list, "%s%" PRId64, k > 0 ? " " : "", updates[k]);
    wr_safetensors_meta meta = {"averaged", wr_str_text(&list)};
    wr_status status = path.oom || list.oom ? wr_fail_memory(err, folder, 0)
                                            : wr_safetensors_write(wr_str_text(&path), a->file[0].n,
                                                                   a->file[0].tensor, 1, &meta,
                                                                   average_bytes, a, err);
    wr_str_free(&path);
    wr_str_free(&list);
    return status;
}

wr_status wr_checkpoint_average(const char *folder, int n, const int64_t *updates, wr_error *err) {
    if (n < 1) return wr_fail(err, WR_ERR_INPUT, "%s: an average of no checkpoints", folder);
    averaging a = {.file = calloc((size_t)n, sizeof *a.file)};
    if (a.file == NULL) return wr_fail_memory(err, folder, sizeof *a.file * (size_t)n);
    wr_status status = average_open(&a, folder, updates, n, err);
    if (status == WR_OK) status = average_write(&a, folder, updates, err);
    for (int k = 0; k < a.n; k++)
        wr_safetensors_close(&a.file[k]);
    free(a.file);
    free(a.sum);
    free(a.one);
    return status;
}
