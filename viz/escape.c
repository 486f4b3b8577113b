/* escape.c: text that Graphviz shows as it is. */
#include "viz/picture.h"

#include <string.h>
#include <utf8proc.h>

/* The next character and its length in bytes; U+FFFD for a byte that is not UTF-8. */
static utf8proc_int32_t next_character(const char *text, size_t n, size_t *bytes) {
    utf8proc_int32_t c = 0;
    utf8proc_ssize_t used =
        utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n, &c);
    *bytes = used > 0 ? (size_t)used : 1;
    return used > 0 ? c : 0xFFFD;
}

/* XML allows neither control characters nor the two that end each plane. */
static bool is_shown(utf8proc_int32_t c) {
    return c >= 0x20 && c != 0x7F && (c < 0x80 || c > 0x9F) && (c & 0xFFFE) != 0xFFFE;
}

/* What stands for a character with a meaning to Graphviz, else NULL. */
static const char *replacement(utf8proc_int32_t c, bool html) {
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return html ? "&lt;" : NULL;
    case '>':
        return html ? "&gt;" : NULL;
    case '"':
        return html ? "&quot;" : "\\\"";
    case '\\':
        return html ? NULL : "\\\\";
    default:
        return NULL;
    }
}

static void escape(wr_str *out, const char *text, const char *line_end, bool html) {
    size_t n = strlen(text), bytes;
    for (size_t i = 0; i < n; i += bytes) {
        utf8proc_int32_t c = next_character(text + i, n - i, &bytes);
        const char *other = replacement(c, html);
        if (c == '\n')
            wr_str_add(out, "%s", line_end);
        else if (other != NULL)
            wr_str_add(out, "%s", other);
        else if (!is_shown(c))
            wr_str_add(out, " ");
        else if (c == 0xFFFD)
            wr_str_add(out, "\xEF\xBF\xBD");
        else
            wr_str_bytes(out, text + i, bytes);
    }
}

void wr__escape(wr_str *out, const char *text, char line_end) {
    const char end[3] = {'\\', line_end, '\0'};
    escape(out, text, end, false);
}

void wr__escape_html(wr_str *out, const char *text) { escape(out, text, "<br/>", true); }

void wr__print_count(wr_str *out, double n) {
    static const char UNITS[] = " kMGTPE";
    int unit = 0;
    double x = n;
    if (n < 9999.5) {
        wr_str_add(out, "%.0f", n);
        return;
    }
    while (x >= 999.95 && UNITS[unit + 1] != '\0') {
        x /= 1000;
        unit++;
    }
    wr_str_add(out, "%.*f%c", x < 99.95 ? 1 : 0, x, UNITS[unit]);
}
