/* optimizer.c: see optimizer.h. */
#include "optim/optimizer.h"

#include "autodiff/grad.h"
#include "ops/layout.h"

#include <stdlib.h>
#include <string.h>

wr_optimizer_options wr_optimizer_options_of(const wr_recipe *recipe) {
    const wr_recipe_optim *o = &recipe->optim;
    return (wr_optimizer_options){.adam = {.beta1 = o->beta1,
                                           .beta2 = o->beta2,
                                           .eps = o->eps,
                                           .weight_decay = o->weight_decay,
                                           .clip_norm = recipe->train.clip_norm,
                                           .decoupled = o->type == WR_RECIPE_ADAMW,
                                           .amsgrad = o->amsgrad,
                                           .raw_eps = o->raw_eps},
                                  .accumulate = recipe->train.accumulate > 1};
}

/* The report of the graph's mistakes as one error. Poison without a mistake is lack of memory. */
static wr_status graph_failed(const wr_graph *g, wr_error *err) {
    wr_status status = wr_graph_status(g, err);
    return status != WR_OK ? status : wr_fail_memory(err, "the graph of an optimizer", 0);
}

/* Mark what a gradient flows back to from `root`; none flows through whole numbers. */
static void mark_reached(const wr_graph *g, uint32_t root, bool *reached) {
    reached[root] = true;
    for (uint32_t id = root; id > 0; id--) {
        const wr_node *x = wr_node_at(g, id);
        if (!reached[id] || x->op == &wr_op_stop_gradient) continue;
        for (int k = 0; k < x->n_in; k++) {
            uint32_t in = wr_node_inputs(g, id)[k];
            if (wr_node_at(g, in)->dtype != WR_I32) reached[in] = true;
        }
    }
}

wr_status wr_optimizer_params(wr x, wr **params, int *n, wr_error *err) {
    *params = NULL;
    *n = 0;
    if (x.id == 0)
        return x.g == NULL ? wr_fail(err, WR_ERR_INPUT, "no loss") : graph_failed(x.g, err);
    uint32_t count = x.id + 1; /* operands have smaller ids */
    bool *reached = calloc(count, sizeof *reached);
    wr *found = malloc(sizeof *found * count);
    if (reached == NULL || found == NULL) {
        free(reached);
        free(found);
        return wr_fail_memory(err, "the list of parameters", sizeof *found * count);
    }
    mark_reached(x.g, x.id, reached);
    for (uint32_t id = 1; id < count; id++)
        if (reached[id] && wr_node_at(x.g, id)->op == &wr_op_param) found[(*n)++] = (wr){x.g, id};
    free(reached);
    *params = found;
    return WR_OK;
}

/* ---- building ---- */

typedef struct build {
    wr_graph *g;
    const wr_optimizer_options *o;
    wr_optimizer *out;
    int n;
    const wr *params;
    wr *in;   /* operands of a row: head, then groups of n */
    wr *grad; /* n */
} build;

static wr fed_scalar(wr_graph *g, const char *full_name) {
    return wr_input(g, full_name, WR_F64, 0, NULL);
}

/* States like the parameters, in a group of operands. */
static void add_states(const build *b, const char *kind, wr *to) {
    for (int k = 0; k < b->n; k++) {
        wr_str name = {0};
        wr_str_add(&name, WR_OPTIM_STATES "%s.%s", kind, wr_source_name(b->g, b->params[k].id));
        wr_type t = wr_type_of(b->params[k]);
        to[k] = name.oom ? (wr){b->g, 0}
                         : wr_state(b->g, wr_str_text(&name), t.dtype, t.rank, t.dim,
                                    (wr_init){WR_INIT_ZERO, 0, 0});
        wr_str_free(&name);
    }
}

/* Add the gradients to the sums, which take their place. */
static void build_sums(build *b) {
    b->out->keep = b->in[WR_ACCUMULATE_KEEP] = fed_scalar(b->g, WR_OPTIM_KEEP);
    wr *gradients = b->in + WR_ACCUMULATE_HEAD, *sums = gradients + b->n;
    memcpy(gradients, b->grad, sizeof *gradients * (size_t)b->n);
    add_states(b, "sum", sums);
    b->out->norm = wr_accumulate(WR_ACCUMULATE_HEAD + 2 * b->n, b->in);
    memcpy(b->grad, sums, sizeof *sums * (size_t)b->n);
}

static void build_update(build *b) {
    size_t n = (size_t)b->n;
    bool amsgrad = b->o->adam.amsgrad;
    wr norm = b->o->accumulate ? b->out->norm : wr_global_norm(b->n, b->grad);
    b->in[WR_ADAM_LR] = b->out->lr = fed_scalar(b->g, WR_OPTIM_LR);
    b->in[WR_ADAM_SCALE] = b->out->scale = fed_scalar(b->g, WR_OPTIM_SCALE);
    b->in[WR_ADAM_NORM] = norm;
    b->in[WR_ADAM_STEP] =
        wr_state(b->g, WR_OPTIM_STATES "step", WR_I32, 0, NULL, (wr_init){WR_INIT_ZERO, 0, 0});
    wr *group = b->in + WR_ADAM_HEAD;
    memcpy(group, b->grad, sizeof *group * n);
    memcpy(group + n, b->params, sizeof *group * n);
    add_states(b, "m", group + 2 * n);
    add_states(b, "v", group + 3 * n);
    if (amsgrad) add_states(b, "top", group + 4 * n);
    wr adam = wr_adam(&b->o->adam, WR_ADAM_HEAD + (amsgrad ? 5 : 4) * b->n, b->in);
    b->out->applied = adam;
    b->out->norm = wr_output(adam, 1);
}

/* An operand count is 16 bits wide. */
enum { MOST_PARAMS = (WR_ANY_INPUTS - WR_ADAM_HEAD) / 5 };

static wr_status build_all(build *b, wr loss, wr_error *err) {
    if (b->n == 0 || b->n > MOST_PARAMS)
        return wr_fail(err, WR_ERR_INPUT,
                       "the loss depends on %d parameters; an optimizer takes 1 to %d", b->n,
                       MOST_PARAMS);
    b->out->n_params = b->n;
    b->in = malloc(sizeof *b->in * (WR_ADAM_HEAD + 6 * (size_t)b->n));
    if (b->in == NULL) return wr_fail_memory(err, "the optimizer", sizeof *b->in * (size_t)b->n);
    b->grad = b->in + WR_ADAM_HEAD + 5 * (size_t)b->n;
    if (wr_grad(loss, b->n, b->params, b->grad)) {
        if (b->o->accumulate || b->o->part == WR_OPTIMIZER_ACCUMULATE) build_sums(b);
        if (b->o->part == WR_OPTIMIZER_UPDATE) build_update(b);
    }
    free(b->in);
    bool made = b->out->norm.id != 0;
    return made && wr_graph_ok(b->g) ? WR_OK : graph_failed(b->g, err);
}

wr_status wr_optimizer_build(wr loss, const wr_optimizer_options *o, wr_optimizer *optimizer,
                             wr_error *err) {
    *optimizer = (wr_optimizer){0};
    if (loss.g != NULL && !wr_graph_ok(loss.g)) return graph_failed(loss.g, err);
    wr *found = NULL;
    build b = {.g = loss.g, .o = o, .out = optimizer, .n = o->n_params, .params = o->params};
    if (loss.id == 0 || o->n_params == 0) {
        wr_status status = wr_optimizer_params(loss, &found, &b.n, err);
        if (status != WR_OK) return status;
        b.params = found;
    }
    wr_status status = build_all(&b, loss, err);
    free(found);
    return status;
}

/* ---- a fresh optimizer ---- */

static bool is_own_state(const wr_stored *x) {
    return !x->trainable && strncmp(x->name, WR_OPTIM_STATES, strlen(WR_OPTIM_STATES)) == 0;
}

wr_status wr_optimizer_reset(wr_session *s, wr_error *err) {
    size_t most = 1;
    for (int k = 0; k < wr_session_stored(s); k++) {
        const wr_stored *x = wr_session_stored_at(s, k);
        size_t bytes = (size_t)x->tensor.n * wr_dtype_bytes(x->tensor.dtype);
        if (is_own_state(x) && bytes > most) most = bytes;
    }
    void *zeros = calloc(most, 1);
    if (zeros == NULL) return wr_fail_memory(err, "a fresh optimizer", most);
    wr_status status = WR_OK;
    for (int k = 0; k < wr_session_stored(s) && status == WR_OK; k++)
        if (is_own_state(wr_session_stored_at(s, k))) status = wr_session_write(s, k, zeros, err);
    free(zeros);
    return status;
}
