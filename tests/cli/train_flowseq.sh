#!/usr/bin/env bash
# Training a FlowSeq: its stages and what they log, the same parameters for any number of threads
# and after kills, the forms of the model, and one clear message for each mistake.
# Usage: train_flowseq.sh WEIR SOURCE_FOLDER BUILD_FOLDER; KILLS=30 for the long version.
source "$(dirname "$0")/common.bash"
recipe=$2/recipes/flowseq-tiny.yaml
kills=${KILLS:-4}
"$weir" synth numbers --langs de-en --count 300 --valid 20 --test 5 --seed 5 --out text > /dev/null
files=(--train-src text/train.de --train-tgt text/train.en --valid-src text/valid.de
    --valid-tgt text/valid.en --vocab 100 --max-len 60)
"$weir" prepare "${files[@]}" --joint --out data > /dev/null 2>&1
"$weir" prepare "${files[@]}" --out apart > /dev/null 2>&1

# The recipe of the documentation with everything small; 24 updates, half of them pre-training.
small=(--set model.dim=16 --set model.ffn=16 --set model.heads=2 --set model.encoder_layers=1
    --set prior.heads=2 --set prior.hidden=16 --set data.max_tokens=256 --set train.init_batch=40
    --set train.pretrain_updates=12 --set train.max_updates=24 --set train.kl_warmup=8
    --set train.report_every=4 --set train.checkpoint_every=5 --set train.valid_every=6
    --set train.valid_sentences=8 --set optim.lr=0.01 --set optim.pretrain_warmup=4)

# In the place of the calling shell, so that a kill hits the program itself.
train() {
    exec "$weir" train "$recipe" --data "${data:-data}" --threads "${threads:-1}" "${small[@]}" "$@"
}

# trained OUT OPTIONS...: train, quietly.
trained() {
    (train --out "$@") > said.txt 2>&1 || fail "$*: $(tail -n 3 said.txt)"
}

# field NAME FILE [KIND]: the values of a field of the log, a line each.
field() {
    grep "\"kind\": \"${3:-train}\"" "$2" | grep -o "\"$1\": [^,}]*" | cut -d' ' -f2
}

# What two runs must have in common: the last parameters, their average, the log without times.
bits() {
    cat "$1/checkpoints/step-24.safetensors" "$1/checkpoints/average" | sha256sum
    sed -E 's/"(tokens_per_s|seconds)": [^,}]*//g' "$1/log.jsonl"
}
same() {
    bits "$1" > "$1.bits"
    bits "$2" > "$2.bits"
    cmp -s "$1.bits" "$2.bits" || fail "$3: $(diff "$1.bits" "$2.bits" | head -n 4)"
}

# ---- the stages ----

start=$(date +%s%N)
trained whole
whole_ms=$((($(date +%s%N) - start) / 1000000))
[ "$(grep -c "stage .* begins: first values from 40 sentences" said.txt)" = 2 ] ||
    fail "not two stages: $(cat said.txt)"
log=whole/log.jsonl
[ "$(grep -c '"stage": "pretraining"' $log)" = 5 ] || fail "reports of pre-training: $(cat $log)"
for name in loss recon length gradient_norm lr tokens_per_s; do
    [ "$(field $name $log | wc -l)" = "$(grep -c '"kind": "train"' $log)" ] ||
        fail "$name is not in each line"
done
for name in kl kl_per_dimension log_det_per_dimension posterior_mean posterior_deviation \
    prior_noise kl_weight; do
    [ "$(field $name $log | wc -l)" = "$(grep -c '"stage": "main"' $log)" ] ||
        fail "$name is not in each line of the main phase alone"
done
for name in recon kl nll bleu reconstruction_bleu length_error; do
    [ "$(field $name $log valid | wc -l)" = 2 ] || fail "$name is not in both validations"
done
[ "$(field kl_weight $log | tr '\n' ' ')" = "0.375 0.5 0.75 1 1 " ] ||
    fail "the weight of the KL term: $(field kl_weight $log | tr '\n' ' ')"
# lr: up to update 4, falling until 12, then from the beginning again without a warm-up
paste <(field update $log) <(field lr $log) | awk '
    { n = $1 - 1; want = 0.01 * 0.999 ^ (n - 12)
      if (n < 12) want = 0.01 * 0.999 ^ (n - 4)
      if (n < 4) want = 1e-7 + (0.01 - 1e-7) * n / 4
      if ($2 < want * 0.999999 || $2 > want * 1.000001) { print $1, $2, want; exit 1 } }' ||
    fail "the learning rate"
# first values from data: deviation 1 and noise about 1 soon after, so KL per dimension is small
awk -v d="$(field posterior_deviation $log | head -n 1)" -v e="$(field prior_noise $log | head -n 1)" \
    'BEGIN { exit d > 0.8 && d < 1.2 && e > 0.5 && e < 2 ? 0 : 1 }' ||
    fail "first values: $(field posterior_deviation $log) $(field prior_noise $log)"
"$weir" plot whole --out whole.svg || fail "no plot"
for words in "--decode argmax" "--decode npd --lengths 2 --samples 2" \
    "--decode iwd --lengths 2 --samples 2" "--checkpoint last" "--checkpoint average"; do
    read -ra options <<< "$words"
    "$weir" translate whole --input text/test.de --threads 1 "${options[@]}" > out.txt 2> err.txt ||
        fail "translate $words: $(cat err.txt)"
    [ "$(wc -l < out.txt)" = 5 ] || fail "translate $words: $(wc -l < out.txt) lines"
done

# ---- validation is what evaluate tells ----

# Of the last checkpoint; the posterior's samples differ, so KL and what stands on it only roughly.
trained all --set train.valid_sentences=0 --set train.average_best=0
"$weir" evaluate all --data data --checkpoint last --decode argmax --posterior sample \
    --posterior-samples 50 --threads 1 > told 2> err.txt || fail "evaluate: $(cat err.txt)"
awk -F'\t' -v bleu="$(field bleu all/log.jsonl valid | tail -n 1)" \
    -v again="$(field reconstruction_bleu all/log.jsonl valid | tail -n 1)" \
    -v error="$(field length_error all/log.jsonl valid | tail -n 1)" \
    -v len="$(field length all/log.jsonl valid | tail -n 1)" \
    -v recon="$(field recon all/log.jsonl valid | tail -n 1)" \
    -v kl="$(field kl all/log.jsonl valid | tail -n 1)" \
    -v nll="$(field nll all/log.jsonl valid | tail -n 1)" '
    function far(a, b, by) { return a - b > by || b - a > by }
    NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
    { if (far($at["bleu"], bleu, 1e-3)) print "bleu", $at["bleu"], bleu
      if (far($at["reconstruction_bleu"], again, 1e-3)) print "reconstruction_bleu", $at["reconstruction_bleu"], again
      if (far($at["length_error"], error, 1e-3)) print "length_error", $at["length_error"], error
      if (far($at["length_nll"], len, 1e-4)) print "length", $at["length_nll"], len
      if (far($at["recon"], recon, 0.05 * recon)) print "recon", $at["recon"], recon
      if (far($at["kl"], kl, 0.1 * kl)) print "kl", $at["kl"], kl
      if (far(log($at["ppl"]), nll, 0.05 * nll)) print "nll", log($at["ppl"]), nll }' told > wrong
[ ! -s wrong ] || fail "evaluate and the validation disagree: $(cat wrong)"

# ---- the same bits ----

for threads in 2 3; do
    trained "t$threads"
    same whole "t$threads" "$threads threads give something else"
done
threads=1
trained seed --seed 2
if cmp -s whole/checkpoints/step-24.safetensors seed/checkpoints/step-24.safetensors; then
    fail "another seed gives the same"
fi

# Killed behind an update and resumed: in pre-training, at its end (the main phase begins when its
# first update does), behind it.
often=(--set train.checkpoint_every=1 --set train.report_every=1)
trained each "${often[@]}"
last_of() {
    local pointer=step-0
    [ ! -e "$1/checkpoints/last" ] || pointer=$(< "$1/checkpoints/last")
    echo "${pointer#step-}"
}
in_time=0
for at in 1 8 11 12 13 16; do
    train --out "cut$at" "${often[@]}" > said.txt 2>&1 &
    pid=$!
    while kill -0 "$pid" 2> /dev/null && [ "$(last_of "cut$at")" -lt "$at" ]; do sleep 0.002; done
    kill -9 "$pid" 2> /dev/null || true
    wait "$pid" 2> /dev/null || true
    [ "$(last_of "cut$at")" -ge 24 ] || in_time=$((in_time + 1))
    "$weir" info "cut$at" > /dev/null || fail "killed at $at, the run cannot be read"
    trained "cut$at" "${often[@]}" --resume
    same each "cut$at" "killed behind update $at"
done
[ "$in_time" -ge 3 ] || fail "only $in_time of 6 runs were killed before their end"

# Killed in the main phase with its last checkpoint in pre-training: the phase begins once more, as
# it did.
train --out between --set train.checkpoint_every=10 --set train.valid_every=24 \
    --set train.report_every=1 > said.txt 2>&1 &
pid=$!
while kill -0 "$pid" 2> /dev/null && ! grep -qs '"update": 14,' between/log.jsonl; do sleep 0.002; done
kill -9 "$pid" 2> /dev/null || true
wait "$pid" 2> /dev/null || true
between=$(last_of between)
trained between --resume
cmp -s whole/checkpoints/step-24.safetensors between/checkpoints/step-24.safetensors ||
    fail "killed in the main phase, resumed at $between: other parameters"

# Killed at any moment.
RANDOM=${SEED:-7}
train --out broken > said.txt 2>&1 &
for ((i = 0; i < kills; i++)); do
    pid=$!
    sleep "$(awk -v r=$RANDOM -v ms="$whole_ms" -v n="$kills" \
        'BEGIN { printf "%.3f", 0.02 + r / 32768 * ms * 1.6 / 1000 / n }')"
    kill -9 "$pid" 2> /dev/null || break
    wait "$pid" 2> /dev/null || true
    train --out broken --resume > said.txt 2>&1 &
done
wait $! || fail "the resumed run failed: $(tail -n 3 said.txt)"
same whole broken "killed $i times"

# Out of time in pre-training: a run that can be gone on with, but has nothing to translate by yet.
trained short --max-minutes 2e-5
[ "$(last_of short)" -le 3 ] && [ "$(last_of short)" -ge 1 ] || fail "a run without time ends at $(last_of short)"
refuse 1 "--checkpoint last" translate short --input text/test.de
"$weir" translate short --input text/test.de --checkpoint last > out.txt ||
    fail "the last checkpoint of pre-training does not translate"
trained short --resume
cmp -s whole/checkpoints/step-24.safetensors short/checkpoints/step-24.safetensors ||
    fail "a run out of time, resumed, has other parameters"

# ---- several batches for an update, weighting, rebuilding, the forms of the model ----

# An update of k batches is the update of one, but for rounding: without dropout and noise (as in
# pre-training) the losses agree.
still=(--set model.dropout=0 --set flowseq.embedding_dropout=0 --set flowseq.token_dropout=0
    --set flowseq.length_dropout=0 --set train.report_every=1)
trained many --set train.accumulate=3
[ "$(field kl many/log.jsonl | wc -l)" = 5 ] || fail "accumulate: $(cat many/log.jsonl)"
"$weir" train "$recipe" --data data --threads 2 "${small[@]}" --set train.accumulate=3 --out many2 \
    > said.txt 2>&1 || fail "$(cat said.txt)"
same many many2 "accumulate and two threads"
trained token --set train.weighting=token
# terms are told per sentence all the same; the gradient is that of the loss per token
paste <(field gradient_norm whole/log.jsonl) <(field gradient_norm token/log.jsonl) |
    awk 'NR == 1 && $2 > $1 / 5 { print; exit 1 }' || fail "weighting: token"

# Rebuilding is the same computation with other rounding.
trained kept "${still[@]}" --set train.max_updates=20
trained rebuilt "${still[@]}" --set train.max_updates=20 --set prior.rebuild=true
for name in loss recon kl gradient_norm; do
    paste <(field $name kept/log.jsonl) <(field $name rebuilt/log.jsonl) |
        awk '{ d = $1 - $2; if (d < 0) d = -d; s = $1 < 0 ? -$1 : $1
               if (d > 1e-4 * (s + 1)) { print NR, $0; exit 1 } }' ||
        fail "rebuild: $name differs"
done
if cmp -s kept/checkpoints/step-20.safetensors rebuilt/checkpoints/step-20.safetensors; then
    fail "prior.rebuild changes nothing"
fi

two=(--set train.pretrain_updates=1 --set train.max_updates=3 --set train.valid_every=3)
finite() {
    trained "$@"
    [ "$(field kl "$1/log.jsonl" | grep -c '^-*[0-9]')" -ge 1 ] || fail "$1: $(cat "$1/log.jsonl")"
    if grep -q 'nan\|inf' "$1/log.jsonl"; then fail "$1: $(cat "$1/log.jsonl")"; fi
}
finite literal --set flowseq.literal=true --set train.max_updates=16
# the posterior's heads begin as 0: deviation 1 exactly, mean 0
awk -v d="$(field posterior_deviation literal/log.jsonl | head -n 1)" \
    'BEGIN { exit d > 0.7 && d < 1.3 ? 0 : 1 }' || fail "literal: $(cat literal/log.jsonl)"
finite lstm "${two[@]}" --set flowseq.encoder=lstm --set flowseq.posterior=lstm \
    --set flowseq.decoder=lstm --set prior.net=lstm --set "prior.position=[]"
finite shift "${two[@]}" --set flowseq.posterior=shift_lstm --set flowseq.decoder=simple \
    --set prior.net=conv --set "prior.position=[]" --set prior.transform=nlsq
finite additive "${two[@]}" --set prior.transform=additive
finite straight "${two[@]}" --set train.pretrain_updates=0 # first values all at once
grep -q "stage main begins" said.txt || fail "without pre-training: $(cat said.txt)"
data=apart
finite separate "${two[@]}" --set model.embeddings=separate
data=data
finite large "${two[@]}" --set train.init_batch=5000
grep -q "first values from 300 sentences, all there are" said.txt || fail "$(cat said.txt)"

# ---- mistakes ----

base=(train "$recipe" --data data --out no --threads 1 "${small[@]}")
refuse 1 "prior.layers" "${base[@]}" --set "prior.layers=[step, stp]"
refuse 1 "'stp' is no layer; did you mean 'step'?" "${base[@]}" --set "prior.layers=[stp]"
refuse 1 "prior.unit" "${base[@]}" --set "prior.unit=[coupling halves sideways]"
refuse 1 "multiples of 64; allowed: flowseq.length_range of at least 63" "${base[@]}" \
    --set "prior.layers=[squeeze x6]"
refuse 1 "there are 2 channels here, no multiple of 8" "${base[@]}" \
    --set "prior.layers=[factor_out halves x3, step]"
refuse 1 "divide" "${base[@]}" --set prior.heads=3
refuse 1 "prior.step" "${base[@]}" --set "prior.step=[step]"
refuse 1 "set model.max_len=" "${base[@]}" --set model.max_len=4
# the length that the message asks for is enough, though targets are filled up
need=$(sed -n 's/.*set model.max_len=\([0-9]*\).*/\1/p' <<< "$("$weir" "${base[@]}" \
    --set model.max_len=4 2>&1 || true)")
finite just "${two[@]}" --set "model.max_len=$need"
refuse 1 "two vocabularies" train "$recipe" --data apart --out no "${small[@]}"
refuse 1 "train.pretrain_updates = 24 leaves none of train.max_updates = 24" "${base[@]}" \
    --set train.pretrain_updates=24
refuse 1 "train.pretrain_updates = 12" "${base[@]}" --max-updates 3
[ ! -e no/checkpoints ] || fail "a refused run wrote checkpoints"

sed 's/.*//' text/train.en > empty.en
refuse 1 "empty" prepare --train-src text/train.de --train-tgt empty.en --valid-src text/valid.de \
    --valid-tgt text/valid.en --vocab 100 --out none
sed '1~2s/.*//' text/train.en > half.en
"$weir" prepare --train-src text/train.de --train-tgt half.en --valid-src text/valid.de \
    --valid-tgt text/valid.en --vocab 100 --joint --max-len 60 --out half > said.txt 2>&1
"$weir" train "$recipe" --data half --out halves --threads 1 "${small[@]}" "${two[@]}" > said.txt 2>&1 ||
    fail "$(cat said.txt)"

again=(train "$recipe" --data data --out whole --resume --threads 1 "${small[@]}")
refuse 1 "begun with prior.layers" "${again[@]}" --set "prior.layers=[position, step]"
# the same parameters, in another order
refuse 1 "begun with prior.last_unit" "${again[@]}" \
    --set "prior.last_unit=[coupling halves down, coupling halves up, actnorm, coupling alternate up, coupling alternate down]"
refuse 1 "begun with flowseq.literal: false, and not with literal: true" "${again[@]}" \
    --set flowseq.literal=true
refuse 1 "begun with train.pretrain_updates = 12" "${again[@]}" --set train.pretrain_updates=15
refuse 1 "seed" "${again[@]}" --seed 5
refuse 1 "not the subword model of half" train "$recipe" --data half --out whole --resume "${small[@]}"
# what does not change the model may change, and the run says so
"$weir" "${again[@]}" --max-updates 26 --set model.dropout=0.2 --set train.keep_best=1 \
    --set train.average_best=1 > said.txt 2>&1 || fail "$(cat said.txt)"
grep -q "dropout: 0.2" whole/recipe.yaml || fail "the run's recipe is the old one"
"$weir" "${again[@]}" --max-updates 27 --set train.keep_best=1 --set train.average_best=1 \
    > said.txt 2>&1 || fail "$(cat said.txt)"

echo "killed $i times at random and $in_time times behind an update,"
echo "and once in the main phase with $between as last checkpoint: the same bits"
