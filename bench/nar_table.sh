#!/usr/bin/env bash
# One table of objectives on real text: the same model, data and number of updates for each row.
# Usage: nar_table.sh WEIR RECIPES DATA DISTILLED OUT UPDATES TEST... [-- ROW...]
#   DATA, DISTILLED  datasets of the same pieces with raw and with distilled targets
#   OUT              a folder for runs and translations; what is there is not made again
#   UPDATES          of each training
#   TEST             a pair of files TEST.src and TEST.ref
#   ROW              only these rows; without it all
# From the environment:
#   THREADS          of each process (2)
#   SETTINGS         KEY=VALUE of every recipe, apart by spaces: another size, another seed
#   STAGES           "train", "measure" or both; times are worth something on an idle machine only
# Prints the table at the end (and writes OUT/table.md). Training goes on where it was stopped.
set -euo pipefail
[ $# -ge 7 ] || { sed -n '2,13p' "$0"; exit 2; }
weir=$1 recipes=$2 data=$3 distilled=$4 out=$5 updates=$6
shift 6
tests=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    tests+=("$1")
    shift
done
[ $# -eq 0 ] || shift
threads=${THREADS:-2}
read -r -a settings <<< "${SETTINGS:-}"
stages=${STAGES:-train measure}
mkdir -p "$out"

# name | dataset | settings of training
rows="ce-raw|$data|objective.name=ce
ce|$distilled|objective.name=ce
axe|$distilled|objective.name=axe objective.skip_penalty=5
oaxe|$distilled|objective.name=oaxe objective.anneal=$((updates / 2))
cmlm|$distilled|objective.name=cmlm
glat|$distilled|objective.name=glat objective.glance_updates=$updates
ctc|$distilled|objective.name=ctc
ctc-glat|$distilled|objective.name=ctc objective.glancing=hamming objective.glance_updates=$updates"

# name of a way to decode | row | options of translate
ways="ce-raw|ce-raw|
ce|ce|
ce, repeated words dropped|ce|--dedup
ce, 5 lengths, rescored|ce|--lengths 5 --rescorer $out/transformer
axe|axe|
axe, repeated words dropped|axe|--dedup
oaxe|oaxe|
oaxe, repeated words dropped|oaxe|--dedup
cmlm, 1 pass|cmlm|--decode mask-predict --iterations 1 --lengths 5
cmlm, 4 passes|cmlm|--decode mask-predict --iterations 4 --lengths 5
cmlm, 10 passes|cmlm|--decode mask-predict --iterations 10 --lengths 5
glat|glat|
ctc|ctc|
ctc, beam 20|ctc|--decode ctc-beam --beam 20
ctc, beam 20, rescored|ctc|--decode ctc-beam --beam 20 --rescorer $out/transformer
ctc+glat|ctc-glat|
Transformer, greedy|transformer|--decode greedy
Transformer, beam 5|transformer|--decode beam --beam 5"

wanted() { # ROW of the arguments behind it; no arguments: every row
    local row=$1
    shift
    [ $# -eq 0 ] && return 0
    for w in "$@"; do [ "$w" != "$row" ] || return 0; done
    return 1
}

train() { # ROW RECIPE DATASET SETTINGS...
    local row=$1 recipe=$2 set=$3
    shift 3
    [ ! -e "$out/$row.done" ] || return 0
    local options=()
    for s in "${settings[@]}" "$@"; do options+=(--set "$s"); done
    echo "weir train $recipe --data $set --out $out/$row --max-updates $updates ${options[*]}" |
        tee "$out/$row.command" >&2
    "$weir" train "$recipes/$recipe" --data "$set" --out "$out/$row" --resume --threads "$threads" \
        --max-updates "$updates" --max-minutes 600 "${options[@]}" > "$out/$row.log" 2>&1
    touch "$out/$row.done"
}

field() { # NAME < json
    grep -o "\"$1\":[-0-9.e]*" | cut -d: -f2
}

# The share of words that are equal to the word before, in %.
repeated() {
    awk '{ for (i = 2; i <= NF; i++) { n++; if ($i == $(i - 1)) r++ } }
         END { printf "%.2f", n ? 100 * r / n : 0 }' "$1"
}

# Milliseconds a sentence with B sentences together: the time of 40 B + 360 more ones than of 40.
sentence_ms() { # RUN TEST B OPTIONS...
    local run=$1 test=$2 b=$3 few=40 many=400 begin mid end
    shift 3
    head -n $few "$test.src" > "$out/few.src"
    head -n $many "$test.src" > "$out/many.src"
    begin=$(date +%s%N)
    "$weir" translate "$run" --input "$out/few.src" --max-sentences "$b" "$@" > /dev/null 2>&1
    mid=$(date +%s%N)
    "$weir" translate "$run" --input "$out/many.src" --max-sentences "$b" "$@" > /dev/null 2>&1
    end=$(date +%s%N)
    awk -v a="$begin" -v m="$mid" -v e="$end" -v n=$((many - few)) \
        'BEGIN { printf "%.1f", ((e - m) - (m - a)) / n / 1e6 }'
}

measure() { # NAME ROW OPTIONS...: a line of the table
    local name=$1 row=$2 line test hyp score file
    shift 2
    file="$out/$(echo "$name" | tr -c 'a-zA-Z0-9\n' '_').line"
    if [ ! -e "$file" ]; then
        line="| $name |"
        for test in "${tests[@]}"; do
            hyp="${file%.line}.$(basename "$test").out"
            [ -e "$hyp" ] ||
                "$weir" translate "$out/$row" --checkpoint average --input "$test.src" \
                    --output "$hyp" --threads "$threads" "$@" 2> /dev/null
            score=$("$weir" score --hyp "$hyp" --ref "$test.ref")
            line+=$(printf ' %.2f | %.2f | %s |' "$(field bleu <<< "$score")" \
                "$(field chrf <<< "$score")" "$(repeated "$hyp")")
        done
        for b in 1 32; do
            line+=" $(sentence_ms "$out/$row" "${tests[0]}" $b --threads "$threads" "$@") |"
        done
        echo "$line" > "$file"
    fi
    cat "$file"
}

while IFS='|' read -r row set own; do
    # shellcheck disable=SC2086 # settings are words
    if [[ $stages == *train* ]] && wanted "$row" "$@"; then
        train "$row" nat-small.yaml "$set" $own
    fi
done <<< "$rows"
if [[ $stages == *train* ]] && wanted transformer "$@"; then
    train transformer transformer-small-multi30k.yaml "$data"
fi
[[ $stages == *measure* ]] || exit 0

{
    head="| |" rule="|---|"
    for test in "${tests[@]}"; do
        name=$(basename "$test")
        head+=" $name BLEU | chrF | repeated % |"
        rule+="---|---|---|"
    done
    echo "$head ms, batch 1 | ms, batch 32 |"
    echo "$rule---|---|"
    while IFS='|' read -r name row options; do
        [ -e "$out/$row.done" ] || continue
        [[ $options != *--rescorer* ]] || [ -e "$out/transformer.done" ] || continue
        # shellcheck disable=SC2086 # options are words
        measure "$name" "$row" $options
    done <<< "$ways"
} | tee "$out/table.md"
