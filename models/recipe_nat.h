/* recipe_nat.h: the non-autoregressive model and the objective that a recipe describes. */
#ifndef WEIR_RECIPE_NAT_H
#define WEIR_RECIPE_NAT_H

#include "models/nat_decoder.h"
#include "models/nat_loss.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The model with vocabularies of these sizes, in f32; `training` turns dropout on. Errors:
 * WR_ERR_INPUT for joint embeddings with two sizes, for another model.type. */
wr_status wr_recipe_nat_model(const wr_recipe *r, int src_vocab, int tgt_vocab, bool training,
                              wr_nat *n, wr_error *err);

/* The objective with the recipe's options; one of its options is the key `objective.` of the same
 * name. Errors: WR_ERR_INPUT for options that do not go together. */
wr_status wr_recipe_objective_of(const wr_recipe *r, wr_objective_config *c, wr_error *err);

/* The same with what the decoder is given and the length's weight. */
wr_status wr_recipe_nat_training(const wr_recipe *r, wr_nat_training *t, wr_error *err);

/* How section `decode` says that the model translates. */
wr_nat_search_options wr_recipe_nat_search(const wr_recipe *r);

/* nat.length, objective.glancing and decode.method with `auto` resolved. */
wr_recipe_length wr_recipe_length_of(const wr_recipe *r);
wr_recipe_glancing wr_recipe_glancing_of(const wr_recipe *r);
wr_recipe_decode_method wr_recipe_method_of(const wr_recipe *r);

/* Two keys that do not go together, and why; `what` is to be freed. */
typedef struct wr_recipe_conflict {
    const char *a, *b;
    wr_str what;
} wr_recipe_conflict;

/* Does the key have an effect, the others being as they are? Of keys outside the sections `nat`,
 * `objective` and `decode`: true. False: `c` tells what it lacks. */
bool wr_recipe_nat_uses(const wr_recipe *r, const char *path, wr_recipe_conflict *c);

/* Do lengths, objective and decoding go together? */
bool wr_recipe_nat_fits(const wr_recipe *r, wr_recipe_conflict *c);

#ifdef __cplusplus
}
#endif
#endif
