/* alignments.h: the alignments behind the objectives, as pure functions over one sentence.
 *
 * Letters: T positions (frames), N target words, C columns of a row of gathered log-probabilities:
 * column n < N is log p(position t says target word n); one more column, `extra`, is that of the
 * blank (CTC) or of the skip word (AXE), where there is one. Nothing here knows the vocabulary.
 *
 * Every function is thread-safe, allocates nothing and computes in double. It fills weights w [T,
 * C], laid out as the log-probabilities are, whose entries that are not written below are left as
 * they are (start with zeros). The gradient of the loss with respect to the log-probabilities is
 * -w, and so sum_t sum_c -w lp is the loss, apart from CTC, whose loss is a sum over alignments and
 * whose w are the posteriors (Fisher's identity). A sentence without any possible alignment gives
 * INFINITY and no weights. Log-probabilities may be -INFINITY, but not NaN or +INFINITY. */
#ifndef WEIR_MODELS_OBJECTIVES_ALIGNMENTS_H
#define WEIR_MODELS_OBJECTIVES_ALIGNMENTS_H

#include "graph/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One sentence's gathered log-probabilities. */
typedef struct wr_gathered {
    int positions, targets; /* T, N */
    const double *lp;       /* [T, stride] */
    size_t stride;          /* of rows, in elements: at least the number of columns */
    int extra;              /* column of the blank or the skip word */
} wr_gathered;

/* ---- AXE: aligned cross-entropy ---- */

typedef enum wr_axe_form { WR_AXE_ORIGINAL, WR_AXE_MPLE } wr_axe_form;

/* Where an alignment goes; each may be NULL. */
typedef struct wr_axe_path {
    int32_t *said;     /* [T] the target word (from 0) a position is to say, -1: the skip word */
    int32_t *position; /* [N] the position (from 0) that is charged for a target word */
    char *operations;  /* [T + N + 1] 'A' align, 'P' skip position, 'T' skip target; ends with 0 */
} wr_axe_path;

/* The cheapest monotone alignment of T positions and N target words (Ghazvininejad et al. 2020).
 * The table of the original form, i targets and j positions done, with ties in the order A, P, T:
 *     A[i][j] = min(A[i-1][j-1] - lp[j, i]                   align
 *                   A[i][j-1]   - lp[j, extra]               skip position
 *                   A[i-1][j]   - skip_penalty lp[max(j, 1), i])  skip target
 * In MPLE's form (Huang et al. 2022, appendix E.3) each position owns a run of targets: the first
 * at full price, each further one at skip_penalty times its price; a position without one says the
 * skip word. Its tables are F (best so far) and M (position j owns target i).
 * `workspace`: wr_axe_workspace() bytes, aligned for double; it begins with the table [N+1, T+1] (A
 * or F) afterwards. Infeasible without positions. Time and space T N. */
double wr_axe(const wr_gathered *s, wr_axe_form form, double skip_penalty, double *w,
              const wr_axe_path *path, void *workspace);
size_t wr_axe_workspace(int positions, int targets);

/* ---- assignment ---- */

/* The cheapest perfect matching of n rows to n columns of cost [n, stride] by shortest augmenting
 * paths (Kuhn 1955; Jonker and Volgenant 1987): column[row], and the duals row_price and
 * column_price with cost[r][c] >= row_price[r] + column_price[c], equal on the matching. Of equally
 * near columns the lowest is taken. Costs may be INFINITY (forbidden). Returns the total, INFINITY
 * when there is no matching without a forbidden pair; the outputs then mean nothing. Time n^3.
 * `workspace`: wr_assign_workspace(n) bytes, aligned for double. */
double wr_assign(int n, const double *cost, size_t stride, int32_t *column, double *row_price,
                 double *column_price, void *workspace);
size_t wr_assign_workspace(int n);

/* ---- CTC: connectionist temporal classification ---- */

/* -log of the probability that collapsing the frames' words (runs of equal words merged, then
 * blanks dropped) gives the target (Graves et al. 2006), by the forward-backward recursion in log
 * space over the Q = 2 N + 1 states blank, word 0, blank, .., word N-1, blank. ids [N] tells which
 * target words are equal. w [t][n] and w [t][extra] are the posteriors; each row of them sums to 1.
 * `workspace`: wr_ctc_workspace() bytes, aligned for double; it begins with the forward table [T,
 * Q] afterwards (unless infeasible). Infeasible when T < wr_ctc_least_positions(). */
double wr_ctc(const wr_gathered *s, const int32_t *ids, double *w, void *workspace);
size_t wr_ctc_workspace(int positions, int targets);

/* The likeliest single path: said [T] is the target word (from 0) of each frame, -1 for blank.
 * Returns its negative log-probability. Of equally likely predecessors the highest state is taken,
 * that is staying. The workspace is as large. */
double wr_ctc_best(const wr_gathered *s, const int32_t *ids, int32_t *said, void *workspace);

/* N plus the number of target words that equal their left neighbour. */
int wr_ctc_least_positions(const int32_t *ids, int targets);

#ifdef __cplusplus
}
#endif
#endif
