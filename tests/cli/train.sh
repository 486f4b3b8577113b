#!/usr/bin/env bash
# weir train: mistakes give one clear message and status 1, and nothing half written or lost.
# Usage: train.sh WEIR SOURCE_FOLDER BUILD_FOLDER
source "$(dirname "$0")/common.bash"
full=
trap '[ -z "$full" ] || umount "$full"; rm -rf "$work"' EXIT

"$weir" synth numbers --langs en-de --count 300 --valid 20 --test 5 --seed 5 --out text > /dev/null
files=(--train-src text/train.en --train-tgt text/train.de --valid-src text/valid.en --valid-tgt
    text/valid.de --vocab 100 --max-len 60)
"$weir" prepare "${files[@]}" --joint --out data > /dev/null 2>&1
"$weir" prepare "${files[@]}" --out apart > /dev/null 2>&1
: > empty
refuse 1 "empty" prepare --train-src empty --train-tgt empty --valid-src empty --valid-tgt empty --out e

cat > recipe.yaml << 'RECIPE'
model: {type: transformer, dim: 16, ffn: 16, heads: 2, encoder_layers: 1, decoder_layers: 1,
        embeddings: joint, max_len: 64}
data: {max_tokens: 512}
train: {max_updates: 8, report_every: 4, checkpoint_every: 4, valid_every: 4, valid_sentences: 4}
RECIPE
run=(train recipe.yaml --data data --out run --threads 1)

# recipes
refuse 1 "model.heads = 2 does not divide model.dim = 17" train recipe.yaml --data data --out run --set model.dim=17
refuse 1 "does not divide" train recipe.yaml --data data --out run --set model.heads=3
refuse 1 "model.dropuot" train recipe.yaml --data data --out run --set model.dropuot=0.1
printf 'model: {dim: wide}\n' > type.yaml
refuse 1 "type.yaml:1: " train type.yaml --data data --out run
refuse 1 "nowhere.yaml" train nowhere.yaml --data data --out run
refuse 1 "nowhere" train recipe.yaml --data nowhere --out run
refuse 1 "prepare with --max-len 3" train recipe.yaml --data data --out run --set model.max_len=4
# the length that the message asks for is enough, whatever lengths are rounded up to
need=$(sed -n 's/.*set model.max_len=\([0-9]*\).*/\1/p' <<< "$said")
"$weir" train recipe.yaml --data data --out just --threads 1 --max-updates 3 \
    --set "model.max_len=$need" --set data.length_multiple=32 > just.txt 2>&1 || fail "$(cat just.txt)"
refuse 1 "two vocabularies" train recipe.yaml --data apart --out run
refuse 1 "device \"gpu\"" train recipe.yaml --data data --out run --device gpu
[ ! -e run/checkpoints ] || fail "a refused run wrote checkpoints"
rm -rf run

# a run is not overwritten; damaged checkpoints are told
"$weir" "${run[@]}" > /dev/null 2>&1 || fail "training fails"
refuse 1 "--resume" "${run[@]}"
cp -r run cut
head -c 300 run/checkpoints/step-8.safetensors > cut/checkpoints/step-8.safetensors
refuse 1 "step-8.safetensors" train recipe.yaml --data data --out cut --resume
cp -r run foreign
echo "this is no checkpoint, but a line of text" > foreign/checkpoints/step-8.state
refuse 1 "step-8.state" train recipe.yaml --data data --out foreign --resume
cp -r run lying
printf '\xff\xff\xff\xff\xff\xff\xff\x7f' |
    dd of=lying/checkpoints/step-8.safetensors conv=notrunc status=none
refuse 1 "step-8.safetensors" train recipe.yaml --data data --out lying --resume
refuse 1 "begun with model.dim: 16, and not with dim: 32" \
    train recipe.yaml --data data --out run --resume --set model.dim=32
"$weir" "${run[@]}" --resume > /dev/null 2>&1 || fail "a finished run cannot be resumed"

# the same bits for any number of threads
"$weir" train recipe.yaml --data data --out two --threads 2 > /dev/null 2>&1 || fail "two threads"
cmp run/checkpoints/step-8.safetensors two/checkpoints/step-8.safetensors ||
    fail "another number of threads gives other parameters"

# a full disk: one message, and the last whole checkpoint stays
mkdir full
if mount -t tmpfs -o size=700k tmpfs full 2> /dev/null; then
    full=$work/full
    "$weir" train recipe.yaml --data data --out full/run --threads 1 --max-updates 4 \
        > /dev/null 2> first.txt || true
    if [ -e full/run/checkpoints/last ]; then
        head -c 1m /dev/zero > full/fill 2> /dev/null || true
        refuse 1 "full/run" train recipe.yaml --data data --out full/run --threads 1 --resume
        rm full/fill
        "$weir" info full/run > /dev/null || fail "the run cannot be read after the disk was full"
    else
        grep -q "^weir: full/run" first.txt || fail "a full disk: $(cat first.txt)"
    fi
fi
