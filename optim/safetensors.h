/* safetensors.h: named tensors in a file (https://github.com/huggingface/safetensors).
 *
 * A file is: the header's length (8 bytes, little endian), a JSON header that gives each tensor's
 * dtype, shape and place, and texts under "__metadata__"; then the tensors' bytes without gaps.
 * Nothing in a file is believed: whatever is wrong is one error that names the file. Dtypes here
 * are F32, F64 and I32. */
#ifndef WEIR_OPTIM_SAFETENSORS_H
#define WEIR_OPTIM_SAFETENSORS_H

#include "graph/graph.h"

typedef struct wr_safetensor {
    const char *name;
    wr_dtype dtype;
    int rank;
    int64_t dim[WR_MAX_RANK];
    size_t bytes;    /* set by opening */
    uint64_t offset; /* set by opening: of its first byte in the file */
} wr_safetensor;

typedef struct wr_safetensors_meta {
    const char *key, *value;
} wr_safetensors_meta;

/* ---- reading ---- */

/* An open file; its header is checked and in memory, tensors are read one by one. */
typedef struct wr_safetensors {
    char *path;
    int fd;
    int n, n_meta;
    wr_safetensor *tensor; /* in the header's order */
    wr_safetensors_meta *meta;
} wr_safetensors;

/* Errors: WR_ERR_IO; WR_ERR_INPUT for a file that is short, long, no safetensors file, has a header
 * above 4 MiB, not JSON or nested; unknown dtypes, more than WR_MAX_RANK axes, sizes that are no
 * whole numbers or contradict the bytes, tensors that overlap or leave gaps, doubled names; memory.
 * `*file` needs wr_safetensors_close() only after success. */
wr_status wr_safetensors_open(const char *path, wr_safetensors *file, wr_error *err);
void wr_safetensors_close(wr_safetensors *file);

/* Copy the `bytes` of tensor `index` to `to`. */
wr_status wr_safetensors_read(const wr_safetensors *file, int index, void *to, wr_error *err);
int wr_safetensors_find(const wr_safetensors *file, const char *name);           /* -1: none */
const char *wr_safetensors_meta_of(const wr_safetensors *file, const char *key); /* NULL: none */

/* ---- writing ---- */

/* Gives the bytes of tensor `index` (as numbered by the caller). */
typedef wr_status (*wr_safetensors_source)(void *user, int index, void *to, wr_error *err);

/* Write a file, whole or not at all (wr_replace_begin): a kill at any moment leaves the old one or
 * the new one. Each tensor begins at a multiple of its element size; doubles come first. Errors: a
 * name that is doubled or "__metadata__", `source`'s own, WR_ERR_IO, memory. */
wr_status wr_safetensors_write(const char *path, int n, const wr_safetensor *tensor, int n_meta,
                               const wr_safetensors_meta *meta, wr_safetensors_source source,
                               void *user, wr_error *err);

/* Of one dtype and shape? */
bool wr_safetensor_alike(const wr_safetensor *a, const wr_safetensor *b);
/* "f32 [3, 4]" */
void wr_safetensor_describe(const wr_safetensor *t, wr_str *out);

#endif
