#!/usr/bin/env bash
# Training non-autoregressive models: every objective learns, what is logged, the same parameters
# for any number of threads and after kills, pictures, times, and one clear message for each mistake.
# Usage: train_nat.sh WEIR SOURCE_FOLDER BUILD_FOLDER
source "$(dirname "$0")/common.bash"
recipe=$2/recipes/nat-tiny.yaml
"$weir" synth numbers --langs de-en --count 600 --valid 20 --test 5 --seed 5 --out text > /dev/null
files=(--train-src text/train.de --train-tgt text/train.en --valid-src text/valid.de
    --valid-tgt text/valid.en --max-len 60)
"$weir" prepare "${files[@]}" --joint --vocab 100 --out data > /dev/null 2>&1
"$weir" prepare "${files[@]}" --vocab 100 --out apart > /dev/null 2>&1
"$weir" prepare "${files[@]}" --joint --vocab 90 --out other > /dev/null 2>&1

small=(--set model.dim=32 --set model.ffn=32 --set model.heads=2 --set model.encoder_layers=1
    --set model.decoder_layers=1 --set data.max_tokens=512 --set train.max_updates=80
    --set train.report_every=8 --set train.checkpoint_every=40 --set train.valid_every=40
    --set train.valid_sentences=8 --set optim.lr=0.01 --set optim.warmup=10)

# In the place of the calling shell, so that a kill hits the program itself.
train() {
    exec "$weir" train "$recipe" --data "${data:-data}" --threads "${threads:-1}" "${small[@]}" "$@"
}
# trained OUT OPTIONS...: train, quietly.
trained() {
    (train --out "$@") > said.txt 2>&1 || fail "$*: $(tail -n 3 said.txt)"
}
# field NAME RUN [KIND]: the values of a field of the log, a line each.
field() {
    grep "\"kind\": \"${3:-train}\"" "$2/log.jsonl" | grep -o "\"$1\": [^,}]*" | cut -d' ' -f2
}
# What two runs must have in common: the last parameters, their average, the log without times.
bits() {
    cat "$1/checkpoints/step-80.safetensors" "$1/checkpoints/average" | sha256sum
    sed -E 's/"(tokens_per_s|seconds)": [^,}]*//g' "$1/log.jsonl"
}
same() {
    bits "$1" > "$1.bits"
    bits "$2" > "$2.bits"
    cmp -s "$1.bits" "$2.bits" || fail "$3: $(diff "$1.bits" "$2.bits" | head -n 4)"
}

# ---- every objective learns ----

# falls RUN: the loss and the validation's nll end well below where they began; nothing is NaN
falls() {
    local log=$1/log.jsonl
    if grep -q 'nan\|inf[^e]' "$log"; then fail "$1: $(cat "$log")"; fi
    awk -v a="$(field nll "$1" | head -n 1)" -v z="$(field nll "$1" | tail -n 1)" \
        'BEGIN { exit z < 0.8 * a ? 0 : 1 }' || fail "$1 does not learn: $(field nll "$1" | tr '\n' ' ')"
    awk -v a="$(field nll "$1" valid | head -n 1)" -v z="$(field nll "$1" valid | tail -n 1)" \
        'BEGIN { exit z < a ? 0 : 1 }' || fail "$1, validation: $(field nll "$1" valid | tr '\n' ' ')"
    for name in loss nll infeasible gradient_norm lr tokens_per_s; do
        [ "$(field $name "$1" | wc -l)" = 10 ] || fail "$1: $name is not in each line"
    done
    [ "$(field bleu "$1" valid | wc -l)" = 2 ] || fail "$1: no BLEU"
}
for objective in ce axe oaxe cmlm glat ctc; do
    trained $objective --set objective.name=$objective
    falls $objective
    lengths=10 given=0
    [ $objective != ctc ] || lengths=0
    case $objective in cmlm | glat) given=10 ;; esac
    [ "$(field length $objective | wc -l)" = $lengths ] || fail "$objective: length of length"
    [ "$(field given $objective | wc -l)" = $given ] || fail "$objective: what is given"
    "$weir" translate $objective --input text/test.de --threads 1 > out.txt 2> err.txt ||
        fail "translate by $objective: $(cat err.txt)"
    [ "$(wc -l < out.txt)" = 5 ] || fail "translate by $objective: $(wc -l < out.txt) lines"
done
trained glancing --set objective.name=ctc --set objective.glancing=hamming --set nat.framing=plain
falls glancing
[ "$(field given glancing | wc -l)" = 10 ] || fail "ctc with glancing: $(cat glancing/log.jsonl)"
# a smaller share of errors is given as training goes on, and there are fewer errors
awk -v a="$(field given glat | head -n 1)" -v z="$(field given glat | tail -n 1)" \
    'BEGIN { exit a > z && z > 0 && a < 0.6 ? 0 : 1 }' || fail "glancing: $(field given glat)"

# ---- the forms of the model ----

few=(--set train.max_updates=3 --set train.valid_every=3 --set train.report_every=1)
finite() {
    trained "$@"
    [ "$(field loss "$1" | grep -c '^-*[0-9]')" -ge 1 ] || fail "$1: $(cat "$1/log.jsonl")"
    if grep -q 'nan\|inf[^e]' "$1/log.jsonl"; then fail "$1: $(cat "$1/log.jsonl")"; fi
}
finite soft "${few[@]}" --set nat.inputs=soft --set nat.framing=bos_eos --set nat.length=token
finite interp "${few[@]}" --set nat.inputs=interp --set nat.framing=plain --set nat.length=difference
finite attn "${few[@]}" --set nat.inputs=attn --set nat.length_offset=false --set objective.name=glat \
    --set objective.glancing=p_ref --set nat.framing=bos_eos
finite split "${few[@]}" --set objective.name=ctc --set nat.upsampling=split --set nat.upsample=3 \
    --set objective.norm=frames
finite masks "${few[@]}" --set objective.name=axe --set nat.length=none --set nat.inputs=mask \
    --set nat.upsampling=mask
finite many "${few[@]}" --set objective.name=cmlm --set train.accumulate=3 \
    --set objective.masking=mple
finite anneal "${few[@]}" --set objective.name=oaxe --set objective.anneal=2 \
    --set objective.pretrain=1
data=apart
finite apart1 "${few[@]}" --set model.embeddings=target --set nat.inputs=uniform
finite apart2 "${few[@]}" --set model.embeddings=separate --set objective.name=ctc
data=data

# Sources that give too few positions: told once, counted in each line.
trained short "${few[@]}" --set objective.name=ctc --set nat.upsample=1
grep -q "sentences have no alignment: .* raise nat.upsample" said.txt || fail "$(cat said.txt)"
[ "$(grep -c "have no alignment" said.txt)" = 1 ] || fail "not told once: $(cat said.txt)"
[ "$(field infeasible short | head -n 1)" -gt 0 ] || fail "not counted: $(cat short/log.jsonl)"

# ---- validation is what evaluate tells ----

# told RUN NAME OPTIONS...: a column of what evaluate tells of the last checkpoint
told() {
    local run=$1 name=$2
    shift 2
    "$weir" evaluate "$run" --data data --checkpoint last --threads 1 "$@" > told.tsv 2> err.txt ||
        fail "evaluate $run: $(cat err.txt)"
    awk -F'\t' -v name="$name" 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i }
        NR == 2 && (name in at) { print $at[name] }' told.tsv
}
# agree RUN NAME...: the last validation told the same
agree() {
    local run=$1 name
    shift
    for name in "$@"; do
        awk -v a="$(told "$run" "$name")" -v b="$(field "$name" "$run" valid | tail -n 1)" \
            'BEGIN { d = a - b; exit a != "" && b != "" && d < 1e-4 && d > -1e-4 ? 0 : 1 }' ||
            fail "$run: $name of evaluate and of the validation differ: $(cat told.tsv)"
    done
}
terms=(loss nll length infeasible)
for objective in ce axe oaxe glat; do agree $objective "${terms[@]}"; done
agree ctc loss nll infeasible
agree short loss nll infeasible
agree anneal "${terms[@]}"
[ "$(told short infeasible)" -gt 0 ] || fail "evaluate counts nothing: $(cat told.tsv)"
[ -z "$(told ctc length)" ] || fail "ctc has a length: $(cat told.tsv)"

# How a validation and all commands translate stands in the recipe.
trained several --set objective.name=cmlm --set train.valid_sentences=0 --max-updates 200 \
    --set train.valid_decode=method --set decode.iterations=3 --set decode.lengths=2
agree several "${terms[@]}" bleu
[ "$(told several bleu)" != "$(told several bleu --decode argmax --lengths 1)" ] ||
    fail "the keys of decoding change nothing: $(cat told.tsv)"
[ "$(told several bleu)" = "$(told several bleu --decode mask-predict --iterations 3 --lengths 2 \
    --set decode.iterations=7)" ] || fail "an option does not go before the recipe: $(cat told.tsv)"
trained once --set objective.name=cmlm --set train.valid_sentences=0 --max-updates 200 \
    --set decode.iterations=3 --set decode.lengths=2
[ "$(field bleu once valid | tail -n 1)" != "$(field bleu several valid | tail -n 1)" ] ||
    fail "valid_decode: method changes nothing"
awk -v a="$(told once bleu --decode argmax)" -v b="$(field bleu once valid | tail -n 1)" \
    'BEGIN { exit b > 0 && a - b < 1e-3 && b - a < 1e-3 ? 0 : 1 }' ||
    fail "valid_decode: argmax is not argmax: $(cat told.tsv)"

# ---- the same for any number of threads and after kills ----

for objective in glat cmlm; do
    threads=2
    trained two-$objective --set objective.name=$objective
    threads=1
    same $objective two-$objective "$objective, two threads"
done
last_of() {
    local pointer=step-0
    [ ! -e "$1/checkpoints/last" ] || pointer=$(< "$1/checkpoints/last")
    echo "${pointer#step-}"
}
train --out cut --set objective.name=glat > said.txt 2>&1 &
pid=$!
while kill -0 "$pid" 2> /dev/null && [ "$(last_of cut)" -lt 40 ]; do sleep 0.002; done
kill -9 "$pid" 2> /dev/null || true
wait "$pid" 2> /dev/null || true
"$weir" info cut > /dev/null || fail "killed, the run cannot be read"
trained cut --set objective.name=glat --resume
same glat cut "killed behind update 40"

# ---- from another run, and with another objective behind a checkpoint ----

trained tuned --set objective.name=oaxe --start-from ce --max-updates 8
grep -q "parameters of ce/checkpoints/step-[48]0.safetensors" said.txt || fail "$(cat said.txt)"
awk -v a="$(field nll oaxe | head -n 1)" -v b="$(field nll tuned | head -n 1)" \
    'BEGIN { exit b < 0.6 * a ? 0 : 1 }' || fail "it begins anew: $(field nll tuned)"
trained tuned --set objective.name=ce --resume --max-updates 16
[ "$(tail -n 1 tuned/log.jsonl | grep -c '"update": 16,')" = 1 ] || fail "$(cat tuned/log.jsonl)"

# ---- looking at it ----

"$weir" info glat | grep -q "decoder" || fail "info: $("$weir" info glat)"
"$weir" info "$recipe" > /dev/null || fail "info of the recipe"
for what in forward gradient plan; do
    "$weir" draw "$recipe" --what $what --out picture.svg > said.txt 2>&1 || fail "draw: $(cat said.txt)"
    [ -s picture.svg ] || fail "draw: no picture of $what"
done
"$weir" draw glat --format html --out page.html > said.txt 2>&1 || fail "draw: $(cat said.txt)"
"$weir" report glat > said.txt 2>&1 || fail "report: $(cat said.txt)"
for objective in ce glat ctc; do
    "$weir" bench "$recipe" --objective $objective --batch 4 --src-len 6 --tgt-len 5 --vocab 100 \
        --threads 1 --repeat 2 | grep -q '"step_ms"' || fail "bench --objective $objective"
done

# ---- mistakes ----

base=(train "$recipe" --data data --out no --threads 1 "${small[@]}")
refuse 1 "objective.name must be one of ce, axe, oaxe, ctc, cmlm, glat" "${base[@]}" \
    --set objective.name=nll
refuse 1 "did you mean 'objective.skip_penalty'?" "${base[@]}" --set objective.skip_penalti=1
refuse 1 "objective.skip_penalty must be a number from 0" "${base[@]}" \
    --set objective.name=axe --set objective.skip_penalty=-1
refuse 1 "nat.length none or auto" "${base[@]}" --set objective.name=ctc --set nat.length=pooled
refuse 1 "compares position t with target word t" "${base[@]}" --set nat.length=none
refuse 1 "where it would do nothing" "${base[@]}" --set objective.skip_penalty=3
refuse 1 "two vocabularies" train "$recipe" --data apart --out no "${small[@]}"
refuse 1 "length.W" "${base[@]}" --set objective.name=ctc --start-from ce
refuse 1 "no-such" "${base[@]}" --start-from no-such
refuse 1 "start from a run with the same vocabulary" train "$recipe" --data other --out no \
    "${small[@]}" --start-from ce
refuse 1 "the run was begun with nat.inputs: uniform" train "$recipe" --data data --out ce \
    "${small[@]}" --resume --set nat.inputs=mask
refuse 1 "allowed: argmax" "${base[@]}" --set decode.method=beam
refuse 1 "decode.iterations has an effect with decode.method mask-predict only" "${base[@]}" \
    --set decode.iterations=4
refuse 1 "allowed: decode.method auto, ctc or ctc-beam" "${base[@]}" --set objective.name=ctc \
    --set decode.method=argmax
refuse 1 "is a key of model.type = nat" train "$2/recipes/transformer-tiny.yaml" --data data \
    --out no --set objective.name=ce
refuse 1 "is a key of model.type = nat" bench "$2/recipes/transformer-tiny.yaml" --objective ce
[ ! -e no/checkpoints ] || fail "a refused run wrote checkpoints"
