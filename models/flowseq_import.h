/* flowseq_import.h: parameters of the authors' program (https://github.com/XuezheMax/flowseq) for
 * our FlowSeq: which tensor of its state dict is which parameter here.
 *
 * Its matrices are [out, in] and ours [in, out]; it has query, key and value in one matrix [3d, d],
 * which is one parameter here for self-attention and two (q, kv) for attention to something else;
 * its lengths of weight-normalised matrices are [out, 1]. The matrices of invertible linear layers
 * and of embeddings are the same here and there. */
#ifndef WEIR_FLOWSEQ_IMPORT_H
#define WEIR_FLOWSEQ_IMPORT_H

#include "graph/session.h"
#include "models/flowseq.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the map ---- */

/* One parameter of ours: the rows from `from` on of tensor `theirs`, transposed or not. */
typedef struct wr_flowseq_row {
    char *ours, *theirs;
    int rank;
    int64_t dim[2]; /* of ours */
    bool transposed;
    bool column;           /* theirs is [n, 1], ours [n] */
    int64_t from, of_rows; /* theirs has `of_rows` rows */
} wr_flowseq_row;

/* Zero-initialise; wr_flowseq_map_free() afterwards, also after an error. */
typedef struct wr_flowseq_map {
    wr_flowseq_row *row;
    size_t n, cap;
} wr_flowseq_map;

/* The map of a model. Parts of one tensor are near each other. Errors: memory;
 * WR_ERR_INPUT for a model that the authors' program cannot have: an arrangement of the prior that
 * is not theirs (any number of scales, each with position, any number of steps, and, but for the
 * last, a coupling, a factor_out, a squeeze), variants without attention. */
wr_status wr_flowseq_map_new(const wr_flowseq *f, wr_flowseq_map *map, wr_error *err);
void wr_flowseq_map_free(wr_flowseq_map *map);

/* ---- a state dict ---- */

typedef struct wr_flowseq_tensor {
    const char *name;
    wr_dtype dtype; /* f32 or f64 */
    int rank;
    int64_t dim[WR_MAX_RANK];
    const void *data; /* NULL where the state dict has `read` */
} wr_flowseq_tensor;

/* Tensors in memory, or read one by one. Two kinds of extra tensors are passed over: buffers that
 * the program computes itself (`*._float_tensor`, `*.weight_inv`), and second names of one tensor
 * (posterior.core.tgt_embed.weight of posterior.tgt_embed.weight; with shared embeddings these and
 * decoder.readout.weight of encoder.embed.weight). */
typedef struct wr_flowseq_state {
    int n;
    const wr_flowseq_tensor *tensor;
    wr_status (*read)(void *user, int index, void *to, wr_error *err); /* NULL: from `data` */
    void *user;
} wr_flowseq_state;

/* The sizes of the vocabularies: rows of encoder.embed.weight and entries of decoder.readout.bias.
 * Errors: WR_ERR_INPUT: these are missing or of no such shape. */
wr_status wr_flowseq_state_vocabs(const wr_flowseq_state *state, int *src_vocab, int *tgt_vocab,
                                  wr_error *err);

/* Give a session all parameters of the model, in f->dtype; parameters that it holds already are
 * overwritten. Names and shapes are compared both ways: what is missing, of another shape, or left
 * over is listed in one message, and nothing is changed then. Errors: WR_ERR_INPUT as above, those
 * of `read`, memory. */
wr_status wr_flowseq_import(const wr_flowseq *f, const wr_flowseq_state *state, wr_session *s,
                            wr_error *err);

#ifdef __cplusplus
}
#endif
#endif
