#!/usr/bin/env bash
# weir synth and weir prepare: what they write, what they refuse, and that nothing half written
# stays behind.
# Usage: prepare.sh WEIR SOURCE_FOLDER BUILD_FOLDER
source "$(dirname "$0")/common.bash"

"$weir" synth numbers --langs en-de --count 3000 --valid 40 --test 30 --seed 4 --out n > out.txt
"$weir" synth numbers --langs fr-de --count 50 --seed 4 --max 5000 --out fr > out.txt
[ "$(wc -l < n/train.en) $(wc -l < n/valid.de) $(wc -l < n/test.de)" = "3000 40 30" ] || fail lines
[ "$(cat n/*.de | sort -u | wc -l)" -eq 3070 ] || fail "a number is drawn twice"
grep -qx 'null' n/train.de || fail "no zero"
cp -r n again
"$weir" synth numbers --langs en-de --count 3000 --valid 40 --test 30 --seed 4 --out again > out.txt
diff -r n again || fail "the same seed gives other numbers"
mkdir mine && echo precious > mine/train.de
refuse 1 "mine/train.de: exists and was not made" synth numbers --count 9 --out mine
[ "$(cat mine/train.de)" = precious ] || fail "a foreign file is overwritten"
refuse 2 "give two languages" synth numbers --count 9 --langs en --out x
refuse 2 "must differ" synth numbers --count 9 --langs en-en --out x
refuse 1 "there are en, de, fr" synth numbers --count 9 --langs en-xx --out x
refuse 1 "distinct numbers" synth numbers --count 1000 --max 999 --out x
refuse 2 "KIND must be one of" synth letters
[ ! -e x ] || fail "a refused corpus left files"

files=(--train-src n/train.en --train-tgt n/train.de --valid-src n/valid.en --valid-tgt n/valid.de)
test=(--test-src n/test.en --test-tgt n/test.de)
"$weir" prepare "${files[@]}" "${test[@]}" --vocab 200 --joint --out d > out.txt 2> err.txt
grep -q '^train: 3000 pairs, 3000 kept; tokens ' out.txt || fail "report: $(cat out.txt)"
grep -q '^wrote d in ' out.txt || fail "report: $(cat out.txt)"
[ "$(ls d | tr '\n' ' ')" = "dataset.json joint.model test.pairs train.pairs valid.pairs " ] ||
    fail "files: $(ls d)"
grep -q '"src_lang":	"en"' d/dataset.json || fail "language"
gzip -k n/train.en && xz -k n/train.de
files=(--train-src n/train.en.gz --train-tgt n/train.de.xz "${files[@]:4}")
"$weir" prepare "${files[@]}" "${test[@]}" --vocab 200 --joint --out e > out.txt 2> err.txt
for part in joint.model train.pairs valid.pairs test.pairs; do
    cmp "d/$part" "e/$part" || fail "$part is not the same again"
done
"$weir" prepare "${files[@]}" --vocab 60 --subword unigram --out e > out.txt 2> err.txt
[ "$(ls e | tr '\n' ' ')" = "dataset.json source.model target.model train.pairs valid.pairs " ] ||
    fail "replaced: $(ls e)"
"$weir" prepare "${files[@]}" --vocab 200 --max-len 9 --max-ratio 1.5 --dedup --out e > out.txt 2> err.txt
grep -q 'dropped: .* longer than 9 tokens, .* with a length ratio above 1.5' out.txt ||
    fail "reasons: $(cat out.txt)"
grep -q '^valid: 40 pairs, 40 kept' out.txt || fail "valid is filtered: $(cat out.txt)"

cp -r e before
refuse 1 "use --vocab " prepare "${files[@]}" --vocab 90000 --out e
refuse 1 "use --vocab " prepare "${files[@]}" --vocab 9 --out e
printf 'one\n\n' > left && printf '\nzwei\n' > right
refuse 1 "no pair of train is left" prepare --train-src left --train-tgt right --valid-src left \
    --valid-tgt right --out e
grep -q '^train: 2 pairs, 0 kept; dropped: 2 with an empty side' out.txt || fail "$(cat out.txt)"
head -n 7 n/train.de > short
refuse 1 "n/train.en has 3000 lines but short has 7" prepare --train-src n/train.en --train-tgt short \
    --valid-src n/valid.en --valid-tgt n/valid.de --out e
printf 'eins\nz\xffwei\n' > bad && printf 'one\ntwo\n' > good
refuse 1 "bad:2: byte 2" prepare --train-src bad --train-tgt good --valid-src good --valid-tgt good --out e
printf 'eins\nz\0wei\n' > bad
refuse 1 "bad:2: byte 2 of the line is NUL" prepare --train-src bad --train-tgt good \
    --valid-src good --valid-tgt good --out e
refuse 1 "nowhere: cannot open" prepare "${files[@]}" --test-src nowhere --test-tgt nowhere --out e
refuse 2 "go together" prepare "${files[@]}" --test-src good --out e
refuse 2 "must be one of bpe|unigram" prepare "${files[@]}" --subword words --out e
refuse 1 "which is not part of a dataset" prepare "${files[@]}" --out n
diff -r before e || fail "a refused run changed the dataset"
[ ! -e e.partial ] || fail "a refused run left e.partial"
echo "prepare.sh: fine"
