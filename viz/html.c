/* html.c: the pages' frame, their strings, and the page of a model. See html.h. */
#include "viz/html.h"

#include "viz/html_internal.h"
#include "viz/look.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* ---- JSON within HTML ---- */

/* JSON escapes control characters; "<", ">" and "&" could end the script or begin a comment. */
static bool is_plain(utf8proc_int32_t c) {
    return c >= 0x20 && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&' && c != 0x7F;
}

void wr_html_string(wr_str *out, const char *text) {
    if (text == NULL) {
        wr_str_add(out, "null");
        return;
    }
    size_t n = strlen(text), begin = 0;
    wr_str_add(out, "\"");
    for (size_t i = 0; i < n;) {
        utf8proc_int32_t c;
        utf8proc_ssize_t used =
            utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)(n - i), &c);
        bool broken = used <= 0;
        size_t length = broken ? 1 : (size_t)used;
        if (broken || !is_plain(c)) {
            wr_str_bytes(out, text + begin, i - begin);
            wr_str_add(out, "\\u%04x", broken ? 0xFFFDu : (unsigned)c);
            begin = i + length;
        }
        i += length;
    }
    wr_str_bytes(out, text + begin, n - begin);
    wr_str_add(out, "\"");
}

void wr_html_number(wr_str *out, double value) {
    if (isfinite(value))
        wr_str_add(out, "%.7g", value);
    else
        wr_str_add(out, "null");
}

/* Text between tags. */
static void add_text(wr_str *out, const char *text) {
    for (; *text != '\0'; text++) {
        if (*text == '<')
            wr_str_add(out, "&lt;");
        else if (*text == '&')
            wr_str_add(out, "&amp;");
        else
            wr_str_bytes(out, text, 1);
    }
}

/* ---- the frame ---- */

static void add_file(wr_str *out, const char *name) {
    for (size_t i = 0; i < wr__page_file_count; i++)
        if (strcmp(wr__page_files[i].name, name) == 0)
            wr_str_bytes(out, wr__page_files[i].bytes, wr__page_files[i].n);
}

wr_status wr_html_page(wr_html_kind kind, const char *title, const char *json, wr_str *out,
                       wr_error *err) {
    static const char *const model[] = {"base.js", "graph.js", "layout.js", "view.js",
                                        "plan.js", "model.js", NULL};
    static const char *const report[] = {"base.js", "chart.js", "report.js", NULL};
    wr_str_add(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
                    "style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\">\n"
                    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                    "<link rel=\"icon\" href=\"data:,\">\n<title>");
    add_text(out, title);
    wr_str_add(out, "</title>\n<style>\n");
    add_file(out, "page.css");
    wr_str_add(out, "</style>\n</head>\n<body>\n<noscript>This page needs JavaScript, which it "
                    "brings along.</noscript>\n<script type=\"application/json\" id=\"data\">");
    wr_str_bytes(out, json, strlen(json));
    wr_str_add(out, "</script>\n<script>\n'use strict';\n(() => {\n");
    for (const char *const *name = kind == WR_HTML_MODEL ? model : report; *name != NULL; name++)
        add_file(out, *name);
    wr_str_add(out, "})();\n</script>\n</body>\n</html>\n");
    return out->oom ? wr_fail_memory(err, "a page", out->len) : WR_OK;
}

/* ---- strings of a page ---- */

uint32_t wr__html_intern(wr__html *h, const char *text) {
    if (h->strings.n == 0) { /* number 0 is "" */
        if (!wr_grow(&h->strings.item, &h->strings.cap, 1, sizeof *h->strings.item)) {
            h->oom = true;
            return 0;
        }
        h->strings.item[0] = (wr__interned){0};
        h->strings.n = 1;
    }
    uint32_t id = wr__intern(&h->strings, text, strlen(text));
    h->oom |= id == 0 && text[0] != '\0';
    return id;
}

uint32_t wr__html_take(wr__html *h) {
    uint32_t id = wr__html_intern(h, wr_str_text(&h->text));
    h->oom |= h->text.oom;
    wr_str_clear(&h->text);
    return id;
}

static void free_page(wr__html *h) {
    for (size_t i = 1; i < h->strings.n; i++)
        free(h->strings.item[i].bytes);
    free(h->strings.item);
    free(h->strings.slot);
    wr_str_free(&h->text);
}

static void add_strings(wr__html *h) {
    wr_str_add(h->out, "\"strings\":[\"\"");
    for (size_t i = 1; i < h->strings.n; i++) {
        wr_str_add(h->out, ",");
        wr_html_string(h->out, h->strings.item[i].bytes);
    }
    wr_str_add(h->out, "]");
}

/* ---- a model ---- */

static void add_kinds(wr_str *out) {
    wr_str_add(out, "\"kinds\":[");
    for (int k = 0; k < WR__KIND_COUNT; k++)
        wr_str_add(out, "%s[\"%s\",\"%s\",\"%s\"]", k > 0 ? "," : "", wr__looks[k].word,
                   wr__looks[k].fill, wr__looks[k].border);
    wr_str_add(out, "],");
}

static void add_sizes(wr_str *out, const wr_html_model *m) {
    wr_str_add(out, "\"sizes\":{");
    bool first = true;
    const wr_dims *dims = m->loss.g == NULL ? NULL : wr_graph_dims(m->loss.g);
    for (int i = 0; dims != NULL && m->loss.binding != NULL && i < wr_dims_symbol_count(dims);
         i++) {
        if (m->loss.binding->value[i] <= 0) continue;
        wr_str_add(out, "%s", first ? "" : ",");
        wr_html_string(out, wr_dims_symbol_at(dims, i)->name);
        wr_str_add(out, ":%lld", (long long)m->loss.binding->value[i]);
        first = false;
    }
    wr_str_add(out, "},");
}

static wr_status add_graph(wr__html *h, const char *name, const wr_html_graph *x, wr_error *err) {
    wr_str_add(h->out, "\"%s\":", name);
    wr_status status = WR_OK;
    if (x->g != NULL)
        status = wr__html_graph(h, x, err);
    else
        wr_html_string(h->out, x->absent == NULL ? "" : x->absent);
    wr_str_add(h->out, ",");
    return status;
}

static wr_status add_model(wr__html *h, const wr_html_model *m, wr_error *err) {
    wr_str_add(h->out, "{\"title\":");
    wr_html_string(h->out, m->title);
    wr_str_add(h->out, ",\"about\":");
    wr_html_string(h->out, m->about == NULL ? "" : m->about);
    wr_str_add(h->out, ",\"tab\":");
    wr_html_string(h->out, m->tab == NULL ? "forward" : m->tab);
    wr_str_add(h->out, ",");
    add_kinds(h->out);
    add_sizes(h->out, m);
    wr_status status = add_graph(h, "loss", &m->loss, err);
    if (status == WR_OK) status = add_graph(h, "inverse", &m->inverse, err);
    wr_str_add(h->out, "\"plan\":");
    if (status == WR_OK && m->plan != NULL)
        status = wr__html_plan(h, m->plan, err);
    else
        wr_html_string(h->out, m->no_plan == NULL ? "" : m->no_plan);
    wr_str_add(h->out, ",");
    add_strings(h);
    wr_str_add(h->out, "}");
    if (status == WR_OK && (h->oom || h->out->oom))
        status = wr_fail_memory(err, "a page", h->out->len);
    return status;
}

wr_status wr_html_model_page(const wr_html_model *m, wr_str *out, wr_error *err) {
    wr_str json = {0};
    wr__html h = {.out = &json};
    wr_status status = add_model(&h, m, err);
    if (status == WR_OK)
        status = wr_html_page(WR_HTML_MODEL, m->title, wr_str_text(&json), out, err);
    free_page(&h);
    wr_str_free(&json);
    return status;
}
