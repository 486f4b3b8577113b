#!/usr/bin/env bash
# A crash tells the node and ends by its signal; --trap-nan names the first row that makes a NaN, and
# without it training says that it would; bench shows what traces and the executor cost.
# Usage: diagnostics.sh WEIR SOURCE_FOLDER BUILD_FOLDER
set -euo pipefail
weir=$1
source=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
ulimit -c 0

fail() {
    echo "diagnostics.sh: $*" >&2
    exit 1
}

# ---- crashes ----
tiny=("$source/recipes/flowseq-tiny.yaml" --batch 8 --threads 1)
# a sanitizer has a handler for the signal, too: the program's own is meant here
ASAN_OPTIONS="${ASAN_OPTIONS:-}:handle_segv=0" TSAN_OPTIONS="${TSAN_OPTIONS:-}:handle_segv=0" \
    "$weir" bench "${tiny[@]}" --repeat 10000 2> crash.txt > /dev/null &
child=$!
sleep 3
kill -SEGV $child
status=0
wait $child || status=$?
[ $status -eq 139 ] || fail "exit status $status after SIGSEGV, not 139: $(cat crash.txt)"
grep -q "^weir: crash: SIGSEGV" crash.txt || fail "no report: $(cat crash.txt)"
grep -Eq "crashed in step [0-9]+ of [0-9]+|no graph was running" crash.txt ||
    fail "no node: $(cat crash.txt)"

# ---- NaN ----
"$weir" synth numbers --langs en-de --count 300 --valid 20 --test 5 --seed 5 --out text > /dev/null
"$weir" prepare --train-src text/train.en --train-tgt text/train.de --valid-src text/valid.en \
    --valid-tgt text/valid.de --vocab 100 --max-len 60 --joint --out data > /dev/null 2>&1
# at such a rate the noise of the posterior, an exp, is infinite after one update
train=("$weir" train "$source/recipes/flowseq-tiny.yaml" --data data --threads 1
    --set optim.warmup=0 --set train.pretrain_updates=0 --set train.max_updates=4
    --set train.report_every=2 --set data.max_tokens=256 --set train.kl_warmup=1
    --set train.valid_every=4 --set train.valid_sentences=4)
"${train[@]}" --set optim.lr=100 --out off > off.txt 2>&1 || true
grep -q -- "--trap-nan" off.txt || fail "nothing said of --trap-nan: $(cat off.txt)"
status=0
"${train[@]}" --set optim.lr=100 --out on --trap-nan > on.txt 2>&1 || status=$?
[ $status -eq 1 ] || fail "exit status $status with --trap-nan: $(cat on.txt)"
grep -Eq "results are (NaN|infinite)|made an infinity|holds (NaN|inf)" on.txt ||
    fail "no row named: $(cat on.txt)"
grep -Eq "^weir: [a-z]+/[a-z_]+\.c:[0-9]+ in [a-z_]+\(\): " on.txt || fail "no line: $(cat on.txt)"
"${train[@]}" --out good --trap-nan > good.txt 2>&1 || fail "a sound run was stopped: $(tail -20 good.txt)"
"$weir" translate good --input text/test.en --trap-nan > good.de 2> good.err ||
    fail "translate --trap-nan: $(cat good.err)"
"$weir" evaluate good --data data --split valid --trap-nan > good.tsv 2> good.err ||
    fail "evaluate --trap-nan: $(cat good.err)"

# ---- costs ----
"$weir" bench "$source/recipes/flowseq-base.yaml" --what build --repeat 3 > build.json
grep -q '"nodes": [0-9]' build.json || fail "$(cat build.json)"
"$weir" bench "${tiny[@]}" --what overhead --repeat 3 > overhead.json
grep -q '"trapping": false' overhead.json || fail "$(cat overhead.json)"
"$weir" bench "${tiny[@]}" --what overhead --repeat 2 --trap-nan > overhead.json
grep -q '"trapping": true' overhead.json || fail "$(cat overhead.json)"

# ---- doctor ----
"$weir" doctor > doctor.txt
if ! grep -q "chain of callers" doctor.txt; then
    grep -q "own stack .* <- main cli/main.c:" doctor.txt || fail "$(cat doctor.txt)"
    grep -q "ptrace  *not needed" doctor.txt || fail "$(cat doctor.txt)"
fi

# ---- the CUDA device where it is not ----
export WEIR_CUDA_LIBRARY=/nowhere/libweir_cuda.so
"$weir" doctor > doctor.txt
grep -q "looked in  */nowhere/libweir_cuda.so (WEIR_CUDA_LIBRARY)" doctor.txt || fail "doctor"
grep -q -- "--device cuda  *device cuda: libweir_cuda.so was not found" doctor.txt || fail "doctor"
if "$weir" bench "${tiny[@]}" --device cuda --repeat 1 2> refused.txt; then fail "bench without CUDA"; fi
grep -q "device cuda: libweir_cuda.so was not found" refused.txt || fail "$(cat refused.txt)"
grep -q "hint: .*--device cpu" refused.txt || fail "$(cat refused.txt)"
unset WEIR_CUDA_LIBRARY
echo "diagnostics.sh: ok"
