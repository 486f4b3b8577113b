/* test_import.c: parameters of the authors' FlowSeq: names, shapes, values, messages. */
#include "cli/model_graph.h"
#include "graph/op.h"
#include "graph/session.h"
#include "helpers/alloc.h"
#include "models/flowseq_import.h"
#include "models/recipe_flowseq.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define must(call)                                                                                 \
    do {                                                                                           \
        wr_error must_err = {0};                                                                   \
        wr_error *err = &must_err;                                                                 \
        if ((call) != WR_OK) fail_msg("%s", must_err.text);                                        \
    } while (0)

static void load(const char *name, const char *set, wr_recipe *r) {
    char path[1024];
    snprintf(path, sizeof path, "%s/recipes/%s.yaml", WEIR_SOURCE_DIR, name);
    must(wr_recipe_load(path, &set, set == NULL ? 0 : 1, r, err));
}

static wr_flowseq *model_of(const char *name, const char *set) {
    wr_recipe r;
    load(name, set, &r);
    wr_flowseq *f = malloc(sizeof *f);
    assert_non_null(f);
    must(wr_recipe_flowseq_model(&r, r.data.src_vocab, r.data.tgt_vocab, false, f, err));
    return f;
}

/* ---- the map against the model ---- */

static const wr_flowseq_row *row_of(const wr_flowseq_map *map, const char *ours) {
    for (size_t i = 0; i < map->n; i++)
        if (strcmp(map->row[i].ours, ours) == 0) return &map->row[i];
    return NULL;
}

/* Every parameter of the graph is in the map with its shape, and nothing else is. */
static void compare_with_graph(const char *name, const char *set) {
    wr_model_sizes m = {.from_run = false};
    load(name, set, &m.recipe);
    m.src_vocab = m.recipe.data.src_vocab;
    m.tgt_vocab = m.recipe.data.tgt_vocab;
    wr_graph *g;
    bool *live;
    must(wr_model_graph_new(&m, &(wr_model_graph_options){0}, &g, &live, err));
    must(wr_graph_status(g, err));
    wr_flowseq *f = model_of(name, set);
    wr_flowseq_map map;
    must(wr_flowseq_map_new(f, &map, err));
    size_t n = 0;
    for (uint32_t id = 1; id < wr_node_count(g); id++) {
        const wr_node *x = wr_node_at(g, id);
        if (x->op != &wr_op_param || !live[id]) continue;
        const wr_flowseq_row *row = row_of(&map, wr_source_name(g, id));
        if (row == NULL) fail_msg("%s: %s is not in the map", name, wr_source_name(g, id));
        assert_int_equal(row->rank, x->rank);
        for (int k = 0; k < x->rank; k++)
            if (row->dim[k] != wr_dim_literal(x->dim[k]))
                fail_msg("%s: axis %d of %s is %d", name, k, row->ours, (int)row->dim[k]);
        n++;
    }
    assert_int_equal(n, map.n);
    wr_flowseq_map_free(&map);
    free(f);
    free(live);
    wr_graph_free(g);
}

static void map_has_the_parameters_of_the_model(void **state) {
    (void)state;
    compare_with_graph("flowseq-reference", NULL);
    compare_with_graph("flowseq-base", NULL);
    compare_with_graph("flowseq-iwslt", NULL);
    compare_with_graph("flowseq-reference", "prior.layers=[position, last_step x2]");
    compare_with_graph("flowseq-reference", "prior.transform=nlsq");
    compare_with_graph("flowseq-reference", "prior.transform=additive");
}

/* ---- a state dict made up from the map ---- */

/* A number for each place of each tensor, exact in f32. */
static double number(const char *name, int64_t i) {
    uint32_t x = 2166136261u;
    for (; *name != '\0'; name++)
        x = (x ^ (unsigned char)*name) * 16777619u;
    x = (x ^ (uint32_t)i) * 2654435761u;
    return (double)(int32_t)(x >> 12) / 1024 - 512;
}

typedef struct dict {
    wr_flowseq_map map;
    wr_flowseq_tensor tensor[1024];
    void *data[1024];
    wr_flowseq_state state;
} dict;

static void put_tensor(dict *d, wr_dtype t, const char *name, int rank, int64_t n0, int64_t n1) {
    int i = d->state.n++;
    int64_t n = rank == 2 ? n0 * n1 : n0;
    d->data[i] = malloc((size_t)n * wr_dtype_bytes(t));
    assert_non_null(d->data[i]);
    for (int64_t k = 0; k < n; k++)
        if (t == WR_F32)
            ((float *)d->data[i])[k] = (float)number(name, k);
        else
            ((double *)d->data[i])[k] = number(name, k);
    d->tensor[i] = (wr_flowseq_tensor){
        .name = name, .dtype = t, .rank = rank, .dim = {n0, n1}, .data = d->data[i]};
}

static bool has_tensor(const dict *d, const char *name) {
    for (int i = 0; i < d->state.n; i++)
        if (strcmp(d->tensor[i].name, name) == 0) return true;
    return false;
}

static dict *dict_of(const wr_flowseq *f, wr_dtype t) {
    dict *d = calloc(1, sizeof *d);
    assert_non_null(d);
    d->state.tensor = d->tensor;
    must(wr_flowseq_map_new(f, &d->map, err));
    for (size_t i = 0; i < d->map.n; i++) {
        const wr_flowseq_row *row = &d->map.row[i];
        if (has_tensor(d, row->theirs)) continue;
        int64_t columns = row->column ? 1 : row->transposed ? row->dim[0] : row->dim[1];
        put_tensor(d, t, row->theirs, row->column ? 2 : row->rank, row->of_rows, columns);
    }
    return d;
}

static void dict_free(dict *d) {
    for (int i = 0; i < d->state.n; i++)
        free(d->data[i]);
    wr_flowseq_map_free(&d->map);
    free(d);
}

static wr_session *session_new(void) {
    wr_session *s;
    must(wr_session_new(&(wr_session_options){.device = "cpu", .threads = 1, .seed = 1}, &s, err));
    return s;
}

static const wr_tensor *stored(wr_session *s, const char *name) {
    int k = wr_session_find(s, name);
    if (k < 0) fail_msg("no tensor %s in the session", name);
    return &wr_session_stored_at(s, k)->tensor;
}

static double value(wr_session *s, const char *name, int64_t i) {
    const wr_tensor *t = stored(s, name);
    assert_true(i < t->n);
    return t->dtype == WR_F32 ? (double)((const float *)t->data)[i] : ((const double *)t->data)[i];
}

/* By hand, for the model with D = 24, H = 16, hidden features of the prior 20. */
static void check_values(wr_session *s) {
    enum { D = 24, H = 16, HALF = 12 };
    static const int64_t AT[][2] = {{0, 0}, {1, 0}, {3, 7}, {11, 10}};
    for (int k = 0; k < 4; k++) {
        int64_t i = AT[k][0], j = AT[k][1];
#define IS(ours, at, theirs, there) assert_true(value(s, ours, at) == number(theirs, there))
        IS("embedding", i * D + j, "encoder.embed.weight", i * D + j);
        IS("encoder.layer1.self.qkv.W", i * 3 * D + j,
           "encoder.core.layers.1.slf_attn.in_proj_weight", j * D + i);
        IS("encoder.layer1.ffn.inner.W", i * H + j, "encoder.core.layers.1.pos_ffn.linear1.weight",
           j * D + i);
        IS("decoder.input.q.W", i * D + j, "decoder.pos_attn.in_proj_weight", j * D + i);
        IS("decoder.input.kv.W", i * 2 * D + j, "decoder.pos_attn.in_proj_weight", (D + j) * D + i);
        IS("decoder.input.kv.W", i * 2 * D + D + j, "decoder.pos_attn.in_proj_weight",
           (2 * D + j) * D + i);
        IS("decoder.input.kv.b", i, "decoder.pos_attn.in_proj_bias", D + i);
        IS("decoder.input.norm.gain", i, "decoder.pos_attn.layer_norm.weight", i);
        IS("decoder.bias", i, "decoder.readout.bias", i);
        IS("posterior.mean.v", i * D + j, "posterior.core.mu.linear.weight_v", j * D + i);
        IS("posterior.log_variance.g", i, "posterior.core.logvar.linear.weight_g", i);
        IS("length.hidden2.W", i * D + j, "prior._length_predictor.ctx_proj.2.weight", j * D + i);
        IS("prior.step1.linear1.W", i % 8 * 8 + j % 8, "prior.flow.blocks.1.steps.0.linear2.weight",
           i % 8 * 8 + j % 8);
        IS("prior.step0.unit1.coupling2.project.W", i * HALF + j,
           "prior.flow.blocks.0.steps.0.unit2.coupling2_up.net.src_proj.weight", j * D + i);
        IS("prior.step0.unit0.coupling5.source.kv.W", i * 2 * D + j,
           "prior.flow.blocks.0.steps.0.unit1.coupling3_down.net.transformer.enc_attn.in_proj_"
           "weight",
           (D + j) * D + i);
        IS("prior.position2.coupling0.position.q.b", i,
           "prior.flow.blocks.2.pos_attn.coupling_up.net.pos_attn.in_proj_bias", i);
        IS("prior.coupling1.out.v", i * D + j,
           "prior.flow.blocks.1.prior.net.linear.linear.weight_v", j * HALF + i);
        IS("prior.last_step0.last_unit1.actnorm0.log_scale", i,
           "prior.flow.blocks.2.steps.0.unit2.actnorm1.log_scale", i);
#undef IS
    }
}

static void values_come_to_their_places(void **state) {
    (void)state;
    wr_flowseq *f = model_of("flowseq-reference", NULL);
    for (int there = WR_F32; there <= WR_F64; there++)
        for (int here = WR_F32; here <= WR_F64; here++) {
            dict *d = dict_of(f, (wr_dtype)there);
            wr_session *s = session_new();
            f->dtype = (wr_dtype)here;
            must(wr_flowseq_import(f, &d->state, s, err));
            assert_int_equal(wr_session_stored(s), d->map.n);
            assert_int_equal(stored(s, "embedding")->dtype, here);
            check_values(s);
            int k = wr_session_find(s, "decoder.bias");
            double zeros[17] = {0};
            must(wr_session_write(s, k, zeros, err));
            must(wr_flowseq_import(f, &d->state, s, err)); /* over what is there */
            check_values(s);
            wr_session_free(s);
            dict_free(d);
        }
    free(f);
}

/* A session that holds the parameters of another model refuses. */
static void other_parameters_are_refused(void **state) {
    (void)state;
    wr_flowseq *f = model_of("flowseq-reference", NULL);
    dict *d = dict_of(f, WR_F32);
    wr_session *s = session_new();
    int64_t dim[2] = {17, 23};
    float *zeros = calloc(17 * 23, sizeof *zeros);
    must(wr_session_define(s, "embedding", true, WR_F32, 2, dim, zeros, err));
    wr_error err = {0};
    assert_int_equal(wr_flowseq_import(f, &d->state, s, &err), WR_ERR_INPUT);
    assert_string_equal(err.text, "tensor \"embedding\": the session holds it already, in another "
                                  "shape");
    free(zeros);
    wr_session_free(s);
    dict_free(d);
    free(f);
}

/* ---- more scales and steps ---- */

static void steps_and_scales_are_numbered(void **state) {
    (void)state;
    static const char *const PAIRS[][2] = {
        {"prior.step3.unit0.coupling0.out.v",
         "prior.flow.blocks.0.steps.3.unit1.coupling1_up.net.linear.linear.weight_v"},
        {"prior.step4.linear0.W", "prior.flow.blocks.1.steps.0.linear1.weight"},
        {"prior.step7.actnorm1.bias", "prior.flow.blocks.1.steps.3.actnorm2.bias"},
        {"prior.last_step1.last_unit0.coupling3.ffn.outer.W",
         "prior.flow.blocks.2.steps.1.unit1.coupling2_down.net.transformer.pos_ffn.linear2."
         "weight"},
        {"prior.coupling1.self.norm.bias",
         "prior.flow.blocks.1.prior.net.transformer.slf_attn.layer_norm.bias"},
        {"encoder.layer5.self.qkv.b", "encoder.core.layers.5.slf_attn.in_proj_bias"},
        {"posterior.layer3.source.q.W", "posterior.core.layers.3.enc_attn.in_proj_weight"},
        {"decoder.layer3.ffn.norm.gain", "decoder.layers.3.pos_ffn.layer_norm.weight"},
        {"embedding", "encoder.embed.weight"},
    };
    wr_flowseq *f = model_of("flowseq-base", NULL);
    wr_flowseq_map map;
    must(wr_flowseq_map_new(f, &map, err));
    for (size_t i = 0; i < sizeof PAIRS / sizeof PAIRS[0]; i++) {
        const wr_flowseq_row *row = row_of(&map, PAIRS[i][0]);
        if (row == NULL) fail_msg("no %s", PAIRS[i][0]);
        assert_string_equal(row->theirs, PAIRS[i][1]);
    }
    wr_flowseq_map_free(&map);
    free(f);
}

static void other_arrangements_are_refused(void **state) {
    (void)state;
    static const char *const CASES[][2] = {
        {"prior.layers=[position, step]", NULL},
        {"prior.layers=[position, step x2, last_step]", NULL},
        {"prior.layers=[position, squeeze, step]", "prior.layers"},
        {"prior.layers=[position, step, coupling halves down, factor_out halves, squeeze, "
         "position, step]",
         "prior.layers"},
        {"prior.layers=[position, step, coupling halves up, factor_out alternate, squeeze, "
         "position, step]",
         "prior.layers"},
        {"prior.layers=[position x2, step]", "prior.layers"},
        {"prior.layers=[step]", "prior.layers"},
        {"prior.layers=[actnorm]", "prior.layers"},
        {"prior.layers=[]", "prior.layers"},
        {"prior.layers=[position, step, coupling halves up]", "prior.layers"},
        {"prior.step=[actnorm, linear interleaved, unit, actnorm, linear heads, unit]",
         "prior.step"},
        {"prior.unit=[coupling halves up, coupling halves down]", "prior.unit"},
        {"prior.last_step=[unit]", "prior.last_step"},
        {"prior.position=[actnorm, coupling halves up, coupling halves down]", "prior.position"},
        {"prior.unit=[coupling halves up, coupling halves down, actnorm, coupling alternate up, "
         "coupling alternate down, actnorm, coupling time up net=conv, coupling time down]",
         "prior.unit"},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        wr_flowseq *f = model_of("flowseq-reference", CASES[i][0]);
        wr_flowseq_map map;
        wr_error err = {0};
        wr_status status = wr_flowseq_map_new(f, &map, &err);
        const char *key = CASES[i][1];
        if (status != (key == NULL ? WR_OK : WR_ERR_INPUT))
            fail_msg("%s: %d %s", CASES[i][0], status, err.text);
        if (key != NULL && (strstr(err.text, key) == NULL || strstr(err.text, "authors") == NULL))
            fail_msg("%s: %s", CASES[i][0], err.text);
        wr_flowseq_map_free(&map);
        free(f);
    }
}

/* ---- what does not fit ---- */

static void everything_wrong_is_told_at_once(void **state) {
    (void)state;
    static const char WANT[] =
        "the tensors are not those of the model; is it of another recipe?\n"
        "  1 missing:\n"
        "    decoder.readout.bias [17]\n"
        "  2 of another shape:\n"
        "    encoder.embed.weight [17, 24], there [17, 24] of whole numbers\n"
        "    encoder.core.layers.0.slf_attn.in_proj_weight [72, 24], there [24, 72]\n"
        "  2 not of the model:\n"
        "    decoder.readout.bais [17]\n"
        "    posterior.tgt_embed.weights [3, 4]";
    wr_flowseq *f = model_of("flowseq-reference", NULL);
    dict *d = dict_of(f, WR_F32);
    for (int i = 0; i < d->state.n; i++) {
        wr_flowseq_tensor *t = &d->tensor[i];
        if (strcmp(t->name, "decoder.readout.bias") == 0) t->name = "decoder.readout.bais";
        if (strcmp(t->name, "encoder.embed.weight") == 0) t->dtype = WR_I32;
        if (strcmp(t->name, "encoder.core.layers.0.slf_attn.in_proj_weight") == 0)
            t->dim[0] = 24, t->dim[1] = 72;
    }
    put_tensor(d, WR_F32, "posterior.tgt_embed.weights", 2, 3, 4);
    put_tensor(d, WR_F32, "posterior.tgt_embed.weight", 2, 17, 24);
    put_tensor(d, WR_F32, "encoder.core.pos_enc._float_tensor", 1, 1, 0);
    wr_session *s = session_new();
    wr_error err = {0};
    assert_int_equal(wr_flowseq_import(f, &d->state, s, &err), WR_ERR_INPUT);
    assert_string_equal(err.text, WANT);
    assert_int_equal(wr_session_stored(s), 0);
    wr_session_free(s);
    dict_free(d);
    free(f);
}

static void vocabularies_come_from_the_tables(void **state) {
    (void)state;
    wr_flowseq_tensor tensor[] = {
        {.name = "decoder.readout.bias", .rank = 1, .dim = {9}},
        {.name = "encoder.embed.weight", .rank = 2, .dim = {17, 24}},
    };
    wr_flowseq_state two = {.n = 2, .tensor = tensor};
    int src = 0, tgt = 0;
    must(wr_flowseq_state_vocabs(&two, &src, &tgt, err));
    assert_int_equal(src, 17);
    assert_int_equal(tgt, 9);
    tensor[1].name = "decoder.readout.weight"; /* the one name that was kept */
    must(wr_flowseq_state_vocabs(&two, &src, &tgt, err));
    assert_int_equal(src, 17);
    tensor[1].rank = 1;
    wr_error err = {0};
    assert_int_equal(wr_flowseq_state_vocabs(&two, &src, &tgt, &err), WR_ERR_INPUT);
    assert_string_equal(err.text, "there is no tensor encoder.embed.weight with 2 axes: this is no "
                                  "state dict of FlowSeq");
}

/* ---- reading, and lack of memory ---- */

static wr_status read_data(void *user, int index, void *to, wr_error *err) {
    const dict *d = user;
    const wr_flowseq_tensor *t = &d->tensor[index];
    if (index == 800) return wr_fail(err, WR_ERR_IO, "the disk is gone");
    size_t n = (size_t)t->dim[0] * (t->rank == 2 ? (size_t)t->dim[1] : 1);
    memcpy(to, d->data[index], n * wr_dtype_bytes(t->dtype));
    return WR_OK;
}

static void tensors_may_be_read_one_by_one(void **state) {
    (void)state;
    for (int fails = 0; fails < 2; fails++) {
        wr_flowseq *f = model_of("flowseq-reference",
                                 fails ? NULL : "prior.layers=[position, step, last_step]");
        dict *d = dict_of(f, WR_F32);
        d->state.read = read_data;
        d->state.user = d;
        for (int i = 0; i < d->state.n; i++)
            d->tensor[i].data = NULL;
        wr_session *s = session_new();
        wr_error err = {0};
        wr_status status = wr_flowseq_import(f, &d->state, s, &err);
        assert_int_equal(status, fails ? WR_ERR_IO : WR_OK);
        if (fails) assert_string_equal(err.text, "the disk is gone");
        if (!fails)
            assert_true(value(s, "decoder.input.kv.b", 3) ==
                        number("decoder.pos_attn.in_proj_bias", 27));
        wr_session_free(s);
        dict_free(d);
        free(f);
    }
}

static void failed_allocations_are_reported(void **state) {
    (void)state;
    wr_flowseq *f = model_of("flowseq-reference", "prior.layers=[position, last_step]");
    dict *d = dict_of(f, WR_F32);
    long n = 1;
    for (;; n += n < 200 ? 1 : 97) {
        wr_session *s = session_new();
        wr_error err = {0};
        wr_test_fail_allocation(n);
        wr_status status = wr_flowseq_import(f, &d->state, s, &err);
        bool failed = wr_test_allocation_failed();
        assert_int_equal(status, failed ? WR_ERR_MEMORY : WR_OK);
        wr_session_free(s);
        if (!failed) break;
    }
    assert_true(n > 1000);
    dict_free(d);
    free(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(map_has_the_parameters_of_the_model),
        cmocka_unit_test(values_come_to_their_places),
        cmocka_unit_test(other_parameters_are_refused),
        cmocka_unit_test(steps_and_scales_are_numbered),
        cmocka_unit_test(other_arrangements_are_refused),
        cmocka_unit_test(everything_wrong_is_told_at_once),
        cmocka_unit_test(vocabularies_come_from_the_tables),
        cmocka_unit_test(tensors_may_be_read_one_by_one),
        cmocka_unit_test(failed_allocations_are_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
