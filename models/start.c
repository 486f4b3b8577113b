/* start.c: see start.h. */
#include "models/start.h"

#include "graph/op.h"
#include "ops/assign.h"

#include <stdlib.h>

static bool room(wr_start *s) {
    if (s->n < s->capacity) return true;
    int capacity = s->capacity == 0 ? 64 : 2 * s->capacity;
    wr *param = realloc(s->param, sizeof *param * (size_t)capacity);
    if (param != NULL) s->param = param;
    wr *value = realloc(s->value, sizeof *value * (size_t)capacity);
    if (value != NULL) s->value = value;
    if (param == NULL || value == NULL) return false;
    s->capacity = capacity;
    return true;
}

bool wr_start_note(wr_start *s, wr param, wr value) {
    if (wr_is_poison(param) || wr_is_poison(value)) return false;
    if (!room(s)) {
        wr_no_memory(param.g);
        return false;
    }
    s->param[s->n] = param;
    s->value[s->n++] = value;
    return true;
}

wr wr_start_write(wr_start *s) {
    wr last = {NULL, 0};
    for (int i = 0; i < s->n; i++)
        last = wr_assign(s->param[i], s->value[i]);
    s->n = 0;
    return last;
}

void wr_start_free(wr_start *s) {
    free(s->param);
    free(s->value);
    *s = (wr_start){.mode = s->mode};
}
