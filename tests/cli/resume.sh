#!/usr/bin/env bash
# A training run that is killed at random moments and resumed ends with the same parameters, bit
# for bit, as one that was left alone; no moment leaves a run that cannot be read.
# Usage: resume.sh WEIR SOURCE_FOLDER BUILD_FOLDER; KILLS=50 for the long version.
source "$(dirname "$0")/common.bash"
kills=${KILLS:-6}
updates=$((120 + 60 * kills))
trap 'kill -9 $(jobs -p) 2> /dev/null || true; wait; rm -rf "$work"' EXIT

"$weir" synth numbers --langs en-de --count 1500 --valid 40 --test 20 --seed 5 --out text > /dev/null
"$weir" prepare --train-src text/train.en --train-tgt text/train.de --valid-src text/valid.en \
    --valid-tgt text/valid.de --vocab 150 --joint --max-len 60 --out data > /dev/null
cat > recipe.yaml << RECIPE
model: {type: transformer, dim: 32, ffn: 64, heads: 2, encoder_layers: 1, decoder_layers: 1,
        dropout: 0.1, attention_dropout: 0.1, embeddings: joint, max_len: 64}
data: {max_tokens: 512, length_multiple: 4}
train: {max_updates: $updates, report_every: 10, checkpoint_every: 7, valid_every: 20,
        valid_sentences: 10, keep_best: 3, average_best: 2, accumulate: 2}
optim: {lr: 0.003, warmup: 40}
RECIPE

# sum RUN: the parameters of the last checkpoint and of the average.
sum() {
    cat "$1/checkpoints/step-$updates.safetensors" "$1/checkpoints/average" | sha256sum
}

# In the place of the calling shell, so that a kill hits the program itself.
train() {
    exec "$weir" train recipe.yaml --data data --threads 1 "$@"
}

start=$(date +%s%N)
(train --out whole) > whole.txt 2>&1 || fail "the run fails: $(tail -n 3 whole.txt)"
whole_ms=$((($(date +%s%N) - start) / 1000000))

RANDOM=${SEED:-7}
done_kills=0
train --out broken > log.txt 2>&1 &
for ((i = 0; i < kills; i++)); do
    pid=$!
    # spread over the run's length, so that saving, validating and training are all hit
    sleep "$(awk -v r=$RANDOM -v ms="$whole_ms" -v n="$kills" \
        'BEGIN { printf "%.3f", 0.02 + r / 32768 * ms * 1.6 / 1000 / (n) }')"
    if ! kill -9 "$pid" 2> /dev/null; then break; fi
    wait "$pid" 2> /dev/null || true
    done_kills=$((done_kills + 1))
    [ ! -d broken/checkpoints ] || "$weir" info broken > info.txt 2>&1 || fail "after kill $i: $(cat info.txt)"
    train --out broken --resume > log.txt 2>&1 &
done
wait $! || fail "the resumed run failed: $(tail -n 3 log.txt)"
[ "$(sum whole)" = "$(sum broken)" ] || fail "the parameters differ after $done_kills kills"
awk -F'"update": ' '/"kind": "train"/ { split($2, a, ","); if (a[1] <= last) exit 1; last = a[1] }' \
    last=0 broken/log.jsonl || fail "the log's updates do not ascend"

# one process writes a run: a second one is refused at once, and does no harm to the first
train --out shared --max-updates 100000 > first.txt 2>&1 &
first=$!
until [ -s shared/log.jsonl ]; do sleep 0.1; done
(train --out shared --resume) > second.txt 2>&1 && fail "two processes train one run"
grep -q 'another weir train is writing this run' second.txt || fail "refused with: $(cat second.txt)"
kill -0 "$first" || fail "the first run ended: $(tail -n 3 first.txt)"
kill -9 "$first"
wait "$first" 2> /dev/null || true
(train --out shared --resume --max-updates 30) > third.txt 2>&1 ||
    fail "a lock outlived its process: $(cat third.txt)"
echo "killed $done_kills times, the same parameters"
