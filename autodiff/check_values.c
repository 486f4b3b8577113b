/* check_values.c: see check_values.h. */
#include "autodiff/check_values.h"

#include "graph/random.h"
#include "ops/attention.h"
#include "ops/index.h"
#include "ops/mask.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- numbers ---- */

static uint64_t mix(uint64_t z) {
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static double unit(uint64_t bits) { return (double)(bits >> 11) * 0x1p-53; }

double wr__values_normal(uint64_t seed, uint64_t stream, uint64_t i) {
    uint64_t key = mix(mix(seed + 1) ^ mix(stream) ^ (i * 2));
    return sqrt(-2.0 * log(1.0 - unit(key))) * cos(6.283185307179586 * unit(mix(key)));
}

/* ---- sizes ---- */

static wr_status set_size(wr__values *v, const char *name, int64_t value, wr_error *err) {
    const wr_dims *dims = wr_graph_dims(v->g);
    for (int i = 0; i < wr_dims_symbol_count(dims); i++) {
        const wr_symbol *s = wr_dims_symbol_at(dims, i);
        if (strcmp(s->name, name) != 0) continue;
        bool legal = value >= s->min && value <= s->max && value % s->multiple_of == 0;
        v->size.value[i] = value;
        if (legal) return WR_OK;
        return wr_fail(
            err, WR_ERR_INPUT, "size %s = %lld: legal are multiples of %lld in [%lld, %lld]", name,
            (long long)value, (long long)s->multiple_of, (long long)s->min, (long long)s->max);
    }
    return wr_fail(err, WR_ERR_INPUT, "size %s: the graph has no such symbol", name);
}

/* Symbols that the given values tell. */
static void sizes_of_values(wr__values *v) {
    for (int i = 0; i < v->n_fed; i++)
        for (int k = 0; k < v->o->n_values; k++) {
            const wr_feed *given = &v->o->values[k];
            if (strcmp(given->name, v->fed[i].name) != 0) continue;
            wr input = {v->g, v->fed[i].node};
            for (int d = 0; d < given->rank && d < wr_rank(input); d++) {
                int symbol = wr_dims_symbol_of(wr_graph_dims(v->g), wr_dim_of(input, d));
                if (symbol >= 0) v->size.value[symbol] = given->dim[d];
            }
        }
}

static int64_t first_legal(const wr_symbol *s, int64_t from) {
    int64_t m = s->multiple_of, value = (from + m - 1) / m * m;
    while (value < s->min)
        value += m;
    return value > s->max ? s->max / m * m : value;
}

static wr_status choose_sizes(wr__values *v, wr_error *err) {
    const wr_dims *dims = wr_graph_dims(v->g);
    wr_status status = WR_OK;
    for (int i = 0; i < v->o->n_sizes && status == WR_OK; i++)
        status = set_size(v, v->o->sizes[i].name, v->o->sizes[i].value, err);
    sizes_of_values(v);
    int batch = wr_dims_symbol_of(dims, wr_dim_of(v->f->ins[0], 0));
    for (int i = 0; i < wr_dims_symbol_count(dims); i++)
        if (v->size.value[i] == 0)
            v->size.value[i] = first_legal(wr_dims_symbol_at(dims, i), i == batch ? 3 : 4);
    v->first = v->size;
    return status;
}

static int64_t value_of(const wr__values *v, wr_dim d, const wr_binding *b) {
    return wr_dims_eval(wr_graph_dims(v->g), d, b);
}

/* ---- what an input means: by its readers ---- */

static bool is_mask(const wr__values *v, uint32_t node) {
    for (int i = 0; v->f->masks != NULL && i < v->f->n_in; i++)
        if (v->f->masks[i].id == node) return true;
    for (uint32_t id = 1; id < wr_node_count(v->g); id++)
        if (wr_node_at(v->g, id)->op == &wr_op_mask_apply && wr_node_inputs(v->g, id)[1] == node)
            return true;
    return false;
}

/* Set fill and limit of a whole-number input that node `id` reads as operand k. */
static void learn_from(const wr__values *v, wr__fed *x, uint32_t id, int k) {
    const wr_op *op = wr_node_at(v->g, id)->op;
    const uint32_t *in = wr_node_inputs(v->g, id);
    wr first = {v->g, in[0]}, self = {v->g, x->node};
    wr_dim limit = {0};
    wr__fill fill = WR__LENGTH;
    if (op == &wr_op_sequence_mask) limit = wr_node_attrs(v->g, id)[0].d;
    if (op == &wr_op_reverse_prefix && k == 1) limit = wr_dim_of(first, 1);
    if (op == &wr_op_attention && k >= 3) limit = wr_dim_of((wr){v->g, in[1]}, -2);
    if (limit.id == 0) {
        fill = WR__INDEX;
        if (op == &wr_op_gather && k == 1) limit = wr_dim_of(first, wr_rank(self) - 1);
        if (op == &wr_op_one_hot || op == &wr_op_scatter_add) limit = wr_node_attrs(v->g, id)[0].d;
        if (op == &wr_op_invert_permutation) limit = wr_dim_of(self, -1);
    }
    if (limit.id == 0 || (x->limit.id != 0 && x->fill == WR__LENGTH)) return;
    x->limit = limit;
    x->fill = fill;
}

static void learn_meaning(const wr__values *v, wr__fed *x) {
    if (x->dtype != WR_I32) {
        x->fill = is_mask(v, x->node) ? WR__MASK : WR__REAL;
        return;
    }
    for (uint32_t id = 1; id < wr_node_count(v->g); id++)
        for (int k = 0; k < wr_node_at(v->g, id)->n_in; k++)
            if (wr_node_inputs(v->g, id)[k] == x->node) learn_from(v, x, id, k);
}

/* ---- filling ---- */

/* The same for every number of positions behind it. */
static int64_t length_of(int64_t sentence, int64_t longest) {
    return longest > 0 ? longest - sentence % longest : 0;
}

/* Which number the element has if every axis were 1024 long: the same for all sizes. */
static uint64_t place_of(const wr__fed *x, int64_t element, int64_t *first, int64_t *second) {
    int64_t index[WR_MAX_RANK] = {0};
    uint64_t place = 0;
    for (int d = x->rank - 1; d >= 0; d--) {
        index[d] = element % x->dim[d];
        element /= x->dim[d];
    }
    for (int d = 0; d < x->rank; d++)
        place = place * 1024 + (uint64_t)index[d];
    *first = index[0];
    *second = index[1];
    return place;
}

static void fill_real(const wr__values *v, wr__fed *x, int number) {
    const wr_check_options *o = v->o;
    wr_dim steps = wr_dim_of((wr){v->g, x->node}, 1);
    int64_t b, t, longest = x->fill == WR__MASK && x->rank > 1 ? value_of(v, steps, &v->first) : 0;
    for (int64_t i = 0; i < x->n; i++) {
        uint64_t at = place_of(x, i, &b, &t);
        uint64_t seed = o->seed + 17;
        x->real[i] = wr__values_normal(seed, (uint64_t)number, at);
        if (x->fill == WR__MASK) x->real[i] = x->rank < 2 || t < length_of(b, longest) ? 1.0 : 0.0;
        if (x->number >= 0 && o->low < o->high)
            x->real[i] =
                o->low + (o->high - o->low) * unit(mix(seed ^ mix(at + ((uint64_t)number << 40))));
    }
}

/* Each row 0, 1, .. limit - 1 in a fixed disorder; repeats where the row is longer. */
static void fill_whole(const wr__values *v, wr__fed *x) {
    int64_t limit = value_of(v, x->limit, &v->first);
    int64_t row = x->rank > 0 && x->dim[x->rank - 1] > 0 ? x->dim[x->rank - 1] : 1;
    int64_t stride = 1;
    for (int64_t k = limit / 2 + 1; limit > 2 && stride == 1 && k < limit; k++) {
        int64_t a = limit, b = k;
        while (b != 0) {
            int64_t rest = a % b;
            a = b;
            b = rest;
        }
        if (a == 1) stride = k;
    }
    for (int64_t i = 0; i < x->n; i++)
        x->whole[i] = x->fill == WR__LENGTH
                          ? (int32_t)length_of(i, limit)
                          : (int32_t)((i % row * stride + i / row) % (limit > 0 ? limit : 1));
}

static const wr_feed *given_value(const wr__values *v, const wr__fed *x) {
    for (int k = 0; k < v->o->n_values; k++)
        if (strcmp(v->o->values[k].name, x->name) == 0) return &v->o->values[k];
    return NULL;
}

static wr_status allocate_fed(const wr__values *v, wr__fed *x, wr_error *err) {
    wr input = {v->g, x->node};
    x->n = 1;
    for (int d = 0; d < x->rank; d++) {
        x->dim[d] = value_of(v, wr_dim_of(input, d), &v->size);
        x->n *= x->dim[d];
    }
    free(x->real);
    free(x->whole);
    x->whole = NULL;
    x->real = calloc((size_t)x->n + 1, sizeof *x->real);
    x->whole = calloc((size_t)x->n + 1, sizeof *x->whole);
    if (x->real != NULL && x->whole != NULL) return WR_OK;
    return wr_fail_memory(err, x->name, (size_t)x->n * sizeof *x->real);
}

static wr_status copy_given(wr__fed *x, const wr_feed *given, wr_error *err) {
    bool same = given->rank == x->rank;
    for (int d = 0; same && d < x->rank; d++)
        same = given->dim[d] == x->dim[d];
    if (!same)
        return wr_fail(err, WR_ERR_INPUT,
                       "the values given for input \"%s\" have other sizes than it", x->name);
    x->fill = WR__FIXED;
    if (x->n > 0 && x->dtype == WR_I32)
        memcpy(x->whole, given->data, sizeof(int32_t) * (size_t)x->n);
    if (x->n > 0 && x->dtype == WR_F64) memcpy(x->real, given->data, sizeof(double) * (size_t)x->n);
    return WR_OK;
}

static wr_status fill_fed(const wr__values *v, int number, wr_error *err) {
    wr__fed *x = &v->fed[number];
    wr_status status = allocate_fed(v, x, err);
    const wr_feed *given = given_value(v, x);
    if (status != WR_OK) return status;
    if (given != NULL) return copy_given(x, given, err);
    if (x->dtype == WR_F64) fill_real(v, x, number);
    if (x->dtype == WR_I32 && x->limit.id != 0) fill_whole(v, x);
    return WR_OK;
}

/* Are there values for an input that a program reads? */
static wr_status check_filled(const wr__fed *x, wr_error *err) {
    if (x->dtype == WR_F32)
        return wr_fail(
            err, WR_ERR_INPUT,
            "input \"%s\" is f32: a bijection is checked in f64; declare the graph of the "
            "check with WR_F64",
            x->name);
    if (x->dtype == WR_I32 && x->fill != WR__FIXED && x->limit.id == 0)
        return wr_fail(err, WR_ERR_INPUT,
                       "input \"%s\" is of whole numbers whose range no reader tells: give its "
                       "values in the options",
                       x->name);
    return WR_OK;
}

wr_status wr__values_fill(wr__values *v, wr_error *err) {
    wr_status status = WR_OK;
    for (int i = 0; i < v->n_fed && status == WR_OK; i++)
        status = fill_fed(v, i, err);
    return status;
}

/* ---- life ---- */

static wr_status add_fed(wr__values *v, uint32_t id, wr_error *err) {
    wr__fed *grown = realloc(v->fed, sizeof *grown * ((size_t)v->n_fed + 1));
    if (grown == NULL) return wr_fail_memory(err, "inputs", sizeof *grown);
    v->fed = grown;
    wr__fed *x = &v->fed[v->n_fed++];
    const wr_node *n = wr_node_at(v->g, id);
    *x = (wr__fed){.node = id,
                   .name = wr_source_name(v->g, id),
                   .dtype = (wr_dtype)n->dtype,
                   .rank = n->rank,
                   .number = -1};
    for (int i = 0; i < v->f->n_in; i++)
        if (v->f->ins[i].id == id) x->number = i;
    learn_meaning(v, x);
    return WR_OK;
}

wr_status wr__values_add(wr__values *v, wr input, wr_error *err) {
    wr_status status = add_fed(v, input.id, err);
    if (status != WR_OK) return status;
    v->fed[v->n_fed - 1].fill = WR__FIXED;
    return allocate_fed(v, &v->fed[v->n_fed - 1], err);
}

wr_status wr__values_begin(wr__values *v, const wr_bijection *f, const wr_check_options *o,
                           wr_error *err) {
    wr_status status = WR_OK;
    *v = (wr__values){.f = f, .o = o, .g = f->ins[0].g};
    for (uint32_t id = 1; id < wr_node_count(v->g) && status == WR_OK; id++)
        if (wr_node_at(v->g, id)->op == &wr_op_input) status = add_fed(v, id, err);
    if (status == WR_OK) status = choose_sizes(v, err);
    return status == WR_OK ? wr__values_fill(v, err) : status;
}

void wr__values_free(wr__values *v) {
    for (int i = 0; i < v->n_fed; i++) {
        free(v->fed[i].real);
        free(v->fed[i].whole);
    }
    free(v->fed);
}

wr__fed *wr__values_find(const wr__values *v, uint32_t node) {
    for (int i = 0; i < v->n_fed; i++)
        if (v->fed[i].node == node) return &v->fed[i];
    return NULL;
}

wr_status wr__values_run(const wr__values *v, wr_session *s, wr_program *p, wr_error *err) {
    wr_feed *feed = calloc((size_t)v->n_fed + 1, sizeof *feed);
    wr_status status = WR_OK;
    int n = 0;
    if (feed == NULL) return wr_fail_memory(err, "feeds", sizeof *feed);
    for (int i = 0; i < v->n_fed && status == WR_OK; i++) {
        const wr__fed *x = &v->fed[i];
        if (wr_program_find_input(p, x->name) < 0) continue;
        status = check_filled(x, err);
        feed[n] = (wr_feed){.name = x->name, .rank = x->rank};
        feed[n].data = x->dtype == WR_I32 ? (const void *)x->whole : (const void *)x->real;
        memcpy(feed[n++].dim, x->dim, sizeof x->dim);
    }
    if (status == WR_OK) status = wr_session_run(s, p, n, feed, err);
    free(feed);
    return status;
}
