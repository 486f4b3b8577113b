/* import.c: `weir import`: parameters that another program trained, as a run directory. */
#define _GNU_SOURCE
#include "cli/cli.h"
#include "models/flowseq_import.h"
#include "models/recipe_flowseq.h"
#include "optim/checkpoint.h"
#include "optim/safetensors.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct options {
    const char *file, *from, *recipe, *out;
    wr_list set;
} options;

typedef struct job {
    const options *o;
    wr_recipe recipe;
    wr_safetensors file;
    bool open;
    wr_flowseq_tensor *tensor;
    wr_flowseq_state state;
    wr_flowseq *model; /* large: on the heap */
    wr_session *session;
    wr_str work; /* the run directory while it is made */
} job;

/* ---- the state dict ---- */

static wr_status read_tensor(void *user, int index, void *to, wr_error *err) {
    return wr_safetensors_read(user, index, to, err);
}

static wr_status open_state(job *j, wr_error *err) {
    wr_status status = wr_safetensors_open(j->o->file, &j->file, err);
    if (status != WR_OK) return status;
    j->open = true;
    j->tensor = calloc((size_t)j->file.n + 1, sizeof *j->tensor);
    if (j->tensor == NULL) return wr_fail_memory(err, j->o->file, sizeof *j->tensor);
    for (int i = 0; i < j->file.n; i++) {
        const wr_safetensor *t = &j->file.tensor[i];
        j->tensor[i] = (wr_flowseq_tensor){.name = t->name, .dtype = t->dtype, .rank = t->rank};
        memcpy(j->tensor[i].dim, t->dim, sizeof t->dim);
    }
    j->state = (wr_flowseq_state){
        .n = j->file.n, .tensor = j->tensor, .read = read_tensor, .user = &j->file};
    return WR_OK;
}

/* "FILE: " before a message about its tensors. */
static wr_status about_file(const job *j, wr_status status, const wr_error *why, wr_error *err) {
    if (status != WR_ERR_INPUT) return wr_fail(err, status, "%s", why->text);
    return wr_fail(err, status, "%s: %.3900s", j->o->file, why->text);
}

/* ---- the model ---- */

static wr_status check_vocab(const job *j, const char *key, int said, int is, wr_error *err) {
    if (said == 0 || said == is) return WR_OK;
    return wr_fail(err, WR_ERR_INPUT,
                   "%s: %s = %d, but in %s the vocabulary has %d pieces; leave the key out, or set "
                   "it to %d",
                   j->o->recipe, key, said, j->o->file, is, is);
}

/* The recipe with the sizes of the vocabularies, which nothing else in the run tells. */
static wr_status open_model(job *j, wr_error *err) {
    wr_error why = {0};
    wr_status status = wr_recipe_load(j->o->recipe, j->o->set.items, j->o->set.n, &j->recipe, err);
    if (status != WR_OK) return status;
    if (j->recipe.model.type != WR_RECIPE_FLOWSEQ)
        return wr_fail(err, WR_ERR_INPUT, "%s: model.type must be flowseq to import from flowseq",
                       j->o->recipe);
    int src = 0, tgt = 0;
    wr_recipe_data *d = &j->recipe.data;
    status = wr_flowseq_state_vocabs(&j->state, &src, &tgt, &why);
    if (status != WR_OK) return about_file(j, status, &why, err);
    status = check_vocab(j, "data.src_vocab", d->src_vocab, src, err);
    if (status == WR_OK) status = check_vocab(j, "data.tgt_vocab", d->tgt_vocab, tgt, err);
    d->src_vocab = src;
    d->tgt_vocab = tgt;
    j->model = malloc(sizeof *j->model);
    if (j->model == NULL) return wr_fail_memory(err, "a model", sizeof *j->model);
    if (status == WR_OK)
        status = wr_recipe_flowseq_model(&j->recipe, src, tgt, false, j->model, &why);
    if (why.status != WR_OK) wr_fail(err, why.status, "%s: %.3900s", j->o->recipe, why.text);
    return status;
}

static wr_status load_session(job *j, wr_error *err) {
    wr_session_options o = {.device = "cpu", .threads = 1, .seed = (uint64_t)j->recipe.train.seed};
    wr_error why = {0};
    wr_status status = wr_session_new(&o, &j->session, err);
    if (status != WR_OK) return status;
    status = wr_flowseq_import(j->model, &j->state, j->session, &why);
    return status == WR_OK ? WR_OK : about_file(j, status, &why, err);
}

/* ---- the run directory ---- */

/* "WORK/NAME" */
static wr_status path_in(const job *j, const char *name, wr_str *path, wr_error *err) {
    wr_str_clear(path);
    wr_str_add(path, "%s/%s", wr_str_text(&j->work), name);
    return path->oom ? wr_fail_memory(err, name, path->cap) : WR_OK;
}

/* Nothing that exists is overwritten; an empty directory may be there. */
static wr_status refuse_existing(const char *out, wr_error *err) {
    struct stat s;
    if (stat(out, &s) != 0) return WR_OK;
    DIR *dir = opendir(out);
    int entries = 0;
    while (dir != NULL && readdir(dir) != NULL)
        entries++;
    if (dir != NULL) closedir(dir);
    if (dir != NULL && entries <= 2) return WR_OK; /* . and .. */
    return wr_fail(err, WR_ERR_INPUT, "%s exists already; name a new directory, or remove it first",
                   out);
}

/* Make "OUT.XXXXXX" beside OUT, with the rights that mkdir() would give. */
static wr_status make_work(job *j, wr_error *err) {
    size_t n = strlen(j->o->out);
    while (n > 1 && j->o->out[n - 1] == '/')
        n--;
    wr_str parent = {0};
    wr_str_add(&parent, "%.*s", (int)n, j->o->out);
    char *slash = parent.oom ? NULL : strrchr(parent.text, '/');
    wr_status status = parent.oom ? wr_fail_memory(err, j->o->out, n) : WR_OK;
    if (slash != NULL && slash != parent.text) {
        *slash = '\0';
        if (status == WR_OK) status = wr_make_dirs(parent.text, err);
    }
    wr_str_free(&parent);
    wr_str_add(&j->work, "%.*s.XXXXXX", (int)n, j->o->out);
    if (status == WR_OK && j->work.oom) status = wr_fail_memory(err, j->o->out, n);
    if (status != WR_OK) return status;
    if (mkdtemp(j->work.text) == NULL) {
        int why = errno;
        wr_str_clear(&j->work);
        return wr_fail(err, WR_ERR_IO, "%s: cannot make the directory: %s", j->o->out,
                       strerror(why));
    }
    mode_t mask = umask(0);
    umask(mask);
    chmod(j->work.text, 0777 & ~mask);
    return WR_OK;
}

static wr_status save_checkpoint(const job *j, wr_error *err) {
    wr_str folder = {0}, best = {0};
    wr_progress *p = calloc(1, sizeof *p);
    wr_status status = p == NULL ? wr_fail_memory(err, "a checkpoint", sizeof *p) : WR_OK;
    if (status == WR_OK) {
        p->seed = (uint64_t)j->recipe.train.seed;
        p->keep = j->recipe.train.keep_best;
        p->lower = j->recipe.train.best_by == WR_RECIPE_BEST_NLL;
        status = path_in(j, "checkpoints", &folder, err);
    }
    if (status == WR_OK) status = path_in(j, "checkpoints/best", &best, err);
    if (status == WR_OK) status = wr_checkpoint_save(wr_str_text(&folder), j->session, p, err);
    if (status == WR_OK) status = wr_file_replace(wr_str_text(&best), "step-0\n", 7, err);
    free(p);
    wr_str_free(&folder);
    wr_str_free(&best);
    return status;
}

static wr_status write_run(job *j, wr_error *err) {
    wr_str path = {0};
    wr_status status = make_work(j, err);
    if (status == WR_OK) status = path_in(j, "recipe.yaml", &path, err);
    if (status == WR_OK) status = wr_recipe_save(&j->recipe, wr_str_text(&path), err);
    if (status == WR_OK) status = save_checkpoint(j, err);
    wr_str_free(&path);
    if (status != WR_OK) return status;
    if (rename(wr_str_text(&j->work), j->o->out) != 0)
        return wr_fail(err, WR_ERR_IO, "%s: cannot make the directory: %s", j->o->out,
                       strerror(errno));
    wr_str_clear(&j->work);
    return WR_OK;
}

static int remove_one(const char *path, const struct stat *s, int flag, struct FTW *at) {
    (void)s;
    (void)flag;
    (void)at;
    return remove(path);
}

/* ---- the command ---- */

static wr_status import(const options *o, wr_error *err) {
    job j = {.o = o};
    wr_status status = refuse_existing(o->out, err);
    if (status == WR_OK) status = open_state(&j, err);
    if (status == WR_OK) status = open_model(&j, err);
    if (status == WR_OK) status = load_session(&j, err);
    if (status == WR_OK) status = write_run(&j, err);
    if (status != WR_OK && j.work.len > 0)
        nftw(wr_str_text(&j.work), remove_one, 8, FTW_DEPTH | FTW_PHYS);
    if (status == WR_OK)
        printf("%s: %d tensors as %d parameters, vocabularies of %d and %d pieces\n", o->out,
               j.file.n, wr_session_stored(j.session), j.recipe.data.src_vocab,
               j.recipe.data.tgt_vocab);
    wr_session_free(j.session);
    free(j.model);
    free(j.tensor);
    if (j.open) wr_safetensors_close(&j.file);
    wr_str_free(&j.work);
    return status;
}

int wr_cmd_import(int argc, char **argv) {
    options o = {0};
    const wr_opt table[] = {
        {"FILE", WR_OPT_STRING, &o.file, .required = true,
         .help = "the state dict as a safetensors file"},
        {"--from", WR_OPT_STRING, &o.from, .value = "PROGRAM", .fallback = "flowseq",
         .choices = "flowseq", .help = "whose names the tensors have"},
        {"--recipe", WR_OPT_STRING, &o.recipe, .value = "RECIPE", .required = true,
         .help = "the recipe of the same model"},
        {"--out", WR_OPT_STRING, &o.out, .value = "RUN", .required = true,
         .help = "the run directory to make"},
        {"--set", WR_OPT_LIST, &o.set, .value = "KEY=VALUE",
         .help = "change a key of the recipe, such as model.max_len=250"},
    };
    const wr_cli cli = {
        .command = "import",
        .summary = "a model that another program trained, as a run directory",
        .opts = table,
        .opt_n = WR_COUNT(table),
        .notes =
            "The run has no subword model: `weir evaluate --src-ids F --tgt-ids F` takes token "
            "ids, and\ntext needs a subword model in the run as joint.model, or source.model "
            "and target.model.\n"
            "Example: weir import model.safetensors --recipe recipes/flowseq-base.yaml "
            "--out RUN"};
    int code = wr_cli_begin(&cli, argc, argv);
    if (code >= 0) return code;
    wr_error err = {0};
    code = wr_cli_end(import(&o, &err), &err);
    wr_list_free(&o.set);
    return code;
}
