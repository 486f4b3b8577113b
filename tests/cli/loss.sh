#!/usr/bin/env bash
# weir loss: losses, alignments and gradients against the worked values of the specification
# (nar_vectors.json), what is refused.
# Usage: loss.sh WEIR SOURCE_FOLDER BUILD_FOLDER
source "$(dirname "$0")/common.bash"

# matrix FILE NUMBERS...: a file of rows that are separated by "/".
matrix() {
    local file=$1
    shift
    local rows="$*"
    tr ' ' '\t' <<< "${rows// \/ /$'\n'}" > "$file"
}
matrix f1.tsv 0.2 1.5 0.3 -0.4 0.1 / 0 0.4 0.2 1.2 -0.3 / 0.5 -0.2 1.1 0.6 0 / -0.1 0.3 0 0.2 0.9
matrix f2.tsv 2.2 -0.3 0.5 -1.3 / -3.8 1 1.3 -1.1 / 3.4 -2.2 0.1 -0.3 / 2.3 2.2 0.2 0.6
matrix f3.tsv -1.3 -3 -0.5 0.2 / 1.8 1.8 -0.6 -0.5 / -1.6 -2.1 -2.6 2.9
matrix f5b.tsv 0 2 1.8 0.1 / 0 1.9 -0.5 0.2 / 0.3 0.2 0.1 1

# loss FILE TARGET OBJECTIVE [OPTIONS...]: the line goes to line.json.
loss() {
    local file=$1 target=$2 objective=$3
    shift 3
    what="$objective $* of $target"
    "$weir" loss --objective "$objective" --logits "$file" --target "$target" "$@" > line.json
    [ "$(wc -l < line.json)" -eq 1 ] || fail "$what: not one line"
}

# of KEY: its numbers, one a line.
of() { grep -oE "\"$1\":(-?[0-9.e-]+|\[[^a-z]*\])" line.json | cut -d: -f2- | tr '[], ' '\n' | sed '/^$/d'; }

# is KEY NUMBERS...: they are those, to 1e-6.
is() {
    local key=$1
    shift
    of "$key" | awk -v key="$what: $key" -v wanted="$*" '
        { got[NR] = $1 }
        END {
            n = split(wanted, want, " ")
            bad = n != NR
            for (i = 1; i <= n; i++) {
                d = got[i] - want[i]
                if (!(d <= 1e-6 && d >= -1e-6)) bad = 1
            }
            if (!bad) exit 0
            printf "%s is", key
            for (i = 1; i <= NR; i++) printf " %s", got[i]
            print ", not", wanted
            exit 1
        }' > wrong.txt || fail "$(cat wrong.txt)"
}
operations() { grep -qF "\"operations\":\"$1\"" line.json || fail "$what: not $1"; }

# ---- cross-entropy, all of it and of masked positions (E1, E2, E3) ----

f1_gradient="0.138349 -0.492358 0.152899 0.075927 0.125183"
loss f1.tsv "1 2 3 4" ce
is loss 5.080967
is normalised 1.270242
is nll 0.677979 1.850806 1.515501 1.036682
is alignment 1 2 3 4
is words 1 2 3 4
is gradient "$f1_gradient" 0.128631 0.191895 -0.842889 0.427071 0.095292 0.198791 0.098717 \
    0.362221 -0.780302 0.120573 0.130461 0.194625 0.144182 0.176104 -0.645371
loss f1.tsv "1,2,3,4" ce --label-smoothing 0.1
is normalised 1.317742
loss f1.tsv "1 2 3 4" ce --label-smoothing 0.1 --smooth-over others
is normalised 1.329617
loss f1.tsv "1 2 3 4" cmlm --given "1 3"
is normalised 1.443744
is tokens 2
loss f1.tsv "1 2 3 4" cmlm --given 1,3 --label-smoothing 0.1
is normalised 1.470744
loss f1.tsv "1 2 3 4" glat --given 2
is normalised 1.076720

# ---- AXE (E4) ----

# axe FILE TARGET PENALTY ORIGINAL OPERATIONS MPLE POSITIONS
axe() {
    loss "$1" "$2" axe --skip-penalty "$3"
    is loss "$4"
    operations "$5"
    loss "$1" "$2" axe --skip-penalty "$3" --form mple
    is loss "$6"
    # shellcheck disable=SC2086 # a list
    [ $# -eq 6 ] || is positions $7
}
for penalty in 0.5 1 2 5; do
    axe f1.tsv "1 3 4" $penalty 4.180967 AAPA 4.180967 "1 2 4"
    axe f1.tsv "1 2 3 4" $penalty 5.080967 AAAA 5.080967 "1 2 3 4"
done
axe f1.tsv "1 2 3 2 4" 0.5 4.519956 ATAAA 4.519956 "1 1 2 3 4"
axe f1.tsv "1 2 3 2 4" 1 5.431773 AATAA 5.431773 "1 2 2 3 4"
axe f1.tsv "1 2 3 2 4" 2 6.136924 TAAAA 6.282579 "1 2 2 3 4"
axe f1.tsv "1 2 3 2 4" 5 8.170860 TAAAA 8.834996 "1 2 2 3 4"
axe f3.tsv "1 2 3 1" 0.5 6.465270 TAPAT 6.974651 "2 2 3 3"
axe f2.tsv "1 2 3 2" 2 9.040162 PATAA 9.040162
loss f2.tsv "1 2 3 2" axe --skip-penalty 2 --weights
is weights 1 0 0 0 0 1 2 0 0 0 0 1 0 0 1 0
is gradient -0.227779 0.063388 0.141072 0.023319 0.009953 0.209412 -0.367465 0.1481 0.938699 \
    0.003471 0.034622 -0.976792 0.452493 0.409433 -0.944589 0.082663
loss f2.tsv "1 2 3 2" axe
is loss 6.248641
operations PATTTPP
loss f2.tsv "1 2 3 2" axe --skip-penalty 5
is loss 10.023206
operations AAAA

# ---- OaXE (E5) ----

loss f1.tsv "1 2 3 4" oaxe
is loss 3.580967
is normalised 0.895242
is alignment 1 3 2 4
is nll 0.677979 0.850806 1.015501 1.036682
is gradient "$f1_gradient" 0.128631 0.191895 0.157111 -0.572929 0.095292 0.198791 0.098717 \
    -0.637779 0.219698 0.120573 0.130461 0.194625 0.144182 0.176104 -0.645371
loss f1.tsv "1 2 3 4" oaxe --trunc-prob 0.4
is loss 1.528784
is normalised 0.382196
is alignment 1 3 0 0
loss f1.tsv "1 2 3 4" oaxe --trunc-prob 0.4 --trunc-log2 true
is loss 3.580967
loss f1.tsv "1 2 3 4" oaxe --mix 0.25
is loss 3.955967
loss f1.tsv "1 2 3 4" oaxe --anneal 100 --update 75
is loss 3.955967
loss f5b.tsv "1 2 3" oaxe
is loss 2.151885
is alignment 2 1 3
loss f5b.tsv "1 2 3" oaxe --trunc-prob 0.5
is loss 0.352746
is normalised 0.117582

# ---- CTC (E6) ----

# ctc TARGET LOSS BEST_PATH
ctc() {
    loss f1.tsv "$1" ctc
    is loss "$2"
    is best_path "$3"
}
ctc "1 2" 3.316686 5.280967
ctc "1 3 4" 2.820087 4.080967
ctc "2" 4.764251 6.680967
ctc "1 2 3 4" 5.080967 5.080967
ctc "3 3" 5.471883 6.180967
is gradient -0.353746 0.507642 0.152899 -0.431978 0.125183 -0.109207 0.191895 0.157111 \
    -0.335091 0.095292 -0.644714 0.098717 0.362221 0.063203 0.120573 0.063863 0.194625 0.144182 \
    -0.757299 0.354629
"$weir" loss --objective ctc --target "1 3 4" --logits - < f1.tsv > line.json
is loss 2.820087
loss f1.tsv "0 3 4" ctc --blank 1
is alignment 0 1 2 3

# ---- the examples of docs/objectives.md: a printed line is followed by parts of its output ----

weir() { "$weir" "$@"; }
said="" examples=0
while IFS= read -r line; do
    case $line in
        "    printf "* | "    weir loss "*)
            what=${line#    }
            said=$(eval "$what") || fail "docs/objectives.md: $what"
            ;;
        "    {"*)
            parts=${line#    }
            while [ -n "$parts" ]; do
                part=${parts%% ..*}
                [[ $said == *"${part%,}"* ]] || fail "docs/objectives.md: $what says $said, not $part"
                [ "$part" != "$parts" ] || break
                parts=${parts#*" .."} parts=${parts# }
            done
            examples=$((examples + 1))
            ;;
    esac
done < "$2/docs/objectives.md"
[ "$examples" -ge 6 ] || fail "docs/objectives.md has $examples examples"

# ---- what is refused ----

axe_of=(loss --objective axe --logits f1.tsv --target "1 3 4")
refuse 1 "--target needs at least 5 positions for ctc (3 words, 2 of them equal to the one before), \
but f1.tsv has 4 lines" loss --objective ctc --logits f1.tsv --target "3 3 3"
refuse 1 "--target has 3 words, but f1.tsv has 4 lines; oaxe needs a line for each word" \
    loss --objective oaxe --logits f1.tsv --target "1 3 4"
refuse 2 "--target has no words" loss --objective axe --logits f1.tsv --target " "
refuse 2 "--target: '1.5' is no whole number" loss --objective axe --logits f1.tsv --target "1.5"
refuse 1 "--target: word 2 is 5, but f1.tsv has words 0 to 4" \
    loss --objective axe --logits f1.tsv --target "1 5"
refuse 2 "--skip-penalty must be from 0 to 1000000, but is -1" "${axe_of[@]}" --skip-penalty -1
refuse 2 "--form must be one of original|mple, but is 'both'" "${axe_of[@]}" --form both
refuse 1 "--blank: 3 is word 2 of the target" "${axe_of[@]}" --blank 3
refuse 1 "--blank: 7, but f1.tsv has words 0 to 4" "${axe_of[@]}" --blank 7
refuse 2 "--given is for ce, cmlm and glat" "${axe_of[@]}" --given 1
refuse 1 "--given: 5, but f1.tsv has positions 1 to 4" \
    loss --objective ce --logits f1.tsv --target "1 2 3 4" --given 5
refuse 2 "'axee' is no objective; did you mean axe; there are ce, axe, oaxe, ctc, cmlm, glat" \
    loss --objective axee --logits f1.tsv --target 1
refuse 2 "unknown option '--skip-penalti'; did you mean --skip-penalty?" \
    "${axe_of[@]}" --skip-penalti 2
refuse 2 "ctc has no option 'skip_penalty'" \
    loss --objective ctc --logits f1.tsv --target 1 --skip-penalty 2
refuse 2 "leave one out" loss --objective oaxe --logits f1.tsv --target "1 2 3 4" --mix 0.5 --anneal 9
refuse 1 "none.tsv: cannot open" loss --objective axe --logits none.tsv --target 1
: > empty.tsv
refuse 1 "empty.tsv: the file is empty" loss --objective axe --logits empty.tsv --target 1
matrix ragged.tsv 1 2 3 / 1 2
refuse 1 "ragged.tsv:2: has 2 columns, but line 1 has 3" \
    loss --objective axe --logits ragged.tsv --target 1
matrix words.tsv 1 2 3 / 1 x2 3
refuse 1 "words.tsv:2: column 2 is 'x2', which is no number" \
    loss --objective axe --logits words.tsv --target 1
matrix nan.tsv 1 2 nan
refuse 1 "nan.tsv:1: column 3 is nan; logits are finite" \
    loss --objective axe --logits nan.tsv --target 1
matrix far.tsv 0 1e308 -1e308
refuse 1 "every alignment has probability 0" loss --objective ctc --logits far.tsv --target 2

if [ -w /dev/full ]; then
    "$weir" "${axe_of[@]}" > /dev/full 2> /dev/null && fail "a full disk went unnoticed"
fi
echo "$test_name: fine"
