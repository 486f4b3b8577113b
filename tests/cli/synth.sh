#!/usr/bin/env bash
# weir synth: corpora that are made: what the files hold, what is refused.
# Usage: synth.sh WEIR SOURCE_FOLDER BUILD_FOLDER
source "$(dirname "$0")/common.bash"

# number of a key in synth.json: the n-th (1) "key"
number() {
    grep -o "\"$1\":[^,}]*" "$2" | sed -n "${3:-1}s/.*:[[:space:]]*//p"
}
near() { awk -v a="$1" -v b="$2" 'BEGIN { d = a - b; exit !(a != "" && d < 1e-9 && d > -1e-9) }'; }

"$weir" synth numbers --langs en-de --count 500 --seed 1 --out text > out.txt
grep -q '^text/train.de: 500 lines$' out.txt || fail "numbers: $(cat out.txt)"

# Damaged copies: the target is the text, each line once; the same seed, the same bits.
cat text/train.en text/valid.en text/train.en > both.en
{
    cat both.en
    echo
} | gzip > both.gz
"$weir" synth corrupt --input both.gz --set B --valid 30 --test 20 --seed 3 --out b > out.txt
grep -q 'left out: 1 lines without a word, 500 that repeat' out.txt || fail "corrupt: $(cat out.txt)"
cat b/train.tgt b/valid.tgt b/test.tgt | sort > got
sort -u both.en | cmp - got || fail "the targets are not the lines of the text"
[ "$(wc -l < b/valid.src) $(wc -l < b/test.src) $(wc -l < b/train.src)" = "30 20 475" ] || fail "lines"
awk 'NR == FNR { n[FNR] = NF; next } { if (n[FNR] > NF || n[FNR] < 1) bad = 1; src += n[FNR]; tgt += NF }
    END { exit bad || src / tgt < 0.85 || src / tgt > 0.95 }' b/train.src b/train.tgt ||
    fail "set B does not leave out a tenth"
"$weir" synth corrupt --input both.gz --set B --valid 30 --test 20 --seed 3 --out again > log
diff -r b again || fail "another corpus from the same seed"
"$weir" synth corrupt --input both.en --drop 0 --replace 0 --seed 3 --out same > log
cmp same/train.src same/train.tgt || fail "no damage is damage"
"$weir" synth corrupt --input text/train.en text/valid.en --pool text --out a > log
grep -q '"pool":.*"text"' a/synth.json || fail "stamp: $(cat a/synth.json)"
near "$(number replace a/synth.json)" 0.5 || fail "set A: $(cat a/synth.json)"
near "$(number drop a/synth.json)" 0 || fail "set A: $(cat a/synth.json)"

# Several translations: three even modes of three words, so C = 2/3 log2 3 bits a word.
modes=(--modes 3 --phrase 3 --phrases 3 --words 60 --seed 5)
"$weir" synth multimodal --count 800 "${modes[@]}" --out m > out.txt
grep -q 'C 1.056642$' out.txt || fail "multimodal: $(cat out.txt)"
# joint, marginals and correlation: for each split nats a sentence, nats a word, bits a word
for k in 3 6 9; do
    near "$(number correlation m/synth.json $k)" 1.0566416671474375 || fail "C: $(cat m/synth.json)"
    near "$(number marginals m/synth.json $k)" 1.5849625007211562 || fail "sum: $(cat m/synth.json)"
    near "$(number joint m/synth.json $k)" 0.52832083357371873 || fail "H: $(cat m/synth.json)"
done
awk 'NR == FNR { n[FNR] = NF; next } n[FNR] != NF || NF % 3 { exit 1 }' m/train.src m/train.tgt ||
    fail "lengths differ"
cat m/{train,valid,test}.src | sort | uniq -d | grep -q . && fail "a source is there twice"
"$weir" synth multimodal --count 800 "${modes[@]}" --out m2 > log
diff -r m m2 || fail "another corpus from the same seed"
"$weir" synth multimodal --count 800 "${modes[@]}" --references 2 --out m3 > log
for split in train valid test; do
    cmp m/$split.tgt m3/$split.tgt || fail "references change the corpus"
done
paste -d ' ' m3/valid.ref1 m3/valid.ref2 m3/valid.tgt | awk '{ n = NF / 3; for (i = 1; i <= n; i++) { a[$i]++; b[$(i + n)]++; same += $i == $(i + n); all++ } }
    END { for (w in a) if (a[w] != b[w]) exit 1; exit !(same < all / 2) }' || fail "references are no other translations"
"$weir" synth multimodal --count 300 --translations 4 "${modes[@]}" --change both --out many > log
[ "$(wc -l < many/train.tgt)" -eq 1200 ] || fail "translations: $(wc -l many/train.tgt)"
[ "$(sort -u many/train.src | wc -l)" -eq 300 ] || fail "sources of several translations"

# Every word becomes one piece, so that what is known of words is known of tokens.
"$weir" prepare --train-src m/train.src --train-tgt m/train.tgt --valid-src m/valid.src \
    --valid-tgt m/valid.tgt --out data > out.txt 2> err.txt || fail "prepare: $(cat err.txt)"
words=$(wc -w < m/train.tgt)
grep -q "^train: .*tokens $words -> $words," out.txt || fail "not $words pieces: $(cat out.txt)"

cp -r m before
mkdir foreign
touch foreign/valid.src
for kind in corrupt multimodal; do
    input=(--input both.en)
    [ $kind = corrupt ] || input=(--count 10)
    refuse 1 "foreign/valid.src: exists and was not made by" synth $kind "${input[@]}" --out foreign
    refuse 2 "--out" synth $kind "${input[@]}"
done
refuse 1 "nothing: cannot open" synth corrupt --input nothing --out x
refuse 1 "too few for 600 valid" synth corrupt --input both.en --valid 600 --out x
refuse 2 "--set" synth corrupt --input both.en --set C --out x
refuse 2 "--drop" synth corrupt --input both.en --drop 1.5 --out x
printf '\n \n' > blank
refuse 1 "blank: 2 lines, none of them with a word" synth corrupt --input blank --out x
refuse 1 "4 modes of order but phrases of 3 words" synth multimodal --count 9 --modes 4 --out x
refuse 1 "5 to 4 phrases" synth multimodal --count 9 --min-phrases 5 --out x
refuse 1 "2 words but phrases of 3" synth multimodal --count 9 --words 2 --out x
refuse 1 "has 60 sources" synth multimodal --count 50 --words 5 --phrases 1 --out x
refuse 2 "--skew" synth multimodal --count 9 --skew 2 --out x
refuse 2 "--count" synth multimodal --out x
refuse 2 "numbers|corrupt|multimodal" synth morse --out x
if [ -e x ]; then fail "a refused command left files"; fi
diff -r m before || fail "a refused command changed a corpus"
echo "synth.sh: fine"
