/* progress.c: see progress.h. */
#include "optim/progress.h"

#include <cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool better(const wr_progress *p, double a, double b) { return p->lower ? a < b : a > b; }

static void drop(wr_progress *p, int64_t update) {
    int n = 0;
    for (int k = 0; k < p->n_best; k++)
        if (p->best[k].update != update) p->best[n++] = p->best[k];
    p->n_best = n;
}

bool wr_progress_note(wr_progress *p, double score) {
    drop(p, p->update);
    int at = 0;
    while (at < p->n_best && !better(p, score, p->best[at].score))
        at++;
    bool first = at == 0 && isfinite(score);
    p->since_best = first ? 0 : p->since_best + 1;
    if (!isfinite(score) || at >= p->keep) return first;
    if (p->n_best == p->keep) p->n_best--;
    memmove(&p->best[at + 1], &p->best[at], sizeof *p->best * (size_t)(p->n_best - at));
    p->best[at] = (wr_best){p->update, score};
    p->n_best++;
    return first;
}

/* ---- text ---- */

/* 17 digits give every double back; cJSON prints fewer when it thinks them enough. */
void wr_progress_text(const wr_progress *p, wr_str *text) {
    wr_str_add(text,
               "{\"update\":%" PRId64 ",\"skipped\":%" PRId64 ",\"epoch\":%" PRId64
               ",\"batch\":%" PRId64 ",\"seed\":\"%" PRIu64 "\",\"step\":\"%" PRIu64
               "\",\"seconds\":%.17g,\"since_best\":%" PRId64
               ",\"lower\":%d,\"keep\":%d,\"best\":[",
               p->update, p->skipped, p->epoch, p->batch, p->seed, p->step, p->seconds,
               p->since_best, p->lower, p->keep);
    for (int k = 0; k < p->n_best; k++)
        wr_str_add(text, "%s[%" PRId64 ",%.17g]", k > 0 ? "," : "", p->best[k].update,
                   p->best[k].score);
    wr_str_add(text, "]}");
}

static bool whole(const cJSON *x, int64_t most, int64_t *value) {
    if (!cJSON_IsNumber(x) || !(x->valuedouble >= 0 && x->valuedouble <= (double)most))
        return false;
    *value = (int64_t)x->valuedouble;
    return (double)*value == x->valuedouble;
}

static bool bits64(const cJSON *x, uint64_t *value) {
    if (!cJSON_IsString(x)) return false;
    const char *text = x->valuestring;
    char *end;
    errno = 0;
    *value = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0;
}

static bool read_best(const cJSON *list, wr_progress *p) {
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) > p->keep) return false;
    const cJSON *pair;
    cJSON_ArrayForEach(pair, list) {
        wr_best *b = &p->best[p->n_best++];
        if (!cJSON_IsArray(pair) || cJSON_GetArraySize(pair) != 2 ||
            !whole(pair->child, (int64_t)1 << 53, &b->update) ||
            !cJSON_IsNumber(pair->child->next) || !isfinite(pair->child->next->valuedouble))
            return false;
        b->score = pair->child->next->valuedouble;
    }
    return true;
}

/* The name of the first member that is missing or wrong, NULL: none. */
static const char *read_members(const cJSON *json, wr_progress *p) {
    int64_t lower = 0, keep = 0;
    const struct {
        const char *name;
        int64_t most, *value;
    } numbers[] = {{"update", (int64_t)1 << 53, &p->update},
                   {"skipped", (int64_t)1 << 53, &p->skipped},
                   {"epoch", (int64_t)1 << 53, &p->epoch},
                   {"batch", (int64_t)1 << 53, &p->batch},
                   {"since_best", (int64_t)1 << 53, &p->since_best},
                   {"lower", 1, &lower},
                   {"keep", WR_BEST_MOST, &keep}};
    for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++)
        if (!whole(cJSON_GetObjectItemCaseSensitive(json, numbers[k].name), numbers[k].most,
                   numbers[k].value))
            return numbers[k].name;
    p->lower = lower != 0;
    p->keep = (int)keep;
    const cJSON *seconds = cJSON_GetObjectItemCaseSensitive(json, "seconds");
    if (!cJSON_IsNumber(seconds) || !isfinite(seconds->valuedouble)) return "seconds";
    p->seconds = seconds->valuedouble;
    if (!bits64(cJSON_GetObjectItemCaseSensitive(json, "seed"), &p->seed)) return "seed";
    if (!bits64(cJSON_GetObjectItemCaseSensitive(json, "step"), &p->step)) return "step";
    if (!read_best(cJSON_GetObjectItemCaseSensitive(json, "best"), p)) return "best";
    return NULL;
}

wr_status wr_progress_parse(const char *text, const char *name, wr_progress *p, wr_error *err) {
    *p = (wr_progress){0};
    cJSON *json = cJSON_Parse(text);
    const char *wrong = json == NULL ? "JSON" : read_members(json, p);
    cJSON_Delete(json);
    if (wrong == NULL) return WR_OK;
    return wr_fail(err, WR_ERR_INPUT,
                   "%s: its record of progress is damaged (\"%s\" is missing or wrong)", name,
                   wrong);
}
