/* schedule.c: see schedule.h. */
#include "optim/schedule.h"

#include <math.h>

static const double PI = 3.141592653589793238;

/* How far from the end of the warm-up to the horizon, in [0, 1]. */
static double way(const wr_recipe_optim *o, int64_t max_updates, int64_t update) {
    int64_t horizon = o->horizon > 0 ? o->horizon : max_updates;
    if (update >= horizon) return 1; /* also when the warm-up ends behind the horizon */
    return (double)(update - o->warmup) / (double)(horizon - o->warmup);
}

static double inverse_sqrt(const wr_recipe_optim *o, int64_t update) {
    int64_t warmup = o->warmup > 0 ? o->warmup : 1;
    return update <= warmup ? o->lr : o->lr * sqrt((double)warmup / (double)update);
}

static double after_warmup(const wr_recipe_optim *o, int64_t max_updates, int64_t update) {
    switch (o->schedule) {
    case WR_RECIPE_INVERSE_SQRT:
        return inverse_sqrt(o, update);
    case WR_RECIPE_LINEAR:
        return o->lr + (o->lr_end - o->lr) * way(o, max_updates, update);
    case WR_RECIPE_COSINE:
        return o->lr_end + (o->lr - o->lr_end) * 0.5 * (1 + cos(PI * way(o, max_updates, update)));
    case WR_RECIPE_EXPONENTIAL:
        return o->lr * pow(o->decay, (double)(update - o->warmup));
    case WR_RECIPE_CONSTANT:
        break;
    }
    return o->lr;
}

double wr_schedule_lr(const wr_recipe_optim *o, int64_t max_updates, int64_t update) {
    if (update < o->warmup)
        return o->lr_start + (o->lr - o->lr_start) * (double)update / (double)o->warmup;
    double lr = after_warmup(o, max_updates, update);
    return lr > o->lr_end ? lr : o->lr_end;
}

int64_t wr_schedule_pretraining(const wr_recipe *r) {
    return r->model.type == WR_RECIPE_FLOWSEQ ? r->train.pretrain_updates : 0;
}

static double pretraining_lr(const wr_recipe *r, int64_t update) {
    wr_recipe_optim o = r->optim;
    int updates = r->train.pretrain_updates;
    o.warmup = o.pretrain_warmup < updates ? o.pretrain_warmup : updates;
    o.lr_start = o.pretrain_lr_start;
    o.horizon = updates;
    return wr_schedule_lr(&o, updates, update);
}

double wr_schedule_at(const wr_recipe *r, int64_t update) {
    int64_t before = wr_schedule_pretraining(r);
    if (update < before) return pretraining_lr(r, update);
    return wr_schedule_lr(&r->optim, r->train.max_updates - before, update - before);
}

double wr_schedule_kl(const wr_recipe *r, int64_t update) {
    int64_t before = wr_schedule_pretraining(r);
    if (update < before) return 0;
    double weight = (double)(update - before + 1) / r->train.kl_warmup;
    return weight < 1 ? weight : 1;
}
