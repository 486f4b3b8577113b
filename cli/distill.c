/* distill.c: `weir distill`: a dataset directory whose training targets are a teacher's
 * translations (sequence-level knowledge distillation, Kim and Rush 2016), or with --dynamic the
 * best of several teachers' for each source (distill_dynamic.h). Text goes between teacher and
 * dataset, so that they may have different subword models. */
#include "cli/cli.h"
#include "cli/distill_dynamic.h"
#include "cli/run_dir.h"
#include "data/dataset.h"
#include "data/filter.h"
#include "data/score.h"
#include "data/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Seconds between lines of progress where there is no terminal; pairs looked at to see whether the
 * teacher fits; by how many nats a token may the wrong direction be the better one. */
enum { PLAIN_SECONDS = 30, PROBE_PAIRS = 64, PROBE_MARGIN = 1 };

typedef struct options {
    wr_run_options run;
    wr_run_search search;
    const char *data, *out;
    wr_list teachers, input, targets, set;
    bool drop_unfinished, dynamic, gamma_given, beta_given, student_given, table_given;
    wr_dynamic_options choice; /* of --dynamic */
} options;

/* The lines of several files one after the other, or of a split: `all` points into the others. */
typedef struct lines {
    wr_text all;
    wr_text *file; /* [files] */
    size_t files;
} lines;

typedef struct job {
    const options *o;
    wr_dataset *data;
    wr_run run; /* not opened with --targets */
    wr_search_options search;
    lines source, given; /* given: the files of --targets */
    /* The n sources that are worth translating, and their translations. */
    size_t n;
    size_t *line;          /* [n] in source.all */
    wr_ids ids;            /* as the teacher reads them */
    wr_sentence *sentence; /* [n] */
    wr_translations translated;
    wr_str text;               /* translations, each ends in NUL */
    wr_text src, tgt;          /* [n] lines that the filter sees */
    wr_filter_report left_out; /* the other sources, by reason */
    size_t beyond;             /* of them: too long for the teacher */
    size_t unfinished;         /* translations that were ended by force */
    wr_corpus corpus;
    wr_str chosen_from; /* of --dynamic: the candidates */
    wr_bar bar;
} job;

/* ---- lines ---- */

static wr_status reserve_lines(wr_text *t, size_t n, wr_error *err) {
    t->line = malloc(sizeof *t->line * (n + 1));
    t->len = malloc(sizeof *t->len * (n + 1));
    if (t->line == NULL || t->len == NULL)
        return wr_fail_memory(err, "lines", (n + 1) * sizeof *t->line);
    return WR_OK;
}

static void free_lines(lines *l) {
    for (size_t i = 0; i < l->files; i++)
        wr_text_free(&l->file[i]);
    free(l->file);
    wr_text_free(&l->all);
}

static wr_status name_lines(wr_text *t, const wr_list *paths, wr_error *err) {
    wr_str name = {0};
    for (size_t i = 0; i < paths->n; i++)
        wr_str_add(&name, "%s%s", i == 0 ? "" : " + ", paths->items[i]);
    t->path = name.oom ? NULL : wr_strdup(wr_str_text(&name));
    wr_str_free(&name);
    return t->path == NULL ? wr_fail_memory(err, "a path", 256) : WR_OK;
}

static wr_status read_files(const wr_list *paths, lines *l, wr_error *err) {
    size_t n = 0;
    l->file = calloc(paths->n, sizeof *l->file);
    if (l->file == NULL) return wr_fail_memory(err, "files", paths->n * sizeof *l->file);
    l->files = paths->n;
    for (size_t i = 0; i < paths->n; i++) {
        wr_status status = wr_text_read(paths->items[i], 0, &l->file[i], err);
        if (status != WR_OK) return status;
        n += l->file[i].n;
    }
    wr_status status = reserve_lines(&l->all, n, err);
    for (size_t i = 0; status == WR_OK && i < l->files; i++)
        for (size_t k = 0; k < l->file[i].n; k++) {
            l->all.line[l->all.n] = l->file[i].line[k];
            l->all.len[l->all.n++] = l->file[i].len[k];
        }
    return status == WR_OK ? name_lines(&l->all, paths, err) : status;
}

/* The training sources of the dataset. */
static wr_status read_split(const job *j, lines *l, wr_error *err) {
    const wr_pairs *p = wr_dataset_pairs(j->data, WR_TRAIN);
    const wr_list name = {.items = (const char *[]){j->o->data}, .n = 1};
    wr_status status = reserve_lines(&l->all, p->n, err);
    for (size_t i = 0; status == WR_OK && i < p->n; i++) {
        l->all.line[i] = wr_side_text(&p->src, i);
        l->all.len[i] = strlen(l->all.line[i]);
    }
    if (status == WR_OK) l->all.n = p->n;
    return status == WR_OK ? name_lines(&l->all, &name, err) : status;
}

/* ---- does the teacher fit? ---- */

/* Pairs as the teacher reads them: [0] source to target, [1] the other way. */
typedef struct probe {
    wr_ids ids;
    size_t at[2][2][PROBE_PAIRS], count[2][2][PROBE_PAIRS]; /* [way][side][pair] */
    size_t n;
} probe;

static wr_status encode_probe(const job *j, probe *p, size_t pair, wr_error *err) {
    const wr_pairs *valid = wr_dataset_pairs(j->data, WR_VALID);
    const char *text[] = {wr_side_text(&valid->src, pair), wr_side_text(&valid->tgt, pair)};
    const wr_subword *model[] = {j->run.src, j->run.tgt};
    size_t most = (size_t)j->run.recipe.model.max_len - 1;
    bool usable = true;
    for (int way = 0; way < 2; way++)
        for (int side = 0; side < 2; side++) {
            const char *line = text[way ^ side];
            p->at[way][side][p->n] = p->ids.n;
            wr_status status = wr_subword_encode(model[side], line, strlen(line), &p->ids, err);
            if (status != WR_OK) return status;
            size_t count = p->ids.n - p->at[way][side][p->n];
            p->count[way][side][p->n] = count;
            usable = usable && count > 0 && count <= most;
        }
    p->n += usable;
    return WR_OK;
}

/* Nats for each token of the pairs, read in one of the two ways. */
static wr_status score_probe(const job *j, const probe *p, int way, double *nats, wr_error *err) {
    wr_sentence sentence[2][PROBE_PAIRS] = {0};
    double nll[PROBE_PAIRS], sum = 0, tokens = 0;
    for (size_t i = 0; i < p->n; i++)
        for (int side = 0; side < 2; side++)
            sentence[side][i] =
                (wr_sentence){.id = p->ids.id + p->at[way][side][i], .n = p->count[way][side][i]};
    wr_decoder_scoring o = {0};
    wr_status status =
        wr_decoder_score(j->run.decoder, sentence[0], sentence[1], p->n, &o, nll, err);
    for (size_t i = 0; status == WR_OK && i < p->n; i++) {
        sum += nll[i];
        tokens += (double)sentence[1][i].n + 1;
    }
    *nats = sum / tokens;
    return status;
}

static wr_status judge_probe(const job *j, const double nats[2], wr_error *err) {
    const wr_dataset_info *info = wr_dataset_info_of(j->data);
    double chance = log(wr_subword_vocab(j->run.tgt));
    if (nats[0] > nats[1] + PROBE_MARGIN)
        return wr_fail(err, WR_ERR_INPUT,
                       "%s seems to translate the other way than %s (%s to %s): a token of the "
                       "valid targets given the sources costs it %.1f nats, a token of the sources "
                       "given the targets only %.1f; use a teacher of the same direction",
                       j->o->run.dir, j->o->data, info->src_lang, info->tgt_lang, nats[0], nats[1]);
    if (nats[0] > chance)
        fprintf(stderr,
                "weir: warning: %s finds the valid targets of %s less likely than chance (%.1f "
                "nats a token; any of its %d pieces: %.1f): is it of another language pair, or "
                "hardly trained?\n",
                j->o->run.dir, j->o->data, nats[0], wr_subword_vocab(j->run.tgt), chance);
    return WR_OK;
}

/* A run does not tell its languages. So see what it says to some pairs of the dataset, and to the
 * same pairs the other way round. */
static wr_status check_teacher(const job *j, wr_error *err) {
    const wr_pairs *valid = wr_dataset_pairs(j->data, WR_VALID);
    size_t looks = valid->n < PROBE_PAIRS ? valid->n : PROBE_PAIRS;
    probe *p = calloc(1, sizeof *p);
    if (p == NULL) return wr_fail_memory(err, "a look at the teacher", sizeof *p);
    wr_status status = WR_OK;
    for (size_t i = 0; status == WR_OK && i < looks; i++)
        status = encode_probe(j, p, i * valid->n / looks, err);
    double nats[2] = {0};
    for (int way = 0; status == WR_OK && p->n > 0 && way < 2; way++)
        status = score_probe(j, p, way, &nats[way], err);
    if (status == WR_OK && p->n > 0) status = judge_probe(j, nats, err);
    wr_ids_free(&p->ids);
    free(p);
    return status;
}

/* ---- translating ---- */

static bool same_model(const wr_subword *a, const wr_subword *b) {
    size_t n, m;
    const void *x = wr_subword_bytes(a, &n), *y = wr_subword_bytes(b, &m);
    return n == m && memcmp(x, y, n) == 0;
}

/* Encode source i for the teacher, and see whether its translation can be of use: what the filter
 * would drop whatever the translation is, or the teacher would cut, is left out. */
static wr_status choose_line(job *j, size_t i, bool same, wr_ids *own, wr_error *err) {
    const wr_text *all = &j->source.all;
    size_t from = j->ids.n, most = (size_t)j->run.recipe.model.max_len - 1;
    size_t max_len = wr_dataset_info_of(j->data)->split[WR_TRAIN].filter.max_len;
    wr_status status = wr_subword_encode(j->run.src, all->line[i], all->len[i], &j->ids, err);
    own->n = 0;
    if (status == WR_OK && !same)
        status =
            wr_subword_encode(wr_dataset_src_model(j->data), all->line[i], all->len[i], own, err);
    if (status != WR_OK) return status;
    size_t read = j->ids.n - from, count = same ? read : own->n;
    if (read > 0 && read <= most && count > 0 && (max_len == 0 || count <= max_len)) {
        j->sentence[j->n] = (wr_sentence){.n = read};
        j->line[j->n++] = i;
        return WR_OK;
    }
    j->ids.n = from;
    if (read == 0 || count == 0) {
        j->left_out.empty++;
    } else {
        j->left_out.too_long++;
        j->beyond += read > most;
    }
    return WR_OK;
}

static wr_status choose_lines(job *j, wr_error *err) {
    size_t n = j->source.all.n, at = 0;
    bool same = same_model(j->run.src, wr_dataset_src_model(j->data));
    wr_ids own = {0};
    wr_status status = WR_OK;
    j->sentence = calloc(n + 1, sizeof *j->sentence);
    if (j->sentence == NULL) return wr_fail_memory(err, "sentences", n * sizeof *j->sentence);
    for (size_t i = 0; status == WR_OK && i < n; i++)
        status = choose_line(j, i, same, &own, err);
    for (size_t k = 0; status == WR_OK && k < j->n; k++) {
        j->sentence[k].id = j->ids.id + at;
        at += j->sentence[k].n;
    }
    wr_ids_free(&own);
    return status;
}

static void show_progress(void *context, size_t done, size_t total) {
    job *j = context;
    if (!j->bar.terminal && wr_now() - j->bar.began < PLAIN_SECONDS) return;
    wr_bar_show(&j->bar, (double)done / (double)total, "translated %zu of %zu sentences", done,
                total);
}

static void show_encoding(void *context, double fraction) {
    job *j = context;
    if (j->bar.terminal) wr_bar_show(&j->bar, fraction, "encoding");
}

/* Was translation k as long as an output may be (see wr_search_options)? Then it was most likely
 * going in circles and has no proper end. */
static bool is_unfinished(const job *j, size_t k) {
    const wr_search_options *o = &j->search;
    double most = floor(o->max_len_factor * (double)j->sentence[k].n) + o->max_len_extra;
    if (most > j->run.recipe.model.max_len) most = j->run.recipe.model.max_len;
    return (double)j->translated.hyp[k * j->translated.nbest].n + 1 >= most;
}

/* Translation k becomes line `to` of j->tgt, whose address is set later. */
static wr_status spell_line(job *j, size_t k, size_t to, wr_error *err) {
    size_t from = j->text.len;
    wr_status status =
        wr_run_text(&j->run, &j->translated.hyp[k * j->translated.nbest], &j->text, err);
    j->tgt.len[to] = j->text.len - from;
    j->line[to] = j->line[k];
    wr_str_bytes(&j->text, "", 1);
    return status;
}

/* The translations as lines of j->tgt. */
static wr_status spell(job *j, wr_error *err) {
    wr_status status = WR_OK;
    size_t n = 0;
    for (size_t k = 0; status == WR_OK && k < j->n; k++) {
        bool unfinished = is_unfinished(j, k);
        j->unfinished += unfinished;
        if (unfinished && j->o->drop_unfinished)
            j->left_out.too_long++;
        else
            status = spell_line(j, k, n++, err);
    }
    if (status == WR_OK && j->text.oom) status = wr_fail_memory(err, "translations", j->text.len);
    j->n = n;
    for (size_t k = 0, at = 0; status == WR_OK && k < n; at += j->tgt.len[k++] + 1)
        j->tgt.line[k] = j->text.text + at;
    return status;
}

static wr_status translate(job *j, wr_error *err) {
    wr_status status = choose_lines(j, err);
    if (status != WR_OK) return status;
    if (j->n == 0)
        return wr_fail(err, WR_ERR_INPUT,
                       "%s: none of %zu sources can be translated: %zu are empty, %zu too long",
                       j->source.all.path, j->source.all.n, j->left_out.empty,
                       j->left_out.too_long);
    j->search.progress = show_progress;
    j->search.context = j;
    wr_bar_begin(&j->bar, PLAIN_SECONDS);
    status = wr_search(j->run.decoder, j->sentence, j->n, &j->search, &j->translated, err);
    wr_bar_end(&j->bar);
    return status == WR_OK ? spell(j, err) : status;
}

/* Translations that were made before. */
static wr_status take_given(job *j, wr_error *err) {
    wr_status status = wr_filter_same_lines(&j->source.all, &j->given.all, err);
    if (status != WR_OK) return status;
    j->n = j->source.all.n;
    for (size_t i = 0; i < j->n; i++) {
        j->line[i] = i;
        j->tgt.line[i] = j->given.all.line[i];
        j->tgt.len[i] = j->given.all.len[i];
    }
    return WR_OK;
}

/* Open the teacher, see that it fits, and translate. */
static wr_status ask_teacher(job *j, options *o, wr_error *err) {
    wr_status status = wr_run_open(&o->run, &j->run, err);
    if (status == WR_OK) status = wr_run_search_options(&j->run, &o->search, &j->search, err);
    if (status == WR_OK && (j->run.src == NULL || j->run.tgt == NULL))
        status = wr_fail(err, WR_ERR_INPUT,
                         "%s has no subword models, so that it cannot translate text", o->run.dir);
    if (status == WR_OK) status = check_teacher(j, err);
    return status == WR_OK ? translate(j, err) : status;
}

/* What one teacher's work took. */
static void free_work(job *j) {
    wr_translations_free(&j->translated);
    wr_ids_free(&j->ids);
    wr_str_free(&j->text);
    free(j->sentence);
    free(j->line);
    wr_text_free(&j->src);
    wr_text_free(&j->tgt);
    wr_run_close(&j->run);
}

static wr_status make_room(job *j, wr_error *err) {
    size_t n = j->source.all.n;
    j->line = malloc(sizeof *j->line * (n + 1));
    if (j->line == NULL) return wr_fail_memory(err, "sentences", n * sizeof *j->line);
    wr_status status = reserve_lines(&j->src, n, err);
    return status == WR_OK ? reserve_lines(&j->tgt, n, err) : status;
}

/* ---- several teachers ---- */

/* The translations of a teacher as candidate k. */
static wr_status add_teacher(job *j, options *o, const char *dir, wr_candidates *c, int k,
                             wr_error *err) {
    job t = {.o = o, .data = j->data, .source = j->source};
    o->run.dir = dir;
    c->name[k] = dir;
    wr_status status = make_room(&t, err);
    if (status == WR_OK) status = ask_teacher(&t, o, err);
    for (size_t i = 0; i < t.n && status == WR_OK; i++)
        status = wr__candidates_set(c, k, t.line[i], t.tgt.line[i], t.tgt.len[i], err);
    if (status == WR_OK)
        printf("%s: %zu translations, %zu of them cut at the longest length\n", dir, t.n,
               t.unfinished);
    free_work(&t);
    return status;
}

/* Translations made before as candidate k. */
static wr_status add_file(job *j, const char *path, wr_candidates *c, int k, wr_error *err) {
    wr_text text = {0};
    c->name[k] = path;
    wr_status status = wr_text_read(path, 0, &text, err);
    if (status == WR_OK) status = wr_filter_same_lines(&j->source.all, &text, err);
    for (size_t i = 0; status == WR_OK && i < text.n; i++)
        if (text.len[i] > 0) status = wr__candidates_set(c, k, i, text.line[i], text.len[i], err);
    wr_text_free(&text);
    return status;
}

/* The dataset's own targets, the last candidate. */
static wr_status add_own(job *j, wr_candidates *c, wr_error *err) {
    const wr_pairs *p = wr_dataset_pairs(j->data, WR_TRAIN);
    wr_status status = WR_OK;
    c->name[c->count - 1] = j->o->data;
    for (size_t i = 0; status == WR_OK && i < p->n; i++) {
        const char *line = wr_side_text(&p->tgt, i);
        status = wr__candidates_set(c, c->count - 1, i, line, strlen(line), err);
    }
    return status;
}

static wr_status gather_candidates(job *j, options *o, wr_candidates *c, wr_error *err) {
    const wr_list *files = &o->choice.candidates;
    int k = 0;
    wr_status status =
        wr__candidates_begin(c, j->source.all.n, (int)(o->teachers.n + files->n) + 1, err);
    for (size_t i = 0; i < files->n && status == WR_OK; i++)
        status = add_file(j, files->items[i], c, k++, err);
    for (size_t i = 0; i < o->teachers.n && status == WR_OK; i++)
        status = add_teacher(j, o, o->teachers.items[i], c, k++, err);
    if (status == WR_OK) status = add_own(j, c, err);
    wr_str_add(&j->chosen_from, "chosen among");
    for (int i = 0; i < c->count && status == WR_OK; i++)
        wr_str_add(&j->chosen_from, "%s %s", i == 0 ? "" : ",", c->name[i]);
    if (o->choice.student != NULL) wr_str_add(&j->chosen_from, " by %s", o->choice.student);
    return status;
}

/* The chosen candidates become the translations. */
static wr_status take_best(job *j, options *o, wr_candidates *c, wr_error *err) {
    size_t n = j->source.all.n;
    int *chosen = malloc((n + 1) * sizeof *chosen);
    if (chosen == NULL) return wr_fail_memory(err, "choices", n * sizeof *chosen);
    wr_status status =
        wr__dynamic_choose_all(&o->choice, &o->run, c, &j->source.all, j->data, chosen, err);
    for (size_t i = 0; i < n && status == WR_OK; i++) {
        const char *line = wr__candidates_get(c, chosen[i], i);
        j->line[i] = i;
        j->tgt.line[i] = line;
        j->tgt.len[i] = strlen(line);
    }
    j->n = n;
    free(chosen);
    return status;
}

/* ---- from translations to a dataset ---- */

static wr_status encode(job *j, wr_split_info *info, wr_error *err) {
    const wr_text *all = &j->source.all;
    wr_filter_report *r = &info->report;
    for (size_t k = 0; k < j->n; k++) {
        j->src.line[k] = all->line[j->line[k]];
        j->src.len[k] = all->len[j->line[k]];
    }
    j->src.n = j->tgt.n = j->n;
    wr_status status = wr_filter_encode(&j->src, &j->tgt, wr_dataset_src_model(j->data),
                                        wr_dataset_tgt_model(j->data), &info->filter, show_encoding,
                                        j, &j->corpus, r, err);
    wr_bar_end(&j->bar);
    r->lines = all->n;
    r->empty += j->left_out.empty;
    r->too_long += j->left_out.too_long;
    return status;
}

static wr_status report(const job *j, const wr_split_info *info, wr_error *err) {
    wr_pairs p = wr_corpus_view(&j->corpus);
    wr_str text = {0};
    wr_filter_describe(&info->filter, &info->report, &text);
    wr_status status = text.oom ? wr_fail_memory(err, "the report", 256) : WR_OK;
    if (status == WR_OK && p.n == 0)
        status = wr_fail(err, WR_ERR_INPUT, "no pair is left: %s", wr_str_text(&text));
    if (status == WR_OK)
        printf("train: %s; tokens %llu -> %llu, longest %zu -> %zu\n", wr_str_text(&text),
               (unsigned long long)p.src.id_at[p.n], (unsigned long long)p.tgt.id_at[p.n],
               wr_side_longest(&p.src, p.n), wr_side_longest(&p.tgt, p.n));
    if (status == WR_OK && j->beyond > 0)
        printf("%zu sources have more than the %d tokens that the teacher takes\n", j->beyond,
               j->run.recipe.model.max_len - 1);
    if (status == WR_OK && j->unfinished > 0)
        printf("%zu translations were cut at the longest length allowed%s\n", j->unfinished,
               j->o->drop_unfinished ? " and dropped as too long"
                                     : "; --drop-unfinished leaves such pairs out");
    wr_str_free(&text);
    return status;
}

/* How far the new targets are from those that the dataset had for the same sources. */
static wr_status compare(const job *j, wr_error *err) {
    if (j->o->input.n > 0) return WR_OK;
    const wr_pairs *p = wr_dataset_pairs(j->data, WR_TRAIN);
    wr_score_options o = {.lowercase = wr_dataset_info_of(j->data)->lowercase};
    wr_bleu_result bleu = {0};
    const char **ref = malloc(sizeof *ref * (j->n + 1));
    if (ref == NULL) return wr_fail_memory(err, "references", j->n * sizeof *ref);
    for (size_t k = 0; k < j->n; k++)
        ref[k] = wr_side_text(&p->tgt, j->line[k]);
    const char *const *const refs[] = {ref};
    wr_status status = wr_bleu_strings(j->tgt.line, refs, 1, j->n, &o, &bleu, err);
    if (status == WR_OK) printf("BLEU against the targets of %s: %.2f\n", j->o->data, bleu.score);
    free(ref);
    return status;
}

/* What dataset.json tells of where the new targets are from. */
static void describe_targets(const job *j, wr_str *out) {
    if (j->o->dynamic)
        wr_str_add(out, "%s", wr_str_text(&j->chosen_from));
    else if (j->o->targets.n > 0)
        wr_str_add(out, "%s", j->given.all.path);
    else
        wr_str_add(out, "%s translated by %s, checkpoint %s, beam %d", j->source.all.path,
                   j->o->run.dir, j->o->run.checkpoint, j->search.beam);
}

static wr_status write_dataset(job *j, wr_error *err) {
    wr_dataset_info info = *wr_dataset_info_of(j->data);
    wr_split_info *train = &info.split[WR_TRAIN];
    const wr_pairs *split[WR_SPLITS] = {NULL};
    wr_str origin = {0};
    wr_status status = encode(j, train, err);
    if (status == WR_OK) status = report(j, train, err);
    if (status == WR_OK) status = compare(j, err);
    describe_targets(j, &origin);
    if (status == WR_OK && origin.oom) status = wr_fail_memory(err, "the origin", 256);
    wr_pairs pairs = wr_corpus_view(&j->corpus);
    for (int i = 0; i < WR_SPLITS; i++)
        split[i] = i == WR_TRAIN ? &pairs : wr_dataset_pairs(j->data, (wr_split)i);
    if (j->o->input.n > 0) train->src_file = j->source.all.path;
    train->tgt_file = wr_str_text(&origin);
    if (status == WR_OK)
        status = wr_dataset_write(j->o->out, &info, wr_dataset_src_model(j->data),
                                  wr_dataset_tgt_model(j->data), split, err);
    wr_str_free(&origin);
    return status;
}

/* ---- the command ---- */

/* A file such as train.en.gz of the target language is not what --input wants. */
static wr_status check_language(const char *path, const wr_dataset_info *info, wr_error *err) {
    const char *end = path + strlen(path), *lang = info->tgt_lang;
    size_t n = strlen(lang);
    if ((size_t)(end - path) > 3 && (strcmp(end - 3, ".gz") == 0 || strcmp(end - 3, ".xz") == 0))
        end -= 3;
    if (n == 0 || strcmp(info->src_lang, lang) == 0 || (size_t)(end - path) < n + 2 ||
        end[-(ptrdiff_t)n - 1] != '.' || strncmp(end - n, lang, n) != 0)
        return WR_OK;
    return wr_fail(err, WR_ERR_INPUT,
                   "%s: its name says that it is of the target language; the dataset goes from %s "
                   "to %s, and --input takes sources (--targets takes translations)",
                   path, info->src_lang, lang);
}

static size_t count_stdin(const wr_list *list) {
    size_t n = 0;
    for (size_t i = 0; i < list->n; i++)
        n += strcmp(list->items[i], "-") == 0;
    return n;
}

/* Without --dynamic one source of translations; with it any number, and nothing else. */
static wr_status check_teachers(const options *o, wr_error *err) {
    const char *stray = o->gamma_given               ? "--gamma"
                        : o->beta_given              ? "--beta"
                        : o->student_given           ? "--student"
                        : o->table_given             ? "--table"
                        : o->choice.candidates.n > 0 ? "--candidates"
                                                     : NULL;
    if (!o->dynamic && stray != NULL)
        return wr_fail(err, WR_ERR_USAGE, "distill: %s is for --dynamic", stray);
    if (!o->dynamic && o->teachers.n > 1)
        return wr_fail(
            err, WR_ERR_USAGE,
            "distill: %zu teachers; several are for --dynamic, which chooses among their "
            "translations",
            o->teachers.n);
    if (!o->dynamic && (o->teachers.n > 0) == (o->targets.n > 0))
        return wr_fail(err, WR_ERR_USAGE,
                       "distill: give either the teacher RUN or translations made before with "
                       "--targets (see `weir distill --help`)");
    if (!o->dynamic) return WR_OK;
    if (o->input.n > 0 || o->targets.n > 0)
        return wr_fail(err, WR_ERR_USAGE,
                       "distill: %s does not go with --dynamic, which compares translations of the "
                       "dataset's training sources with its targets%s",
                       o->input.n > 0 ? "--input" : "--targets",
                       o->input.n > 0 ? "" : "; --candidates takes translations made before");
    if (o->teachers.n + o->choice.candidates.n == 0)
        return wr_fail(err, WR_ERR_USAGE,
                       "distill: --dynamic needs at least one teacher RUN or --candidates FILE");
    double gamma[WR_CANDIDATES_MOST];
    size_t count = o->teachers.n + o->choice.candidates.n + 1;
    if (count > WR_CANDIDATES_MOST)
        return wr_fail(err, WR_ERR_USAGE, "distill: %zu candidates: at most %d are compared", count,
                       WR_CANDIDATES_MOST);
    return wr__dynamic_gamma(o->choice.gamma, (int)count, gamma, err);
}

static wr_status check_options(const options *o, wr_error *err) {
    struct stat there;
    wr_status status = check_teachers(o, err);
    if (status != WR_OK) return status;
    if (count_stdin(&o->input) + count_stdin(&o->targets) > 1)
        return wr_fail(err, WR_ERR_USAGE,
                       "distill: '-' stands for standard input, which only one file can be");
    wr_str path = {0};
    wr_str_add(&path, "%s/dataset.json", o->out);
    bool taken = path.oom || stat(wr_str_text(&path), &there) == 0;
    wr_str_free(&path);
    if (taken)
        return wr_fail(err, WR_ERR_INPUT,
                       "%s: there is a dataset already; remove it or choose another --out", o->out);
    return wr_dataset_may_write(o->out, err);
}

static wr_status read_all(job *j, wr_error *err) {
    const options *o = j->o;
    wr_status status = wr_dataset_open(o->data, &j->data, err);
    for (size_t i = 0; status == WR_OK && i < o->input.n; i++)
        status = check_language(o->input.items[i], wr_dataset_info_of(j->data), err);
    if (status == WR_OK)
        status = o->input.n > 0 ? read_files(&o->input, &j->source, err)
                                : read_split(j, &j->source, err);
    if (status == WR_OK && o->targets.n > 0) status = read_files(&o->targets, &j->given, err);
    return status == WR_OK ? make_room(j, err) : status;
}

static wr_status run_dynamic(job *j, options *o, wr_error *err) {
    wr_candidates c = {0};
    wr_status status = gather_candidates(j, o, &c, err);
    if (status == WR_OK) status = take_best(j, o, &c, err);
    if (status == WR_OK) status = write_dataset(j, err);
    wr__candidates_free(&c);
    return status;
}

static wr_status run(job *j, options *o, wr_error *err) {
    wr_status status = check_options(o, err);
    if (status == WR_OK) status = read_all(j, err);
    if (status != WR_OK) return status;
    if (o->dynamic) return run_dynamic(j, o, err);
    o->run.dir = o->teachers.n > 0 ? o->teachers.items[0] : NULL;
    status = o->targets.n > 0 ? take_given(j, err) : ask_teacher(j, o, err);
    return status == WR_OK ? write_dataset(j, err) : status;
}

static wr_status distill(options *o, wr_error *err) {
    job j = {.o = o};
    double began = wr_now();
    o->run.set = &o->set;
    wr_status status = run(&j, o, err);
    if (status == WR_OK) printf("wrote %s in %.1f s\n", o->out, wr_now() - began);
    free_work(&j);
    wr_corpus_free(&j.corpus);
    wr_str_free(&j.chosen_from);
    free_lines(&j.source);
    free_lines(&j.given);
    wr_dataset_free(j.data);
    return status;
}

int wr_cmd_distill(int argc, char **argv) {
    options o = {0};
    wr_run_search *s = &o.search;
    const wr_opt table[] = {
        {"RUN", WR_OPT_MANY, &o.teachers,
         .help = "the teacher: a run directory that `weir train` wrote; several with --dynamic"},
        {"--data", WR_OPT_STRING, &o.data, .value = "DIR", .required = true,
         .help = "the dataset whose models, filter, valid and test are kept"},
        {"--out", WR_OPT_STRING, &o.out, .value = "DIR2", .required = true,
         .help = "the new dataset directory"},
        {"--input", WR_OPT_MANY, &o.input, .value = "FILE",
         .help = "source text to translate instead of the dataset's training sources; .gz and .xz "
                 "too, - for standard input"},
        {"--targets", WR_OPT_MANY, &o.targets, .value = "FILE",
         .help = "translations of the sources made before, line by line, instead of a teacher"},
        {"--decode", WR_OPT_STRING, &s->method, .choices = "greedy|beam",
         .help = "how to search; without it as the recipe says"},
        {"--beam", WR_OPT_INT, &s->beam, .value = "K", .min = 1, .max = 1000,
         .given = &s->beam_given, .help = "hypotheses kept; without it as the recipe says"},
        {"--alpha", WR_OPT_REAL, &s->alpha, .min = 0, .max = 10, .given = &s->alpha_given,
         .help = "exponent of the length normalisation; without it as the recipe says"},
        {"--checkpoint", WR_OPT_STRING, &o.run.checkpoint, .value = "NAME", .fallback = "best",
         .help = "best, last, average or a number of updates"},
        {"--drop-unfinished", WR_OPT_FLAG, &o.drop_unfinished,
         .help = "leave out translations that were cut at the longest length allowed"},
        {"--max-sentences", WR_OPT_INT, &s->max_sentences, .value = "B", .min = 1, .max = 100000,
         .help = "sentences translated together; without it as the recipe says"},
        {"--threads", WR_OPT_INT, &o.run.threads, .fallback = "0", .min = 0, .max = 4096,
         .help = "processors used, 0 for all"},
        {"--device", WR_OPT_STRING, &o.run.device, .fallback = "auto", .choices = "auto|cpu|cuda",
         .help = "where to compute"},
        {"--set", WR_OPT_LIST, &o.set, .value = "KEY=VALUE",
         .help = "change a key of the teacher's recipe, such as decode.max_len_extra=50"},
        {"--dynamic", WR_OPT_FLAG, &o.dynamic,
         .help = "choose among the teachers' translations and the dataset's own targets, source by "
                 "source"},
        {"--candidates", WR_OPT_MANY, &o.choice.candidates, .value = "FILE",
         .help = "--dynamic: translations of the training sources made before, line by line, each "
                 "file a candidate in front of the teachers'"},
        {"--student", WR_OPT_STRING, &o.choice.student, .value = "RUN", .given = &o.student_given,
         .help = "--dynamic: the model whose -log p(target | source) is added to the cost"},
        {"--student-checkpoint", WR_OPT_STRING, &o.choice.student_checkpoint, .value = "NAME",
         .fallback = "last", .help = "of the student: best, last, average or a number of updates"},
        {"--gamma", WR_OPT_STRING, &o.choice.gamma, .value = "X,Y,..", .given = &o.gamma_given,
         .help = "--dynamic: weights of the candidates as references, the dataset's targets last "
                 "(default: 1 each)"},
        {"--beta", WR_OPT_REAL, &o.choice.beta, .value = "X", .fallback = "0.2", .min = 0,
         .max = 1000, .given = &o.beta_given, .help = "--dynamic: weight of BLEU in the cost"},
        {"--gamma-scale", WR_OPT_STRING, &o.choice.gamma_scale, .fallback = "raw",
         .choices = "raw|normalised", .help = "--dynamic: gamma as given, or divided by its sum"},
        {"--nll", WR_OPT_STRING, &o.choice.nll, .fallback = "sum", .choices = "sum|mean",
         .help = "--dynamic: the student's cost of a whole target, or of a token of it"},
        {"--table", WR_OPT_STRING, &o.choice.table, .value = "FILE", .given = &o.table_given,
         .help = "--dynamic: write every candidate's cost as TSV"},
    };
    const wr_cli cli = {.command = "distill",
                        .summary = "make a dataset whose training targets are a teacher's "
                                   "translations",
                        .opts = table,
                        .opt_n = WR_COUNT(table),
                        .notes = "Example: weir distill RUN --data data --beam 4 --checkpoint "
                                 "average --out data-distilled"};
    int code = wr_cli_begin(&cli, argc, argv);
    if (code >= 0) return code;
    wr_error err = {0};
    code = wr_cli_end(distill(&o, &err), &err);
    wr_list_free(&o.teachers);
    wr_list_free(&o.choice.candidates);
    wr_list_free(&o.input);
    wr_list_free(&o.targets);
    wr_list_free(&o.set);
    return code;
}
