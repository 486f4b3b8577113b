#!/usr/bin/env bash
# weir mple: small runs on a language whose total correlation is known; the report; what is refused.
# Usage: mple.sh WEIR SOURCE_FOLDER BUILD_FOLDER
source "$(dirname "$0")/common.bash"

"$weir" synth multimodal --count 1500 --valid 60 --test 10 --words 12 --phrases 2 --out modes > log
side() { printf -- '--%s-src modes/%s.src --%s-tgt modes/%s.tgt ' "$1" "$1" "$1" "$1"; }
# shellcheck disable=SC2046
"$weir" prepare $(side train) $(side valid) --out data >> log 2>&1 || fail "$(cat log)"
cat > nat.yaml << 'END'
model: {type: nat, dim: 32, ffn: 64, heads: 2, encoder_layers: 1, decoder_layers: 1, dropout: 0, max_len: 12, embeddings: target}
nat: {inputs: uniform, framing: plain}
data: {max_tokens: 600, length_multiple: 4}
train: {max_updates: 150, valid_every: 150, checkpoint_every: 150, report_every: 150, valid_decode: none, best_by: nll, label_smoothing: 0}
optim: {lr: 0.005, warmup: 20}
END
for objective in ce glat cmlm axe ctc; do
    "$weir" train nat.yaml --data data --out $objective --threads 1 --set objective.name=$objective >> log 2>&1 ||
        fail "$(tail -n 3 log)"
done
sed -e 's/type: nat/type: transformer/' -e '/^nat:/d' nat.yaml > at.yaml
"$weir" train at.yaml --data data --out at --threads 1 >> log 2>&1 || fail "$(tail -n 3 log)"

"$weir" mple ce glat cmlm axe ctc --data data --known modes/synth.json --autoregressive at --json r.json \
    --plot r.svg > out.txt 2> err.txt || fail "$(cat err.txt)"
[ "$(head -n 1 out.txt | awk '{ print $1, $2, $3 }')" = "run objective L_NAT" ] || fail "table: $(cat out.txt)"
# cross-entropy pays at least the sum of H(y_i|X), 1.585 bits a token; nothing is shown to ce, axe, ctc
awk '$1 == "ce" && ($3 < 1.585 - 3 * $4 || $5 != -20) { bad = 1 } $1 ~ /^(ce|axe|ctc)$/ && $6 != 0 { bad = 1 }
    $1 ~ /^(glat|cmlm)$/ && $6 <= 0 { bad = 1 } $7 - $3 - $5 - $6 > 2e-4 || $3 + $5 + $6 - $7 > 2e-4 { if (NR > 1 && NR < 7) bad = 1 }
    END { exit bad }' out.txt || fail "terms: $(cat out.txt)"
grep -q '^ctc: .* sum over alignments' out.txt || fail "ctc: $(cat out.txt)"
grep -q '^conditional total correlation, estimated by ce and at: ' out.txt || fail "estimate: $(cat out.txt)"
grep -q 'exact: C = 1.0566 bits a token; sum of H(y_i|X): 1.5850$' out.txt || fail "known: $(cat out.txt)"
grep -q "^Pearson's r of sum and BLEU: " out.txt || fail "correlation: $(cat out.txt)"
[ "$(grep -c '"L_input"' r.json)" -eq 5 ] || fail "JSON: $(cat r.json)"
grep -q '"exact":[[:space:]]*1.0566' r.json || fail "JSON: $(cat r.json)"
grep -q 'sum of H(y|X), exact' r.svg || fail "no floor in the picture"
! command -v xmllint > /dev/null || xmllint --noout r.svg || fail "the picture is no XML"

# The same numbers again, also with other batches of work: nothing random is left open.
"$weir" mple ce glat cmlm axe ctc --data data --known modes/synth.json --autoregressive at --threads 1 \
    > again.txt || fail "again"
cmp out.txt again.txt || fail "$(diff out.txt again.txt)"

# Targets and references from files: the dataset's own ones say the same; others are worse.
"$weir" mple ce --data data --targets modes/valid.tgt --refs own modes/valid.tgt --no-translate > own.txt
[ "$(awk '$1 == "ce" { print $3, $5 }' own.txt)" = "$(awk '$1 == "ce" { print $3, $5 }' out.txt)" ] ||
    fail "own targets: $(cat own.txt)"
tac modes/valid.tgt > other
"$weir" mple ce ce --data data --targets own other --no-translate > other.txt
awk '$1 == "ce" { nat[++n] = $3; target[n] = $5 } END { exit !(n == 2 && nat[2] > nat[1] && target[2] > target[1]) }' other.txt ||
    fail "other targets: $(cat other.txt)"

# Sampled inputs with the words of another run.
"$weir" mple glat --data data --predictor ce --sentences 20 > some.txt
awk '$1 == "glat" { exit !($9 >= 0 && $11 < 0) }' some.txt || fail "sampled inputs: $(cat some.txt)"

# A run of this kind as the student of dynamic distillation.
"$weir" distill --dynamic --candidates modes/train.tgt --data data --student ce --student-checkpoint best \
    --table t.tsv --out dynamic > out2.txt || fail "dynamic: $(cat out2.txt)"
awk -F'\t' 'NR > 1 && !($5 > 0 && $5 < 1e9) { exit 1 }' t.tsv || fail "the student's cost: $(head -n 3 t.tsv)"

refuse 2 "--data" mple ce
refuse 2 "RUN" mple --data data
refuse 1 "nowhere/recipe.yaml" mple nowhere --data data
refuse 1 "at is a Transformer; the terms of MPLE are those of" mple at --data data
refuse 1 "ce is a non-autoregressive model; --autoregressive takes" mple ce --data data --autoregressive ce
refuse 1 "--autoregressive needs a run with objective.name = ce" mple glat --data data --autoregressive at
refuse 1 "data has no test split" mple ce --data data --split test
refuse 1 "has 1500 lines, but the valid split of data has 60" mple ce --data data --targets modes/train.tgt
refuse 2 "--targets has 2 files for 1 runs" mple ce --data data --targets own own
refuse 2 "--plot r.png does not end in .svg" mple ce --data data --plot r.png
refuse 2 "--no-translate leaves out" mple ce --data data --plot x.svg --no-translate
refuse 1 "--known takes the synth.json" mple ce --data data --known data/dataset.json
"$weir" synth numbers --langs en-de --count 300 --out text > log
"$weir" prepare --train-src text/train.en --train-tgt text/train.de --valid-src text/valid.en \
    --valid-tgt text/valid.de --out words >> log 2>&1
refuse 1 "ce and words have different subword models" mple ce --data words
echo "mple.sh: fine"
