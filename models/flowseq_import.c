/* flowseq_import.c: a state dict of the authors' program into a session; see flowseq_import.h. */
#include "models/flowseq_import.h"

#include <stdlib.h>
#include <string.h>

void wr_flowseq_map_free(wr_flowseq_map *map) {
    for (size_t i = 0; i < map->n; i++) {
        free(map->row[i].ours);
        free(map->row[i].theirs);
    }
    free(map->row);
    *map = (wr_flowseq_map){0};
}

/* ---- looking up names ---- */

/* The tensors of a state dict, sorted by name. */
typedef struct names {
    int n;
    const wr_flowseq_tensor **by_name;
} names;

static int by_name(const void *a, const void *b) {
    const wr_flowseq_tensor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static wr_status names_of(const wr_flowseq_state *state, names *names, wr_error *err) {
    size_t bytes = sizeof(const wr_flowseq_tensor *) * ((size_t)state->n + 1);
    names->n = state->n;
    names->by_name = malloc(bytes);
    if (names->by_name == NULL) return wr_fail_memory(err, "a list of tensors", bytes);
    for (int i = 0; i < state->n; i++)
        names->by_name[i] = &state->tensor[i];
    qsort(names->by_name, (size_t)state->n, sizeof(const wr_flowseq_tensor *), by_name);
    return WR_OK;
}

static const wr_flowseq_tensor *find(const names *names, const char *name) {
    wr_flowseq_tensor key = {.name = name};
    const wr_flowseq_tensor *at = &key;
    const wr_flowseq_tensor *const *found =
        bsearch(&at, names->by_name, (size_t)names->n, sizeof(const wr_flowseq_tensor *), by_name);
    return found == NULL ? NULL : *found;
}

/* ---- second names ---- */

#define SOURCE_TABLE "encoder.embed.weight"
#define READOUT_BIAS "decoder.readout.bias"

/* Another name that the program has for a tensor, where the embeddings are as told. */
typedef struct second_name {
    const char *name, *first;
    bool shared;
} second_name;

static const second_name SECOND_NAMES[] = {
    {"posterior.tgt_embed.weight", SOURCE_TABLE, true},
    {"posterior.core.tgt_embed.weight", SOURCE_TABLE, true},
    {"decoder.readout.weight", SOURCE_TABLE, true},
    {"posterior.core.tgt_embed.weight", "posterior.tgt_embed.weight", false},
};
enum { SECOND_N = sizeof SECOND_NAMES / sizeof SECOND_NAMES[0] };

static bool is_second_name(const wr_flowseq *f, const char *name) {
    for (int i = 0; i < SECOND_N; i++)
        if (SECOND_NAMES[i].shared == f->shared_embeddings &&
            strcmp(SECOND_NAMES[i].name, name) == 0)
            return true;
    return false;
}

/* The tensor `name`; a file that keeps shared tensors once may have any of its names. */
static const wr_flowseq_tensor *find_any(const wr_flowseq *f, const names *names,
                                         const char *name) {
    const wr_flowseq_tensor *t = find(names, name);
    for (int i = 0; i < SECOND_N && t == NULL; i++)
        if (SECOND_NAMES[i].shared == f->shared_embeddings &&
            strcmp(SECOND_NAMES[i].first, name) == 0)
            t = find(names, SECOND_NAMES[i].name);
    return t;
}

/* Buffers that the program computes itself. */
static bool is_buffer(const char *name) {
    static const char *const ENDS[] = {"._float_tensor", ".weight_inv"};
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof ENDS / sizeof ENDS[0]; i++) {
        size_t m = strlen(ENDS[i]);
        if (n > m && strcmp(name + n - m, ENDS[i]) == 0) return true;
    }
    return false;
}

/* ---- comparing ---- */

enum { LISTED = 10 }; /* of each kind, so that the message stays readable */

typedef struct complaint {
    const char *title;
    int n;
    wr_str text;
} complaint;

/* "[3, 4]" */
static void add_shape(int rank, const int64_t *dim, wr_str *text) {
    for (int k = 0; k < rank; k++)
        wr_str_add(text, "%s%lld", k == 0 ? "[" : ", ", (long long)dim[k]);
    wr_str_add(text, rank == 0 ? "[]" : "]");
}

static void complain(complaint *c, const char *name, int rank, const int64_t *dim,
                     const wr_flowseq_tensor *got) {
    if (c->n++ >= LISTED) return;
    wr_str_add(&c->text, "\n    %.100s ", name);
    add_shape(rank, dim, &c->text);
    if (got == NULL) return;
    wr_str_add(&c->text, ", there ");
    add_shape(got->rank, got->dim, &c->text);
    if (got->dtype == WR_I32) wr_str_add(&c->text, " of whole numbers");
}

static void add_complaint(const complaint *c, wr_str *all) {
    if (c->n == 0) return;
    wr_str_add(all, "\n  %d %s:%s", c->n, c->title, wr_str_text(&c->text));
    if (c->n > LISTED) wr_str_add(all, "\n    and %d more", c->n - LISTED);
    all->oom = all->oom || c->text.oom;
}

/* The shape that the authors' tensor must have. */
static int shape_of(const wr_flowseq_row *row, int64_t *dim) {
    dim[0] = row->of_rows;
    dim[1] = row->column ? 1 : row->transposed ? row->dim[0] : row->dim[1];
    return row->rank == 2 || row->column ? 2 : 1;
}

static bool has_shape(const wr_flowseq_tensor *t, int rank, const int64_t *dim) {
    if (t->dtype == WR_I32 || t->rank != rank) return false;
    for (int k = 0; k < rank; k++)
        if (t->dim[k] != dim[k]) return false;
    return true;
}

typedef struct job {
    const wr_flowseq *f;
    const wr_flowseq_state *state;
    wr_session *s;
    wr_flowseq_map map;
    names given, known; /* tensors of the state dict; those that the map asks for */
    wr_flowseq_tensor *wanted;
    int n_wanted;
} job;

/* Each tensor of the map once; weights and biases of parts come in turn. */
static wr_status list_wanted(job *j, wr_error *err) {
    size_t bytes = (j->map.n + 1) * sizeof *j->wanted;
    j->wanted = calloc(j->map.n + 1, sizeof *j->wanted);
    if (j->wanted == NULL) return wr_fail_memory(err, "a list of tensors", bytes);
    for (size_t i = 0; i < j->map.n; i++) {
        const wr_flowseq_row *row = &j->map.row[i];
        bool again = false;
        for (int k = j->n_wanted - 1; k >= 0 && k >= j->n_wanted - 4; k--) {
            const char *name = j->wanted[k].name;
            WR_ASSERT(name != NULL);
            again = again || strcmp(name, row->theirs) == 0;
        }
        if (again) continue;
        wr_flowseq_tensor *t = &j->wanted[j->n_wanted++];
        t->name = row->theirs;
        t->rank = shape_of(row, t->dim);
    }
    wr_flowseq_state all = {.n = j->n_wanted, .tensor = j->wanted};
    return names_of(&all, &j->known, err);
}

static wr_status compare(const job *j, wr_error *err) {
    complaint missing = {.title = "missing"}, extra = {.title = "not of the model"};
    complaint wrong = {.title = "of another shape"};
    for (int i = 0; i < j->n_wanted; i++) {
        const wr_flowseq_tensor *want = &j->wanted[i], *t = find_any(j->f, &j->given, want->name);
        if (t == NULL)
            complain(&missing, want->name, want->rank, want->dim, NULL);
        else if (!has_shape(t, want->rank, want->dim))
            complain(&wrong, want->name, want->rank, want->dim, t);
    }
    for (int i = 0; i < j->state->n; i++) {
        const wr_flowseq_tensor *t = &j->state->tensor[i];
        if (find(&j->known, t->name) == NULL && !is_buffer(t->name) &&
            !is_second_name(j->f, t->name))
            complain(&extra, t->name, t->rank, t->dim, NULL);
    }
    wr_str all = {0};
    add_complaint(&missing, &all);
    add_complaint(&wrong, &all);
    add_complaint(&extra, &all);
    wr_status status = WR_OK;
    if (all.oom)
        status = wr_fail_memory(err, "a message", all.cap);
    else if (missing.n + wrong.n + extra.n > 0)
        status = wr_fail(err, WR_ERR_INPUT,
                         "the tensors are not those of the model; is it of another recipe?%s",
                         wr_str_text(&all));
    wr_str_free(&missing.text);
    wr_str_free(&wrong.text);
    wr_str_free(&extra.text);
    wr_str_free(&all);
    return status;
}

/* ---- values ---- */

static double number_at(wr_dtype t, const void *data, int64_t i) {
    return t == WR_F32 ? (double)((const float *)data)[i] : ((const double *)data)[i];
}

static void put_number(wr_dtype t, void *data, int64_t i, double value) {
    if (t == WR_F32)
        ((float *)data)[i] = (float)value;
    else
        ((double *)data)[i] = value;
}

/* Our parameter from the rows of theirs. */
static void take_rows(const wr_flowseq_row *row, const wr_flowseq_tensor *t, const void *data,
                      wr_dtype dtype, void *to) {
    int64_t rows = row->dim[0], columns = row->rank == 2 ? row->dim[1] : 1;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t k = 0; k < columns; k++) {
            int64_t at =
                row->transposed ? (row->from + k) * rows + i : (row->from + i) * columns + k;
            put_number(dtype, to, i * columns + k, number_at(t->dtype, data, at));
        }
}

static wr_status store(wr_session *s, const wr_flowseq_row *row, wr_dtype dtype, const void *data,
                       wr_error *err) {
    int at = wr_session_find(s, row->ours);
    if (at < 0) return wr_session_define(s, row->ours, true, dtype, row->rank, row->dim, data, err);
    const wr_tensor *t = &wr_session_stored_at(s, at)->tensor;
    bool same = t->dtype == dtype && t->rank == row->rank;
    for (int k = 0; same && k < row->rank; k++)
        same = t->dim[k] == row->dim[k];
    if (same) return wr_session_write(s, at, data, err);
    return wr_fail(err, WR_ERR_INPUT,
                   "tensor \"%.200s\": the session holds it already, in another shape", row->ours);
}

static size_t bytes_of(const wr_flowseq_tensor *t) {
    size_t n = wr_dtype_bytes(t->dtype);
    for (int k = 0; k < t->rank; k++)
        n *= (size_t)t->dim[k];
    return n;
}

/* The data of a tensor: in memory, or read into `*buffer`, which is reused. */
static wr_status data_of(const job *j, const wr_flowseq_tensor *t, void **buffer, const void **data,
                         wr_error *err) {
    *data = t->data;
    if (j->state->read == NULL) return WR_OK;
    free(*buffer);
    *data = *buffer = malloc(bytes_of(t) + 1);
    if (*buffer == NULL) return wr_fail_memory(err, t->name, bytes_of(t));
    return j->state->read(j->state->user, (int)(t - j->state->tensor), *buffer, err);
}

static wr_status import_row(const job *j, const wr_flowseq_row *row, const wr_flowseq_tensor *t,
                            const void *data, wr_error *err) {
    size_t n = (size_t)row->dim[0] * (row->rank == 2 ? (size_t)row->dim[1] : 1);
    void *ours = malloc(n * wr_dtype_bytes(j->f->dtype) + 1);
    if (ours == NULL) return wr_fail_memory(err, row->ours, n * wr_dtype_bytes(j->f->dtype));
    take_rows(row, t, data, j->f->dtype, ours);
    wr_status status = store(j->s, row, j->f->dtype, ours, err);
    free(ours);
    return status;
}

static wr_status import_all(const job *j, wr_error *err) {
    wr_status status = WR_OK;
    void *buffer = NULL;
    const void *data = NULL;
    const wr_flowseq_tensor *read = NULL;
    for (size_t i = 0; i < j->map.n && status == WR_OK; i++) {
        const wr_flowseq_row *row = &j->map.row[i];
        const wr_flowseq_tensor *t = find_any(j->f, &j->given, row->theirs);
        if (t != read) status = data_of(j, t, &buffer, &data, err);
        read = t;
        if (status == WR_OK) status = import_row(j, row, t, data, err);
    }
    free(buffer);
    return status;
}

wr_status wr_flowseq_import(const wr_flowseq *f, const wr_flowseq_state *state, wr_session *s,
                            wr_error *err) {
    job j = {.f = f, .state = state, .s = s};
    wr_status status = wr_flowseq_map_new(f, &j.map, err);
    if (status == WR_OK) status = names_of(state, &j.given, err);
    if (status == WR_OK) status = list_wanted(&j, err);
    if (status == WR_OK) status = compare(&j, err);
    if (status == WR_OK) status = import_all(&j, err);
    free(j.given.by_name);
    free(j.known.by_name);
    free(j.wanted);
    wr_flowseq_map_free(&j.map);
    return status;
}

/* ---- vocabularies ---- */

/* The first axis of the first of these tensors that is there. */
static wr_status vocab_of(const wr_flowseq_state *state, int n, const char *const *name, int rank,
                          int *vocab, wr_error *err) {
    enum { VOCAB_MOST = 100000000 };
    for (int k = 0; k < n; k++)
        for (int i = 0; i < state->n; i++) {
            const wr_flowseq_tensor *t = &state->tensor[i];
            if (strcmp(t->name, name[k]) != 0 || t->rank != rank) continue;
            if (t->dim[0] < 1 || t->dim[0] > VOCAB_MOST) continue;
            *vocab = (int)t->dim[0];
            return WR_OK;
        }
    return wr_fail(err, WR_ERR_INPUT,
                   "there is no tensor %s with %d ax%s: this is no state dict of FlowSeq", name[0],
                   rank, rank == 1 ? "is" : "es");
}

wr_status wr_flowseq_state_vocabs(const wr_flowseq_state *state, int *src_vocab, int *tgt_vocab,
                                  wr_error *err) {
    static const char *const BIAS[] = {READOUT_BIAS};
    static const char *const TABLES[] = {SOURCE_TABLE, "posterior.tgt_embed.weight",
                                         "posterior.core.tgt_embed.weight",
                                         "decoder.readout.weight"};
    wr_status status = vocab_of(state, 1, BIAS, 1, tgt_vocab, err);
    return status == WR_OK ? vocab_of(state, 4, TABLES, 2, src_vocab, err) : status;
}
