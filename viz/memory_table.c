/* memory_table.c: who holds the arena, as a table for terminals. */
#include "viz/memory_internal.h"

#include <string.h>

static void add_holders(const wr__memory *m, wr_str *out) {
    wr_str_add(out, "%10s %7s %8s  %s\n", "at the peak", "share", "buffers", "held by");
    for (size_t i = 0; i < m->n_holders; i++) {
        const wr__holder *h = &m->holder[i];
        wr_str bytes = {0};
        if (h->peak <= 0) break;
        wr__memory_print_bytes(&bytes, h->peak);
        wr_str_add(out, "%11s %6.1f%% %8u  %s\n", wr_str_text(&bytes), 100 * h->peak / m->peak,
                   (unsigned)h->n_peak, h->name);
        out->oom = out->oom || bytes.oom;
        wr_str_free(&bytes);
    }
}

static void add_buffer(const wr__memory *m, const wr__buffer *b, wr_str *out) {
    wr_str bytes = {0}, steps = {0};
    wr__memory_print_bytes(&bytes, (double)b->bytes);
    wr_str_add(&steps, "%d-%d", b->first + 1, b->last + 1);
    bool at_peak = b->first <= m->peak_step && b->last >= m->peak_step;
    wr_str_add(out, "%11s %13s %c  ", wr_str_text(&bytes), wr_str_text(&steps),
               at_peak ? '*' : ' ');
    wr__memory_print_name(m->p, b, out);
    if (!b->workspace) wr_str_add(out, "  ");
    wr__memory_print_type(m->p, b, out);
    wr_str_add(out, "  ");
    wr__memory_print_line(m->p, b, out);
    wr_str_add(out, "\n");
    out->oom = out->oom || bytes.oom || steps.oom;
    wr_str_free(&bytes);
    wr_str_free(&steps);
}

wr_status wr_memory_table(const wr_plan *p, const wr_memory_options *o, wr_str *out,
                          wr_error *err) {
    wr__memory m;
    wr_status status = wr__memory_begin(&m, p, o->depth, 0, err);
    if (status == WR_OK) {
        wr__memory_print_sum(&m, out);
        wr_str_add(out, "\n\n");
        add_holders(&m, out);
        wr_str_add(out, "\n%11s %13s    largest buffers (* in use at the peak)\n", "bytes",
                   "steps");
        for (size_t i = 0; i < m.n_buffers && (int)i < o->top; i++)
            add_buffer(&m, &m.buffer[i], out);
        if (out->oom) status = wr_fail_memory(err, "a table", out->len);
    }
    wr__memory_end(&m);
    return status;
}
