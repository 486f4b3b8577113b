/* dataset.c: the dataset directory: dataset.json, models and splits; see dataset.h. */
#include "data/dataset.h"
#include "data/dataset_dir.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <zlib.h>

enum { FORMAT_VERSION = 1 };

const char *wr_split_name(wr_split split) {
    static const char *const names[WR_SPLITS] = {"train", "valid", "test"};
    return names[split];
}

struct wr_dataset {
    wr_dataset_info info; /* its strings belong to `json` */
    cJSON *json;
    wr_subword *src_model, *tgt_model; /* the same when joint */
    wr_pairs_file split[WR_SPLITS];
};

static const char *kind_name(wr_subword_kind kind) {
    return kind == WR_SUBWORD_UNIGRAM ? "unigram" : "bpe";
}

/* DIR/NAME as a new string; NULL when memory is out. */
static char *join(const char *dir, const char *name) {
    wr_str path = {0};
    wr_str_add(&path, "%s/%s", dir, name);
    if (!path.oom) return path.text;
    wr_str_free(&path);
    return NULL;
}

static uint32_t checksum(const void *data, size_t n) { return (uint32_t)crc32_z(0, data, n); }

/* ---- writing ---- */

/* Each add_ function puts one member into an object; false when memory is out. */
static bool add_number(cJSON *to, const char *name, double x) {
    return cJSON_AddNumberToObject(to, name, x) != NULL;
}

static bool add_text(cJSON *to, const char *name, const char *text) {
    return cJSON_AddStringToObject(to, name, text == NULL ? "" : text) != NULL;
}

static bool add_bool(cJSON *to, const char *name, bool x) {
    return cJSON_AddBoolToObject(to, name, x) != NULL;
}

static bool add_model(cJSON *to, const char *name, const wr_subword *model) {
    size_t n;
    const void *bytes = wr_subword_bytes(model, &n);
    cJSON *object = cJSON_AddObjectToObject(to, name);
    return object != NULL && add_number(object, "pieces", wr_subword_vocab(model)) &&
           add_number(object, "crc32", checksum(bytes, n));
}

static bool add_report(cJSON *to, const wr_filter *f, const wr_filter_report *r) {
    cJSON *kept = cJSON_AddObjectToObject(to, "filter");
    cJSON *dropped = cJSON_AddObjectToObject(to, "dropped");
    return kept != NULL && dropped != NULL && add_bool(kept, "empty", f->empty) &&
           add_number(kept, "max_len", (double)f->max_len) &&
           add_number(kept, "max_ratio", f->max_ratio) &&
           add_bool(kept, "duplicates", f->duplicates) &&
           add_number(dropped, "duplicate", (double)r->duplicate) &&
           add_number(dropped, "empty", (double)r->empty) &&
           add_number(dropped, "too_long", (double)r->too_long) &&
           add_number(dropped, "ratio", (double)r->ratio);
}

static bool add_split(cJSON *to, const char *name, const wr_split_info *info,
                      const wr_pairs *pairs) {
    cJSON *o = cJSON_AddObjectToObject(to, name);
    size_t n = pairs->n;
    return o != NULL && add_text(o, "src_file", info->src_file) &&
           add_text(o, "tgt_file", info->tgt_file) &&
           add_number(o, "lines", (double)info->report.lines) &&
           add_number(o, "pairs", (double)n) &&
           add_number(o, "src_tokens", (double)pairs->src.id_at[n]) &&
           add_number(o, "tgt_tokens", (double)pairs->tgt.id_at[n]) &&
           add_number(o, "src_longest", (double)wr_side_longest(&pairs->src, n)) &&
           add_number(o, "tgt_longest", (double)wr_side_longest(&pairs->tgt, n)) &&
           add_report(o, &info->filter, &info->report);
}

static bool fill_json(cJSON *o, const wr_dataset_info *info, const wr_subword *src,
                      const wr_subword *tgt, const wr_pairs *const split[WR_SPLITS]) {
    bool joint = src == tgt;
    bool done =
        add_text(o, "format", WR__DATASET_FORMAT) && add_number(o, "version", FORMAT_VERSION) &&
        add_text(o, "src_lang", info->src_lang) && add_text(o, "tgt_lang", info->tgt_lang) &&
        add_text(o, "subword", kind_name(info->kind)) && add_bool(o, "joint", joint) &&
        add_bool(o, "lowercase", info->lowercase) &&
        add_number(o, "src_vocab", wr_subword_vocab(src)) &&
        add_number(o, "tgt_vocab", wr_subword_vocab(tgt)) &&
        add_number(o, "max_len", (double)info->max_len);
    cJSON *models = done ? cJSON_AddObjectToObject(o, "models") : NULL;
    done = models != NULL && add_model(models, joint ? WR__JOINT_MODEL : WR__SRC_MODEL, src) &&
           (joint || add_model(models, WR__TGT_MODEL, tgt));
    cJSON *splits = done ? cJSON_AddObjectToObject(o, "splits") : NULL;
    done = splits != NULL;
    for (int i = 0; i < WR_SPLITS && done; i++)
        if (split[i] != NULL)
            done = add_split(splits, wr_split_name((wr_split)i), &info->split[i], split[i]);
    return done;
}

static wr_status write_json(const char *dir, const wr_dataset_info *info, const wr_subword *src,
                            const wr_subword *tgt, const wr_pairs *const split[WR_SPLITS],
                            wr_error *err) {
    cJSON *o = cJSON_CreateObject();
    char *text = o != NULL && fill_json(o, info, src, tgt, split) ? cJSON_Print(o) : NULL;
    char *path = join(dir, WR__DATASET_JSON);
    wr_status status = text == NULL || path == NULL
                           ? wr_fail_memory(err, WR__DATASET_JSON, 0)
                           : wr_file_replace(path, text, strlen(text), err);
    free(path);
    cJSON_free(text);
    cJSON_Delete(o);
    return status;
}

static wr_status write_model(const char *dir, const char *name, const wr_subword *model,
                             wr_error *err) {
    size_t n;
    const void *bytes = wr_subword_bytes(model, &n);
    char *path = join(dir, name);
    wr_status status =
        path == NULL ? wr_fail_memory(err, name, n) : wr_file_replace(path, bytes, n, err);
    free(path);
    return status;
}

static wr_status write_split(const char *dir, wr_split split, const wr_pairs *pairs, int src_vocab,
                             int tgt_vocab, wr_error *err) {
    char *path = join(dir, wr__split_file(split));
    wr_status status = path == NULL ? wr_fail_memory(err, "a path", strlen(dir))
                                    : wr_pairs_write(path, pairs, src_vocab, tgt_vocab, err);
    free(path);
    return status;
}

/* All files into the directory `dir`; dataset.json last. */
static wr_status write_files(const char *dir, const wr_dataset_info *info, const wr_subword *src,
                             const wr_subword *tgt, const wr_pairs *const split[WR_SPLITS],
                             wr_error *err) {
    bool joint = src == tgt;
    wr_status status = write_model(dir, joint ? WR__JOINT_MODEL : WR__SRC_MODEL, src, err);
    if (status == WR_OK && !joint) status = write_model(dir, WR__TGT_MODEL, tgt, err);
    for (int i = 0; i < WR_SPLITS && status == WR_OK; i++)
        if (split[i] != NULL)
            status = write_split(dir, (wr_split)i, split[i], wr_subword_vocab(src),
                                 wr_subword_vocab(tgt), err);
    return status != WR_OK ? status : write_json(dir, info, src, tgt, split, err);
}

wr_status wr_dataset_write(const char *dir, const wr_dataset_info *info,
                           const wr_subword *src_model, const wr_subword *tgt_model,
                           const wr_pairs *const split[WR_SPLITS], wr_error *err) {
    WR_ASSERT(split[WR_TRAIN] != NULL && split[WR_VALID] != NULL);
    wr__dir_swap swap;
    wr_status status = wr__dir_swap_begin(&swap, dir, err);
    if (status != WR_OK) return status;
    status = write_files(swap.partial, info, src_model, tgt_model, split, err);
    if (status == WR_OK) return wr__dir_swap_commit(&swap, err);
    wr__dir_swap_abandon(&swap);
    return status;
}

/* ---- opening: dataset.json ---- */

static wr_status bad_json(const char *dir, const char *what, wr_error *err) {
    return wr_fail(err, WR_ERR_INPUT,
                   "%s/" WR__DATASET_JSON ": %s; was it edited or damaged? Make the dataset again "
                   "with `weir prepare`",
                   dir, what);
}

/* A whole number from low to high. */
static bool get_number(const cJSON *o, const char *name, double low, double high, double *out) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(o, name);
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= low && item->valuedouble <= high) ||
        floor(item->valuedouble) != item->valuedouble)
        return false;
    *out = item->valuedouble;
    return true;
}

static bool get_size(const cJSON *o, const char *name, size_t *out) {
    double x;
    if (!get_number(o, name, 0, 9007199254740992.0, &x)) return false;
    *out = (size_t)x;
    return true;
}

static bool get_int(const cJSON *o, const char *name, int low, int *out) {
    double x;
    if (!get_number(o, name, low, INT_MAX, &x)) return false;
    *out = (int)x;
    return true;
}

static bool get_text(const cJSON *o, const char *name, const char **out) {
    *out = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, name));
    return *out != NULL;
}

static bool get_bool(const cJSON *o, const char *name, bool *out) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(o, name);
    *out = cJSON_IsTrue(item);
    return cJSON_IsBool(item);
}

static bool get_real(const cJSON *o, const char *name, double *out) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(o, name);
    if (!cJSON_IsNumber(item)) return false;
    *out = item->valuedouble;
    return true;
}

static bool read_split_info(const cJSON *o, wr_split_info *s) {
    const cJSON *filter = cJSON_GetObjectItemCaseSensitive(o, "filter");
    const cJSON *dropped = cJSON_GetObjectItemCaseSensitive(o, "dropped");
    return get_text(o, "src_file", &s->src_file) && get_text(o, "tgt_file", &s->tgt_file) &&
           get_size(o, "lines", &s->report.lines) && get_size(o, "pairs", &s->report.kept) &&
           get_bool(filter, "empty", &s->filter.empty) &&
           get_size(filter, "max_len", &s->filter.max_len) &&
           get_real(filter, "max_ratio", &s->filter.max_ratio) &&
           get_bool(filter, "duplicates", &s->filter.duplicates) &&
           get_size(dropped, "duplicate", &s->report.duplicate) &&
           get_size(dropped, "empty", &s->report.empty) &&
           get_size(dropped, "too_long", &s->report.too_long) &&
           get_size(dropped, "ratio", &s->report.ratio);
}

static const cJSON *split_object(const wr_dataset *d, int split) {
    const cJSON *splits = cJSON_GetObjectItemCaseSensitive(d->json, "splits");
    return cJSON_GetObjectItemCaseSensitive(splits, wr_split_name((wr_split)split));
}

static wr_status read_info(wr_dataset *d, const char *dir, wr_error *err) {
    const char *text;
    int version;
    wr_dataset_info *info = &d->info;
    if (!get_text(d->json, "format", &text) || strcmp(text, WR__DATASET_FORMAT) != 0)
        return bad_json(dir, "\"format\" is not \"" WR__DATASET_FORMAT "\"", err);
    if (!get_int(d->json, "version", 0, &version) || version != FORMAT_VERSION)
        return bad_json(dir, "\"version\" is not one that this program reads (1)", err);
    if (!get_text(d->json, "src_lang", &info->src_lang) ||
        !get_text(d->json, "tgt_lang", &info->tgt_lang) ||
        !get_bool(d->json, "joint", &info->joint) ||
        !get_bool(d->json, "lowercase", &info->lowercase) ||
        !get_int(d->json, "src_vocab", WR_SPECIAL_IDS, &info->src_vocab) ||
        !get_int(d->json, "tgt_vocab", WR_SPECIAL_IDS, &info->tgt_vocab) ||
        !get_size(d->json, "max_len", &info->max_len))
        return bad_json(dir,
                        "one of src_lang, tgt_lang, joint, lowercase, src_vocab, tgt_vocab, "
                        "max_len is missing or has an impossible value",
                        err);
    if (!get_text(d->json, "subword", &text) ||
        (strcmp(text, "bpe") != 0 && strcmp(text, "unigram") != 0))
        return bad_json(dir, "\"subword\" must be \"bpe\" or \"unigram\"", err);
    info->kind = strcmp(text, "bpe") == 0 ? WR_SUBWORD_BPE : WR_SUBWORD_UNIGRAM;
    for (int i = 0; i < WR_SPLITS; i++)
        if (split_object(d, i) != NULL && !read_split_info(split_object(d, i), &info->split[i]))
            return bad_json(dir, "a split lacks a member or one has an impossible value", err);
    if (split_object(d, WR_TRAIN) == NULL || split_object(d, WR_VALID) == NULL)
        return bad_json(dir, "the split train or valid is missing", err);
    return WR_OK;
}

static wr_status read_json(wr_dataset *d, const char *dir, wr_error *err) {
    char *path = join(dir, WR__DATASET_JSON), *text;
    size_t n;
    if (path == NULL) return wr_fail_memory(err, "a path", strlen(dir));
    wr_status status = wr_file_read(path, &text, &n, err);
    free(path);
    if (status != WR_OK) return status;
    d->json = cJSON_ParseWithLength(text, n);
    free(text);
    return d->json != NULL ? WR_OK : bad_json(dir, "it is not JSON", err);
}

/* ---- opening: models and splits ---- */

static wr_status check_model(const wr_dataset *d, const char *name, const char *path,
                             const char *bytes, size_t n, wr_error *err) {
    const cJSON *models = cJSON_GetObjectItemCaseSensitive(d->json, "models");
    const cJSON *o = cJSON_GetObjectItemCaseSensitive(models, name);
    double crc;
    if (get_number(o, "crc32", 0, UINT32_MAX, &crc) && (uint32_t)crc == checksum(bytes, n))
        return WR_OK;
    return wr_fail(err, WR_ERR_INPUT,
                   "%s: not the model this dataset was encoded with (wrong check sum); make the "
                   "dataset again with `weir prepare`",
                   path);
}

static wr_status open_model(const wr_dataset *d, const char *dir, const char *name, int vocab,
                            wr_subword **out, wr_error *err) {
    char *path = join(dir, name), *bytes = NULL;
    size_t n;
    if (path == NULL) return wr_fail_memory(err, "a path", strlen(dir));
    wr_status status = wr_file_read(path, &bytes, &n, err);
    if (status == WR_OK) status = check_model(d, name, path, bytes, n, err);
    if (status == WR_OK) status = wr_subword_load_memory(bytes, n, path, out, err);
    if (status == WR_OK && wr_subword_vocab(*out) != vocab)
        status = wr_fail(err, WR_ERR_INPUT, "%s: has %d pieces, dataset.json says %d", path,
                         wr_subword_vocab(*out), vocab);
    free(bytes);
    free(path);
    return status;
}

static wr_status open_models(wr_dataset *d, const char *dir, wr_error *err) {
    const wr_dataset_info *info = &d->info;
    wr_status status = open_model(d, dir, info->joint ? WR__JOINT_MODEL : WR__SRC_MODEL,
                                  info->src_vocab, &d->src_model, err);
    if (status != WR_OK) return status;
    if (!info->joint) return open_model(d, dir, WR__TGT_MODEL, info->tgt_vocab, &d->tgt_model, err);
    d->tgt_model = d->src_model;
    return info->src_vocab == info->tgt_vocab
               ? WR_OK
               : bad_json(dir, "joint, but src_vocab and tgt_vocab differ", err);
}

static wr_status open_split(wr_dataset *d, const char *dir, wr_split split, wr_error *err) {
    char *path = join(dir, wr__split_file(split));
    if (path == NULL) return wr_fail_memory(err, "a path", strlen(dir));
    wr_pairs_file *file = &d->split[split];
    wr_status status = wr_pairs_open(path, file, err);
    if (status == WR_OK &&
        (file->src_vocab != d->info.src_vocab || file->tgt_vocab != d->info.tgt_vocab ||
         file->pairs.n != d->info.split[split].report.kept))
        status = wr_fail(err, WR_ERR_INPUT,
                         "%s: %zu pairs with vocabularies of %d and %d; dataset.json says %zu, %d "
                         "and %d: it belongs to another dataset; make it again with `weir prepare`",
                         path, file->pairs.n, file->src_vocab, file->tgt_vocab,
                         d->info.split[split].report.kept, d->info.src_vocab, d->info.tgt_vocab);
    free(path);
    return status;
}

static wr_status open_all(wr_dataset *d, const char *dir, wr_error *err) {
    wr_status status = read_json(d, dir, err);
    if (status == WR_OK) status = read_info(d, dir, err);
    if (status == WR_OK) status = open_models(d, dir, err);
    for (int i = 0; i < WR_SPLITS && status == WR_OK; i++)
        if (split_object(d, i) != NULL) status = open_split(d, dir, (wr_split)i, err);
    return status;
}

wr_status wr_dataset_open(const char *dir, wr_dataset **out, wr_error *err) {
    *out = NULL;
    wr_dataset *d = calloc(1, sizeof *d);
    if (d == NULL) return wr_fail_memory(err, "a dataset", sizeof *d);
    wr_status status = open_all(d, dir, err);
    if (status == WR_OK) {
        *out = d;
    } else {
        wr_dataset_free(d);
    }
    return status;
}

void wr_dataset_free(wr_dataset *data) {
    if (data == NULL) return;
    for (int i = 0; i < WR_SPLITS; i++)
        wr_pairs_close(&data->split[i]);
    if (data->tgt_model != data->src_model) wr_subword_free(data->tgt_model);
    wr_subword_free(data->src_model);
    cJSON_Delete(data->json);
    free(data);
}

const wr_dataset_info *wr_dataset_info_of(const wr_dataset *data) { return &data->info; }

const wr_subword *wr_dataset_src_model(const wr_dataset *data) { return data->src_model; }

const wr_subword *wr_dataset_tgt_model(const wr_dataset *data) { return data->tgt_model; }

const wr_pairs *wr_dataset_pairs(const wr_dataset *data, wr_split split) {
    return data->split[split].map == NULL ? NULL : &data->split[split].pairs;
}
