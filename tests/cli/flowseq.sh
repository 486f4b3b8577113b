#!/usr/bin/env bash
# A small FlowSeq is trained, translates in every way, and is evaluated; values of the authors'
# program are compared where shared/data/flowseq_reference stands beside the source tree.
# Usage: flowseq.sh WEIR SOURCE_FOLDER BUILD_FOLDER
source "$(dirname "$0")/common.bash"
source "$(dirname "$0")/authors.bash"
reference=$2/../shared/data/flowseq_reference
recipe=$2/recipes/flowseq-reference.yaml

# ---- the authors' program ----

if [ -r "$reference/model.safetensors" ]; then
    same_as_authors "$reference" "$recipe"
    refuse 1 "no subword models" translate reference
    cp "$reference/src.ids" src.ids
    sed '2s/ 6$//' "$reference/tgt.ids" > tgt.ids
    refuse 1 "tgt.ids:2: 3 ids, but the model's targets come in multiples of 4" \
        evaluate reference --src-ids src.ids --tgt-ids tgt.ids
    sed '3s/ 3 / 0 /' "$reference/src.ids" > src.ids
    refuse 1 "src.ids:3: id 5 is 0" \
        evaluate reference --src-ids src.ids --tgt-ids "$reference/tgt.ids"
    sed '1s/.*/4 17/' "$reference/src.ids" > src.ids
    refuse 1 "src.ids:1: '17'" \
        evaluate reference --src-ids src.ids --tgt-ids "$reference/tgt.ids"
fi

# ---- runs ----

"$weir" synth numbers --langs en-de --count 1000 --seed 1 --out text > log
"$weir" prepare --train-src text/train.en --train-tgt text/train.de --valid-src text/valid.en \
    --valid-tgt text/valid.de --vocab 150 --joint --max-len 30 --out data >> log 2>&1
cat > flow.yaml << 'END'
model: {type: flowseq, dim: 16, ffn: 32, heads: 2, encoder_layers: 1, decoder_layers: 1, dropout: 0, embeddings: joint, max_len: 40}
flowseq: {posterior_layers: 1, length_range: 12}
prior: {heads: 2, hidden: 16, layers: [actnorm, linear heads, coupling halves up add, coupling time down add]}
data: {max_tokens: 600}
train: {max_updates: 80, valid_every: 80, checkpoint_every: 80, report_every: 80, valid_decode: none, best_by: nll, pretrain_updates: 50, kl_warmup: 10, init_batch: 32}
optim: {lr: 0.005, pretrain_warmup: 10}
END
cat > teacher.yaml << 'END'
model: {type: transformer, dim: 16, ffn: 32, heads: 2, encoder_layers: 1, decoder_layers: 1, dropout: 0, embeddings: joint, max_len: 40}
data: {max_tokens: 600}
train: {max_updates: 40, valid_every: 40, checkpoint_every: 40, report_every: 40, valid_decode: none, best_by: nll}
optim: {lr: 0.005, warmup: 20}
END
"$weir" train flow.yaml --data data --out flow --threads 1 2>> log || fail "$(cat log)"
"$weir" train teacher.yaml --data data --out teacher --threads 1 2>> log || fail "$(cat log)"

# ---- translating ----

{
    head -30 text/test.en
    printf '\nfive\n'
} > in
plain=(--decode npd --lengths 3 --samples 4)
npd=("${plain[@]}" --temperature 0.8)
for method in "--decode argmax" "${npd[*]}" "${npd[*]} --rescorer teacher" \
    "--decode iwd --lengths 2 --samples 3 --temperature 0.8"; do
    read -ra words <<< "$method"
    "$weir" translate flow --input in "${words[@]}" > a
    [ "$(wc -l < a)" = 32 ] || fail "$method: 32 lines in, $(wc -l < a) out"
    [ -z "$(sed -n 31p a)" ] || fail "$method: an empty line has a translation"
    "$weir" translate flow --max-sentences 3 --threads 1 "${words[@]}" < in > b
    cmp a b || fail "$method: other batches give something else"
    "$weir" translate flow --input in --threads 2 --output c "${words[@]}"
    cmp a c || fail "$method: two threads give something else"
    "$weir" translate flow --input in --scores "${words[@]}" > scores
    cut -f 3 scores | cmp a - || fail "$method: scores change the text"
done
"$weir" translate flow --input in | cmp - <("$weir" translate flow --input in --decode argmax) ||
    fail "argmax is not the default"
"$weir" translate flow --input in "${npd[@]}" --seed 2 > b
"$weir" translate flow --input in "${plain[@]}" --temperature 0 > c
if cmp -s b c; then fail "noise changes nothing"; fi
"$weir" translate flow --input in "${npd[@]}" --rescorer teacher --nbest 6 --scores > nbest
awk -F'\t' 'NF != 4 { exit 1 } $1 == line && $2 > score { exit 1 }
    { line = $1; score = $2 } END { if (line != 32) exit 1 }' nbest ||
    fail "the best lists are not in order: $(cat nbest)"

# ---- losses ----

"$weir" evaluate flow --data data > totals
[ "$(head -1 totals | tr '\t' ' ')" = \
    "sentences tokens recon kl length_nll ppl length_error reconstruction_bleu" ] ||
    fail "$(cat totals)"
"$weir" evaluate flow --data data --per-sentence --max-tokens 100 > sentences
awk -F'\t' 'NR > 1 { recon += $2; kl += $5; n++; if ($1 != n - 1 || NF != 13) bad = 1 }
    END { getline < "totals"; getline < "totals"
          a = recon / n - $3; b = kl / n - $4
          exit bad || n != $1 || a * a > 1e-6 || b * b > 1e-6 }' sentences ||
    fail "totals and sentences disagree: $(cat totals)"
"$weir" evaluate flow --data data --posterior sample --decode npd --rescorer teacher > scored
awk -F'\t' 'NR == 2 { exit NF == 10 && $10 > 0 && $10 < 100 ? 0 : 1 }' scored || fail "$(cat scored)"

# ---- mistakes ----

refuse 1 "14 length candidates are asked for, but a sentence has at most 13" \
    translate flow --decode npd --lengths 14 --input in
refuse 2 "--temperature" translate flow "${plain[@]}" --temperature -1 --input in
refuse 2 "--decode argmax is for a FlowSeq" translate teacher --decode argmax --input in
refuse 2 "--samples is for a FlowSeq" translate teacher --samples 3 --input in
refuse 2 "--decode beam is for a Transformer" translate flow --decode beam --input in
refuse 2 "--beam is for a Transformer" translate flow --beam 4 --input in
refuse 2 "--lengths has no use in argmax" translate flow --lengths 3 --input in
refuse 2 "--rescorer needs --decode npd" translate flow --rescorer teacher --input in
refuse 2 "--nbest 13" translate flow "${npd[@]}" --nbest 13 --input in
refuse 1 "flow is no Transformer" translate flow "${npd[@]}" --rescorer flow --input in
"$weir" train flow.yaml --data data --out bare --set prior.layers=[] --threads 1 2>> log ||
    fail "$(cat log)"
refuse 1 "this model has none" translate bare --decode iwd --input in
refuse 2 "--posterior is for a FlowSeq" evaluate teacher --data data --posterior mean
"$weir" prepare --train-src text/train.de --train-tgt text/train.en --valid-src text/valid.de \
    --valid-tgt text/valid.en --vocab 140 --joint --out other >> log 2>&1
"$weir" train teacher.yaml --data other --out stranger --threads 1 --max-updates 1 2>> log
refuse 1 "--rescorer stranger has another vocabulary" \
    translate flow "${npd[@]}" --rescorer stranger --input in
refuse 1 "subword models" evaluate flow --data other
echo "flowseq.sh: fine"
