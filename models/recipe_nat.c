/* recipe_nat.c: see recipe_nat.h. */
#include "models/recipe_nat.h"

#include "models/recipe_table.h"

#include <stdio.h>
#include <string.h>

static const wr_objective *row_of(const wr_recipe *r) {
    return wr_objective_at((size_t)r->objective.name);
}

wr_recipe_length wr_recipe_length_of(const wr_recipe *r) {
    if (r->nat.length != WR_RECIPE_LENGTH_AUTO) return r->nat.length;
    return r->objective.name == WR_RECIPE_OBJECTIVE_CTC ? WR_RECIPE_LENGTH_NONE
                                                        : WR_RECIPE_LENGTH_POOLED;
}

wr_recipe_glancing wr_recipe_glancing_of(const wr_recipe *r) {
    if (r->objective.glancing != WR_RECIPE_GLANCE_AUTO) return r->objective.glancing;
    return r->objective.name == WR_RECIPE_OBJECTIVE_GLAT ? WR_RECIPE_GLANCE_HAMMING
                                                         : WR_RECIPE_GLANCE_NONE;
}

wr_recipe_decode_method wr_recipe_method_of(const wr_recipe *r) {
    if (r->decode.method != WR_RECIPE_METHOD_AUTO) return r->decode.method;
    if (r->objective.name == WR_RECIPE_OBJECTIVE_CTC) return WR_RECIPE_CTC;
    return r->objective.name == WR_RECIPE_OBJECTIVE_CMLM ? WR_RECIPE_MASK_PREDICT
                                                         : WR_RECIPE_ARGMAX;
}

/* ---- the model ---- */

static int padded(const wr_recipe *r, int length) {
    int multiple = r->data.length_multiple;
    return (length + multiple - 1) / multiple * multiple;
}

static void fill(const wr_recipe *r, wr_nat *n) {
    bool frames = wr_recipe_length_of(r) == WR_RECIPE_LENGTH_NONE;
    int begin = r->nat.framing == WR_RECIPE_FRAME_BOS_EOS ? 1 : 0;
    n->m = r->model;
    n->inputs = r->nat.inputs;
    n->input_temperature = r->nat.input_temperature;
    n->place_every_layer = r->nat.place_every_layer;
    n->framing = r->nat.framing;
    n->length = wr_recipe_length_of(r);
    n->length_offset = r->nat.length_offset;
    n->length_classes = r->nat.length_classes;
    n->frames = frames ? r->nat.upsample : 0;
    n->upsampling = r->nat.upsampling;
    n->max_source = padded(r, r->model.max_len);
    n->max_target = padded(r, r->model.max_len + begin);
    n->max_positions = frames ? n->frames * n->max_source : n->max_target;
}

wr_status wr_recipe_nat_model(const wr_recipe *r, int src_vocab, int tgt_vocab, bool training,
                              wr_nat *n, wr_error *err) {
    *n = (wr_nat){
        .src_vocab = src_vocab, .tgt_vocab = tgt_vocab, .dtype = WR_F32, .training = training};
    if (r->model.type != WR_RECIPE_NAT)
        return wr_fail(err, WR_ERR_INPUT, "model.type must be nat here");
    fill(r, n);
    if (r->model.embeddings == WR_RECIPE_EMBED_JOINT && src_vocab != tgt_vocab)
        return wr_fail(err, WR_ERR_INPUT,
                       "model.embeddings is joint, but the vocabularies have %d and %d pieces; use "
                       "a joint vocabulary or model.embeddings=target",
                       src_vocab, tgt_vocab);
    return WR_OK;
}

/* ---- the objective ---- */

enum { PATH_BYTES = 64 };

static const wr__key *key_of(const char *option) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "objective.%s", option);
    return wr__key_find(path);
}

/* An option with the value of its key, when there is one and it says anything. */
static wr_status set_option(const wr_recipe *r, const char *option, wr_objective_config *c,
                            wr_error *err) {
    const wr__key *key = key_of(option);
    if (key == NULL) return WR_OK;
    wr_str value = {0};
    wr__key_write(key, r, &value);
    wr_status status = value.oom ? wr_fail_memory(err, option, value.cap) : WR_OK;
    if (status == WR_OK && strcmp(wr_str_text(&value), "auto") != 0)
        status = wr_objective_set(c, option, wr_str_text(&value), err);
    wr_str_free(&value);
    return status;
}

wr_status wr_recipe_objective_of(const wr_recipe *r, wr_objective_config *c, wr_error *err) {
    const wr_objective *row = row_of(r);
    *c = wr_objective_init(row);
    wr_status status = WR_OK;
    for (int k = 0; status == WR_OK && row->options[k].name != NULL; k++)
        status = set_option(r, row->options[k].name, c, err);
    for (size_t k = 0; status == WR_OK && wr_objective_common(k) != NULL; k++)
        status = set_option(r, wr_objective_common(k)->name, c, err);
    c->label_smoothing = r->train.label_smoothing;
    return status == WR_OK ? wr_objective_check(c, err) : status;
}

wr_status wr_recipe_nat_training(const wr_recipe *r, wr_nat_training *t, wr_error *err) {
    const wr_recipe_objective *o = &r->objective;
    wr_objective_config config;
    wr_status status = wr_recipe_objective_of(r, &config, err);
    if (status != WR_OK) return status;
    wr_objective_host_init(&t->objective, &config);
    int updates = o->glance_updates > 0 ? o->glance_updates : r->train.max_updates;
    t->revealing = (wr_nat_revealing){.masking = o->masking,
                                      .visible = o->visible,
                                      .glancing = wr_recipe_glancing_of(r),
                                      .glance_from = o->glance_from,
                                      .glance_to = o->glance_to,
                                      .glance_updates = updates};
    t->length_weight = r->nat.length_weight;
    return WR_OK;
}

/* ---- decoding ---- */

static wr_nat_method method_of(const wr_recipe *r) {
    switch (wr_recipe_method_of(r)) {
    case WR_RECIPE_MASK_PREDICT:
        return WR_NAT_MASK_PREDICT;
    case WR_RECIPE_CTC:
        return WR_NAT_CTC;
    case WR_RECIPE_CTC_BEAM:
        return WR_NAT_CTC_BEAM;
    default:
        return WR_NAT_ARGMAX;
    }
}

wr_nat_search_options wr_recipe_nat_search(const wr_recipe *r) {
    const wr_recipe_decode *d = &r->decode;
    wr_nat_search_options o = wr_nat_search_defaults(false, false);
    o.method = method_of(r);
    o.lengths = d->lengths;
    o.window = d->length_window;
    o.length_factor = d->length_factor;
    o.passes = d->iterations;
    o.adaptive = d->adaptive;
    o.dedup = d->dedup;
    o.beam = d->beam;
    o.symbols = d->symbols;
    o.length_bonus = d->length_bonus;
    o.max_sentences = d->max_sentences;
    return o;
}

/* ---- keys that do nothing ---- */

/* "objective.name = ctc", "nat.length = auto (here none)". */
static void add_choice(const wr_recipe *r, const char *path, wr_str *text) {
    const wr__key *key = wr__key_find(path);
    wr_recipe resolved = *r;
    resolved.nat.length = wr_recipe_length_of(r);
    resolved.objective.glancing = wr_recipe_glancing_of(r);
    resolved.decode.method = wr_recipe_method_of(r);
    wr_str now = {0}, means = {0};
    wr__key_write(key, r, &now);
    wr__key_write(key, &resolved, &means);
    bool same = strcmp(wr_str_text(&now), wr_str_text(&means)) == 0;
    wr_str_add(text, "%s = %s", path, wr_str_text(&now));
    if (!same) wr_str_add(text, " (here %s)", wr_str_text(&means));
    text->oom = text->oom || now.oom || means.oom;
    wr_str_free(&now);
    wr_str_free(&means);
}

static bool starts(const char *path, const char *with) {
    return strncmp(path, with, strlen(with)) == 0;
}

static bool is(const char *path, const char *name) { return strcmp(path, name) == 0; }

/* has_effect() of keys of decoding. */
static bool decoding_has_effect(const wr_recipe *r, const char *path, const char **by,
                                const char **with) {
    wr_recipe_decode_method method = wr_recipe_method_of(r);
    *by = "decode.method";
    *with = "mask-predict";
    if (is(path, "decode.iterations") || is(path, "decode.adaptive"))
        return method == WR_RECIPE_MASK_PREDICT;
    *with = "ctc-beam";
    if (is(path, "decode.beam") || is(path, "decode.symbols") || is(path, "decode.length_bonus"))
        return method == WR_RECIPE_CTC_BEAM;
    bool frames = wr_recipe_length_of(r) == WR_RECIPE_LENGTH_NONE;
    *by = "nat.length";
    *with = "pooled, token or difference";
    if (starts(path, "decode.length") && frames) return false;
    *by = "decode.lengths";
    *with = "at least 2";
    return !is(path, "decode.length_window") || r->decode.lengths > 1;
}

/* The key that decides whether `path` has an effect goes to *by; the words with which it has to
 * *with. True when it has. */
static bool has_effect(const wr_recipe *r, const char *path, const char **by, const char **with) {
    bool frames = wr_recipe_length_of(r) == WR_RECIPE_LENGTH_NONE;
    bool mixes = r->nat.inputs == WR_RECIPE_INPUT_SOFT || r->nat.inputs == WR_RECIPE_INPUT_INTERP;
    bool open =
        r->nat.length == WR_RECIPE_LENGTH_AUTO; /* another objective may have a use for it */
    if (starts(path, "decode.")) return decoding_has_effect(r, path, by, with);
    *by = "nat.length";
    *with = "none";
    if (starts(path, "nat.upsampl")) return frames || open;
    *with = "pooled, token or difference";
    if (is(path, "nat.inputs") || is(path, "nat.length_weight")) return !frames || open;
    *with = "pooled or token";
    if (is(path, "nat.length_classes") || is(path, "nat.length_offset"))
        return open || (!frames && r->nat.length != WR_RECIPE_LENGTH_DIFFERENCE);
    *by = "nat.inputs";
    *with = "soft or interp";
    if (is(path, "nat.input_temperature")) return mixes;
    *by = "objective.masking";
    *with = "fixed";
    if (is(path, "objective.visible") && r->objective.name == WR_RECIPE_OBJECTIVE_CMLM)
        return r->objective.masking == WR_RECIPE_MASKING_FIXED;
    *by = "objective.name";
    *with = "cmlm";
    if (is(path, "objective.masking") || is(path, "objective.visible"))
        return r->objective.name == WR_RECIPE_OBJECTIVE_CMLM;
    *by = "objective.glancing";
    *with = "hamming, levenshtein, p_ref, one_minus_p_ref or fixed";
    if (starts(path, "objective.glance_")) return wr_recipe_glancing_of(r) != WR_RECIPE_GLANCE_NONE;
    return true;
}

/* Whether some objective has an option of this key; *with gets its name. */
static bool of_objective(const wr_recipe *r, const char *path, const char **with) {
    const char *name = path + strlen("objective.");
    *with = NULL;
    for (size_t i = 0; wr_objective_at(i) != NULL; i++)
        for (int k = 0; wr_objective_at(i)->options[k].name != NULL; k++) {
            if (strcmp(wr_objective_at(i)->options[k].name, name) != 0) continue;
            *with = wr_objective_at(i)->name;
            if (wr_objective_at(i) == row_of(r)) return true;
        }
    return *with == NULL;
}

bool wr_recipe_nat_uses(const wr_recipe *r, const char *path, wr_recipe_conflict *c) {
    const char *by, *with;
    if (!starts(path, "nat.") && !starts(path, "objective.") && !starts(path, "decode."))
        return true;
    bool used = has_effect(r, path, &by, &with);
    if (used && starts(path, "objective.") && !of_objective(r, path, &with)) {
        by = "objective.name";
        used = false;
    }
    if (used) return true;
    c->a = path;
    c->b = by;
    wr_str_add(&c->what, "%s has an effect with %s %s only, but ", path, by, with);
    add_choice(r, by, &c->what);
    wr_str_add(&c->what, ", where it would do nothing; leave it out");
    return false;
}

/* ---- what does not go together ---- */

static bool glances(wr_recipe_objective_name name) {
    return name == WR_RECIPE_OBJECTIVE_CE || name == WR_RECIPE_OBJECTIVE_GLAT ||
           name == WR_RECIPE_OBJECTIVE_CTC;
}

static bool length_fits(const wr_recipe *r, wr_recipe_conflict *c) {
    const wr_objective *row = row_of(r);
    bool frames = wr_recipe_length_of(r) == WR_RECIPE_LENGTH_NONE;
    c->a = "objective.name";
    c->b = "nat.length";
    if (frames && row->aligned)
        wr_str_add(&c->what,
                   "objective.name = %s compares position t with target word t, but nat.length = "
                   "none gives %d positions a source word (nat.upsample); allowed: nat.length "
                   "pooled, token or difference, or objective.name axe or ctc",
                   row->name, r->nat.upsample);
    else if (!frames && r->objective.name == WR_RECIPE_OBJECTIVE_CTC)
        wr_str_add(&c->what,
                   "objective.name = ctc needs more positions than target words, but nat.length "
                   "predicts their number; allowed: nat.length none or auto");
    return c->what.len == 0;
}

static bool glancing_fits(const wr_recipe *r, wr_recipe_conflict *c) {
    const wr_objective *row = row_of(r);
    wr_recipe_glancing glancing = wr_recipe_glancing_of(r);
    c->a = "objective.name";
    c->b = "objective.glancing";
    if (glancing != WR_RECIPE_GLANCE_NONE && !glances(r->objective.name))
        wr_str_add(&c->what,
                   "objective.glancing gives words that belong to positions, which objective.name "
                   "= %s does not tell; allowed: objective.name ce, glat or ctc, or "
                   "objective.glancing none",
                   row->name);
    else if (glancing == WR_RECIPE_GLANCE_NONE && r->objective.name == WR_RECIPE_OBJECTIVE_GLAT)
        wr_str_add(&c->what, "objective.name = glat without glancing is ce; allowed: "
                             "objective.name ce, or objective.glancing auto, hamming, "
                             "levenshtein, p_ref, one_minus_p_ref or fixed");
    else if (r->objective.name == WR_RECIPE_OBJECTIVE_CTC &&
             (glancing == WR_RECIPE_GLANCE_LEVENSHTEIN || glancing == WR_RECIPE_GLANCE_P_REF ||
              glancing == WR_RECIPE_GLANCE_NOT_P_REF))
        wr_str_add(&c->what, "objective.name = ctc gives each position its word with one "
                             "probability; allowed: objective.glancing none, hamming or fixed");
    return c->what.len == 0;
}

static bool method_fits(const wr_recipe *r, wr_recipe_conflict *c) {
    const wr_recipe_decode_method method = r->decode.method;
    const char *name = wr_nat_method_name(method_of(r));
    bool ctc = r->objective.name == WR_RECIPE_OBJECTIVE_CTC;
    bool frames = wr_recipe_length_of(r) == WR_RECIPE_LENGTH_NONE;
    c->a = "decode.method";
    c->b = "objective.name";
    if ((method == WR_RECIPE_CTC || method == WR_RECIPE_CTC_BEAM) && !ctc)
        wr_str_add(&c->what,
                   "decode.method = %s merges frames, which objective.name = %s does not train; "
                   "allowed: decode.method auto%s, or objective.name ctc",
                   name, row_of(r)->name, frames ? " or argmax" : ", argmax or mask-predict");
    else if ((method == WR_RECIPE_ARGMAX || method == WR_RECIPE_MASK_PREDICT) && ctc)
        wr_str_add(&c->what,
                   "decode.method = %s says a word in each position, but objective.name = ctc "
                   "trains frames that are merged; allowed: decode.method auto, ctc or ctc-beam",
                   name);
    if (c->what.len > 0) return false;
    c->b = "nat.length";
    if (method == WR_RECIPE_MASK_PREDICT && frames)
        wr_str_add(&c->what, "decode.method = mask-predict says words again in their places, which "
                             "the frames of nat.length = none do not have; allowed: decode.method "
                             "auto or argmax, or nat.length pooled, token or difference");
    return c->what.len == 0;
}

/* No sentence has more lengths than the model has classes. */
static bool lengths_fit(const wr_recipe *r, wr_recipe_conflict *c) {
    wr_nat n = {0};
    fill(r, &n);
    if (n.frames > 0 || r->decode.lengths <= wr_nat_length_classes(&n)) return true;
    bool differences = n.length == WR_RECIPE_LENGTH_DIFFERENCE;
    c->a = "decode.lengths";
    c->b = differences ? "nat.length" : "nat.length_classes";
    wr_str_add(&c->what,
               "decode.lengths = %d, but there are %d classes of lengths (%s); allowed: at most as "
               "many",
               r->decode.lengths, wr_nat_length_classes(&n),
               differences ? "nat.length = difference" : "nat.length_classes");
    return false;
}

bool wr_recipe_nat_fits(const wr_recipe *r, wr_recipe_conflict *c) {
    return length_fits(r, c) && glancing_fits(r, c) && method_fits(r, c) && lengths_fit(r, c);
}
