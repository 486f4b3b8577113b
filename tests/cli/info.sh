#!/usr/bin/env bash
# weir info: parameters of a recipe, of a file and of a run; scores; damage.
# Usage: info.sh WEIR SOURCE_FOLDER BUILD_FOLDER
source "$(dirname "$0")/common.bash"
recipe=$2/recipes/transformer-tiny.yaml

# has "WORDS" FILE: a line is these words, whatever the blanks between them.
has() { tr -s ' ' < "$2" | sed 's/^ //' | grep -qxF -- "$1" || fail "$2: no line '$1': $(cat "$2")"; }

"$weir" info "$recipe" --vocab 1000 > recipe.txt
has "embedding 128000 f32 [1000, 128]" recipe.txt
# 4 projections of 128 * 128 + 128, 128 * 512 + 512 and 512 * 128 + 128, 2 norms of 2 * 128.
has "layer0 198272 16 tensors" recipe.txt
has "total 1645056 132 tensors" recipe.txt
has "heads: 4" recipe.txt
"$weir" info "$recipe" --depth 0 > short.txt
if grep -q 'f32 \[' short.txt; then fail "--depth 0 lists parameters"; fi
has "encoder 1875072 51 tensors" short.txt
"$weir" info "$recipe" --all > all.txt
[ "$(grep -cE 'f32 \[' all.txt)" -eq 132 ] || fail "--all does not list all"


# FlowSeq, by the numbers of its authors' program.
total() { # NAME SOURCE_FOLDER TENSORS PARAMETERS OPTIONS...
    "$weir" info "$2/recipes/$1.yaml" --depth 0 "${@:5}" > flowseq.txt
    has "total $4 $3 tensors" flowseq.txt
}
total flowseq-base "$2" 2732 73410097
has "parameters, with vocabularies of 37000 pieces" flowseq.txt
has "embedding 9472000 f32 [37000, 256]" flowseq.txt
has "encoder 4343808 60 tensors" flowseq.txt
has "posterior 3819520 70 tensors" flowseq.txt
has "decoder 3922312 71 tensors" flowseq.txt
has "length 142121 6 tensors" flowseq.txt
has "prior 51710336 2524 tensors" flowseq.txt
total flowseq-base "$2" 2732 71996597 --vocab 31500
total flowseq-large "$2" 2732 258847665
total flowseq-large "$2" 2732 256026165 --vocab 31500
total flowseq-iwslt "$2" 2692 81235658
has "parameters, with vocabularies of 32012 and 22825 pieces" flowseq.txt
total flowseq-iwslt "$2" 2692 81235658 --vocab 32012,22825
total flowseq-base-lstm "$2" 2158 236215985
total flowseq-base-lstm "$2" 2158 234802485 --vocab 31500
total flowseq-iwslt-lstm "$2" 1700 86097226
refuse 2 "--vocab '3,100'" info "$recipe" --vocab 3,100
refuse 2 "--vocab '100,'" info "$recipe" --vocab 100,
refuse 2 "model.embeddings is joint" info "$2/recipes/flowseq-base.yaml" --vocab 100,101
cat > odd.yaml << 'END'
model: {type: flowseq}
prior: {unit: [coupling halves]}
END
refuse 1 "prior.unit" info odd.yaml

# safetensors FILE: a.W [2, 2], a.b [2], c [1].
safetensors() {
    local header='{"__metadata__":{"made":"by hand"},'
    header+='"a.W":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},'
    header+='"a.b":{"dtype":"F32","shape":[2],"data_offsets":[16,24]},'
    header+='"c":{"dtype":"F32","shape":[1],"data_offsets":[24,28]}}'
    while [ $((${#header} % 8)) -ne 0 ]; do header+=' '; done
    # shellcheck disable=SC2059
    printf "\\x$(printf %02x $((${#header} % 256)))\\x$(printf %02x $((${#header} / 256)))" > "$1"
    head -c 6 /dev/zero >> "$1"
    printf '%s' "$header" >> "$1"
    head -c 28 /dev/zero >> "$1"
}
safetensors x.safetensors
"$weir" info x.safetensors > file.txt
has "made: by hand" file.txt
has "a 6 2 tensors" file.txt
has "W 4 f32 [2, 2]" file.txt
has "c 1 f32 [1]" file.txt
has "total 7 3 tensors" file.txt
head -c 60 x.safetensors > cut.safetensors
refuse 1 "cut.safetensors: " info cut.safetensors
refuse 1 "nothing: " info nothing
refuse 2 "WHAT" info

"$weir" synth numbers --count 500 --valid 20 --test 20 --out n > out.txt
"$weir" prepare --train-src n/train.en --train-tgt n/train.de --valid-src n/valid.en \
    --valid-tgt n/valid.de --vocab 120 --joint --out d > out.txt 2> err.txt
mkdir run
cp "$recipe" run/recipe.yaml
cp d/joint.model run/
"$weir" info run > run.txt
has "vocabularies source 120, target 120 pieces" run.txt
has "no report yet" run.txt
has "none yet" run.txt
mkdir run/checkpoints
safetensors run/checkpoints/step-20.safetensors
: > run/checkpoints/step-20.state
echo step-20 > run/checkpoints/last
cat > run/log.jsonl << 'END'
{"kind": "train", "update": 10, "loss": 5.5}
{"kind": "valid", "update": 10, "nll": 4.5, "bleu": 3.25}
{"kind": "train", "update": 20, "loss": 4.25}
{"kind": "valid", "update": 20, "nll": 4.125, "bleu": 2.5, "sample": "a | b"}
{"kind": "train", "upd
END
"$weir" info run > run.txt
has "last report update 20 loss 4.25 " run.txt
has "last validation update 20 nll 4.125 bleu 2.5 " run.txt
has "best validation update 10 nll 4.5 bleu 3.25 " run.txt
has "unreadable lines of log.jsonl: 1" run.txt
has "last step-20.safetensors" run.txt
has "total 7 3 tensors" run.txt
refuse 1 "best" info run --checkpoint best
rm run/joint.model
refuse 1 "run/source.model" info run
echo "info.sh: fine"
