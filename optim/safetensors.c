/* safetensors.c: see safetensors.h. */
#define _GNU_SOURCE
#include "optim/safetensors.h"

#include <cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "safetensors files are little endian"
#endif

enum {
    PREFIX = 8,            /* bytes of the header's length */
    HEADER_MOST = 4 << 20, /* 40,000 tensors; parsed, it takes thirty times as much at worst */
    DEPTH = 3              /* file, tensor, its shape */
};

static const char META[] = "__metadata__";

/* ORDER wr_dtype */
static const char *const DTYPES[WR_DTYPE_COUNT] = {
    [WR_F32] = "F32", [WR_F64] = "F64", [WR_I32] = "I32"};

void wr_safetensor_describe(const wr_safetensor *t, wr_str *out) {
    wr_str_add(out, "%s [", wr_dtype_name(t->dtype));
    for (int i = 0; i < t->rank; i++)
        wr_str_add(out, "%s%lld", i > 0 ? ", " : "", (long long)t->dim[i]);
    wr_str_add(out, "]");
}

bool wr_safetensor_alike(const wr_safetensor *a, const wr_safetensor *b) {
    return a->dtype == b->dtype && a->rank == b->rank &&
           memcmp(a->dim, b->dim, sizeof *a->dim * (size_t)a->rank) == 0;
}

/* False when the bytes do not fit 63 bits. */
static bool count_bytes(const wr_safetensor *t, size_t *bytes) {
    int64_t n = (int64_t)wr_dtype_bytes(t->dtype);
    for (int i = 0; i < t->rank; i++)
        if (__builtin_mul_overflow(n, t->dim[i], &n)) return false;
    *bytes = (size_t)n;
    return true;
}

/* ---- reading: bytes ---- */

static wr_status read_at(int fd, const char *path, uint64_t at, void *to, size_t n, wr_error *err) {
    char *p = to;
    while (n > 0) {
        ssize_t got = pread(fd, p, n, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return wr_fail(err, WR_ERR_IO, "%s: cannot read: %s", path, strerror(errno));
        if (got == 0)
            return wr_fail(err, WR_ERR_INPUT, "%s: became shorter while it was read", path);
        p += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return WR_OK;
}

wr_status wr_safetensors_read(const wr_safetensors *file, int index, void *to, wr_error *err) {
    const wr_safetensor *t = &file->tensor[index];
    return read_at(file->fd, file->path, t->offset, to, t->bytes, err);
}

/* ---- reading: the header ---- */

typedef struct reader {
    wr_safetensors *f;
    uint64_t data_at, data_bytes;
    wr_error *err;
} reader;

static wr_status broken(const reader *r, const char *what) {
    return wr_fail(r->err, WR_ERR_INPUT, "%s: not a usable safetensors file: %s", r->f->path, what);
}

static wr_status broken_tensor(const reader *r, const char *name, const char *what) {
    return wr_fail(r->err, WR_ERR_INPUT, "%s: not a usable safetensors file: tensor \"%.200s\": %s",
                   r->f->path, name, what);
}

/* The parser calls itself for each level and takes a byte 0 for the end: look before it does. */
static wr_status scan_header(const reader *r, const char *text, size_t n) {
    int depth = 0;
    bool quoted = false;
    if (text[0] != '{') return broken(r, "its header does not begin with {");
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '\0') return broken(r, "its header has a byte 0");
        if (quoted && text[i] == '\\' && i + 1 < n && text[i + 1] != '\0') {
            i++;
        } else if (text[i] == '"') {
            quoted = !quoted;
        } else if (!quoted && (text[i] == '{' || text[i] == '[')) {
            if (++depth > DEPTH) return broken(r, "its header is nested too deeply");
        } else if (!quoted && (text[i] == '}' || text[i] == ']')) {
            depth--;
        }
    }
    return WR_OK;
}

/* A whole number from 0 to 2^53, which a double holds exactly. */
static bool whole(const cJSON *x, int64_t *value) {
    if (!cJSON_IsNumber(x) || !(x->valuedouble >= 0 && x->valuedouble <= 0x1p53)) return false;
    *value = (int64_t)x->valuedouble;
    return (double)*value == x->valuedouble;
}

static wr_status read_dtype(const reader *r, const cJSON *x, wr_safetensor *t) {
    if (!cJSON_IsString(x)) return broken_tensor(r, t->name, "its dtype is no text");
    for (int k = 0; k < WR_DTYPE_COUNT; k++) {
        t->dtype = (wr_dtype)k;
        if (strcmp(x->valuestring, DTYPES[k]) == 0) return WR_OK;
    }
    return wr_fail(r->err, WR_ERR_INPUT,
                   "%s: tensor \"%.200s\" has dtype %.20s; allowed are F32, F64 and I32",
                   r->f->path, t->name, x->valuestring);
}

static wr_status read_shape(const reader *r, const cJSON *x, wr_safetensor *t) {
    if (!cJSON_IsArray(x)) return broken_tensor(r, t->name, "its shape is no list");
    const cJSON *size;
    cJSON_ArrayForEach(size, x) {
        if (t->rank == WR_MAX_RANK)
            return wr_fail(r->err, WR_ERR_INPUT,
                           "%s: tensor \"%.200s\" has more than %d axes, the most there can be",
                           r->f->path, t->name, WR_MAX_RANK);
        if (!whole(size, &t->dim[t->rank++]))
            return broken_tensor(r, t->name, "a size of its shape is no whole number");
    }
    return WR_OK;
}

static wr_status read_place(const reader *r, const cJSON *x, wr_safetensor *t) {
    int64_t from, to;
    if (!cJSON_IsArray(x) || cJSON_GetArraySize(x) != 2 || !whole(x->child, &from) ||
        !whole(x->child->next, &to))
        return broken_tensor(r, t->name, "its data_offsets are not two whole numbers");
    if (from > to || (uint64_t)to > r->data_bytes)
        return broken_tensor(r, t->name,
                             "its data_offsets lie outside of the file (is it cut "
                             "off?)");
    if (!count_bytes(t, &t->bytes) || t->bytes != (size_t)(to - from))
        return broken_tensor(r, t->name, "its data_offsets do not fit its shape and dtype");
    t->offset = r->data_at + (uint64_t)from;
    return WR_OK;
}

static wr_status read_tensor(const reader *r, const cJSON *x, wr_safetensor *t) {
    t->name = wr_strdup(x->string);
    if (t->name == NULL) return wr_fail_memory(r->err, r->f->path, strlen(x->string));
    if (!cJSON_IsObject(x) || cJSON_GetArraySize(x) != 3)
        return broken_tensor(r, t->name, "it has not just dtype, shape and data_offsets");
    wr_status status = read_dtype(r, cJSON_GetObjectItemCaseSensitive(x, "dtype"), t);
    if (status == WR_OK) status = read_shape(r, cJSON_GetObjectItemCaseSensitive(x, "shape"), t);
    if (status == WR_OK)
        status = read_place(r, cJSON_GetObjectItemCaseSensitive(x, "data_offsets"), t);
    return status;
}

static wr_status read_meta(const reader *r, const cJSON *x) {
    wr_safetensors *f = r->f;
    if (!cJSON_IsObject(x)) return broken(r, "its __metadata__ is no object");
    if (f->meta != NULL) return broken(r, "it has two __metadata__");
    f->meta = calloc((size_t)cJSON_GetArraySize(x) + 1, sizeof *f->meta);
    if (f->meta == NULL) return wr_fail_memory(r->err, f->path, sizeof *f->meta);
    const cJSON *item;
    cJSON_ArrayForEach(item, x) {
        if (!cJSON_IsString(item)) return broken(r, "a value of its __metadata__ is no text");
        wr_safetensors_meta *m = &f->meta[f->n_meta++];
        m->key = wr_strdup(item->string);
        m->value = wr_strdup(item->valuestring);
        if (m->key == NULL || m->value == NULL) return wr_fail_memory(r->err, f->path, 0);
    }
    return WR_OK;
}

static wr_status read_items(const reader *r, const cJSON *header) {
    wr_safetensors *f = r->f;
    if (!cJSON_IsObject(header)) return broken(r, "its header is no JSON object");
    size_t most = (size_t)cJSON_GetArraySize(header) + 1;
    f->tensor = calloc(most, sizeof *f->tensor);
    if (f->tensor == NULL) return wr_fail_memory(r->err, f->path, most * sizeof *f->tensor);
    const cJSON *item;
    cJSON_ArrayForEach(item, header) {
        wr_status status = strcmp(item->string, META) == 0
                               ? read_meta(r, item)
                               : read_tensor(r, item, &f->tensor[f->n++]);
        if (status != WR_OK) return status;
    }
    return WR_OK;
}

/* ---- reading: all tensors together ---- */

static int by_name(const void *a, const void *b) {
    const wr_safetensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static int by_place(const void *a, const void *b) {
    const wr_safetensor *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

/* A copy in another order, NULL when memory is out. */
static wr_safetensor *sorted(int n, const wr_safetensor *tensor,
                             int (*order)(const void *, const void *)) {
    wr_safetensor *list = malloc(sizeof *list * ((size_t)n + 1));
    if (list == NULL) return NULL;
    if (n > 0) memcpy(list, tensor, sizeof *list * (size_t)n);
    qsort(list, (size_t)n, sizeof *list, order);
    return list;
}

/* The name that two tensors have, NULL: none. False when memory is out. */
static bool doubled_name(int n, const wr_safetensor *tensor, const char **name) {
    wr_safetensor *list = sorted(n, tensor, by_name);
    *name = NULL;
    if (list == NULL) return false;
    for (int k = 1; k < n; k++)
        if (strcmp(list[k - 1].name, list[k].name) == 0) *name = list[k].name;
    free(list);
    return true;
}

/* The tensors' bytes follow each other from the header to the end of the file. */
static wr_status check_places(const reader *r) {
    wr_safetensor *list = sorted(r->f->n, r->f->tensor, by_place);
    if (list == NULL) return wr_fail_memory(r->err, r->f->path, 0);
    uint64_t at = r->data_at;
    wr_status status = WR_OK;
    for (int k = 0; status == WR_OK && k < r->f->n; k++) {
        if (list[k].offset < at)
            status = broken_tensor(r, list[k].name, "it overlaps another tensor");
        else if (list[k].offset > at)
            status = broken_tensor(r, list[k].name, "there is a gap before its bytes");
        at += list[k].bytes;
    }
    free(list);
    if (status == WR_OK && at != r->data_at + r->data_bytes)
        status = broken(r, "there are bytes behind its last tensor");
    return status;
}

static wr_status check_all(const reader *r) {
    const char *twice;
    if (!doubled_name(r->f->n, r->f->tensor, &twice)) return wr_fail_memory(r->err, r->f->path, 0);
    if (twice != NULL) return broken_tensor(r, twice, "two tensors have this name");
    return check_places(r);
}

static wr_status parse_header(const reader *r, const char *text, size_t n) {
    wr_status status = scan_header(r, text, n);
    if (status != WR_OK) return status;
    const char *end = text;
    cJSON *header = cJSON_ParseWithLengthOpts(text, n + 1, &end, false);
    if (header == NULL) return broken(r, "its header is not JSON");
    if (strspn(end, " \t\r\n") != (size_t)(text + n - end))
        status = broken(r, "there is text behind the JSON of its header");
    if (status == WR_OK) status = read_items(r, header);
    cJSON_Delete(header);
    return status == WR_OK ? check_all(r) : status;
}

static wr_status read_header(wr_safetensors *f, uint64_t size, wr_error *err) {
    reader r = {.f = f, .err = err};
    uint64_t n = 0;
    if (size < PREFIX + 2) return broken(&r, "it is too short (is it cut off?)");
    wr_status status = read_at(f->fd, f->path, 0, &n, PREFIX, err);
    if (status != WR_OK) return status;
    if (n < 2 || n > HEADER_MOST || n > size - PREFIX)
        return wr_fail(err, WR_ERR_INPUT,
                       "%s: not a usable safetensors file: it says that its header has %llu bytes; "
                       "the file has %llu, and a header has at most %d (is it cut off, or another "
                       "kind of file?)",
                       f->path, (unsigned long long)n, (unsigned long long)size, HEADER_MOST);
    r.data_at = PREFIX + n;
    r.data_bytes = size - r.data_at;
    char *text = malloc((size_t)n + 1);
    if (text == NULL) return wr_fail_memory(err, f->path, (size_t)n);
    status = read_at(f->fd, f->path, PREFIX, text, (size_t)n, err);
    text[n] = '\0';
    if (status == WR_OK) status = parse_header(&r, text, (size_t)n);
    free(text);
    return status;
}

wr_status wr_safetensors_open(const char *path, wr_safetensors *file, wr_error *err) {
    *file = (wr_safetensors){.fd = -1, .path = wr_strdup(path)};
    if (file->path == NULL) return wr_fail_memory(err, path, strlen(path));
    struct stat st;
    wr_status status = WR_OK;
    file->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* no wait for a pipe's writer */
    if (file->fd < 0 || fstat(file->fd, &st) != 0)
        status = wr_fail(err, WR_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        status = wr_fail(err, WR_ERR_INPUT, "%s: not a file (a folder or a device)", path);
    else
        status = read_header(file, (uint64_t)st.st_size, err);
    if (status != WR_OK) wr_safetensors_close(file);
    return status;
}

/* Texts of a closed file were ours. */
static void release(const char *text) { free((void *)(uintptr_t)text); }

void wr_safetensors_close(wr_safetensors *file) {
    for (int k = 0; k < file->n; k++)
        release(file->tensor[k].name);
    for (int k = 0; k < file->n_meta; k++) {
        release(file->meta[k].key);
        release(file->meta[k].value);
    }
    free(file->tensor);
    free(file->meta);
    free(file->path);
    if (file->fd >= 0) close(file->fd);
    *file = (wr_safetensors){.fd = -1};
}

int wr_safetensors_find(const wr_safetensors *file, const char *name) {
    for (int k = 0; k < file->n; k++)
        if (strcmp(file->tensor[k].name, name) == 0) return k;
    return -1;
}

const char *wr_safetensors_meta_of(const wr_safetensors *file, const char *key) {
    for (int k = 0; k < file->n_meta; k++)
        if (strcmp(file->meta[k].key, key) == 0) return file->meta[k].value;
    return NULL;
}

/* ---- writing ---- */

/* The order in the file: larger elements first, so that each tensor is aligned without gaps. */
static void file_order(int n, const wr_safetensor *t, int *order) {
    int at = 0;
    for (int wide = 1; wide >= 0; wide--)
        for (int k = 0; k < n; k++)
            if ((wr_dtype_bytes(t[k].dtype) == 8) == (wide == 1)) order[at++] = k;
}

static bool add_tensor(cJSON *header, const wr_safetensor *t, uint64_t *at) {
    size_t bytes;
    double place[2] = {(double)*at}, shape[WR_MAX_RANK];
    if (!count_bytes(t, &bytes)) return false;
    *at += bytes;
    place[1] = (double)*at;
    for (int i = 0; i < t->rank; i++)
        shape[i] = (double)t->dim[i];
    cJSON *x = cJSON_AddObjectToObject(header, t->name);
    cJSON *offsets = cJSON_CreateDoubleArray(place, 2);
    cJSON *sizes = t->rank > 0 ? cJSON_CreateDoubleArray(shape, t->rank) : cJSON_CreateArray();
    bool ok = x != NULL && cJSON_AddStringToObject(x, "dtype", DTYPES[t->dtype]) != NULL;
    if (!ok || !cJSON_AddItemToObject(x, "shape", sizes)) {
        cJSON_Delete(sizes);
        ok = false;
    }
    if (!ok || !cJSON_AddItemToObject(x, "data_offsets", offsets)) {
        cJSON_Delete(offsets);
        ok = false;
    }
    return ok;
}

/* The header as text, NULL when memory is out. */
static char *print_header(int n, const wr_safetensor *t, const int *order, int n_meta,
                          const wr_safetensors_meta *meta) {
    cJSON *header = cJSON_CreateObject();
    bool ok = header != NULL;
    if (ok && n_meta > 0) {
        cJSON *texts = cJSON_AddObjectToObject(header, META);
        for (int k = 0; k < n_meta; k++)
            ok = ok && cJSON_AddStringToObject(texts, meta[k].key, meta[k].value) != NULL;
    }
    uint64_t at = 0;
    for (int k = 0; ok && k < n; k++)
        ok = add_tensor(header, &t[order[k]], &at);
    char *text = ok ? cJSON_PrintUnformatted(header) : NULL;
    cJSON_Delete(header);
    return text;
}

/* The header's length and text, padded with blanks so that tensors begin at a multiple of 8. */
static wr_status write_header(wr_replace *file, const char *text, wr_error *err) {
    static const char BLANKS[8] = "       ";
    size_t n = strlen(text), blanks = (8 - n % 8) % 8;
    uint64_t length = n + blanks;
    if (length > HEADER_MOST)
        return wr_fail(err, WR_ERR_INPUT, "%s: its header would have %llu bytes; at most %d",
                       file->path, (unsigned long long)length, HEADER_MOST);
    wr_status status = wr_replace_write(file, &length, PREFIX, err);
    if (status == WR_OK) status = wr_replace_write(file, text, n, err);
    if (status == WR_OK) status = wr_replace_write(file, BLANKS, blanks, err);
    return status;
}

static wr_status write_tensors(wr_replace *file, int n, const wr_safetensor *t, const int *order,
                               wr_safetensors_source source, void *user, wr_error *err) {
    size_t bytes = 0, most = 1;
    for (int k = 0; k < n; k++)
        if (count_bytes(&t[k], &bytes) && bytes > most) most = bytes;
    char *buffer = malloc(most);
    if (buffer == NULL) return wr_fail_memory(err, file->path, most);
    wr_status status = WR_OK;
    for (int k = 0; status == WR_OK && k < n; k++) {
        count_bytes(&t[order[k]], &bytes);
        status = source(user, order[k], buffer, err);
        if (status == WR_OK) status = wr_replace_write(file, buffer, bytes, err);
    }
    free(buffer);
    return status;
}

static wr_status check_names(const char *path, int n, const wr_safetensor *t, wr_error *err) {
    const char *twice;
    if (!doubled_name(n, t, &twice)) return wr_fail_memory(err, path, 0);
    if (twice != NULL)
        return wr_fail(err, WR_ERR_INPUT, "%s: two tensors are named \"%.200s\"", path, twice);
    for (int k = 0; k < n; k++)
        if (strcmp(t[k].name, META) == 0)
            return wr_fail(err, WR_ERR_INPUT, "%s: a tensor may not be named %s", path, META);
    return WR_OK;
}

wr_status wr_safetensors_write(const char *path, int n, const wr_safetensor *tensor, int n_meta,
                               const wr_safetensors_meta *meta, wr_safetensors_source source,
                               void *user, wr_error *err) {
    wr_status status = check_names(path, n, tensor, err);
    if (status != WR_OK) return status;
    int *order = calloc((size_t)n + 1, sizeof *order);
    if (order == NULL) return wr_fail_memory(err, path, sizeof *order * (size_t)n);
    file_order(n, tensor, order);
    char *text = print_header(n, tensor, order, n_meta, meta);
    wr_replace file = {.fd = -1};
    status = text == NULL ? wr_fail_memory(err, path, 0) : wr_replace_begin(&file, path, err);
    if (status == WR_OK) {
        status = write_header(&file, text, err);
        if (status == WR_OK) status = write_tensors(&file, n, tensor, order, source, user, err);
        if (status == WR_OK)
            status = wr_replace_commit(&file, err);
        else
            wr_replace_abandon(&file);
    }
    cJSON_free(text);
    free(order);
    return status;
}
