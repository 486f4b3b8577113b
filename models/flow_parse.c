/* flow_parse.c: stacks of flow layers as lists of words; see flow.h. */
#include "models/flow.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE = 256, TIMES_MOST = 999 };

static const char *const LIST[WR_FLOW_LISTS] = {"layers", "position",  "step",
                                                "unit",   "last_step", "last_unit"};

static const char *const KIND[WR_FLOW_BLOCK] = {"actnorm", "linear", "coupling", "factor_out",
                                                "squeeze"};

#define COUPLING_FORM                                                                              \
    "coupling halves|alternate|time up|down [add|attend] [net=attention|lstm|conv] "               \
    "[transform=affine|additive|nlsq]"

/* What an item of each kind looks like; blocks take no options. */
static const char *const FORM[WR_FLOW_BLOCK + 1] = {"actnorm",     "linear heads|interleaved",
                                                    COUPLING_FORM, "factor_out halves|alternate",
                                                    "squeeze",     "the block's name, [xN]"};

/* FlowSeq's three scales; the last one has no coupling over time. */
static const char *const USUAL[WR_FLOW_LISTS] = {
    "position\nstep x4\ncoupling halves up\nfactor_out halves\nsqueeze\n"
    "position\nstep x4\ncoupling halves up\nfactor_out halves\nsqueeze\n"
    "position\nlast_step x2\n",
    "actnorm\ncoupling halves up attend\ncoupling halves down add\n",
    "actnorm\nlinear heads\nunit\nactnorm\nlinear interleaved\nunit\n",
    "coupling halves up\ncoupling halves down\nactnorm\ncoupling alternate up\n"
    "coupling alternate down\nactnorm\ncoupling time up\ncoupling time down\n",
    "actnorm\nlinear heads\nlast_unit\nactnorm\nlinear interleaved\nlast_unit\n",
    "coupling halves up\ncoupling halves down\nactnorm\ncoupling alternate up\n"
    "coupling alternate down\n"};

/* ---- words ---- */

typedef enum field { F_FORM, F_SPLIT, F_ORDER, F_MODE, F_NET, F_TRANSFORM, FIELDS } field;

typedef struct word {
    const char *text;
    unsigned kinds;
    field field;
    int value;
} word;

enum {
    OF_LINEAR = 1u << WR_FLOW_LINEAR,
    OF_COUPLING = 1u << WR_FLOW_COUPLING,
    OF_FACTOR_OUT = 1u << WR_FLOW_FACTOR_OUT
};

static const word WORDS[] = {{"heads", OF_LINEAR, F_FORM, WR_FLOW_HEADS},
                             {"interleaved", OF_LINEAR, F_FORM, WR_FLOW_INTERLEAVED},
                             {"halves", OF_COUPLING | OF_FACTOR_OUT, F_SPLIT, WR_FLOW_HALVES},
                             {"alternate", OF_COUPLING | OF_FACTOR_OUT, F_SPLIT, WR_FLOW_ALTERNATE},
                             {"time", OF_COUPLING, F_SPLIT, WR_FLOW_TIME},
                             {"up", OF_COUPLING, F_ORDER, WR_FLOW_UP},
                             {"down", OF_COUPLING, F_ORDER, WR_FLOW_DOWN},
                             {"add", OF_COUPLING, F_MODE, WR_FLOW_ADD},
                             {"attend", OF_COUPLING, F_MODE, WR_FLOW_ATTEND},
                             {"net=attention", OF_COUPLING, F_NET, WR_FLOW_NET_ATTENTION},
                             {"net=lstm", OF_COUPLING, F_NET, WR_FLOW_NET_LSTM},
                             {"net=conv", OF_COUPLING, F_NET, WR_FLOW_NET_CONV},
                             {"transform=affine", OF_COUPLING, F_TRANSFORM, WR_FLOW_AFFINE},
                             {"transform=additive", OF_COUPLING, F_TRANSFORM, WR_FLOW_ADDITIVE},
                             {"transform=nlsq", OF_COUPLING, F_TRANSFORM, WR_FLOW_NLSQ}};
enum { N_WORDS = sizeof WORDS / sizeof WORDS[0] };

static int get(const wr_flow_item *x, field f) {
    switch (f) {
    case F_FORM:
        return (int)x->form;
    case F_SPLIT:
        return (int)x->split;
    case F_ORDER:
        return (int)x->order;
    case F_MODE:
        return (int)x->mode;
    case F_NET:
        return (int)x->net;
    default:
        return (int)x->transform;
    }
}

static void set(wr_flow_item *x, field f, int value) {
    switch (f) {
    case F_FORM:
        x->form = (wr_flow_form)value;
        break;
    case F_SPLIT:
        x->split = (wr_flow_split)value;
        break;
    case F_ORDER:
        x->order = (wr_flow_order)value;
        break;
    case F_MODE:
        x->mode = (wr_flow_mode)value;
        break;
    case F_NET:
        x->net = (wr_flow_net)value;
        break;
    default:
        x->transform = (wr_flow_transform)value;
        break;
    }
}

static const char *text_of(field f, int value) {
    for (int i = 0; i < N_WORDS; i++)
        if (WORDS[i].field == f && WORDS[i].value == value) return WORDS[i].text;
    return "";
}

const char *wr_flow_item_name(const wr_flow_item *x) {
    return x->kind == WR_FLOW_BLOCK ? LIST[x->block] : KIND[x->kind];
}

void wr_flow_item_print(const wr_flow_item *item, wr_str *out) {
    wr_str_add(out, "%s", wr_flow_item_name(item));
    if (item->times > 1) wr_str_add(out, " x%d", item->times);
    for (int f = 0; f < FIELDS; f++)
        if (get(item, (field)f) != 0)
            wr_str_add(out, " %s", text_of((field)f, get(item, (field)f)));
}

/* ---- messages ---- */

typedef struct place {
    wr_flow_name list;
    int item; /* from 0 */
    wr_error *err;
} place;

/* "recipe key prior.unit, item 3 'coupling halves': " and what is wrong. */
static wr_status WR_PRINTF(3, 4) wrong(const place *p, const char *item, const char *fmt, ...) {
    char what[3 * LINE];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    return wr_fail(p->err, WR_ERR_INPUT, "recipe key prior.%s, item %d '%s': %s", LIST[p->list],
                   p->item + 1, item, what);
}

/* The same for an item that was parsed. */
static wr_status WR_PRINTF(3, 4)
    impossible(const place *p, const wr_flow_item *item, const char *fmt, ...) {
    char what[3 * LINE];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    wr_str text = {0};
    wr_flow_item_print(item, &text);
    wr_status status = wrong(p, wr_str_text(&text), "%s", what);
    wr_str_free(&text);
    return status;
}

/* ---- one item ---- */

static bool find_kind(const char *text, wr_flow_item *x) {
    for (int k = 0; k < WR_FLOW_BLOCK; k++)
        if (strcmp(text, KIND[k]) == 0) {
            x->kind = (wr_flow_kind)k;
            return true;
        }
    for (int b = WR_FLOW_LAYERS + 1; b < WR_FLOW_LISTS; b++)
        if (strcmp(text, LIST[b]) == 0) {
            x->kind = WR_FLOW_BLOCK;
            x->block = (wr_flow_name)b;
            return true;
        }
    return false;
}

/* "x4" -> 4; 0: no such thing; -1: out of range. */
static int times_of(const char *text) {
    if (text[0] != 'x' || text[1] < '0' || text[1] > '9') return 0;
    char *end;
    long n = strtol(text + 1, &end, 10);
    if (*end != '\0') return 0;
    return n < 1 || n > TIMES_MOST ? -1 : (int)n;
}

static wr_status set_option(const place *p, const char *item, const char *text, wr_flow_item *x) {
    int times = times_of(text);
    if (times < 0) return wrong(p, item, "%s: a number of times is x1 to x%d", text, TIMES_MOST);
    if (times > 0 && x->times != 0) return wrong(p, item, "two numbers of times");
    if (times > 0) {
        x->times = times;
        return WR_OK;
    }
    for (int i = 0; i < N_WORDS; i++) {
        const word *w = &WORDS[i];
        if ((w->kinds & 1u << x->kind) == 0 || strcmp(w->text, text) != 0) continue;
        int before = get(x, w->field);
        if (before != 0 && before != w->value)
            return wrong(p, item, "%s and %s exclude each other", text_of(w->field, before), text);
        set(x, w->field, w->value);
        return WR_OK;
    }
    return wrong(p, item, "unknown word '%s'; allowed is: %s", text, FORM[x->kind]);
}

/* Fill what may be left out, refuse what may not. */
static wr_status complete(const place *p, const char *item, const wr_flow_recipe *r,
                          wr_flow_item *x) {
    bool split = x->kind == WR_FLOW_COUPLING || x->kind == WR_FLOW_FACTOR_OUT;
    if ((x->kind == WR_FLOW_LINEAR && x->form == 0) || (split && x->split == 0) ||
        (x->kind == WR_FLOW_COUPLING && x->order == 0))
        return wrong(p, item, "a word is missing; allowed is: %s", FORM[x->kind]);
    if (x->times == 0) x->times = 1;
    if (x->kind != WR_FLOW_COUPLING) return WR_OK;
    if (x->net == 0) x->net = r->net == 0 ? WR_FLOW_NET_ATTENTION : r->net;
    if (x->transform == 0) x->transform = r->transform == 0 ? WR_FLOW_AFFINE : r->transform;
    if (x->mode == 0 && x->net == WR_FLOW_NET_ATTENTION) x->mode = WR_FLOW_ADD;
    return WR_OK;
}

static wr_status parse_item(const place *p, const wr_flow_recipe *r, const char *item,
                            wr_flow_item *x) {
    char copy[LINE], *rest = NULL;
    snprintf(copy, sizeof copy, "%s", item);
    const char *word = strtok_r(copy, " \t", &rest);
    if (word == NULL) return wrong(p, item, "an item is empty");
    *x = (wr_flow_item){0};
    if (!find_kind(word, x))
        return wrong(p, item,
                     "unknown name '%s'; an item is actnorm, linear, coupling, factor_out, "
                     "squeeze, or a block: position, step, unit, last_step, last_unit",
                     word);
    while ((word = strtok_r(NULL, " \t", &rest)) != NULL) {
        wr_status status = set_option(p, item, word, x);
        if (status != WR_OK) return status;
    }
    return complete(p, item, r, x);
}

/* ---- the lists ---- */

static wr_status parse_list(const wr_flow_recipe *r, wr_flow_name name, wr_flow_list *list,
                            wr_error *err) {
    const char *at = r->text[name] == NULL ? USUAL[name] : r->text[name];
    place p = {.list = name, .err = err};
    for (list->n = 0; *at != '\0'; list->n++) {
        size_t n = strcspn(at, "\n");
        char item[LINE];
        p.item = list->n;
        snprintf(item, sizeof item, "%.*s", (int)(n < LINE ? n : LINE - 1), at);
        if (list->n == WR_FLOW_ITEMS)
            return wrong(&p, item,
                         "a list has at most %d items; give a part of it a name, such as "
                         "prior.step, or repeat an item with xN",
                         WR_FLOW_ITEMS);
        if (n >= LINE) return wrong(&p, item, "an item has less than %d bytes", LINE);
        wr_status status = parse_item(&p, r, item, &list->item[list->n]);
        if (status != WR_OK) return status;
        at += n + (at[n] == '\n');
    }
    return WR_OK;
}

/* Does the list reach itself? `open` marks the lists on the way from where the search began. */
static wr_status refuse_recursion(const wr_flow_stack *s, wr_flow_name name, bool *open,
                                  wr_error *err) {
    open[name] = true;
    for (int i = 0; i < s->list[name].n; i++) {
        const wr_flow_item *x = &s->list[name].item[i];
        if (x->kind != WR_FLOW_BLOCK) continue;
        place p = {name, i, err};
        if (open[x->block])
            return impossible(&p, x, "the block %s would contain itself", LIST[x->block]);
        wr_status status = refuse_recursion(s, x->block, open, err);
        if (status != WR_OK) return status;
    }
    open[name] = false;
    return WR_OK;
}

/* ---- what a stack does to sizes ---- */

typedef struct walk {
    const wr_flow_stack *stack;
    int channels; /* 0: not asked for */
    int heads, hidden;
    int layers, squeezed, unit;
    wr_error *err;
} walk;

static wr_status count_layer(walk *w, const place *p, const wr_flow_item *x) {
    if (++w->layers > WR_FLOW_LAYERS_MOST)
        return impossible(p, x, "the stack has more than %d layers", WR_FLOW_LAYERS_MOST);
    if (x->mode != 0 && x->net != WR_FLOW_NET_ATTENTION)
        return impossible(p, x, "%s is for net=attention only", text_of(F_MODE, (int)x->mode));
    if (x->kind == WR_FLOW_SQUEEZE) w->squeezed *= 2;
    int unit =
        x->kind == WR_FLOW_COUPLING && x->split == WR_FLOW_TIME ? 2 * w->squeezed : w->squeezed;
    if (unit > w->unit) w->unit = unit;
    if (unit <= WR_FLOW_UNIT_MOST) return WR_OK;
    return impossible(p, x, "lengths would have to be multiples of %d; %d is the limit", unit,
                      WR_FLOW_UNIT_MOST);
}

static wr_status check_coupling(const walk *w, const place *p, const wr_flow_item *x) {
    int read = x->split == WR_FLOW_TIME ? w->channels : w->channels / 2;
    if (x->split != WR_FLOW_TIME && w->channels % 2 != 0)
        return impossible(p, x, "there are %d channels here: no two equal parts", w->channels);
    if (x->net == WR_FLOW_NET_ATTENTION && read % w->heads != 0)
        return impossible(p, x,
                          "its network reads %d channels, which %d heads do not divide; change "
                          "prior.heads or model.dim",
                          read, w->heads);
    if (x->net == WR_FLOW_NET_LSTM && w->hidden % 2 != 0)
        return impossible(p, x,
                          "prior.hidden is %d: the two directions of an LSTM need equal "
                          "parts",
                          w->hidden);
    return WR_OK;
}

static wr_status check_layer(walk *w, const place *p, const wr_flow_item *x) {
    switch (x->kind) {
    case WR_FLOW_COUPLING:
        return check_coupling(w, p, x);
    case WR_FLOW_LINEAR:
        if (w->channels % 8 == 0) return WR_OK;
        return impossible(p, x, "there are %d channels here, no multiple of 8", w->channels);
    case WR_FLOW_FACTOR_OUT:
        if (w->channels % 2 != 0)
            return impossible(p, x, "there %s %d channel%s left here: nothing to set aside as half",
                              w->channels == 1 ? "is" : "are", w->channels,
                              w->channels == 1 ? "" : "s");
        w->channels /= 2;
        return WR_OK;
    case WR_FLOW_SQUEEZE:
        if (w->channels > INT32_MAX / 4) return impossible(p, x, "too many channels");
        w->channels *= 2;
        return WR_OK;
    default:
        return WR_OK;
    }
}

static wr_status walk_list(walk *w, wr_flow_name name) {
    const wr_flow_list *list = &w->stack->list[name];
    for (int i = 0; i < list->n; i++) {
        const wr_flow_item *x = &list->item[i];
        place p = {name, i, w->err};
        for (int t = 0; t < x->times; t++) {
            wr_status status = count_layer(w, &p, x);
            if (status == WR_OK && x->kind == WR_FLOW_BLOCK)
                status = walk_list(w, x->block);
            else if (status == WR_OK && w->channels > 0)
                status = check_layer(w, &p, x);
            if (status != WR_OK) return status;
        }
    }
    return WR_OK;
}

wr_status wr_flow_parse(const wr_flow_recipe *recipe, wr_flow_stack *stack, wr_error *err) {
    *stack = (wr_flow_stack){0};
    for (int k = 0; k < WR_FLOW_LISTS; k++) {
        wr_status status = parse_list(recipe, (wr_flow_name)k, &stack->list[k], err);
        if (status != WR_OK) return status;
    }
    for (int k = 0; k < WR_FLOW_LISTS; k++) {
        bool open[WR_FLOW_LISTS] = {false};
        wr_status status = refuse_recursion(stack, (wr_flow_name)k, open, err);
        if (status != WR_OK) return status;
    }
    walk w = {.stack = stack, .squeezed = 1, .unit = 1, .err = err};
    return walk_list(&w, WR_FLOW_LAYERS);
}

int wr_flow_length_unit(const wr_flow_stack *stack) {
    walk w = {.stack = stack, .squeezed = 1, .unit = 1};
    walk_list(&w, WR_FLOW_LAYERS);
    return w.unit;
}

wr_status wr_flow_check(const wr_flow_stack *stack, int dim, int heads, int hidden, wr_error *err) {
    walk w = {.stack = stack,
              .channels = dim,
              .heads = heads,
              .hidden = hidden,
              .squeezed = 1,
              .unit = 1,
              .err = err};
    return walk_list(&w, WR_FLOW_LAYERS);
}
