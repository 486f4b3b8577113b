/* look.c: see look.h. */
#include "viz/look.h"

#define INK         "#455a64"
#define DERIVED_INK "#c2185b"
#define RESULT_INK  "#1b5e20"

const wr__look wr__looks[WR__KIND_COUNT] = {
    [WR__KIND_INPUT] = {"input", "#bbdefb", INK},
    [WR__KIND_PARAMETER] = {"parameter", "#fff3c4", INK},
    [WR__KIND_STATE] = {"state", "#ffe082", INK},
    [WR__KIND_CONSTANT] = {"constant", "#eceff1", INK},
    [WR__KIND_ELEMENTWISE] = {"elementwise", "#dcedc8", INK},
    [WR__KIND_REDUCE] = {"reduction", "#ffccbc", INK},
    [WR__KIND_RANDOM] = {"random", "#e1bee7", INK},
    [WR__KIND_STATEFUL] = {"writes state", "#ef9a9a", INK},
    [WR__KIND_VIEW] = {"view", "#ffffff", INK},
    [WR__KIND_OTHER] = {"other op", "#b2dfdb", INK},
    [WR__KIND_CLOSED] = {"closed scope", "#cfd8dc", INK},
    [WR__KIND_OUTSIDE] = {"outside the scope", "#fafafa", "#9e9e9e"},
    [WR__KIND_RESULT] = {"result", "#ffffff", RESULT_INK},
    [WR__KIND_DERIVED] = {"derived", "#ffffff", DERIVED_INK},
};

wr__kind wr__kind_of(const wr_op *op) {
    if (op == &wr_op_input) return WR__KIND_INPUT;
    if (op == &wr_op_param) return WR__KIND_PARAMETER;
    if (op == &wr_op_state) return WR__KIND_STATE;
    if (op->traits & WR_SOURCE) return WR__KIND_CONSTANT;
    if (op->traits & WR_STATEFUL) return WR__KIND_STATEFUL;
    if (op->traits & WR_RANDOM) return WR__KIND_RANDOM;
    if (op->traits & WR_REDUCE) return WR__KIND_REDUCE;
    if (op->traits & WR_ELEMENTWISE) return WR__KIND_ELEMENTWISE;
    return op->traits & WR_VIEW ? WR__KIND_VIEW : WR__KIND_OTHER;
}
