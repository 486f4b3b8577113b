/* trap.c: finding the node that made a NaN; see trap.h. */
#include "graph/trap.h"
#include "graph/graph_internal.h"
#include "graph/trace.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct wr__trap {
    uint32_t *infinite; /* per node: which node made the first infinity in it, 0: it has none */
    bool *seen;         /* per source: looked at in this run */
};

/* What is in a tensor. */
typedef struct range {
    double min, max; /* of the finite numbers */
    int64_t n, nan, inf;
} range;

typedef struct trapping {
    wr_plan *p;
    wr__trap *t;
    const wr_step *s;
    range *before; /* of the operands of this step that it may overwrite */
    bool *kept;    /* which those are */
    wr_error *err;
} trapping;

bool wr__trap_plan(wr_plan *p) {
    if (p->trap != NULL) return true;
    wr__trap *t = calloc(1, sizeof *t);
    if (t == NULL) return false;
    t->infinite = calloc(wr_node_count(p->g), sizeof *t->infinite);
    t->seen = calloc(wr_node_count(p->g), sizeof *t->seen);
    p->trap = t;
    if (t->infinite != NULL && t->seen != NULL) return true;
    wr__trap_free(t);
    p->trap = NULL;
    return false;
}

void wr__trap_free(wr__trap *t) {
    if (t == NULL) return;
    free(t->infinite);
    free(t->seen);
    free(t);
}

/* ---- looking ---- */

static void look_at(range *r, double x) {
    if (isfinite(x)) {
        if (x < r->min) r->min = x;
        if (x > r->max) r->max = x;
    } else if (isnan(x)) {
        r->nan++;
    } else {
        r->inf++;
    }
}

static range look(const wr_tensor *x) {
    range r = {.min = INFINITY, .max = -INFINITY};
    if (x->data == NULL) return r;
    r.n = x->n;
    for (int64_t i = 0; i < x->n; i++) {
        switch (x->dtype) {
        case WR_F32:
            look_at(&r, ((const float *)x->data)[i]);
            break;
        case WR_F64:
            look_at(&r, ((const double *)x->data)[i]);
            break;
        case WR_I32:
        case WR_DTYPE_COUNT:
            look_at(&r, ((const int32_t *)x->data)[i]);
            break;
        }
    }
    return r;
}

/* All exponents below the highest one: in a loop that the compiler makes vectors of. */
static bool is_finite(const wr_tensor *x) {
    uint64_t high = 0;
    if (x->dtype == WR_F64) {
        const double *d = x->data;
        for (int64_t i = 0; i < x->n; i++) {
            uint64_t bits;
            memcpy(&bits, &d[i], sizeof bits);
            high |= (bits & 0x7ff0000000000000u) + 0x0010000000000000u;
        }
        return high >> 63 == 0;
    }
    uint32_t low = 0;
    const float *f = x->data;
    for (int64_t i = 0; i < x->n; i++) {
        uint32_t bits;
        memcpy(&bits, &f[i], sizeof bits);
        low |= (bits & 0x7f800000u) + 0x00800000u;
    }
    return low >> 31 == 0;
}

static bool is_float(const wr_tensor *x) { return x->data != NULL && x->dtype != WR_I32; }

/* ---- the report ---- */

static void print_range(const range *r, wr_str *out) {
    if (r->n == 0)
        wr_str_add(out, "nothing");
    else if (r->min > r->max)
        wr_str_add(out, "no finite number");
    else
        wr_str_add(out, "%.6g to %.6g", r->min, r->max);
    wr_str_add(out, ", %lld NaN, %lld Inf", (long long)r->nan, (long long)r->inf);
}

static void print_line(const wr_plan *p, uint32_t id, const range *r, wr_str *out) {
    uint32_t infinite = p->trap->infinite[id];
    wr_node_describe(p->g, id, out);
    wr_str_add(out, ": ");
    print_range(r, out);
    if (r->inf > 0 && infinite != 0 && infinite != id) {
        wr_str_add(out, ", first in ");
        wr_node_describe(p->g, infinite, out);
    }
    wr_str_add(out, "\n");
}

static void print_head(const wr_plan *p, uint32_t id, wr_str *out) {
    const wr_loc *loc = wr_loc_at(p->g, wr_node_at(p->g, id)->loc);
    wr_str_add(out, "%s:%d in %s(): %s: ", loc->file, loc->line, loc->func,
               wr_node_at(p->g, id)->op->name);
}

/* Where in the computation: the part, the scope, the callers. */
static void print_tail(const wr_plan *p, uint32_t id, wr_str *out) {
    const wr_node *x = wr_node_at(p->g, id);
    static const char *const PART[] = {[WR_GRADIENT] = "backward",
                                       [WR_INVERSE] = "inverse",
                                       [WR_FUSED] = "fused",
                                       [WR_RECOMPUTED] = "computed again"};
    if (x->role != WR_FORWARD && x->origin != 0) {
        wr_str_add(out, "  %s of ", PART[x->role]);
        wr_node_describe(p->g, x->origin, out);
        wr_str_add(out, "\n");
    }
    if (x->scope != 0) {
        wr_str_add(out, "  in scope ");
        wr_scope_path(p->g, x->scope, out);
        wr_str_add(out, "\n");
    }
    wr_trace_of_node(p->g, id, "  ", out);
}

static const char *of_what(const wr_plan *p, uint32_t id) {
    wr_role role = (wr_role)wr_node_at(p->g, id)->role;
    return role == WR_GRADIENT  ? " in the gradient of this line"
           : role == WR_INVERSE ? " in the inverse of this line"
                                : "";
}

static wr_status finish(wr_str *s, wr_error *err) {
    while (s->len > 0 && s->text[s->len - 1] == '\n')
        s->text[--s->len] = '\0';
    wr_status status = s->oom ? wr_fail_memory(err, "the report of a NaN", s->len)
                              : wr_fail(err, WR_ERR_INPUT, "%s", wr_str_text(s));
    wr_str_free(s);
    return status;
}

static bool is_written(const wr_step *s, const wr_op *op, int k) {
    return (op->traits & WR_STATEFUL) && op->writes != NULL && op->writes(k, s->call.n_in);
}

static void print_operand(const trapping *t, int k, const range *r, wr_str *out) {
    const wr_op *op = wr_node_at(t->p->g, t->s->node)->op;
    wr_str_add(out, "  %c ", 'a' + k);
    print_line(t->p, wr_node_inputs(t->p->g, t->s->node)[k], r, out);
    if (!is_written(t->s, op, k) || out->len == 0) return;
    out->text[--out->len] = '\0';
    wr_str_add(out, ", as this step left it\n");
}

/* The step made `r` in node `id`, which is wrong. */
static wr_status step_is_wrong(const trapping *t, uint32_t id, const range *r) {
    const wr_step *s = t->s;
    bool nan = r->nan > 0, infinite = false;
    wr_str out = {0};
    print_head(t->p, s->node, &out);
    wr_str_add(&out, "%lld of %lld results are %s%s (step %d of %d)\n  result ",
               (long long)(nan ? r->nan : r->inf), (long long)r->n, nan ? "NaN" : "infinite",
               of_what(t->p, s->node), (int)(s - t->p->step) + 1, t->p->n_steps);
    print_line(t->p, id, r, &out);
    for (int k = 0; k < s->call.n_in; k++) {
        range x = t->kept[k] ? t->before[k] : look(&s->call.in[k]);
        infinite = infinite || x.inf > 0;
        if (k < 6) print_operand(t, k, &x, &out);
    }
    print_tail(t->p, s->node, &out);
    wr_str_add(&out, "  hint: %s",
               !nan       ? "an infinity must not reach a parameter"
               : infinite ? "an operand is infinite: inf - inf, 0 * inf and inf / inf are NaN"
                          : "a function outside its domain (log or sqrt of a negative number), or "
                            "0 / 0");
    return finish(&out, t->err);
}

static wr_status source_is_wrong(const trapping *t, uint32_t id, const range *r) {
    const wr_node *x = wr_node_at(t->p->g, id);
    wr_str out = {0};
    print_head(t->p, id, &out);
    wr_str_add(&out, "\"%s\" %s %s before any row ran\n  ", wr_source_name(t->p->g, id),
               x->op == &wr_op_input ? "was fed with" : "holds", r->nan > 0 ? "NaN" : "infinities");
    print_line(t->p, id, r, &out);
    print_tail(t->p, id, &out);
    wr_str_add(&out, "  hint: %s",
               x->op == &wr_op_input ? "look at what feeds it"
                                     : "an earlier run wrote it: start again from a checkpoint "
                                       "before that, with the trap on");
    return finish(&out, t->err);
}

/* ---- running ---- */

/* Does the step put its result where operand k lies? */
static bool is_overwritten(const wr_step *s, int k) {
    for (int i = 0; i < s->call.n_out; i++)
        if (s->call.out[i].data != NULL && s->call.out[i].data == s->call.in[k].data) return true;
    return false;
}

/* What the caller and earlier runs brought; and the ranges of what this step may overwrite. */
static wr_status look_before(trapping *t) {
    for (int k = 0; k < t->s->call.n_in; k++) {
        const wr_tensor *x = &t->s->call.in[k];
        uint32_t id = wr_node_inputs(t->p->g, t->s->node)[k];
        const wr_node *from = wr_node_at(t->p->g, id);
        bool source = (from->op->traits & WR_SOURCE) && !t->t->seen[id];
        t->kept[k] = is_float(x) && is_overwritten(t->s, k);
        if (source) t->t->seen[id] = true;
        if (!is_float(x) || !(source || t->kept[k])) continue;
        if (!t->kept[k] && is_finite(x)) continue;
        range r = look(x);
        if (t->kept[k]) t->before[k] = r;
        if (!source) continue;
        if (r.nan > 0 && from->op != &wr_op_const) return source_is_wrong(t, id, &r);
        if (r.inf > 0 && from->op == &wr_op_param) return source_is_wrong(t, id, &r);
        if (r.inf > 0) t->t->infinite[id] = id;
    }
    return WR_OK;
}

/* The node that made the infinities which this step was given, or the step itself. */
static uint32_t first_infinite(const trapping *t) {
    for (int k = 0; k < t->s->call.n_in; k++) {
        uint32_t from = t->t->infinite[wr_node_inputs(t->p->g, t->s->node)[k]];
        if (from != 0) return from;
    }
    return t->s->node;
}

static wr_status look_at_result(trapping *t, const wr_tensor *x, uint32_t id) {
    if (!is_float(x)) return WR_OK;
    t->t->infinite[id] = 0;
    if (is_finite(x)) return WR_OK;
    range r = look(x);
    t->t->infinite[id] = r.inf > 0 ? first_infinite(t) : 0;
    bool wrong = r.nan > 0 || (r.inf > 0 && wr_node_at(t->p->g, id)->op == &wr_op_param);
    return wrong ? step_is_wrong(t, id, &r) : WR_OK;
}

static wr_status look_after(trapping *t) {
    const wr_step *s = t->s;
    const wr_op *op = wr_node_at(t->p->g, s->node)->op;
    wr_status status = WR_OK;
    for (int k = 0; status == WR_OK && k < s->call.n_out; k++)
        status = look_at_result(t, &s->call.out[k], s->node + (uint32_t)k);
    for (int k = 0; status == WR_OK && k < s->call.n_in; k++)
        if (is_written(s, op, k))
            status = look_at_result(t, &s->call.in[k], wr_node_inputs(t->p->g, s->node)[k]);
    return status;
}

/* Views are not run: they are as infinite as what they show. */
static void pass_on(const trapping *t) {
    const wr_graph *g = t->p->g;
    const uint32_t *in = wr_node_inputs(g, t->s->node);
    for (int k = 0; k < t->s->call.n_in; k++) {
        uint32_t id = in[k], at = id;
        while ((wr_node_at(g, at)->op->traits & WR_VIEW) && !t->t->infinite[at])
            at = wr_node_inputs(g, at)[0];
        t->t->infinite[id] = t->t->infinite[at];
    }
}

static int most_operands(const wr_plan *p) {
    int most = 1;
    for (int i = 0; i < p->n_steps; i++)
        if (p->step[i].call.n_in > most) most = p->step[i].call.n_in;
    return most;
}

static wr_status run_step(trapping *t, wr_run_env *env) {
    pass_on(t);
    wr_status status = look_before(t);
    if (status != WR_OK) return status;
    double start = t->p->profile ? wr_now() : 0;
    status = t->s->kernel(&t->s->call);
    if (t->p->profile) t->p->step[t->s - t->p->step].seconds += wr_now() - start;
    if (status != WR_OK) return wr__step_failed(t->p, t->s, status, env->err);
    return look_after(t);
}

wr_status wr__trap_run(wr_plan *p, wr_run_env *env, wr__running *r) {
    uint32_t nodes = wr_node_count(p->g);
    int most = most_operands(p);
    trapping t = {.p = p, .t = p->trap, .err = env->err};
    t.before = malloc(sizeof *t.before * (size_t)most);
    t.kept = calloc((size_t)most, sizeof *t.kept);
    memset(t.t->infinite, 0, sizeof *t.t->infinite * nodes);
    memset(t.t->seen, 0, sizeof *t.t->seen * nodes);
    bool ok = t.before != NULL && t.kept != NULL;
    wr_status status = ok ? WR_OK : wr_fail_memory(env->err, "the trap for NaN", (size_t)most);
    for (int i = 0; status == WR_OK && i < p->n_steps; i++) {
        r->step = i;
        t.s = &p->step[i];
        p->step[i].call.env = env;
        status = run_step(&t, env);
    }
    free(t.before);
    free(t.kept);
    return status;
}

wr_status wr__trap_output(const wr_plan *p, int k, const wr_tensor *output, uint32_t root,
                          wr_error *err) {
    if (output->rank != 0 || !is_float(output)) return WR_OK;
    range r = look(output);
    if (r.nan == 0 && r.inf == 0) return WR_OK;
    uint32_t from = p->trap->infinite[root] != 0 ? p->trap->infinite[root] : root;
    wr_str out = {0};
    print_head(p, from, &out);
    wr_str_add(&out, "made an infinity%s that reached output %d of the program\n  first ",
               of_what(p, from), k);
    wr_node_describe(p->g, from, &out);
    wr_str_add(&out, "\n  output ");
    print_line(p, root, &r, &out);
    print_tail(p, from, &out);
    wr_str_add(&out, "  hint: log(0), x / 0, exp of a large number");
    return finish(&out, err);
}
