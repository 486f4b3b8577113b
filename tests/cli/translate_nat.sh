#!/usr/bin/env bash
# Small non-autoregressive models are trained, then translate by every method.
# Usage: translate_nat.sh WEIR SOURCE_FOLDER BUILD_FOLDER
source "$(dirname "$0")/common.bash"

"$weir" synth numbers --langs en-de --count 800 --seed 1 --out text > log
"$weir" prepare --train-src text/train.en --train-tgt text/train.de --valid-src text/valid.en \
    --valid-tgt text/valid.de --vocab 150 --max-len 30 --out data >> log
cat > recipe.yaml << 'END'
model: {type: nat, dim: 32, ffn: 64, heads: 2, encoder_layers: 1, decoder_layers: 1, dropout: 0, max_len: 40, embeddings: target}
data: {max_tokens: 600}
train: {max_updates: 80, valid_every: 80, checkpoint_every: 80, report_every: 80, best_by: nll, valid_sentences: 20}
optim: {lr: 0.005, warmup: 20}
END
for objective in ce cmlm axe ctc; do
    "$weir" train recipe.yaml --data data --out $objective --threads 1 \
        --set objective.name=$objective >> log 2>&1 || fail "$(cat log)"
    grep -q '"bleu"' $objective/log.jsonl || fail "$objective: the validation has no BLEU"
done
"$weir" train recipe.yaml --data data --out bos --threads 1 --set nat.framing=bos_eos \
    --set nat.inputs=uniform >> log 2>&1 || fail "$(cat log)"
sed 's/type: nat/type: transformer/; s/, valid_sentences: 20/, valid_decode: none/' recipe.yaml > at.yaml
"$weir" train at.yaml --data data --out at --threads 1 >> log 2>&1 || fail "$(cat log)"
"$weir" synth numbers --langs en-fr --count 400 --seed 1 --out other >> log
"$weir" prepare --train-src other/train.en --train-tgt other/train.fr --valid-src other/valid.en \
    --valid-tgt other/valid.fr --vocab 120 --max-len 30 --out french >> log
"$weir" train at.yaml --data french --out fr --threads 1 --set train.max_updates=2 >> log 2>&1 ||
    fail "$(cat log)"

{
    head -30 text/test.en
    printf '\n   \nfive\n'
} > in

# A line for a line, in order, by every method, whatever is translated together.
try() {
    local name=$1
    shift
    "$weir" translate "$@" --input in > "$name" || fail "$*: exit status $?"
    [ "$(wc -l < "$name")" = 33 ] || fail "$*: 33 lines in, $(wc -l < "$name") out"
    [ -z "$(sed -n '31p;32p' "$name" | tr -d '\n')" ] || fail "$*: an empty line has a translation"
    "$weir" translate "$@" --max-sentences 1 --threads 1 < in > one
    cmp "$name" one || fail "$*: translating one by one gives something else"
    tac in | "$weir" translate "$@" | tac | cmp "$name" - || fail "$*: the order matters"
}
try argmax ce
try lengths ce --lengths 3
try window ce --lengths 3 --length-window --dedup
try factor axe --length-factor 1.2
try framed bos --lengths 2
try passes cmlm --iterations 4 --lengths 2
try adaptive cmlm --iterations 4 --adaptive
try frames ctc
try beam ctc --decode ctc-beam --beam 5 --length-bonus 0.5
try judged ce --lengths 3 --rescorer at
try chosen ctc --decode ctc-beam --rescorer at

# Usual methods.
"$weir" translate ce --decode argmax --input in | cmp argmax - || fail "ce is not argmax"
"$weir" translate cmlm --decode mask-predict --iterations 4 --lengths 2 --input in |
    cmp passes - || fail "cmlm is not mask-predict"
"$weir" translate ctc --decode ctc --input in | cmp frames - || fail "ctc is not ctc"
"$weir" translate cmlm --iterations 1 --input in > a
"$weir" translate cmlm --decode argmax --input in | cmp a - || fail "one pass is not argmax"
cmp -s argmax lengths && fail "three lengths change nothing"
cmp -s lengths judged && fail "a rescorer changes nothing"

# What the options say may stand in the recipe; options go before it.
same() {
    local name=$1
    shift
    "$weir" translate "$@" --input in | cmp "$name" - || fail "not $name: $*"
}
window=(--set decode.lengths=3 --set decode.length_window=true --set decode.dedup=true)
same lengths ce --set decode.lengths=3
same window ce "${window[@]}"
same factor axe --set decode.length_factor=1.2
same passes cmlm --set decode.iterations=4 --set decode.lengths=2
same adaptive cmlm --set decode.iterations=4 --set decode.adaptive=true
same beam ctc --set decode.method=ctc-beam --set decode.beam=5 --set decode.length_bonus=0.5
same argmax ce "${window[@]}" --set decode.dedup=false --lengths 1
same lengths ce --set decode.lengths=5 --lengths 3
same window ce --set decode.lengths=3 --length-window --dedup
same passes cmlm --set decode.iterations=9 --iterations 4 --lengths 2
same frames ctc --set decode.method=ctc-beam --decode ctc
same beam ctc --set decode.method=ctc-beam --set decode.beam=2 --beam 5 --length-bonus 0.5
"$weir" translate ctc --decode ctc-beam --symbols 2 --scores --input in > a
"$weir" translate ctc --set decode.method=ctc-beam --set decode.symbols=2 --scores --input in |
    cmp a - || fail "decode.symbols is not --symbols"
judged() { "$weir" translate ce --lengths 3 --rescorer at --scores --input in "$@"; }
judged --alpha 0 > a
judged --set decode.alpha=0 | cmp a - || fail "decode.alpha is not --alpha"
judged --set decode.normalisation=none | cmp a - || fail "without normalisation is not alpha 0"
judged | cmp -s a - && fail "alpha changes nothing"

# Recipes that were saved before these keys meant the same as options.
for run in ce cmlm ctc; do
    cp -r $run before-$run
    sed -i -E '/^  (beam|lengths|iterations|adaptive|length_(factor|window|bonus)|dedup|symbols): /d
        s/^  method: auto/  method: argmax/; s/^  normalisation: .*/  normalisation: penalty/
        s/^  alpha: .*/  alpha: 0.6/' before-$run/recipe.yaml
    [ "$(sed -n '/^decode/,$p' before-$run/recipe.yaml | wc -l)" = 5 ] || fail "$(cat before-$run/recipe.yaml)"
done
same argmax before-ce
same frames before-ctc
same passes before-cmlm --iterations 4 --lengths 2
same judged before-ce --lengths 3 --rescorer at
"$weir" info before-ctc > /dev/null || fail "info of a run from before"

# Scores and lists.
"$weir" translate ce --input in --lengths 4 --nbest 4 --scores > nbest
awk -F'\t' 'NF != 4 { exit 1 } $1 == line && $2 > score { exit 1 } $1 == line { more = 1 }
    { line = $1; score = $2 } END { exit line != 33 || !more }' nbest || fail "$(cat nbest)"
"$weir" translate ctc --decode ctc-beam --nbest 3 --scores --input in > nbest
awk -F'\t' 'NF != 4 || ($3 != "0.000000" && $2 != $3) { exit 1 }' nbest || fail "$(cat nbest)"

# An n-gram model of some letters: it counts by its weight, and with the end of sentence.
printf '%s\n' '\data\' 'ngram 1=5' 'ngram 2=1' '' '\1-grams:' '-3	<unk>' '-99	<s>	-0.3' \
    '-1.5	</s>' '-0.5	e	-0.1' '-0.7	n' '' '\2-grams:' '-0.2	e n' '' '\end\' > letters.arpa
beam() { "$weir" translate ctc --decode ctc-beam --scores --input in "$@"; }
beam > plain
beam --lm letters.arpa --lm-weight 0 | cmp plain - || fail "a weight of 0 counts"
beam --lm letters.arpa > with
cmp -s plain with && fail "a language model does not count"
awk -F'\t' '$1 > $2 { exit 1 }' with || fail "a language model raises a score: $(cat with)"
xz -c letters.arpa > letters.xz
beam --lm letters.xz | cmp with - || fail "a compressed model gives something else"

# Evaluating and timing.
header() { printf '%s\n' "$*" | tr ' ' '\t'; }
"$weir" evaluate ce --data data --split valid --decode argmax > scored
[ "$(head -1 scored)" = "$(header sentences tokens loss nll length infeasible bleu chrf)" ] ||
    fail "$(cat scored)"
awk -F'\t' 'NR == 2 { exit NF == 8 && $1 == 40 && $8 > 0 ? 0 : 1 }' scored || fail "$(cat scored)"
"$weir" evaluate ce --data data | cmp scored - || fail "argmax is not what the recipe says"
"$weir" evaluate cmlm --data data > a
"$weir" evaluate cmlm --data data --decode mask-predict --iterations 10 | cmp a - ||
    fail "mask-predict is not what the recipe says"
"$weir" evaluate cmlm --data data --set decode.iterations=2 | cmp -s a - && fail "two passes are ten"
for run in ce ctc bos; do
    "$weir" evaluate $run --data data > totals
    "$weir" evaluate $run --data data --per-sentence --max-tokens 100 > sentences
    awk -F'\t' -v run=$run 'function far(a, b) { return a - b > 2e-5 || b - a > 2e-5 }
        BEGIN { getline < "totals"; for (i = 1; i <= NF; i++) total[$i] = i; getline < "totals"
                split($0, of, "\t") }
        NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
        { nll += $at["nll"]; tokens += $at["tokens"]; infeasible += $at["infeasible"]
          if ("length" in at) length_nll += $at["length"]
          if ($1 != NR - 1) bad = 1 }
        END { n = NR - 1
              exit bad || n != of[total["sentences"]] || tokens != of[total["tokens"]] ||
                  infeasible != of[total["infeasible"]] || far(nll / tokens, of[total["nll"]]) ||
                  ("length" in total) != ("length" in at) ||
                  ("length" in at && far(length_nll / n, of[total["length"]])) }' sentences ||
        fail "$run: totals and sentences disagree: $(cat totals)"
done
[ "$(head -1 sentences)" = "$(header sentence nll tokens length infeasible)" ] || fail "$(cat sentences)"

# Token ids: the end may be there or not; a sentence too short for its words has no alignment.
printf '4 5 6\n7\n' > src.ids
printf '8 9\n8 9 10 11 12 13 14\n' > tgt.ids
by_ids() { "$weir" evaluate "$@" --src-ids src.ids --tgt-ids tgt.ids; }
by_ids ctc > totals
by_ids ctc --per-sentence > ids
[ "$(head -1 totals)" = "$(header sentences tokens loss nll infeasible)" ] || fail "$(cat totals)"
[ "$(cut -f 4 ids | tr '\n' ' ')" = "infeasible 0 1 " ] || fail "$(cat ids)"
[ "$(tail -1 totals | cut -f 5)" = 1 ] || fail "$(cat totals)"
by_ids ce > totals
by_ids ce --per-sentence > ids
[ "$(cut -f 3 ids | tr '\n' ' ')" = "tokens 3 8 " ] || fail "$(cat ids)"
printf '4 5 6 3\n7 3\n' > src.ids
printf '8 9 3\n8 9 10 11 12 13 14 3\n' > tgt.ids
by_ids ce | cmp totals - || fail "an end in the file changes the result"
by_ids ce --per-sentence | cmp ids - || fail "an end in the file changes a sentence"
printf '8\n150\n' > far.ids
refuse 1 "far.ids:2: '150'" evaluate ce --src-ids src.ids --tgt-ids far.ids
refuse 2 "--per-sentence" evaluate ce --data data --per-sentence --decode argmax
refuse 2 "use --decode argmax or mask-predict" evaluate ce --data data --decode ctc
for _ in $(seq 1 40); do printf '5 '; done > long.ids
refuse 1 "pair 1 has 40 and 40 tokens" evaluate ce --src-ids long.ids --tgt-ids long.ids
for arguments in "" "--set objective.name=cmlm --iterations 4" \
    "--set objective.name=cmlm --set decode.iterations=2" "--set objective.name=ctc" \
    "--set objective.name=ctc --decode ctc-beam"; do
    # shellcheck disable=SC2086
    "$weir" bench recipe.yaml --what decode --vocab 100 --batch 2 --src-len 8 --tgt-len 8 \
        --repeat 2 --threads 1 $arguments > timed || fail "bench $arguments"
    grep -q '"sentence_ms": ' timed || fail "bench $arguments: $(cat timed)"
done

# Mistakes.
refuse 2 "use --decode argmax or mask-predict" translate ce --decode ctc --input in
refuse 2 "use --decode argmax or mask-predict" translate ce --decode npd --input in
refuse 2 "use --decode ctc or ctc-beam" translate ctc --decode argmax --input in
refuse 2 "is for a non-autoregressive model" translate at --decode mask-predict --input in
refuse 2 "--dedup is for a non-autoregressive model" translate at --dedup --input in
refuse 2 "--iterations has no use in argmax" translate ce --iterations 3 --input in
refuse 2 "--lm has no use in ctc" translate ctc --lm letters.arpa --input in
refuse 2 "--beam has no use in argmax" translate ce --beam 3 --input in
refuse 2 "--samples has no use" translate ce --samples 3 --input in
refuse 2 "at most 256 lengths" translate ce --lengths 257 --input in
refuse 1 "--set decode.lengths=257: decode.lengths = 257, but there are 256 classes" \
    translate ce --set decode.lengths=257 --input in
refuse 1 "--set decode.beam=3: decode.beam has an effect with decode.method ctc-beam only" \
    translate ctc --set decode.beam=3 --input in
refuse 2 "--nbest 3 needs at least as many candidates, but there are 2" \
    translate ce --set decode.lengths=2 --nbest 3 --input in
refuse 2 "--lengths has no use in ctc" translate ctc --lengths 2 --input in
refuse 2 "--nbest 2 needs" translate ce --nbest 2 --input in
refuse 2 "--rescorer chooses among candidates" translate ce --rescorer at --input in
refuse 2 "add --lengths" translate ce --length-window --input in
refuse 2 "add --lm FILE" translate ctc --decode ctc-beam --lm-weight 1 --input in
refuse 1 "fr has another vocabulary" translate ce --lengths 2 --rescorer fr --input in
refuse 1 "cmlm is no Transformer" translate ce --lengths 2 --rescorer cmlm --input in
sed 's/-0.7/zero/' letters.arpa > broken.arpa
refuse 1 "broken.arpa:10: 'zero'" translate ctc --decode ctc-beam --lm broken.arpa --input in
sed 's/	e/	etwas/; s/e n/etwas n/; s/	n$/	nichts/; s/etwas n/etwas nichts/' letters.arpa > words.arpa
refuse 1 "none of its words" translate ctc --decode ctc-beam --lm words.arpa --input in
refuse 1 "nowhere.arpa" translate ctc --decode ctc-beam --lm nowhere.arpa --input in
echo "translate_nat.sh: fine"
