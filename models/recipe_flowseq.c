/* recipe_flowseq.c: see recipe_flowseq.h. */
#include "models/recipe_flowseq.h"

wr_status wr_recipe_prior_stack(const wr_recipe *r, wr_flow_stack *stack, wr_error *err) {
    static const wr_flow_net NETS[] = {[WR_RECIPE_NET_ATTENTION] = WR_FLOW_NET_ATTENTION,
                                       [WR_RECIPE_NET_LSTM] = WR_FLOW_NET_LSTM,
                                       [WR_RECIPE_NET_CONV] = WR_FLOW_NET_CONV};
    static const wr_flow_transform TRANSFORMS[] = {[WR_RECIPE_AFFINE] = WR_FLOW_AFFINE,
                                                   [WR_RECIPE_ADDITIVE] = WR_FLOW_ADDITIVE,
                                                   [WR_RECIPE_NLSQ] = WR_FLOW_NLSQ};
    const wr_recipe_prior *p = &r->prior;
    wr_flow_recipe lists = {.text = {[WR_FLOW_LAYERS] = p->layers.text,
                                     [WR_FLOW_POSITION] = p->position.text,
                                     [WR_FLOW_STEP] = p->step.text,
                                     [WR_FLOW_UNIT] = p->unit.text,
                                     [WR_FLOW_LAST_STEP] = p->last_step.text,
                                     [WR_FLOW_LAST_UNIT] = p->last_unit.text},
                            .net = NETS[p->net],
                            .transform = TRANSFORMS[p->transform]};
    wr_status status = wr_flow_parse(&lists, stack, err);
    if (status != WR_OK) return status;
    return wr_flow_check(stack, r->model.dim, p->heads, p->hidden, err);
}

/* Every second channel leaves, as the paper says. */
static void factor_out_alternately(wr_flow_stack *stack) {
    for (int i = 0; i < WR_FLOW_LISTS; i++)
        for (int k = 0; k < stack->list[i].n; k++)
            if (stack->list[i].item[k].kind == WR_FLOW_FACTOR_OUT)
                stack->list[i].item[k].split = WR_FLOW_ALTERNATE;
}

int wr_recipe_length_multiple(const wr_recipe *r, int unit) {
    int multiple = r->data.length_multiple;
    while (multiple % unit != 0)
        multiple += r->data.length_multiple;
    return multiple;
}

static void fill(const wr_recipe *r, wr_flowseq *f) {
    const wr_recipe_model *m = &r->model;
    const wr_recipe_flowseq *s = &r->flowseq;
    int multiple = wr_recipe_length_multiple(r, f->length_unit);
    f->dim = m->dim;
    f->hidden = m->ffn;
    f->heads = m->heads;
    f->encoder = s->encoder;
    f->posterior = s->posterior;
    f->decoder = s->decoder;
    f->encoder_layers = m->encoder_layers;
    f->posterior_layers = s->posterior_layers;
    f->decoder_layers = m->decoder_layers;
    f->shared_embeddings = m->embeddings == WR_RECIPE_EMBED_JOINT;
    f->dropout = m->dropout;
    f->embedding_dropout = s->embedding_dropout;
    f->token_dropout = s->token_dropout;
    f->decoder_token_dropout = s->decoder_token_dropout;
    f->length_range = s->length_range;
    f->length_dropout = s->length_dropout;
    f->pooled_lengths = f->zero_heads = s->literal;
    f->max_positions = (m->max_len + multiple - 1) / multiple * multiple;
    f->prior_heads = r->prior.heads;
    f->prior_hidden = r->prior.hidden;
    f->prior_dropout = r->prior.dropout;
    f->prior_rebuild = r->prior.rebuild;
}

wr_status wr_recipe_flowseq_model(const wr_recipe *r, int src_vocab, int tgt_vocab, bool training,
                                  wr_flowseq *f, wr_error *err) {
    *f = (wr_flowseq){
        .src_vocab = src_vocab, .tgt_vocab = tgt_vocab, .dtype = WR_F32, .training = training};
    if (r->model.type != WR_RECIPE_FLOWSEQ)
        return wr_fail(err, WR_ERR_INPUT, "model.type must be flowseq here");
    wr_status status = wr_recipe_prior_stack(r, &f->prior, err);
    if (status != WR_OK) return status;
    f->length_unit = wr_flow_length_unit(&f->prior);
    if (r->flowseq.literal) factor_out_alternately(&f->prior);
    fill(r, f);
    if (f->shared_embeddings && src_vocab != tgt_vocab)
        return wr_fail(err, WR_ERR_INPUT,
                       "model.embeddings is joint, but the vocabularies have %d and %d pieces; use "
                       "a joint vocabulary or model.embeddings=separate",
                       src_vocab, tgt_vocab);
    return WR_OK;
}
