/* ce.h: what ce, cmlm and glat share; internal. */
#ifndef WEIR_MODELS_OBJECTIVES_CE_H
#define WEIR_MODELS_OBJECTIVES_CE_H

#include "models/objectives/objective.h"

/* Position t says target t with its weight; tokens is the sum of the weights. */
double wr__ce_weigh(const wr_objective_config *c, wr_objective_sentence *s);

#endif
