/* flowseq_recipe.c: see flowseq_recipe.h. */
#include "models/flowseq_recipe.h"

static const wr_flow_net NETS[] = {[WR_RECIPE_NET_ATTENTION] = WR_FLOW_NET_ATTENTION,
                                   [WR_RECIPE_NET_LSTM] = WR_FLOW_NET_LSTM,
                                   [WR_RECIPE_NET_CONV] = WR_FLOW_NET_CONV};
static const wr_flow_transform TRANSFORMS[] = {[WR_RECIPE_AFFINE] = WR_FLOW_AFFINE,
                                               [WR_RECIPE_ADDITIVE] = WR_FLOW_ADDITIVE,
                                               [WR_RECIPE_NLSQ] = WR_FLOW_NLSQ};

static wr_status parse_prior(const wr_recipe_prior *p, int dim, wr_flow_stack *stack,
                             wr_error *err) {
    wr_flow_recipe lists = {.text = {[WR_FLOW_LAYERS] = p->layers.text,
                                     [WR_FLOW_POSITION] = p->position.text,
                                     [WR_FLOW_STEP] = p->step.text,
                                     [WR_FLOW_UNIT] = p->unit.text,
                                     [WR_FLOW_LAST_STEP] = p->last_step.text,
                                     [WR_FLOW_LAST_UNIT] = p->last_unit.text},
                            .net = NETS[p->net],
                            .transform = TRANSFORMS[p->transform]};
    wr_status status = wr_flow_parse(&lists, stack, err);
    return status == WR_OK ? wr_flow_check(stack, dim, p->heads, p->hidden, err) : status;
}

/* Every second channel leaves, as the paper says. */
static void factor_out_alternately(wr_flow_stack *stack) {
    for (int i = 0; i < WR_FLOW_LISTS; i++)
        for (int k = 0; k < stack->list[i].n; k++)
            if (stack->list[i].item[k].kind == WR_FLOW_FACTOR_OUT)
                stack->list[i].item[k].split = WR_FLOW_ALTERNATE;
}

wr_status wr_flowseq_of(const wr_recipe *r, int src_vocab, int tgt_vocab, bool training,
                        wr_flowseq *f, wr_error *err) {
    const wr_recipe_model *m = &r->model;
    const wr_recipe_flowseq *s = &r->flowseq;
    int multiple = r->data.length_multiple;
    *f = (wr_flowseq){.src_vocab = src_vocab,
                      .tgt_vocab = tgt_vocab,
                      .dim = m->dim,
                      .hidden = m->ffn,
                      .heads = m->heads,
                      .encoder = s->encoder,
                      .posterior = s->posterior,
                      .decoder = s->decoder,
                      .encoder_layers = m->encoder_layers,
                      .posterior_layers = s->posterior_layers,
                      .decoder_layers = m->decoder_layers,
                      .shared_embeddings = m->embeddings == WR_RECIPE_EMBED_JOINT,
                      .dropout = m->dropout,
                      .embedding_dropout = s->embedding_dropout,
                      .token_dropout = s->token_dropout,
                      .decoder_token_dropout = s->decoder_token_dropout,
                      .length_range = s->length_range,
                      .length_dropout = s->length_dropout,
                      .pooled_lengths = s->literal,
                      .zero_heads = s->literal,
                      .max_positions = (m->max_len + multiple - 1) / multiple * multiple,
                      .prior_heads = r->prior.heads,
                      .prior_hidden = r->prior.hidden,
                      .prior_dropout = r->prior.dropout,
                      .dtype = WR_F32,
                      .training = training};
    wr_status status = parse_prior(&r->prior, m->dim, &f->prior, err);
    if (status == WR_OK && s->literal) factor_out_alternately(&f->prior);
    f->length_unit = status == WR_OK ? wr_flow_length_unit(&f->prior) : 1;
    return status;
}
