#!/usr/bin/env bash
# Drafts of other models change the passes of greedy search, never a word of its output.
# Usage: draft.sh WEIR SOURCE_FOLDER BUILD_FOLDER
source "$(dirname "$0")/common.bash"

"$weir" synth numbers --langs en-de --count 1000 --seed 1 --out text > log
"$weir" prepare --train-src text/train.en --train-tgt text/train.de --valid-src text/valid.en \
    --valid-tgt text/valid.de --vocab 150 --joint --max-len 30 --out data >> log 2>&1
rest='data: {max_tokens: 600}
train: {max_updates: 150, valid_every: 150, checkpoint_every: 150, report_every: 150, valid_decode: none, best_by: nll}
optim: {lr: 0.005, warmup: 20}'
size='dim: 32, ffn: 64, heads: 2, encoder_layers: 1, decoder_layers: 1, dropout: 0, max_len: 40, embeddings: joint'
printf 'model: {type: transformer, %s}\n%s\n' "$size" "$rest" > at.yaml
printf 'model: {type: nat, %s}\n%s\n' "$size" "$rest" > nat.yaml
cat > flow.yaml << 'END'
model: {type: flowseq, dim: 16, ffn: 32, heads: 2, encoder_layers: 1, decoder_layers: 1, dropout: 0, embeddings: joint, max_len: 40}
flowseq: {posterior_layers: 1, length_range: 12}
prior: {heads: 2, hidden: 16, layers: [actnorm, linear heads, coupling halves up add, coupling time down add]}
data: {max_tokens: 600}
train: {max_updates: 40, valid_every: 40, checkpoint_every: 40, report_every: 40, valid_decode: none, best_by: nll, pretrain_updates: 20, kl_warmup: 10, init_batch: 32}
optim: {lr: 0.005, pretrain_warmup: 10}
END
train() {
    "$weir" train "$1" --data "$3" --out "$2" --threads 1 "${@:4}" >> log 2>&1 || fail "$(cat log)"
}
train at.yaml at data
train nat.yaml ce data --set objective.name=ce
train nat.yaml ctc data --set objective.name=ctc
train nat.yaml bad data --set train.max_updates=2
train flow.yaml flow data
"$weir" synth numbers --langs en-fr --count 400 --seed 1 --out other >> log
"$weir" prepare --train-src other/train.en --train-tgt other/train.fr --valid-src other/valid.en \
    --valid-tgt other/valid.fr --vocab 120 --joint --max-len 30 --out french >> log 2>&1
train nat.yaml french_nat french --set train.max_updates=2

{
    head -40 text/test.en
    printf '\n   \nfive\n'
} > in

greedy() { "$weir" translate at --decode greedy "$@"; }

# The same words and scores by every draft, whatever is translated together; the note says what it
# cost.
greedy --input in > wanted
greedy --scores --input in > scored
for draft in ce ctc bad flow; do
    greedy --draft $draft --input in > got 2> note || fail "$draft: exit status $?: $(cat note)"
    cmp wanted got || fail "drafts of $draft change the output"
    grep -qE '^weir: drafts: [0-9.]+ passes for the [0-9.]+ tokens of a sentence; [0-9.]+ % of the drafted words accepted; [0-9.]+ s to draft, [0-9.]+ s to verify' note ||
        fail "$draft: $(cat note)"
    [ "$(wc -l < note)" = 1 ] || fail "$draft: $(cat note)"
    for sentences in 7 1; do
        greedy --draft $draft --max-sentences $sentences --threads 1 < in > got 2> note
        cmp wanted got || fail "drafts of $draft change the output of $sentences together"
    done
    awk '{ exit $3 >= 1 && ($3 <= $7 || /near ties/) ? 0 : 1 }' note ||
        fail "$draft: more passes than tokens: $(cat note)"
    awk '{ print $3 }' note > passes.$draft
    greedy --draft $draft --scores --input in 2> note > got
    awk -F'\t' '
        NR == FNR { score[FNR] = $1; logp[FNR] = $2; text[FNR] = $3; next }
        function far(a, b) { return a - b > 1e-4 || b - a > 1e-4 }
        far($1, score[FNR]) || far($2, logp[FNR]) || $3 != text[FNR] { exit 1 }' scored got ||
        fail "$draft: other scores"
done
[ "$(sort -u wanted | wc -l)" -gt 20 ] || fail "too few different translations: $(cat wanted)"
awk 'NR == FNR { good = $1; next } { exit good < 0.8 * $1 ? 0 : 1 }' passes.ce passes.bad ||
    fail "good drafts save nothing: $(cat passes.ce) and $(cat passes.bad) passes"

# The outputs' longest length, and no input.
for extra in 1 3; do
    limit=(--set decode.max_len_factor=0 --set "decode.max_len_extra=$extra")
    greedy "${limit[@]}" --input in > wanted
    greedy "${limit[@]}" --draft ce --input in > got 2> note
    cmp wanted got || fail "drafts change the output of at most $extra tokens"
done
greedy --draft ce < /dev/null > got 2> note
[ ! -s got ] && [ ! -s note ] || fail "something comes of nothing: $(cat got note)"

# Mistakes.
refuse 2 "add --decode greedy" translate at --beam 4 --draft ce --input in
refuse 2 "add --decode greedy" translate at --decode beam --draft ce --input in
refuse 2 "name the Transformer first" translate ce --draft at --input in
refuse 2 "name the Transformer first" translate flow --draft ce --input in
refuse 1 "--draft at is a Transformer" translate at --decode greedy --draft at --input in
refuse 1 "--draft french_nat has another vocabulary" \
    translate at --decode greedy --draft french_nat --input in
refuse 1 "nowhere" translate at --decode greedy --draft nowhere --input in
