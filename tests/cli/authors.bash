# Sourced behind common.bash: FlowSeq beside the values of the authors' program.

# same_as_authors REFERENCE RECIPE [OPTION...]: imports shared/data/flowseq_reference into the run
# `reference` and evaluates it with the options.
same_as_authors() {
    local from=$1 recipe=$2
    shift 2
    "$weir" import --from flowseq "$from/model.safetensors" --recipe "$recipe" \
        --out reference > log
    "$weir" evaluate reference --src-ids "$from/src.ids" --tgt-ids "$from/tgt.ids" \
        --per-sentence "$@" > got.tsv
    awk -F'\t' '
        function wrong(what) { printf "line %d, column %d: %s\n", FNR, i, what; bad = 1 }
        NR == FNR { want[FNR] = $0; next }
        { n = split(want[FNR], w, "\t")
          if (NF != n) wrong(NF " columns, not " n)
          for (i = 1; i <= n; i++) {
              if (FNR == 1 || i == 1 || i == 8 || i == 10 || i > 11) {
                  if ($i != w[i]) wrong($i " is not " w[i])
                  continue
              }
              d = $i - w[i]; s = w[i] < 0 ? -w[i] : w[i]
              if (d > 1e-4 * s || d < -1e-4 * s) wrong($i " is not " w[i])
          } }
        END { exit bad || FNR != length(want) }' "$from/expected.tsv" got.tsv ||
        fail "evaluate $* differs from the authors' program"
}
