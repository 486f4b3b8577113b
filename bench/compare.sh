#!/usr/bin/env bash
# Weir beside PyTorch: runs `weir bench` and bench/peer_torch.py in turn and prints one table
# (markdown) of milliseconds, the least of them in brackets, ratios and memory.
#   bench/compare.sh [options]
#     --device cpu|cuda     default cpu
#     --weir FILE           default build/release/weir
#     --python FILE         a Python that has PyTorch, default python3; without one the columns of
#                           PyTorch stay empty
#     --threads "N ..."     processor threads, a row each; default "1 2", with cuda 0 (all)
#     --precision "P ..."   of f32, tf32, bf16, a row each; default f32, with cuda all three
#     --compile MODE        torch.compile, too: default, reduce-overhead, max-autotune; with cuda
#                           it is `default`, and `no` leaves it out
#     --rounds N            times that both are run in turn, default 3; the table has medians
#     --repeat N            counted steps of a run, default 5
#     --processor-time      for a machine that does other things as well: milliseconds of processor
#                           time, of user and system, all threads together; of Weir what 2 N more
#                           steps than N take, so N must make them long beside the start
#     --only WORD           rows whose name holds WORD
#     --list                names the rows and ends
#     --log FILE            append every run's line of JSON with its command
# Exit status: 0; 1 where Weir failed or the two count different parameters.
set -euo pipefail
cd "$(dirname "$0")/.."

device=cpu weir=build/release/weir python=python3 threads='' precisions='' compile='' rounds=3
repeat=5 only='' list=false log=/dev/null processor=false
while [ $# -gt 0 ]; do
    case $1 in
        --list)
            list=true
            shift
            continue
            ;;
        --processor-time)
            processor=true
            shift
            continue
            ;;
        --device | --weir | --python | --threads | --compile | --rounds | --repeat | --only | --log)
            [ $# -ge 2 ] || {
                echo "compare: $1 needs a value" >&2
                exit 2
            }
            declare "${1#--}=$2"
            ;;
        --precision) precisions=${2:?compare: --precision needs a value} ;;
        *)
            echo "compare: unknown option $1; see the head of $0" >&2
            exit 2
            ;;
    esac
    shift 2
done

# name | recipe | options of both programs
cpu_rows='Transformer small, training, 32 x 24 x 24|transformer-small|--what train --vocab 10000
FlowSeq IWSLT, training, 32 x 24 x 24|flowseq-iwslt|--what train
Transformer small, greedy, batch 1, a token|transformer-small|--what decode --vocab 10000 --batch 1 --src-len 20 --tgt-len 20
Transformer base, greedy, batch 1, a token|transformer-base|--what decode --vocab 32000 --batch 1 --src-len 20 --tgt-len 20
FlowSeq IWSLT, argmax, batch 1, T = 12|flowseq-iwslt|--what decode --batch 1 --src-len 12 --tgt-len 12
FlowSeq IWSLT, argmax, batch 1, T = 20|flowseq-iwslt|--what decode --batch 1 --src-len 20 --tgt-len 20
FlowSeq IWSLT, argmax, batch 1, T = 40|flowseq-iwslt|--what decode --batch 1 --src-len 40 --tgt-len 40
FlowSeq IWSLT, argmax, batch 1, T = 80|flowseq-iwslt|--what decode --batch 1 --src-len 80 --tgt-len 80'
# FlowSeq's lengths are multiples of 4: T = 12 stands for 10.
cuda_rows='Transformer base, training, 128 x 32 x 32|transformer-base|--what train --vocab 37000 --batch 128 --src-len 32 --tgt-len 32
FlowSeq base, training, 128 x 24 x 24|flowseq-base|--what train --batch 128
Transformer base, greedy, batch 1, a token|transformer-base|--what decode --vocab 37000 --batch 1 --src-len 20 --tgt-len 20
Transformer base, greedy, batch 128, a token|transformer-base|--what decode --vocab 37000 --batch 128 --src-len 20 --tgt-len 20'
for batch in 1 128; do
    for length in 12 20 40 80; do
        cuda_rows+="
FlowSeq base, argmax, batch $batch, T = $length|flowseq-base|--what decode --batch $batch --src-len $length --tgt-len $length"
    done
done

rows=$cpu_rows
if [ "$device" = cuda ]; then
    rows=$cuda_rows
    threads=${threads:-0} precisions=${precisions:-f32 tf32 bf16} compile=${compile:-default}
fi
threads=${threads:-1 2} precisions=${precisions:-f32}
[ "$compile" != no ] || compile=
rows=$(grep -F -- "$only" <<< "$rows") || {
    echo "compare: no row is named like '$only'; --list names them" >&2
    exit 2
}
if $list; then
    cut -d'|' -f1 <<< "$rows"
    exit 0
fi

# A waiting thread of libgomp that spins disturbs the others where the machine is shared; `weir`
# sets this for itself, PyTorch does not.
export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-1000}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0
torch=true

# field JSON KEY -> its number, or nothing
field() { sed -n 's/.*"'"$2"'": \([0-9.e+-]*\).*/\1/p' <<< "$1"; }
# numbers of stdin -> median; nothing of nothing
median() { sort -g | awk '{ x[NR] = $1 } END { if (NR) print x[int(NR / 2) + 1] }'; }
least() { sort -gr | tail -n 1; }

# run WHO COMMAND...: adds the line of JSON to $work/WHO and leaves the processor's seconds in
# $seconds; tells on stderr what went wrong.
run() {
    local who=$1 out code=0 TIMEFORMAT='%U %S'
    shift
    { time out=$("$@" 2> "$work/err"); } 2> "$work/time" || code=$?
    if [ "$code" -ne 0 ]; then
        echo "compare: $* ended with $code: $(tail -n 1 "$work/err")" >&2
        return "$code"
    fi
    out=$(grep -m 1 '^{' <<< "$out")
    printf '%s\t%s\n' "$*" "$out" >> "$log"
    printf '%s\n' "$out" >> "$work/$who"
    seconds=$(awk '{ print $1 + $2 }' "$work/time")
}

# measure WHO COMMAND...: one round; milliseconds of a step, median and least, go to $work/WHO.ms.
measure() {
    local who=$1 few
    run "$@" --repeat "$repeat" || return
    if $processor && [ "$who" != weir ]; then
        of "$who" processor_ms | tail -n 1 | awk '{ print $1, $1 }' >> "$work/$who.ms"
    elif $processor; then
        few=$seconds
        run "$@" --repeat $((3 * repeat)) || return
        awk -v a="$few" -v b="$seconds" -v n=$((2 * repeat * tokens)) \
            'BEGIN { x = (b - a) / n * 1e3; print x, x }' >> "$work/$who.ms"
    else
        printf '%s %s\n' "$(of "$who" step_ms | tail -n 1)" "$(of "$who" step_ms_min | tail -n 1)" \
            >> "$work/$who.ms"
    fi
}

# of WHO KEY -> one number of each run
of() {
    local line
    [ -f "$work/$1" ] || return 0
    while read -r line; do field "$line" "$2"; done < "$work/$1"
}

# milliseconds WHO COLUMN -> of each round
milliseconds() { [ ! -f "$work/$1.ms" ] || cut -d' ' -f"$2" "$work/$1.ms"; }

# cell WHO -> "median (least)"
cell() {
    local ms low
    ms=$(milliseconds "$1" 1 | median) low=$(milliseconds "$1" 2 | least)
    [ -z "$ms" ] && echo - && return 0
    awk -v a="$ms" -v b="$low" \
        'function f(x) { return sprintf(x < 10 ? "%.2f" : x < 100 ? "%.1f" : "%.0f", x) }
        BEGIN { print f(a) " (" f(b) ")" }'
}

# ratio WHO -> its time by Weir's
ratio() {
    local mine theirs
    mine=$(milliseconds weir 1 | median) theirs=$(milliseconds "$1" 1 | median)
    if [ -z "$mine" ] || [ -z "$theirs" ]; then echo - && return 0; fi
    awk -v a="$theirs" -v b="$mine" 'BEGIN { printf "%.2f\n", a / b }'
}

gigabytes() {
    local bytes
    bytes=$(of "$1" peak_bytes | median)
    [ -z "$bytes" ] && echo - && return 0
    awk -v x="$bytes" 'BEGIN { printf "%.2f\n", x / 1e9 }'
}

# Both must be the same model.
check_parameters() {
    local vocab=() mine theirs
    [[ $2 =~ --vocab\ ([0-9,]+) ]] && vocab=(--vocab "${BASH_REMATCH[1]}")
    theirs=$(of torch parameters | tail -n 1)
    [ -n "$theirs" ] || return 0
    mine=$("$weir" info "recipes/$1.yaml" "${vocab[@]}" |
        awk '$1 == "total" { n = $2 } END { print n }')
    [ "$mine" = "$theirs" ] && return 0
    echo "compare: $1: $mine parameters here, $theirs in PyTorch" >&2
    status=1
}

one_row() {
    local name=$1 recipe=recipes/$2.yaml thread=$4 precision=$5 mine=() peer=() common=()
    local round code seconds tokens=1
    read -ra common <<< "$3"
    common+=(--device "$device" --threads "$thread")
    # a round of greedy decoding is a sentence
    [[ "$name $3" =~ token.*--tgt-len\ ([0-9]+) ]] && tokens=${BASH_REMATCH[1]}
    [ "$precision" = f32 ] || mine=(--precision "$precision")
    peer=("$python" bench/peer_torch.py --model "$recipe" "${common[@]}" --precision "$precision")
    rm -f "$work"/*
    for ((round = 0; round < rounds; round++)); do
        measure weir "$weir" bench "$recipe" "${common[@]}" "${mine[@]}" || status=1
        $torch || continue
        code=0
        measure torch "${peer[@]}" || code=$?
        [ "$code" -ne 77 ] || torch=false
        if [ -n "$compile" ] && $torch; then
            measure compiled "${peer[@]}" --compile "$compile" || true
        fi
    done
    check_parameters "$2" "$3"
    [ "$device" = cuda ] && name="$name, $precision" || name="$name, $thread thread"
    [[ $name != *[02-9]\ thread ]] || name+=s
    echo "| $name | $(cell weir) | $(cell torch) | $(ratio torch) | $(cell compiled) |" \
        "$(ratio compiled) | $(gigabytes weir) | $(gigabytes torch) |"
}

what=milliseconds
$processor && what='milliseconds of processor time'
echo "Median (least) of $rounds rounds, $what."
echo "Load average at the beginning: $(cut -d' ' -f1-3 /proc/loadavg), $(nproc) processors."
echo
echo '| | Weir, ms | PyTorch, ms | by Weir | compiled, ms | by Weir | Weir, GB | PyTorch, GB |'
echo '|---|---|---|---|---|---|---|---|'
while IFS='|' read -r name recipe args <&3; do
    for thread in $threads; do
        for precision in $precisions; do
            one_row "$name" "$recipe" "$args" "$thread" "$precision"
        done
    done
done 3<<< "$rows"
exit "$status"
