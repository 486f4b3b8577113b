/* look.h: kinds of rows and how pictures show them. Internal to viz/. */
#ifndef WEIR_VIZ_LOOK_H
#define WEIR_VIZ_LOOK_H

#include "graph/op.h"

typedef enum wr__kind {
    WR__KIND_INPUT,
    WR__KIND_PARAMETER,
    WR__KIND_STATE,
    WR__KIND_CONSTANT,
    WR__KIND_ELEMENTWISE,
    WR__KIND_REDUCE,
    WR__KIND_RANDOM,
    WR__KIND_STATEFUL,
    WR__KIND_VIEW,
    WR__KIND_OTHER,
    WR__KIND_CLOSED, /* a scope */
    WR__KIND_OUTSIDE,
    WR__KIND_RESULT,
    WR__KIND_DERIVED,
    WR__KIND_COUNT
} wr__kind;

/* The word of the legend; colours as "#rrggbb". */
typedef struct wr__look {
    const char *word, *fill, *border;
} wr__look;
extern const wr__look wr__looks[WR__KIND_COUNT];

wr__kind wr__kind_of(const wr_op *op);

#endif
