/* invert_end.c: what came out of an inversion: is everything solved, everything used, once? */
#include "autodiff/invert_internal.h"

typedef struct wr__inverter inverter;

static bool is_left_over(const inverter *v, uint32_t id) {
    return v->inside[id] && !v->is_in[id] && !v->used[id] && wr__came_from_outputs(v, id);
}

/* Where solving stopped: at nodes whose rules did not fire, and at nodes known in part only. */
static void add_frontier(const inverter *v, wr_str *out) {
    for (uint32_t id = 1; id < v->n; id++) {
        if (is_left_over(v, id)) {
            wr__inverse_describe(v, id, out);
            wr_str_add(out, ": %s",
                       v->wait[id] != NULL ? v->wait[id]
                                           : "fixed by the outputs and by its operands");
        } else if (v->parts_of[id] != 0 && v->how[id] == WR__UNKNOWN) {
            wr__inverse_describe(v, id, out);
            wr_str_add(out, ": only a part of it is determined");
        }
    }
}

static bool check_inputs(inverter *v) {
    wr_str s = {0};
    for (int i = 0; i < v->f->n_in; i++)
        if (v->how[v->f->ins[i].id] == WR__UNKNOWN) wr__inverse_describe(v, v->f->ins[i].id, &s);
    bool all = s.len == 0;
    if (!all) {
        wr_str_add(&s, "\n  where solving stopped:");
        add_frontier(v, &s);
        wr_mistake(v->g, v->loc, "not a bijection: the outputs do not determine the input%s",
                   wr_str_text(&s));
    }
    wr_str_free(&s);
    return v->ok = v->ok && all;
}

/* What arrived from the outputs must have solved something. */
static bool check_used(inverter *v) {
    for (uint32_t id = 1; id < v->n; id++) {
        if (!is_left_over(v, id)) continue;
        if (wr__inverse_operands_known(v, wr__inverse_maker(v, id)))
            return wr__inverse_mistake(
                v, id, "this is fixed by the outputs and by its operands: over-determined",
                "leave out the output that repeats another one");
        return wr__inverse_mistake(
            v, id, v->wait[id] != NULL ? v->wait[id] : "its operands are not determined",
            "an operand of it is neither known nor solved for");
    }
    return true;
}

static wr_dim elements(const inverter *v, int n, const wr *x) {
    wr_dim sum = wr_n(0);
    for (int i = 0; i < n; i++) {
        wr_dim product = wr_n(1);
        for (int d = 0; d < wr_rank(x[i]); d++)
            product = wr_dim_mul(v->g, product, wr_dim_of(x[i], d));
        sum = wr_dim_add(v->g, sum, product);
    }
    return sum;
}

static bool check_count(inverter *v) {
    wr_dim in = elements(v, v->f->n_in, v->f->ins), out = elements(v, v->f->n_out, v->f->outs);
    if (in.id != 0 && out.id != 0 && wr_dim_eq(v->g, in, out)) return true;
    wr_str s = {0};
    wr_str_add(&s, "the inputs have ");
    wr_dims_print(wr_graph_dims(v->g), in, &s);
    wr_str_add(&s, " elements, the outputs ");
    wr_dims_print(wr_graph_dims(v->g), out, &s);
    wr__inverse_mistake(v, v->f->outs[0].id, wr_str_text(&s),
                        "every element of the inputs must leave by one output");
    wr_str_free(&s);
    return false;
}

bool wr__inverse_check(inverter *v) {
    return wr_graph_ok(v->g) && check_inputs(v) && check_used(v) && check_count(v);
}
