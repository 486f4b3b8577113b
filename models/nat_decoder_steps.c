/* nat_decoder_steps.c: what happens on the host between the passes of a non-autoregressive decoder;
 * see nat_decoder_internal.h. */
#include "models/nat_decoder_internal.h"

#include <math.h>
#include <string.h>

size_t wr__nat_dedup(int32_t *id, size_t n) {
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (kept == 0 || id[i] != id[kept - 1]) id[kept++] = id[i];
    return kept;
}

int wr__nat_scale(int length, double factor, int least, int most) {
    double scaled = floor(factor * length + 0.5);
    if (!(scaled > least)) return least;
    return scaled < most ? (int)scaled : most;
}

/* In whole numbers, for which n (1 - t / passes) has no rounding. */
int wr__nat_again(int n, int t, int passes, bool some) {
    int64_t count = (int64_t)n * (passes - t) / passes;
    if (count == 0 && some && n > 0) return 1;
    return (int)count;
}

void wr__nat_least(const double *logp, size_t n, size_t count, bool *marked) {
    memset(marked, 0, n * sizeof *marked);
    for (size_t k = 0; k < count && k < n; k++) {
        size_t least = n;
        for (size_t i = 0; i < n; i++)
            if (!marked[i] && (least == n || logp[i] < logp[least])) least = i;
        marked[least] = true;
    }
}
