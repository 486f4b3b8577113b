/* ctc_align.c: forward-backward and best path over CTC's states; see alignments.h.
 *
 * State q is the blank for even q and target word q/2 for odd q. A frame may stay in its state, go
 * to the next, or leave out a blank between two different words. The
 * backward table holds only states that can be reached from the beginning and from which the end
 * can be reached. */
#include "models/objectives/alignments.h"

#include <math.h>
#include <string.h>

typedef struct lattice {
    const wr_gathered *s;
    const int32_t *ids;
    int states;                /* Q = 2 N + 1 */
    double *forward, *another; /* [T, Q] each */
} lattice;

size_t wr_ctc_workspace(int positions, int targets) {
    return (size_t)positions * (2 * (size_t)targets + 1) * 2 * sizeof(double);
}

static lattice lattice_in(const wr_gathered *s, const int32_t *ids, void *workspace) {
    lattice l = {.s = s, .ids = ids, .states = 2 * s->targets + 1, .forward = workspace};
    l.another = l.forward + (size_t)s->positions * (size_t)l.states;
    return l;
}

int wr_ctc_least_positions(const int32_t *ids, int targets) {
    int least = targets;
    for (int n = 1; n < targets; n++)
        least += ids[n] == ids[n - 1];
    return least;
}

static double emission(const lattice *l, int t, int q) {
    size_t column = (size_t)(q % 2 == 0 ? l->s->extra : q / 2);
    return l->s->lp[(size_t)t * l->s->stride + column];
}

/* May a frame go from state q to q + 2? */
static bool may_jump(const lattice *l, int q) {
    return q % 2 == 1 && q + 2 < l->states && l->ids[q / 2] != l->ids[q / 2 + 1];
}

/* The states of frame t: from the first from which the end is near enough to the last that can be
 * reached. */
static int first_state(const lattice *l, int t) {
    int q = l->states - 2 * (l->s->positions - t);
    return q > 0 ? q : 0;
}
static int last_state(const lattice *l, int t) {
    return 2 * t + 1 < l->states ? 2 * t + 1 : l->states - 1;
}

/* log(e^a + e^b + e^c); -INFINITY when all are. */
static double log_sum(double a, double b, double c) {
    double m = fmax(a, fmax(b, c));
    if (m == -INFINITY) return m;
    return m + log(exp(a - m) + exp(b - m) + exp(c - m));
}

static void clear(const lattice *l, double *table) {
    size_t cells = (size_t)l->s->positions * (size_t)l->states;
    for (size_t k = 0; k < cells; k++)
        table[k] = -INFINITY;
}

static void fill_forward(const lattice *l) {
    clear(l, l->forward);
    for (int q = 0; q <= last_state(l, 0); q++)
        l->forward[q] = emission(l, 0, q);
    for (int t = 1; t < l->s->positions; t++) {
        double *now = l->forward + (size_t)t * (size_t)l->states, *then = now - l->states;
        for (int q = 0; q <= last_state(l, t); q++) {
            double step = q >= 1 ? then[q - 1] : -INFINITY;
            double jump = q >= 2 && may_jump(l, q - 2) ? then[q - 2] : -INFINITY;
            now[q] = emission(l, t, q) + log_sum(then[q], step, jump);
        }
    }
}

/* Each cell includes its own emission, as in the forward table. */
static void fill_backward(const lattice *l) {
    int last = l->s->positions - 1;
    clear(l, l->another);
    for (int q = first_state(l, last); q <= last_state(l, last); q++)
        l->another[(size_t)last * (size_t)l->states + (size_t)q] = emission(l, last, q);
    for (int t = last - 1; t >= 0; t--) {
        double *now = l->another + (size_t)t * (size_t)l->states, *then = now + l->states;
        for (int q = first_state(l, t); q <= last_state(l, t); q++) {
            double step = q + 1 < l->states ? then[q + 1] : -INFINITY;
            double jump = may_jump(l, q) ? then[q + 2] : -INFINITY;
            now[q] = emission(l, t, q) + log_sum(then[q], step, jump);
        }
    }
}

static void add_posteriors(const lattice *l, double log_p, double *w) {
    for (int t = 0; t < l->s->positions; t++) {
        size_t row = (size_t)t * (size_t)l->states;
        double *weights = w + (size_t)t * l->s->stride;
        for (int q = first_state(l, t); q <= last_state(l, t); q++) {
            double f = l->forward[row + (size_t)q], b = l->another[row + (size_t)q];
            if (f == -INFINITY || b == -INFINITY) continue;
            weights[q % 2 == 0 ? l->s->extra : q / 2] += exp(f + b - emission(l, t, q) - log_p);
        }
    }
}

/* The table's cell of the last frame in the last state but `back`; -INFINITY when there is none. */
static double at_end(const lattice *l, const double *table, int back) {
    if (l->states - 1 - back < 0) return -INFINITY;
    return table[(size_t)l->s->positions * (size_t)l->states - 1 - (size_t)back];
}

double wr_ctc(const wr_gathered *s, const int32_t *ids, double *w, void *workspace) {
    if (s->positions <= 0 || s->positions < wr_ctc_least_positions(ids, s->targets))
        return INFINITY;
    lattice l = lattice_in(s, ids, workspace);
    fill_forward(&l);
    double log_p = log_sum(at_end(&l, l.forward, 0), at_end(&l, l.forward, 1), -INFINITY);
    if (log_p == -INFINITY) return INFINITY;
    fill_backward(&l);
    add_posteriors(&l, log_p, w);
    return -log_p;
}

/* ---- the best path ---- */

/* The best score of reaching state q from frame t - 1, and from which state. */
static double best_before(const lattice *l, const double *then, int q, int *from) {
    double best = then[q];
    *from = q;
    for (int back = 1; back <= 2 && back <= q; back++) {
        if (back == 2 && !may_jump(l, q - 2)) continue;
        if (then[q - back] > best) {
            best = then[q - back];
            *from = q - back;
        }
    }
    return best;
}

static void fill_best(const lattice *l) {
    int from;
    clear(l, l->forward);
    for (int q = first_state(l, 0); q <= last_state(l, 0); q++)
        l->forward[q] = emission(l, 0, q);
    for (int t = 1; t < l->s->positions; t++) {
        double *now = l->forward + (size_t)t * (size_t)l->states;
        for (int q = first_state(l, t); q <= last_state(l, t); q++)
            now[q] = emission(l, t, q) + best_before(l, now - l->states, q, &from);
    }
}

double wr_ctc_best(const wr_gathered *s, const int32_t *ids, int32_t *said, void *workspace) {
    if (s->positions <= 0 || s->positions < wr_ctc_least_positions(ids, s->targets))
        return INFINITY;
    lattice l = lattice_in(s, ids, workspace);
    fill_best(&l);
    double blank = at_end(&l, l.forward, 0), word = at_end(&l, l.forward, 1);
    double best = fmax(blank, word);
    if (best == -INFINITY) return INFINITY;
    int q = l.states - 1 - (word > blank);
    for (int t = s->positions - 1; t >= 0; t--) {
        said[t] = q % 2 == 0 ? -1 : q / 2;
        if (t > 0) best_before(&l, l.forward + (size_t)(t - 1) * (size_t)l.states, q, &q);
    }
    return -best;
}
