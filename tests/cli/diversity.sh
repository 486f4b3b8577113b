#!/usr/bin/env bash
# weir diversity: the JSON line, both forms of input, agreement with weir score, what is refused.
# Usage: diversity.sh WEIR SOURCE_FOLDER BUILD_FOLDER
source "$(dirname "$0")/common.bash"

# value NAME FILE: the number of a member of the JSON line.
value() { grep -o "\"$1\":[-0-9.e]*" "$2" | cut -d : -f 2; }

# same A B: two numbers, to 1e-9.
same() { awk -v a="$1" -v b="$2" 'BEGIN { d = a - b; exit (a != "" && d < 1e-9 && d > -1e-9) ? 0 : 1 }'; }

cat > plain << 'END'
A man rides a red bicycle down the street.
A man is riding a red bike down the street.
A guy rides the red bicycle along the road.
Two dogs play in the snow.
Two dogs are playing in the snow.
Two dogs play in the snow.
END
awk '{ printf "%d\t%s\n", (NR - 1) / 3 + 1, $0 }' plain > numbered
awk '{ printf "%d\t-0.25\t-1.5\t%s\n", (NR - 1) / 3 + 1, $0 }' plain | gzip > scored.gz
printf 'A man is riding a red bike down a street.\nTwo dogs play in snow.\n' > ref
for i in 1 2 3; do awk -v i="$i" 'NR % 3 == i % 3' plain > "y$i"; done

"$weir" diversity --hyp plain --group 3 --ref ref > a
[ "$(wc -l < a)" -eq 1 ] || fail "not one line: $(cat a)"
"$weir" diversity --hyp numbered --ref ref | cmp a - || fail "numbered lines give something else"
"$weir" diversity --hyp - --scores --ref ref < scored.gz | cmp a - || fail "scores change the result"

# Against weir score, corpus by corpus.
total=0 rest=0 average=0
bleu() { "$weir" score --metric bleu --hyp "$1" --ref "${@:2}" > s && value bleu s; }
add() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.15g", a + b }'; }
for i in 1 2 3; do
    others=()
    for j in 1 2 3; do
        [ "$i" -ne "$j" ] || continue
        total=$(add "$total" "$(bleu "y$i" "y$j")")
        others+=("y$j")
    done
    rest=$(add "$rest" "$(bleu "y$i" "${others[@]}")")
    average=$(add "$average" "$(bleu "y$i" ref)")
done
third() { awk -v a="$1" -v n="$2" 'BEGIN { printf "%.15g", a / n }'; }
same "$(value pairwise_bleu a)" "$(third "$total" 6)" || fail "pairwise: $(cat a), not $total / 6"
same "$(value leave_one_out_bleu a)" "$(third "$rest" 3)" || fail "leave one out: $(cat a)"
same "$(value average_bleu a)" "$(third "$average" 3)" || fail "average: $(cat a)"
same "$(value first_bleu a)" "$(bleu y1 ref)" || fail "first: $(cat a)"
same "$(value distinct a)" "$(third 5 6)" || fail "distinct: $(cat a)"
{ sed -n 2p plain; sed -n 4p plain; } > best
same "$(value oracle_bleu a)" "$(bleu best ref)" || fail "oracle: $(cat a)"
[ "$(value sentences a) $(value candidates a)" = "2 6" ] || fail "$(cat a)"
"$weir" diversity --hyp plain --group 3 > b
! grep -q 'oracle\|average\|first' b || fail "scores without a reference: $(cat b)"
same "$(value pairwise_bleu b)" "$(value pairwise_bleu a)" || fail "a reference changes the diversity"

# What weir translate writes can be read; sentences may have different numbers of candidates.
{ cat numbered; printf '3\t\n'; } > extra
"$weir" diversity --hyp extra > c
[ "$(value sentences c) $(value candidates c)" = "3 7" ] || fail "$(cat c)"
same "$(value pairwise_bleu c)" "$(value pairwise_bleu a)" || fail "a single candidate counts"

refuse 2 "--hyp" diversity --group 3
refuse 2 "--group must be from 2" diversity --hyp plain --group 1
refuse 2 "leave one out" diversity --hyp plain --group 3 --scores
refuse 2 "only one of --hyp and --ref" diversity --hyp - --ref - --group 3
refuse 1 "plain has 6 lines, which are not groups of 4" diversity --hyp plain --group 4
refuse 1 "plain:1: does not begin with the number of a sentence" diversity --hyp plain
refuse 1 "numbered:1: has no two scores" diversity --hyp numbered --scores
refuse 1 "ref has 2 lines, but there are candidates for 3 sentences" diversity --hyp extra --ref ref
refuse 1 "nowhere: cannot open" diversity --hyp nowhere
sed 's/^2/4/' numbered > gap
refuse 1 "gap:4: sentence 4 comes after sentence 1" diversity --hyp gap
echo "diversity.sh: fine"
