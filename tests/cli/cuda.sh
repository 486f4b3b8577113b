#!/usr/bin/env bash
# The program on the CUDA device (the emulated one, or a GPU): values of the authors' program, and
# small runs of every kind of model, which train to the CPU's losses and translate to its words.
# Usage: cuda.sh WEIR SOURCE_FOLDER BUILD_FOLDER, with WEIR_CUDA_LIBRARY
source "$(dirname "$0")/common.bash"
source "$(dirname "$0")/authors.bash"
library=${WEIR_CUDA_LIBRARY:-}
if [ ! -e "$library" ] || { [[ $library != *emulated* ]] && [ ! -e /dev/nvidiactl ]; }; then
    echo "no CUDA device"
    exit 77
fi
reference=$2/../shared/data/flowseq_reference

if [ -r "$reference/model.safetensors" ]; then
    same_as_authors "$reference" "$2/recipes/flowseq-reference.yaml" --device cuda
fi

"$weir" synth numbers --langs en-de --count 300 --seed 1 --out text > log
"$weir" prepare --train-src text/train.en --train-tgt text/train.de --valid-src text/valid.en \
    --valid-tgt text/valid.de --vocab 120 --joint --max-len 30 --out data >> log 2>&1
head -n 4 text/test.en > few.en

model='dim: 16, ffn: 32, heads: 2, encoder_layers: 1, decoder_layers: 1, dropout: 0.1, embeddings: joint, max_len: 40'
common='data: {max_tokens: 300}
optim: {lr: 0.005, warmup: 2}'
cat > transformer.yaml << END
model: {type: transformer, $model}
train: {max_updates: 6, valid_every: 6, checkpoint_every: 6, report_every: 1, valid_decode: none, best_by: nll}
$common
END
cat > ctc.yaml << END
model: {type: nat, $model}
objective: {name: ctc, glancing: hamming}
train: {max_updates: 6, valid_every: 6, checkpoint_every: 6, report_every: 1, valid_decode: none, best_by: nll}
$common
END
cat > flowseq.yaml << END
model: {type: flowseq, $model}
flowseq: {posterior_layers: 1, length_range: 12}
prior: {heads: 2, hidden: 16, layers: [actnorm, linear heads, coupling halves up add, coupling time down add]}
train: {max_updates: 4, valid_every: 4, checkpoint_every: 4, report_every: 1, valid_decode: none, best_by: nll, pretrain_updates: 2, kl_warmup: 2, init_batch: 8}
$common
END

# losses LOG: what each update told, without times.
losses() { grep '^update.* loss' "$1" | sed 's/ *[0-9]* tokens\/s.*//'; }

# The words of a line are equal, numbers to 1e-3 of what they are.
near() {
    paste -d ' ' <(losses "$1") <(losses "$2") | awk '
        { h = NF / 2
          for (i = 1; i <= h; i++) {
              a = $i; b = $(i + h); d = a - b; s = b < 0 ? -b : b
              if (a == b) continue
              if (a + 0 == 0 || d > 1e-3 * s + 1e-4 || d < -1e-3 * s - 1e-4) {
                  print "line " NR ": " a " and " b; bad = 1 } } }
        END { exit bad || NR == 0 }'
}

for kind in transformer ctc flowseq; do
    for device in cpu cuda; do
        "$weir" train $kind.yaml --data data --threads 1 --device $device --out $kind.$device \
            > $kind.$device.log 2>&1 || fail "$kind on $device: $(tail -n 3 $kind.$device.log)"
    done
    near $kind.cpu.log $kind.cuda.log || fail "$kind: losses differ from the CPU's"
    # the same parameters on both: words are equal where nothing is near a tie
    for device in cpu cuda; do
        "$weir" translate $kind.cpu --device $device --threads 1 --input few.en \
            --output $kind.$device.de 2> log
    done
    cmp $kind.cpu.de $kind.cuda.de || fail "$kind: translations differ from the CPU's"
done

# A draft verified on the device gives greedy's words.
"$weir" translate transformer.cpu --decode greedy --input few.en --output greedy.de 2> log
"$weir" translate transformer.cpu --decode greedy --draft ctc.cpu --device cuda --input few.en \
    --output drafted.de 2> log || fail "a draft on cuda: $(cat log)"
cmp greedy.de drafted.de || fail "a verified draft on cuda is not greedy's translation"
