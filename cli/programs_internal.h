/* programs_internal.h: what the families' parts of programs.c share. */
#ifndef WEIR_CLI_PROGRAMS_INTERNAL_H
#define WEIR_CLI_PROGRAMS_INTERNAL_H

#include "cli/programs.h"
#include "ops/fuse.h"
#include "optim/optimizer.h"

/* Compile a training program for the terms (terms[0] is the loss) of a graph. */
wr_status wr__compile_training(const wr_recipe *r, wr_graph *g, const wr_stage *stage,
                               const wr *terms, wr_optimizer_part part, wr_program **p,
                               wr_error *err);

/* programs_flowseq.c */
wr_status wr__flowseq_programs(const wr_recipe *r, int src_vocab, int tgt_vocab, wr_programs *p,
                               wr_error *err);

/* programs_nat.c */
wr_status wr__nat_programs(const wr_recipe *r, int src_vocab, int tgt_vocab, wr_programs *p,
                           wr_error *err);
wr_status wr__nat_valid_program(const wr_recipe *r, int src_vocab, int tgt_vocab, wr_programs *p,
                                wr_error *err);

#endif
