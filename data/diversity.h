/* diversity.h: how much the candidate translations of a sentence differ.
 *
 * Letters: n sentences, sentence s has k_s candidates, y_i is candidate i of every sentence that
 * has so many, as a corpus. All BLEU is of corpora (score.h), 0..100; lower means more diverse. */
#ifndef WEIR_DATA_DIVERSITY_H
#define WEIR_DATA_DIVERSITY_H

#include "data/score.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Candidates by sentence. Sentence s has candidate[at[s]] .. candidate[at[s+1]-1], at least one.
 * The segments point into the text they were made of. Zero-initialise; wr_groups_free() afterwards.
 */
typedef struct wr_groups {
    size_t n;
    size_t *at; /* [n+1] */
    wr_segment *candidate;
    size_t widest; /* the largest k_s */
} wr_groups;
void wr_groups_free(wr_groups *groups);

/* `each` consecutive lines are the candidates of a sentence. Errors: WR_ERR_INPUT when `each` is 0
 * or does not divide the number of lines; WR_ERR_MEMORY. */
wr_status wr_groups_consecutive(const wr_text *text, size_t each, wr_groups *out, wr_error *err);

/* Lines as `weir translate --nbest` writes them: the sentence's number from 1, a tab, with `scores`
 * two numbers with a tab behind each, the candidate. Sentences come in order and none is missing.
 * Errors: WR_ERR_INPUT naming file and line; WR_ERR_MEMORY. */
wr_status wr_groups_numbered(const wr_text *text, bool scores, wr_groups *out, wr_error *err);

typedef struct wr_diversity {
    size_t sentences, candidates;
    double
        distinct; /* candidates that no earlier one of their sentence equals, as a share of all */
    /* Pairwise BLEU (Shen et al. 2019): the mean of BLEU(y_i with reference y_j) over all i != j
     * that some sentence has. `pooled`: one BLEU of all pairs of all sentences as one corpus. */
    double pairwise, pairwise_pooled;
    /* The mean over i of BLEU(y_i with all other candidates as references); also "self-BLEU" (Zhu
     * et al. 2018). Sentences with one candidate are left out. */
    double leave_one_out;
    /* With references only: the mean over i of BLEU(y_i), BLEU(y_1), and BLEU of the candidates
     * that have the best sentence BLEU (the first of equal ones). */
    double average, first, oracle;
} wr_diversity;

/* Measure. `refs`: n_refs texts of n lines each; n_refs may be 0. `progress` may be NULL. Errors:
 * WR_ERR_INPUT when no sentence has two candidates, or a reference has another number of lines;
 * WR_ERR_MEMORY. Time grows with the squares of the k_s. */
typedef void wr_diversity_progress(void *context, double fraction);
wr_status wr_diversity_measure(const wr_groups *groups, const wr_text *refs, size_t n_refs,
                               const wr_score_options *options, wr_diversity_progress *progress,
                               void *context, wr_diversity *out, wr_error *err);

#ifdef __cplusplus
}
#endif
#endif
