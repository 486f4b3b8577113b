/* dataset.h: the dataset directory that `weir prepare` writes and training reads.
 *
 *     dataset.json      what was done, sizes and check sums of the other files
 *     joint.model       the SentencePiece model; or source.model and target.model
 *     train.pairs  valid.pairs  test.pairs (optional)
 *
 * A .pairs file is, in the byte order of the machine:
 *
 *     offset size
 *          0    8  "weirpair"
 *          8    4  0x01020304: the byte order
 *         12    4  version, 1
 *         16    4  source vocabulary, 20: target vocabulary
 *         24    8  n, number of pairs
 *         32    8  source ids, 40: target ids, 48: source text bytes, 56: target text bytes
 *         64    4  CRC-32 of everything behind the header
 *         68    4  CRC-32 of the 68 bytes before
 *         72       n+1 uint64: source id_at; the same for target id_at, source text_at, target
 *                  text_at (see wr_side); then source ids, target ids (int32), source text,
 *                  target text (each line ends in NUL)
 *
 * Nothing of it is believed without a check: sizes, sums, offsets, ids and line ends. */
#ifndef WEIR_DATA_DATASET_H
#define WEIR_DATA_DATASET_H

#include "graph/base.h"
#include "data/filter.h"
#include "data/pairs.h"
#include "data/subword.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum wr_split { WR_TRAIN, WR_VALID, WR_TEST } wr_split;
enum { WR_SPLITS = 3 };

/* "train", "valid" or "test". */
const char *wr_split_name(wr_split split);

/* Where a split came from and what was dropped. */
typedef struct wr_split_info {
    const char *src_file, *tgt_file;
    wr_filter filter;
    wr_filter_report report;
} wr_split_info;

/* What dataset.json tells. */
typedef struct wr_dataset_info {
    const char *src_lang, *tgt_lang; /* "" when not known */
    wr_subword_kind kind;
    bool joint;     /* one model and one vocabulary for both sides */
    bool lowercase; /* the models fold case: compare their output case-insensitively */
    int src_vocab, tgt_vocab;
    size_t max_len; /* of the train split, in tokens without begin and end */
    wr_split_info split[WR_SPLITS];
} wr_dataset_info;

/* Write a dataset directory. Everything goes to `dir`.partial, which then takes the place of `dir`;
 * a kill at any moment leaves the old directory or the new one. `tgt_model == src_model` makes it
 * joint. split[i] is NULL for a split that is absent; train and valid are needed. `info`:
 * languages, kind, lowercase, max_len and the split_infos are taken from it. Errors: WR_ERR_INPUT
 * when `dir` holds anything that is not of a dataset; WR_ERR_IO; WR_ERR_MEMORY. */
wr_status wr_dataset_write(const char *dir, const wr_dataset_info *info,
                           const wr_subword *src_model, const wr_subword *tgt_model,
                           const wr_pairs *const split[WR_SPLITS], wr_error *err);

/* WR_OK when wr_dataset_write() may write `dir`: absent, empty, or a dataset directory without
 * foreign files. To be asked before long work. */
wr_status wr_dataset_may_write(const char *dir, wr_error *err);

/* An opened dataset; immutable, any number of threads may read it. */
typedef struct wr_dataset wr_dataset;

/* Open a dataset directory and check all of it. Errors: WR_ERR_IO for missing files, WR_ERR_INPUT
 * for damaged ones. */
wr_status wr_dataset_open(const char *dir, wr_dataset **out, wr_error *err);
void wr_dataset_free(wr_dataset *data);

/* What dataset.json tells; alive as long as the dataset. */
const wr_dataset_info *wr_dataset_info_of(const wr_dataset *data);

/* The subword models; the same one twice when joint. Alive as long as the dataset. */
const wr_subword *wr_dataset_src_model(const wr_dataset *data);
const wr_subword *wr_dataset_tgt_model(const wr_dataset *data);

/* The pairs of a split: ids and raw text. NULL when the dataset does not have it. Alive as long as
 * the dataset. */
const wr_pairs *wr_dataset_pairs(const wr_dataset *data, wr_split split);

/* One .pairs file by itself: write pairs (both sides, with text), or open and check a file. */
wr_status wr_pairs_write(const char *path, const wr_pairs *pairs, int src_vocab, int tgt_vocab,
                         wr_error *err);
typedef struct wr_pairs_file {
    wr_pairs pairs;
    int src_vocab, tgt_vocab;
    void *map; /* the mapped file */
    size_t map_bytes;
} wr_pairs_file;
wr_status wr_pairs_open(const char *path, wr_pairs_file *out, wr_error *err);
void wr_pairs_close(wr_pairs_file *file);

#ifdef __cplusplus
}
#endif
#endif
