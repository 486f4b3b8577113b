#!/usr/bin/env bash
# A small model is trained, then translates and is evaluated.
# Usage: translate.sh WEIR SOURCE_FOLDER BUILD_FOLDER
source "$(dirname "$0")/common.bash"

"$weir" synth numbers --langs en-de --count 1000 --seed 1 --out text > log
"$weir" prepare --train-src text/train.en --train-tgt text/train.de --valid-src text/valid.en \
    --valid-tgt text/valid.de --vocab 150 --max-len 30 --out data >> log
cat > recipe.yaml << 'END'
model: {type: transformer, dim: 32, ffn: 64, heads: 2, encoder_layers: 1, decoder_layers: 1, dropout: 0, max_len: 40}
data: {max_tokens: 600}
train: {max_updates: 60, valid_every: 60, checkpoint_every: 60, report_every: 60, valid_decode: none, best_by: nll}
optim: {lr: 0.005, warmup: 20}
END
"$weir" train recipe.yaml --data data --out run --threads 1 2>> log || fail "$(cat log)"

# A line for a line, in order, whatever is translated together.
{
    head -40 text/test.en
    printf '\n   \nfive\n'
} > in
"$weir" translate run --input in > a
[ "$(wc -l < a)" = 43 ] || fail "43 lines in, $(wc -l < a) out"
[ -z "$(sed -n '41p;42p' a | tr -d '\n')" ] || fail "an empty line has a translation"
[ -n "$(sed -n 43p a)" ] || fail "the last line has no translation"
"$weir" translate run --max-sentences 1 --threads 1 < in > b
cmp a b || fail "translating one by one gives something else"
"$weir" translate run --output c --input in --threads 2
cmp a c || fail "a file and two threads give something else"
tac in > ni
"$weir" translate run --input ni | tac > d
cmp a d || fail "the order of the lines matters"
gzip -c in > in.gz
"$weir" translate run --input in.gz | cmp a - || fail "the archive gives something else"

# Scores and several translations.
"$weir" translate run --input in --scores > scores
cut -f 3 scores | cmp a - || fail "scores change the text"
"$weir" translate run --input in --beam 4 --nbest 3 --scores > nbest
awk -F'\t' 'NF != 4 { exit 1 } $1 == line && $2 > score { exit 1 } { line = $1; score = $2 }
    END { if (line != 43) exit 1 }' nbest || fail "the best lists are not in order: $(cat nbest)"
"$weir" translate run --input in --decode greedy > single
"$weir" translate run --input in --beam 1 | cmp single - || fail "a beam of 1 is not greedy"
: > empty
[ -z "$("$weir" translate run --input empty)" ] || fail "nothing has a translation"

# What is too long is cut, and said.
printf 'one hundred %.0s' {1..50} > long
"$weir" translate run --input long > out 2> err
grep -q '^weir: long:1: warning: ' err || fail "no warning: $(cat err)"
[ "$(wc -l < out)" = 1 ] || fail "the long line is lost"

# Loss terms.
"$weir" evaluate run --data data --split valid > totals
"$weir" evaluate run --data data --split valid --per-sentence --max-tokens 100 > sentences
[ "$(head -1 sentences)" = "$(printf 'sentence\tnll\ttokens')" ] || fail "$(head -1 sentences)"
awk -F'\t' 'NR > 1 { nll += $2; tokens += $3; if ($1 != NR - 1) bad = 1 }
    END { getline < "totals"; getline < "totals"
          d = nll / $3 - 1
          exit bad || tokens != $2 || NR - 1 != $1 || d > 1e-5 || d < -1e-5 }' sentences ||
    fail "totals and sentences disagree: $(cat totals)"
"$weir" evaluate run --data data --split valid --decode greedy > scored
awk -F'\t' 'NR == 2 { exit NF == 6 && $6 > 0 && $6 < 100 ? 0 : 1 }' scored || fail "$(cat scored)"

# Token ids: the end may be there or not.
printf '4 5 6\n7\n' > src.ids
printf '8 9\n\n' > tgt.ids
"$weir" evaluate run --src-ids src.ids --tgt-ids tgt.ids --per-sentence > ids
printf '4 5 6 3\n7 3\n' > src.ids
printf '8 9 3\n3\n' > tgt.ids
"$weir" evaluate run --src-ids src.ids --tgt-ids tgt.ids --per-sentence | cmp ids - ||
    fail "an end in the file changes the result"
[ "$(cut -f 3 ids | tr '\n' ' ')" = "tokens 3 1 " ] || fail "$(cat ids)"

# Mistakes name their place.
printf '4 5 6\n7 x\n' > src.ids
refuse 1 "src.ids:2: 'x'" evaluate run --src-ids src.ids --tgt-ids tgt.ids
printf '4 5 6\n7 4000\n' > src.ids
refuse 1 "src.ids:2: '4000'" evaluate run --src-ids src.ids --tgt-ids tgt.ids
refuse 2 "--src-ids" evaluate run --src-ids src.ids
refuse 2 "--data" evaluate run
refuse 1 "test split" evaluate run --data data --split test
printf 'fine\na\0b\n' > nul
refuse 1 "nul:2:" translate run --input nul
printf 'fine\na\377b\n' > latin
refuse 1 "latin:2:" translate run --input latin
refuse 1 "nowhere/recipe.yaml" translate nowhere --input in
refuse 1 "step-7" translate run --checkpoint 7 --input in
refuse 1 "decode.beem" translate run --set decode.beem=3 --input in
refuse 1 "encoder.embedding" translate run --set model.dim=64 --input in
refuse 2 "--beam 4" translate run --decode greedy --beam 4 --input in
refuse 2 "--nbest 4" translate run --beam 2 --nbest 4 --input in
"$weir" prepare --train-src text/train.de --train-tgt text/train.en --valid-src text/valid.de \
    --valid-tgt text/valid.en --vocab 150 --out other >> log
refuse 1 "subword models" evaluate run --data other
echo "translate.sh: fine"
