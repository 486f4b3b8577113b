/* nat_internal.h: what the parts of the non-autoregressive model share. Letters as in nat.h. */
#ifndef WEIR_NAT_INTERNAL_H
#define WEIR_NAT_INTERNAL_H

#include "models/layers.h"
#include "models/nat.h"
#include "models/transformer.h"

/* The Transformer whose layers and embeddings the model has. */
wr_transformer wr__nat_layers(const wr_nat *n);

/* Sinusoids for source and target: [.., D]. */
wr wr__nat_positions(const wr_nat *n, wr_graph *g);

/* scale i + shift for each i of `index` [..] i32 in [0, count): -> [..] i32. */
wr wr__nat_lookup(wr index, int count, int scale, int shift);

/* nat_inputs.c: what masked positions are told: [N, T, D]; poison when that is the mask's own
 * embedding, which then stands there already. len [N] positions of T. */
wr wr__nat_copy(const wr_nat *n, const wr_nat_encoding *e, wr len, wr_dim t);

/* nat_length.c: the classes of lengths as vectors [C, D]; row 0 is also what the encoder reads in
 * front of the source (length `token`). */
wr wr__nat_length_table(const wr_nat *n, wr_graph *g);

#endif
