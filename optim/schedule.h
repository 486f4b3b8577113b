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

/* Updates of the pre-training, 0 for models without one. It makes the first updates of a run; after
 * them the main phase begins, with a schedule of its own and a fresh optimizer
 * (wr_optimizer_reset). */
int64_t wr_schedule_pretraining(const wr_recipe *r);

/* The learning rate before `update` of a run, counted from its beginning. In the pre-training, W =
 * min(pretrain_warmup, its updates), from pretrain_lr_start, H as its updates. In the main phase
 * updates are counted anew, and without `horizon` H is the number that is left for it. */
double wr_schedule_at(const wr_recipe *r, int64_t update);

/* The weight of the KL term of FlowSeq: 0 in the pre-training, then min(1, (n + 1) / kl_warmup) at
 * update n of the main phase. */
double wr_schedule_kl(const wr_recipe *r, int64_t update);

#ifdef __cplusplus
}
#endif
#endif
