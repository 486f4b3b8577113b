/* table.c: see table.h; the list is ops.def. */
#include "ops/table.h"

#include <string.h>

#define OP(name) extern const wr_op wr_op_##name;
#include "ops/ops.def"
#undef OP

#define OP(name) &wr_op_##name,
static const wr_op *const TABLE[] = {
#include "ops/ops.def"
};
#undef OP

#define OP(name) +1
enum {
    COUNT = 0
#include "ops/ops.def"
};
#undef OP

int wr_op_count(void) { return COUNT; }
const wr_op *wr_op_at(int index) { return TABLE[index]; }

const wr_op *wr_op_find(const char *name) {
    for (int i = 0; i < wr_op_count(); i++)
        if (strcmp(TABLE[i]->name, name) == 0) return TABLE[i];
    return NULL;
}
