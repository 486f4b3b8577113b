/* bench.c: `weir bench`: the time of training steps and of decoding, against the machine's best. */
#include "cli/bench.h"

#include "cli/model_graph.h"
#include "cli/run_dir.h"
#include "optim/optimizer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a random batch ---- */

static int32_t *random_ids(uint64_t seed, int64_t n, int64_t vocab) {
    int32_t *x = malloc(sizeof *x * (size_t)n);
    for (int64_t i = 0; x != NULL && i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        x[i] = (int32_t)(4 + (seed >> 33) % (uint64_t)(vocab - 4));
    }
    return x;
}

static int32_t *constant_ids(int64_t n, int64_t value) {
    int32_t *x = malloc(sizeof *x * (size_t)n);
    for (int64_t i = 0; x != NULL && i < n; i++)
        x[i] = (int32_t)value;
    return x;
}

wr_status wr_bench_batch(wr_bench *b, wr_error *err) {
    const wr_bench_options *o = b->o;
    b->src = random_ids(1, o->batch * o->src_len, b->src_vocab);
    b->tgt = random_ids(2, o->batch * o->tgt_len, b->tgt_vocab);
    b->src_len = constant_ids(o->batch, o->src_len);
    b->tgt_len = constant_ids(o->batch, o->tgt_len);
    b->ms = malloc(sizeof *b->ms * (size_t)o->repeat);
    bool ok = b->src != NULL && b->tgt != NULL && b->src_len != NULL && b->tgt_len != NULL &&
              b->ms != NULL;
    return ok ? WR_OK : wr_fail_memory(err, "a batch", sizeof(int32_t) * (size_t)o->batch);
}

wr_batch wr_bench_batch_of(const wr_bench *b) {
    return (wr_batch){.B = (int32_t)b->o->batch,
                      .S = (int32_t)b->o->src_len,
                      .T = (int32_t)b->o->tgt_len,
                      .src = b->src,
                      .src_len = b->src_len,
                      .tgt_in = b->tgt,
                      .tgt_out = b->tgt,
                      .tgt_len = b->tgt_len,
                      .src_tokens = b->o->batch * b->o->src_len,
                      .tgt_tokens = b->o->batch * b->o->tgt_len};
}

/* ---- timing ---- */

wr_status wr_bench_step(wr_bench *b, wr_batch batch, uint64_t step, wr_error *err) {
    const wr_stage *stage = &b->programs.stage[b->programs.stages - 1];
    wr_status status = wr_fed_fill(&b->programs.feeding, &batch, &b->fed, err);
    if (status != WR_OK) return status;
    bool by_sentence = b->programs.weight == WR_PER_SENTENCE;
    b->numbers = (wr_step_numbers){.lr = 1e-4,
                                   .scale = 1.0 / (by_sentence ? b->fed.sentences : b->fed.tokens),
                                   .kl = 1,
                                   .update = (int32_t)step};
    int n = wr_programs_feed(stage->update, &b->numbers, b->fed.feed, b->fed.n);
    wr_session_set_step(b->session, step);
    return wr_session_run(b->session, stage->update, n, b->fed.feed, err);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double wr_bench_median(double *x, int64_t n) {
    qsort(x, (size_t)n, sizeof *x, by_value);
    return x[n / 2];
}

double wr_bench_os_bytes(const char *field) {
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    double kib = 0;
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, field, strlen(field)) == 0) kib = strtod(line + strlen(field), NULL);
    if (f != NULL) fclose(f);
    return kib * 1024;
}

/* The most bytes of values that are alive at one step, parameters' gradients left out: what the
 * model keeps for its backward part, and passing values. */
static size_t activation_bytes(const wr_plan *plan) {
    uint32_t nodes = wr_node_count(plan->g);
    int64_t *change = calloc((size_t)plan->n_steps + 2, sizeof *change), now = 0, most = 0;
    bool *gradient = calloc(nodes, sizeof *gradient);
    for (uint32_t id = 1; gradient != NULL && id < nodes; id++) {
        const wr_node *x = wr_node_at(plan->g, id);
        for (int k = 0; (x->op->traits & WR_STATEFUL) && k < x->n_in; k++)
            gradient[plan->value[wr_node_inputs(plan->g, id)[k]].root] = true;
    }
    for (uint32_t id = 1; change != NULL && gradient != NULL && id < nodes; id++) {
        const wr_value *v = &plan->value[id];
        if (v->place != WR_PLACE_ARENA || v->root != id || v->first < 0 || gradient[id]) continue;
        change[v->first] += (int64_t)v->bytes;
        change[v->last + 1] -= (int64_t)v->bytes;
    }
    for (int i = 0; change != NULL && i < plan->n_steps; i++) {
        now += change[i];
        if (now > most) most = now;
    }
    free(change);
    free(gradient);
    return (size_t)most;
}

/* Gaps: what a step takes beyond its kernels. */
static void print_kernels(const wr_bench_device *d, double ms) {
    if (d->kernel_ms > 0)
        printf(" \"kernel_ms\": %.3f, \"gap_ms\": %.3f,", d->kernel_ms, fmax(ms - d->kernel_ms, 0));
}

static wr_status print_result(wr_bench *b, wr_error *err) {
    const wr_bench_options *o = b->o;
    const wr_plan *plan = wr_session_plan(b->session);
    wr_session_counters c = wr_session_count(b->session);
    size_t activations = activation_bytes(plan);
    int steps = plan->n_steps;
    double plan_ms = plan->seconds * 1e3, gflop = plan->flops / 1e9;
    double os_bytes = wr_bench_os_bytes("VmHWM:"); /* before the large products below */
    double ms = wr_bench_median(b->ms, o->repeat), rate = gflop / ms * 1e3;
    wr_bench_device d = {.launches = steps};
    wr_status status = o->profile ? WR_OK : wr_bench_kernels(b, &d, err);
    double peak = 0;
    if (status == WR_OK) status = wr_bench_peak_gflops(b, &peak, err);
    if (status != WR_OK) return status;
    printf("{\"step_ms\": %.3f, \"step_ms_min\": %.3f, \"step_ms_max\": %.3f, \"tokens_per_s\": "
           "%.1f, \"gflop\": %.3f, \"gflops\": %.2f, \"gemm_peak_gflops\": %.2f, \"utilisation\": "
           "%.4f, \"peak_bytes\": %zu, \"persistent_bytes\": %zu, \"activation_bytes\": %zu, "
           "\"os_peak_bytes\": %.0f, \"kernels\": %d, \"launches\": %d,",
           ms, b->ms[0], b->ms[o->repeat - 1],
           (double)(o->batch * (o->src_len + o->tgt_len)) / ms * 1e3, gflop, rate, peak,
           rate / peak, c.persistent_bytes + c.arena_bytes, c.persistent_bytes, activations,
           os_bytes, steps, d.launches);
    print_kernels(&d, ms);
    printf(" \"plan_ms\": %.3f, \"threads\": %d}\n", plan_ms, wr_session_threads(b->session));
    return WR_OK;
}

wr_status wr_bench_training(wr_bench *b, wr_error *err) {
    const wr_bench_options *o = b->o;
    wr_status status = wr_bench_batch(b, err);
    if (status == WR_OK)
        status = wr_programs_new(&b->recipe, b->src_vocab, b->tgt_vocab, &b->programs, err);
    for (int64_t i = -2; status == WR_OK && i < o->repeat; i++) {
        double start = wr_now();
        status = wr_bench_step(b, wr_bench_batch_of(b), (uint64_t)(i + 2), err);
        if (i >= 0) b->ms[i] = (wr_now() - start) * 1e3;
    }
    if (status != WR_OK) return status;
    if (!o->profile) return print_result(b, err);
    status = wr_bench_profile(b, o->repeat + 2, true, err); /* of the plan that ran last */
    return status == WR_OK ? print_result(b, err) : status;
}

/* ---- many shapes ---- */

/* The i-th of many sizes: B, S and T walk through different ranges, so that few repeat. */
static wr_batch shape(const wr_bench *b, int64_t i) {
    const wr_bench_options *o = b->o;
    wr_batch batch = wr_bench_batch_of(b);
    batch.B = (int32_t)(1 + (i * 7) % o->batch);
    batch.S = (int32_t)(1 + (i * 5) % o->src_len);
    batch.T = (int32_t)(1 + (i * 3) % o->tgt_len);
    batch.tgt_tokens = batch.B * batch.T;
    return batch;
}

wr_status wr_bench_shapes(wr_bench *b, wr_error *err) {
    const wr_bench_options *o = b->o;
    wr_status status = wr_bench_batch(b, err);
    if (status == WR_OK)
        status = wr_programs_new(&b->recipe, b->src_vocab, b->tgt_vocab, &b->programs, err);
    if (status == WR_OK)
        status = wr_bench_step(b, wr_bench_batch_of(b), 0, err); /* the largest size first */
    double before = wr_bench_os_bytes("VmRSS:"), start = wr_now();
    double planned = wr_session_count(b->session).plan_seconds, slowest = 0;
    for (int64_t i = 0; status == WR_OK && i < o->shapes; i++) {
        wr_batch batch = shape(b, i);
        /* the lengths are as long as the rows: the arrays hold the longest */
        for (int32_t k = 0; k < batch.B; k++) {
            b->src_len[k] = batch.S;
            b->tgt_len[k] = batch.T;
        }
        status = wr_bench_step(b, batch, (uint64_t)i, err);
        double plan =
            wr_session_plan(b->session) == NULL ? 0 : wr_session_plan(b->session)->seconds;
        if (plan > slowest) slowest = plan;
    }
    if (status != WR_OK) return status;
    wr_session_counters c = wr_session_count(b->session);
    double seconds = wr_now() - start;
    printf("{\"shapes\": %lld, \"seconds\": %.3f, \"plan_seconds\": %.4f, \"plan_share\": %.5f, "
           "\"plan_ms_max\": %.3f, \"plan_misses\": %llu, \"plan_evictions\": %llu, "
           "\"rss_before\": %.0f, \"rss_after\": %.0f}\n",
           (long long)o->shapes, seconds, c.plan_seconds - planned,
           (c.plan_seconds - planned) / seconds, slowest * 1e3, (unsigned long long)c.plan_misses,
           (unsigned long long)c.plan_evictions, before, wr_bench_os_bytes("VmRSS:"));
    return WR_OK;
}

static wr_status read_vocab(wr_bench *b, wr_error *err) {
    wr_model_sizes m = {.recipe = b->recipe};
    wr_status status = wr_model_sizes_vocab(b->o->vocab, &m, err);
    b->src_vocab = m.src_vocab;
    b->tgt_vocab = m.tgt_vocab;
    bool few = status == WR_OK && (m.src_vocab < 8 || m.tgt_vocab < 8);
    return few ? wr_fail(err, WR_ERR_USAGE, "--vocab: at least 8 words, some are special") : status;
}

/* --objective NAME is one more --set. */
static wr_status load_recipe(const wr_bench_options *o, wr_recipe *r, wr_error *err) {
    if (o->objective == NULL) return wr_recipe_load(o->recipe, o->set.items, o->set.n, r, err);
    wr_str name = {0};
    wr_str_add(&name, "objective.name=%s", o->objective);
    const char **set = malloc(sizeof *set * (o->set.n + 1));
    if (set == NULL || name.oom) {
        free(set);
        wr_str_free(&name);
        return wr_fail_memory(err, "settings", sizeof *set * (o->set.n + 1));
    }
    for (size_t i = 0; i < o->set.n; i++)
        set[i] = o->set.items[i];
    set[o->set.n] = wr_str_text(&name);
    wr_status status = wr_recipe_load(o->recipe, set, o->set.n + 1, r, err);
    free(set);
    wr_str_free(&name);
    return status;
}

static wr_status run(const wr_bench_options *o, wr_error *err) {
    wr_bench b = {.o = o};
    wr_status status = load_recipe(o, &b.recipe, err);
    if (status == WR_OK) status = read_vocab(&b, err);
    b.recipe.train.accumulate = 1; /* one batch is one step */
    int longest = (int)(o->src_len > o->tgt_len ? o->src_len : o->tgt_len);
    if (b.recipe.model.max_len < longest) b.recipe.model.max_len = longest;
    wr_session_options so = {.device = o->device,
                             .threads = (int)o->threads,
                             .seed = 1,
                             .profile = o->profile,
                             .trap_nan = o->trap_nan};
    wr_precision_find(o->precision, &so.precision);
    if (status == WR_OK) status = wr_session_new(&so, &b.session, err);
    if (status == WR_OK && strcmp(o->what, "decode") == 0)
        status = wr_bench_decoding(&b, err);
    else if (status == WR_OK && strcmp(o->what, "build") == 0)
        status = wr_bench_building(&b, err);
    else if (status == WR_OK && strcmp(o->what, "overhead") == 0)
        status = wr_bench_overhead(&b, err);
    else if (status == WR_OK)
        status = o->shapes > 0 ? wr_bench_shapes(&b, err) : wr_bench_training(&b, err);
    wr_session_free(b.session);
    wr_programs_free(&b.programs);
    wr_fed_free(&b.fed);
    free(b.src);
    free(b.tgt);
    free(b.src_len);
    free(b.tgt_len);
    free(b.ms);
    return status;
}

int wr_cmd_bench(int argc, char **argv) {
    wr_bench_options o = {0};
    const wr_opt table[] = {
        {"RECIPE", WR_OPT_STRING, &o.recipe, .help = "the recipe to time", .required = true},
        {"--what", WR_OPT_STRING, &o.what, .fallback = "train",
         .choices = "train|decode|build|overhead",
         .help = "what to time; build: the graph of the loss and its gradient, with and without "
                 "traces; overhead: what the executor adds to the kernels of a training step"},
        {"--decode", WR_OPT_STRING, &o.decode,
         .choices = "greedy|beam|argmax|mask-predict|ctc|ctc-beam",
         .help = "decoding: how; a FlowSeq has argmax, a Transformer what --beam says"},
        {"--iterations", WR_OPT_INT, &o.iterations, .value = "I", .min = 1, .max = 1000,
         .help = "decoding by mask-predict: passes; without it as the recipe says"},
        {"--objective", WR_OPT_STRING, &o.objective, .value = "NAME",
         .help = "training of a non-autoregressive model: objective.name instead of the recipe's"},
        {"--batch", WR_OPT_INT, &o.batch, .value = "B", .fallback = "32", .min = 1, .max = 65536,
         .help = "sentences in a batch"},
        {"--src-len", WR_OPT_INT, &o.src_len, .value = "S", .fallback = "24", .min = 1, .max = 4096,
         .help = "source length in tokens"},
        {"--tgt-len", WR_OPT_INT, &o.tgt_len, .value = "T", .fallback = "24", .min = 1, .max = 4096,
         .help = "target length in tokens"},
        {"--vocab", WR_OPT_STRING, &o.vocab, .value = "N", .help = WR_VOCAB_HELP},
        {"--device", WR_OPT_STRING, &o.device, .fallback = "cpu", .help = "where to run"},
        {"--precision", WR_OPT_STRING, &o.precision, .fallback = "f32", .choices = "f32|tf32|bf16",
         .help = "operands of matrix products on cuda; sums are f32"},
        {"--threads", WR_OPT_INT, &o.threads, .fallback = "0", .min = 0, .max = 1024,
         .help = "processor threads; 0: all"},
        {"--beam", WR_OPT_INT, &o.beam, .value = "K", .fallback = "1", .min = 1, .max = 256,
         .help = "decoding: hypotheses of a sentence; 1 is greedy, of ctc-beam 20"},
        {"--shapes", WR_OPT_INT, &o.shapes, .value = "N", .fallback = "0", .min = 0, .max = 100000,
         .help = "training: N steps of as many different sizes instead; tells what planning costs"},
        {"--repeat", WR_OPT_INT, &o.repeat, .value = "N", .fallback = "10", .min = 1, .max = 10000,
         .help = "counted steps; the median is printed"},
        {"--profile", WR_OPT_FLAG, &o.profile,
         .help = "also print on stderr where time and memory go, by row and by scope"},
        {"--profile-depth", WR_OPT_INT, &o.profile_depth, .value = "N", .fallback = "2", .min = 0,
         .max = 1000, .help = "parts of scopes that --profile tells apart"},
        {"--profile-svg", WR_OPT_STRING, &o.profile_svg, .value = "F",
         .help = "write the time by scope as a picture, too; implies --profile"},
        {"--trap-nan", WR_OPT_FLAG, &o.trap_nan, .help = WR_TRAP_HELP},
        {"--set", WR_OPT_LIST, &o.set, .value = "KEY=VALUE", .help = "change a key of the recipe"},
    };
    const wr_cli cli = {.command = "bench",
                        .summary = "time training steps, decoding, or building the graph",
                        .opts = table,
                        .opt_n = WR_COUNT(table),
                        .notes = "example: weir bench recipes/transformer-base.yaml --vocab 32000 "
                                 "--profile"};
    int code = wr_cli_begin(&cli, argc, argv);
    if (code >= 0) return code;
    wr_error err = {0};
    o.profile = o.profile || o.profile_svg != NULL;
    code = wr_cli_end(run(&o, &err), &err);
    wr_list_free(&o.set);
    return code;
}
