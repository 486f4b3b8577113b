/* flow.h: the flow layers of FlowSeq (Ma et al. 2019) and stacks of them, declared by lists.
 *
 * A layer says how z becomes eps (the density direction) in ordinary rows; the inverse and the
 * log-determinant are derived (autodiff/invert.h). Layers are functions from handles to handles
 * with parameters by name in the current scope. All of them map padding to 0 if it was 0 before,
 * and no valid position reads padding.
 *
 * Letters: B sentences, N candidates (N = B in training), S source length, T steps of the present
 * scale, C channels of the present scale, D model width, d what the network of a coupling reads. */
#ifndef WEIR_FLOW_H
#define WEIR_FLOW_H

#include "models/blocks.h"

/* ---- stacks ---- */

/* What an item is. Those from WR_FLOW_BLOCK on stand for a list of items. */
typedef enum wr_flow_kind {
    WR_FLOW_ACTNORM,
    WR_FLOW_LINEAR,
    WR_FLOW_COUPLING,
    WR_FLOW_FACTOR_OUT,
    WR_FLOW_SQUEEZE,
    WR_FLOW_BLOCK
} wr_flow_kind;

/* The lists of a stack. */
typedef enum wr_flow_name {
    WR_FLOW_LAYERS, /* the stack itself; the others are blocks */
    WR_FLOW_POSITION,
    WR_FLOW_STEP,
    WR_FLOW_UNIT,
    WR_FLOW_LAST_STEP,
    WR_FLOW_LAST_UNIT,
    WR_FLOW_LISTS
} wr_flow_name;

/* 0 is "not said" where a value is needed. */
typedef enum wr_flow_form { WR_FLOW_HEADS = 1, WR_FLOW_INTERLEAVED } wr_flow_form;
typedef enum wr_flow_split { WR_FLOW_HALVES = 1, WR_FLOW_ALTERNATE, WR_FLOW_TIME } wr_flow_split;
typedef enum wr_flow_order { WR_FLOW_UP = 1, WR_FLOW_DOWN } wr_flow_order;
typedef enum wr_flow_mode { WR_FLOW_ADD = 1, WR_FLOW_ATTEND } wr_flow_mode;
typedef enum wr_flow_net {
    WR_FLOW_NET_ATTENTION = 1,
    WR_FLOW_NET_LSTM,
    WR_FLOW_NET_CONV
} wr_flow_net;
typedef enum wr_flow_transform {
    WR_FLOW_AFFINE = 1,
    WR_FLOW_ADDITIVE,
    WR_FLOW_NLSQ
} wr_flow_transform;

typedef struct wr_flow_item {
    wr_flow_kind kind;
    wr_flow_name block;          /* of a block */
    int times;                   /* one after the other, each with parameters of its own */
    wr_flow_form form;           /* of a linear */
    wr_flow_split split;         /* of a coupling and a factor_out */
    wr_flow_order order;         /* of a coupling, and the rest: */
    wr_flow_mode mode;           /* how the attention network sees positions */
    wr_flow_net net;             /* what computes the transform's parameters */
    wr_flow_transform transform; /* what happens to the transformed part */
} wr_flow_item;

enum {
    WR_FLOW_ITEMS = 64,
    WR_FLOW_PARTS = 64,
    WR_FLOW_LAYERS_MOST = 8192,
    WR_FLOW_UNIT_MOST = 1024
};

typedef struct wr_flow_list {
    int n;
    wr_flow_item item[WR_FLOW_ITEMS];
} wr_flow_list;

/* A plain value. */
typedef struct wr_flow_stack {
    wr_flow_list list[WR_FLOW_LISTS];
} wr_flow_stack;

/* The recipe's keys `prior.*`. A text has its items in lines; NULL is FlowSeq's own list of three
 * scales, "" an empty one. Items are `NAME [xN] [option ..]`:
 *   actnorm | linear heads|interleaved | squeeze | factor_out halves|alternate
 *   | coupling halves|alternate|time up|down [add|attend] [net=attention|lstm|conv]
 *     [transform=affine|additive|nlsq]
 *   | position | step | unit | last_step | last_unit */
typedef struct wr_flow_recipe {
    const char *text[WR_FLOW_LISTS];
    wr_flow_net net;             /* of couplings that do not say; 0: attention */
    wr_flow_transform transform; /* 0: affine */
} wr_flow_recipe;

/* WR_ERR_INPUT, naming key, item and what is allowed: an unknown or missing word, a block that
 * contains itself, too many items, layers, or squeezes. */
wr_status wr_flow_parse(const wr_flow_recipe *recipe, wr_flow_stack *stack, wr_error *err);

/* The first word of an item: its kind or its block. */
const char *wr_flow_item_name(const wr_flow_item *x);
/* Append an item as `prior.*` has it. */
void wr_flow_item_print(const wr_flow_item *item, wr_str *out);

/* The number that T must be a multiple of: the product of the squeezes, twice that where couplings
 * split time. */
int wr_flow_length_unit(const wr_flow_stack *stack);

/* Can the stack work on D channels with these heads and inner features? WR_ERR_INPUT, naming key
 * and item: channels that a split, the heads, or the blocks of a linear do not divide. */
wr_status wr_flow_check(const wr_flow_stack *stack, int dim, int heads, int hidden, wr_error *err);

/* ---- layers ---- */

/* The steps of a scale. */
typedef struct wr_flow_steps {
    wr len;  /* [N] i32, in [0, T] */
    wr mask; /* [N, T]: 1 before the length */
} wr_flow_steps;

typedef struct wr_flow_table {
    int width;
    wr table;
} wr_flow_table;

enum { WR_FLOW_TABLES = 8 };

/* What layers see besides their operand. Zero-initialise the rest. */
typedef struct wr_flow_context {
    wr_source source;
    wr_flow_steps steps;
    int heads, hidden; /* of the networks in couplings */
    int max_len;       /* of T: positions and lengths up to it have table entries */
    double dropout;    /* of the networks; 0 at inference */
    bool rebuild;      /* gradients read the layers' values from the inverse at eps (wr_rebuild):
                        * they are not kept */
    wr_start *start;   /* first values: layer by layer, each on what the one before gives with its
                        * new values; NULL: just compute */
    int n_tables;      /* positions made so far */
    wr_flow_table table[WR_FLOW_TABLES];
} wr_flow_context;

/* The steps of the next scale: ceil(len / 2) of T / 2. */
wr_flow_steps wr_flow_halve(const wr_flow_steps *s, int max_len);

/* (x e^log_scale + bias) where the mask is 1: `log_scale` [C] normal with deviation 0.05, `bias`
 * [C] 0. Starts from data as FlowSeq does: deviation 1 and mean 0 per channel over all N T rows,
 * padding included as zeros (N T >= 2; deviation over N T - 1, 1e-6 added). */
wr wr_flow_actnorm(wr x, const wr_flow_context *c);

/* `W` [u, u], orthogonal at first, applied to C / u groups of channels: y_i = sum_j W_ij x_j. u is
 * 32, 16 or 8, the largest that divides C. Channel j of group k is k u + j (HEADS), or j C/u + k
 * (INTERLEAVED). */
wr wr_flow_linear(wr x, wr_flow_form form);

/* One part of x conditions, through a network that also reads the source, what happens to the
 * other one: f(y) where the mask is 1. Parts are the halves of the channels, the even and odd
 * channels, or the even and odd steps; UP transforms the second one, DOWN the first. With shift,
 * raw, .. from the network's weight-normed output `out` [.., 2 |y|], in this order:
 *   AFFINE sigmoid(raw + 2) y + shift, ADDITIVE y + shift, NLSQ as in ops/nlsq.h (a, log_b, c,
 *   log_d, g).
 * The output layer begins as 0, also when it starts from data.
 *
 * ATTENTION: `project`.W [D, d] of the source, absent where d = D; positions from 1 added, or
 * attending to the part (`position`); a decoder layer `self`, `source`, `ffn`. LSTM: `lstm`, both
 * directions of hidden / 2 features, then one attention head over the source (`source`), and `out`
 * reads part and attention. CONV: `conv0`, `conv1` of width 3 in its place. */
wr wr_flow_coupling(wr x, const wr_flow_item *o, wr_flow_context *c);

/* Two adjacent steps become one: x [N, T, C] -> [N, T/2, 2C], and back. */
wr wr_flow_squeeze(wr x);
wr wr_flow_unsqueeze(wr x);

/* Leave half of the channels as they are from here on: the second half, or the odd ones. */
bool wr_flow_factor_out(wr x, wr_flow_split split, wr *kept, wr *aside);
/* Put them back. */
wr wr_flow_factor_in(wr kept, wr aside, wr_flow_split split);

/* ---- stacks in a graph ---- */

typedef struct wr_flow_result {
    wr eps;     /* [N, T, D]: the parts, put together as they were taken apart, 0 in padding */
    wr log_det; /* [N]: log |d eps / d z| over the valid steps; poison in a start from data */
    int n_parts;
    wr part[WR_FLOW_PARTS]; /* what was set aside, in order, then the rest */
} wr_flow_result;

/* z [N, T, D] -> eps: the layers in scope `prior`, each in a scope of its kind and running number
 * among its kind in its list: prior.step0.unit1.coupling5. T must be a multiple of the stack's
 * unit. False after a diagnostic. */
bool wr_flow_density(const wr_flow_stack *stack, wr z, const wr_flow_context *c, wr_flow_result *r);

/* eps [N, T, D] -> z by the inverse of the same declaration; *log_det [N] is log |d z / d eps| (may
 * be NULL). */
wr wr_flow_sample(const wr_flow_stack *stack, wr eps, const wr_flow_context *c, wr *log_det);

#endif
