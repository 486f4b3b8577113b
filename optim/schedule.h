/* schedule.h: the learning rate of each update. */
#ifndef WEIR_OPTIM_SCHEDULE_H
#define WEIR_OPTIM_SCHEDULE_H

#include "models/recipe.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The learning rate of the update before which `update` others were made (the first one: 0), with
 * W = warmup, H = horizon (0: max_updates), t = (update - W) / (H - W) in [0, 1]:
 *   update < W     lr_start + (lr - lr_start) update / W
 *   inverse_sqrt   lr sqrt(max(W, 1) / update)                      (Vaswani et al. 2017)
 *   linear         lr + (lr_end - lr) t
 *   cosine         lr_end + (lr - lr_end) (1 + cos(pi t)) / 2       (Loshchilov and Hutter 2017)
 *   exponential    lr decay^(update - W)                            (FlowSeq, Ma et al. 2019)
 *   constant       lr
 * After the warm-up it never falls below lr_end. A pure function: nothing to save or to resume. */
double wr_schedule_lr(const wr_recipe_optim *o, int64_t max_updates, int64_t update);

#ifdef __cplusplus
}
#endif
#endif
