/* host.c: see host.h. A row per number of outputs; the attribute holds the function's address. */
#include "ops/host.h"

#include "ops/elementwise.h"
#include "ops/shape.h"

#include <string.h>

enum { FUNCTION = 0 };

wr wr_host_at(wr_loc loc, const wr_host_fn *fn, int n_in, const wr *in) {
    static const wr_op *const rows[] = {&wr_op_host, &wr_op_host2, &wr_op_host3, &wr_op_host4};
    for (int k = 0; k < n_in; k++)
        if (wr_is_poison(in[k])) return in[k];
    if (n_in < 1) return (wr){0};
    if (fn->n_out < 1 || fn->n_out > WR_HOST_OUTPUTS)
        return wr_mistake(in[0].g, loc, "host function \"%s\": %d outputs; 1 to %d are possible",
                          fn->name, fn->n_out, WR_HOST_OUTPUTS);
    uintptr_t address = (uintptr_t)fn;
    wr_attr attr[1] = {{.blob = wr_blob_intern(in[0].g, &address, sizeof address)}};
    if (attr[FUNCTION].blob == 0) return (wr){in[0].g, 0};
    return wr_emit(loc, rows[fn->n_out - 1], n_in, in, attr);
}

static const wr_host_fn *pointed(const void *blob) {
    uintptr_t address;
    memcpy(&address, blob, sizeof address);
    return (const wr_host_fn *)address;
}

static const wr_host_fn *function_of(const wr_graph *g, const wr_attr *attr) {
    return pointed(wr_blob_at(g, attr[FUNCTION].blob, NULL));
}

static bool host_shape(wr_shape_ctx *c) {
    enum { MOST = 16 };
    const wr_host_fn *fn = function_of(c->g, c->attr);
    wr_type in[MOST];
    const char *why = "its operands do not fit";
    if (c->n_in > MOST)
        return wr_shape_fail(c, "at most 16 operands", NULL, "%d operands for \"%s\"", c->n_in,
                             fn->name);
    for (int k = 0; k < c->n_in; k++)
        in[k] = wr_type_of(c->in[k]);
    if (fn->shape(fn->context, c->g, c->n_in, in, c->out, &why)) return true;
    return wr_shape_fail(c, NULL, NULL, "host function \"%s\": %s", fn->name, why);
}

static wr_cost host_cost(const wr_call *c) { return (wr_cost){.bytes = wr_bytes_moved(c)}; }

static wr_status host_cpu(const wr_call *c) {
    const wr_host_fn *fn = pointed(c->blob[FUNCTION]);
    wr_status status =
        fn->run(fn->context, c->n_in, c->in, c->n_out, c->out, c->env->threads, c->env->err);
    if (status == WR_OK) return WR_OK;
    return wr_fail(c->env->err, status, "host function \"%s\" failed", fn->name);
}

static bool host_grad(wr_grad_ctx *c) {
    const wr_host_fn *fn = function_of(c->g, c->attr);
    if (fn->grad != NULL) return fn->grad(fn->context, c);
    if (fn->stops) return true;
    wr_mistake(c->g, WR_HERE,
               "host function \"%s\" has no gradient\n  hint: give it `grad`, or set `stops` when "
               "none is wanted",
               fn->name);
    return false;
}

/* ---- the sample: powers x, x^2, .. of one operand ---- */

static bool powers_shape(void *context, wr_graph *g, int n_in, const wr_type *in, wr_type *out,
                         const char **why) {
    int n_out = (int)(intptr_t)context;
    (void)g;
    *why = "one float operand is expected";
    if (n_in != 1 || in[0].dtype == WR_I32) return false;
    for (int k = 0; k < n_out; k++)
        out[k] = in[0];
    return true;
}

static void power_of(const wr_tensor *x, int power, const wr_tensor *out) {
    for (int64_t i = 0; i < x->n; i++) {
        double v =
            x->dtype == WR_F32 ? (double)((const float *)x->data)[i] : ((const double *)x->data)[i];
        double y = v;
        for (int p = 1; p < power; p++)
            y *= v;
        if (x->dtype == WR_F32)
            ((float *)out->data)[i] = (float)y;
        else
            ((double *)out->data)[i] = y;
    }
}

static wr_status powers_run(void *context, int n_in, const wr_tensor *in, int n_out,
                            const wr_tensor *out, int threads, wr_error *err) {
    (void)context;
    (void)n_in;
    (void)threads;
    (void)err;
    for (int k = 0; k < n_out; k++)
        if (out[k].data != NULL) power_of(&in[0], k + 1, &out[k]);
    return WR_OK;
}

static bool powers_grad(void *context, wr_grad_ctx *c) {
    (void)context;
    wr power = {c->g, 0};
    for (int k = 0; k < c->n_out; k++) {
        wr slope = k == 0 ? c->cot[0] : wr_scale(wr_mul(c->cot[k], power), (double)(k + 1));
        if (c->cot[k].id != 0 && !wr_contribute(c, 0, slope)) return false;
        power = k == 0 ? c->in[0] : wr_mul(power, c->in[0]);
    }
    return true;
}

#define HOST_ROW(row, outputs)                                                                     \
    static const wr_host_fn row##_powers = {.name = "powers",                                      \
                                            .n_out = outputs,                                      \
                                            .context = (void *)(intptr_t)outputs,                  \
                                            .shape = powers_shape,                                 \
                                            .run = powers_run,                                     \
                                            .grad = powers_grad};                                  \
    static wr row##_sample(wr_sample *s) {                                                         \
        if (s->variant > 0) return (wr){s->g, 0};                                                  \
        int64_t dims[2] = {3, wr_sample_int(s, 1, 5)};                                             \
        wr x = s->input(s, WR_FILL_REAL, 0, 2, dims);                                              \
        return wr_host(&row##_powers, 1, &x);                                                      \
    }                                                                                              \
    const wr_op wr_op_##row = {.name = #row,                                                       \
                               .doc = "a user's function on host tensors",                         \
                               .traits = WR_MIXED,                                                 \
                               .n_in = 1,                                                          \
                               .n_in_max = WR_ANY_INPUTS,                                          \
                               .n_out = outputs,                                                   \
                               .attrs = {{"function", WR_ATTR_BLOB}},                              \
                               .shape = host_shape,                                                \
                               .cost = host_cost,                                                  \
                               .cpu = host_cpu,                                                    \
                               .grad = host_grad,                                                  \
                               .sample = row##_sample,                                             \
                               .no_inverse = "the user's function is not known to be a bijection"}
HOST_ROW(host, 1);
HOST_ROW(host2, 2);
HOST_ROW(host3, 3);
HOST_ROW(host4, 4);
