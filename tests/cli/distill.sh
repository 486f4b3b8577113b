#!/usr/bin/env bash
# weir distill: a small teacher makes a dataset, on which a student trains; what is refused.
# Usage: distill.sh WEIR SOURCE_FOLDER BUILD_FOLDER
source "$(dirname "$0")/common.bash"

"$weir" synth numbers --langs en-de --count 600 --valid 40 --test 30 --seed 1 --out text > log
en=(--train-src text/train.en --valid-src text/valid.en --test-src text/test.en)
de=(--train-tgt text/train.de --valid-tgt text/valid.de --test-tgt text/test.de)
"$weir" prepare "${en[@]}" "${de[@]}" --vocab 100 --max-len 30 --out data >> log 2>&1
"$weir" prepare "${en[@]}" "${de[@]}" --vocab 120 --joint --max-len 30 --out joint >> log 2>&1
"$weir" prepare "${en[@]/-src/-tgt}" "${de[@]/-tgt/-src}" --vocab 100 --max-len 30 --out back >> log 2>&1
cat > recipe.yaml << 'END'
model: {type: transformer, dim: 32, ffn: 64, heads: 2, encoder_layers: 1, decoder_layers: 1, dropout: 0, max_len: 40}
data: {max_tokens: 600}
train: {max_updates: 60, valid_every: 60, checkpoint_every: 60, report_every: 60, valid_decode: none, best_by: nll}
optim: {lr: 0.005, warmup: 20}
END
"$weir" train recipe.yaml --data data --out run --threads 1 >> log 2>&1 || fail "$(cat log)"

# Everything but the training targets is the dataset's; they are what `weir translate` says.
"$weir" distill run --data data --beam 2 --out new > out.txt 2> err.txt || fail "$(cat err.txt)"
grep -q '^train: 600 pairs, ' out.txt || fail "report: $(cat out.txt)"
grep -q '^BLEU against the targets of data: ' out.txt || fail "no BLEU: $(cat out.txt)"
[ "$(ls new | tr '\n' ' ')" = "$(ls data | tr '\n' ' ')" ] || fail "files: $(ls new)"
for part in source.model target.model valid.pairs test.pairs; do
    cmp "data/$part" "new/$part" || fail "$part is not the dataset's"
done
! cmp -s data/train.pairs new/train.pairs || fail "the targets are the same"
"$weir" translate run --input text/train.en --beam 2 > train.out
"$weir" distill --targets train.out --data data --out given > out.txt
cmp new/train.pairs given/train.pairs || fail "weir translate says something else"
"$weir" train recipe.yaml --data new --out student --threads 1 --max-updates 5 >> log 2>&1 ||
    fail "the student does not train: $(tail -n 3 log)"

# Text goes between different vocabularies.
"$weir" distill run --data joint --beam 2 --out across > out.txt
"$weir" distill --targets train.out --data joint --out across2 > out.txt
cmp across/train.pairs across2/train.pairs || fail "another vocabulary gives other translations"
cmp joint/joint.model across/joint.model || fail "the models are not the dataset's"

# Sources from files, packed or not; the filter of the dataset, and why pairs are dropped.
{
    echo
    head -n 20 text/train.en
    printf 'two hundred and three %.0s' {1..8}
    echo
} > mixed
gzip -k mixed
"$weir" distill run --data data --input mixed.gz text/test.en --decode greedy --out mix > out.txt
grep -q '^train: 52 pairs, .* with an empty side, [0-9]* longer than 30 tokens' out.txt ||
    fail "reasons: $(cat out.txt)"
grep -q '"src_file":	"mixed.gz + text/test.en"' mix/dataset.json || fail "$(cat mix/dataset.json)"
awk '/"train"/ { on = 1 } on && /"pairs"|"empty":	[0-9]|"too_long"|"ratio"/ { sum += $2 }
    /"valid"/ { exit sum == 52 ? 0 : 1 }' FS=: mix/dataset.json || fail "counts: $(cat mix/dataset.json)"
! grep -q BLEU out.txt || fail "BLEU against targets of other sources"

# Translations cut at the longest length are told, and dropped on demand.
short=(--set decode.max_len_factor=0 --set decode.max_len_extra=4 --decode greedy)
"$weir" distill run --data data "${short[@]}" --out cut > out.txt
count=$(sed -n 's/^\([0-9]*\) translations were cut .*--drop-unfinished.*/\1/p' out.txt)
[ "${count:-0}" -gt 0 ] || fail "nothing is cut: $(cat out.txt)"
[ "$count" -lt 600 ] || fail "everything is cut"
"$weir" distill run --data data "${short[@]}" --drop-unfinished --out cut2 > out.txt
grep -qE "^train: 600 pairs, .*[ ,]$count longer than 30 tokens" out.txt ||
    fail "not $count dropped: $(cat out.txt)"

# Dynamic: of a file's translations, the teacher's and the dataset's own targets, one for each source.
"$weir" translate run --input text/train.en --decode greedy | sed 's/^$/null/' > greedy.out
dynamic=(run --dynamic --candidates greedy.out --data data --beam 2)
"$weir" distill "${dynamic[@]}" --gamma 0,0,1 --out own > out.txt || fail "dynamic: own"
grep -q '^data: chosen for [0-9]* of 600 sources$' out.txt || fail "own targets: $(cat out.txt)"
cmp data/train.pairs own/train.pairs || fail "the weights do not choose the own targets"
"$weir" distill "${dynamic[@]}" --gamma 0,1,0 --out teacher > out.txt || fail "dynamic: teacher"
"$weir" distill "${dynamic[@]}" --gamma 1,0,0 --gamma-scale normalised --out file > out.txt
"$weir" distill --targets greedy.out --data data --out file2 > out.txt
cmp file2/train.pairs file/train.pairs || fail "the weights do not choose the file"
grep -q '"tgt_file":.*chosen among greedy.out, run, data' file/dataset.json || fail "origin"
"$weir" distill "${dynamic[@]}" --student run --student-checkpoint best --table t.tsv --out chosen > out.txt ||
    fail "dynamic: student"
# line candidate chosen cost nll total: the first of the smallest totals is chosen
awk -F'\t' 'NR == 1 { next } $1 != line { if (line && best != picked) bad = 1; line = $1; least = 1e300; n++ }
    { d = $4 + $5 - $6; if (d > 2e-6 || d < -2e-6) bad = 1; if ($6 + 1e-6 < least) { least = $6; best = $2 } if ($3) picked = $2 }
    END { exit bad || best != picked || n != 600 }' t.tsv || fail "not the least total"
"$weir" distill "${dynamic[@]}" --student run --student-checkpoint best --beta 0 --nll mean --table t0.tsv --out sure > out.txt
awk -F'\t' 'NR > 1 && $4 != 0 { exit 1 }' t0.tsv || fail "beta 0 has a cost"
awk -F'\t' 'NR == FNR { nll[$1, $2] = $5; next } FNR > 1 && $6 >= nll[$1, $2] && nll[$1, $2] > 1 && nll[$1, $2] < 1e9 { exit 1 }' t.tsv t0.tsv ||
    fail "--nll mean is no mean"

cp -r new before
refuse 2 "either the teacher RUN or" distill --data data --out x
refuse 2 "either the teacher RUN or" distill run --data data --targets train.out --out x
refuse 2 "--out" distill run --data data
refuse 2 "--gamma is for --dynamic" distill run --data data --gamma 1 --out x
refuse 2 "2 teachers; several are for --dynamic" distill run run --data data --out x
refuse 2 "at least one teacher RUN or" distill --dynamic --data data --out x
refuse 2 "--input does not go with --dynamic" distill run --dynamic --data data --input mixed --out x
refuse 2 "--gamma 1: give 2 numbers" distill run --dynamic --data data --gamma 1 --out x
refuse 2 "--gamma 1,-1: give 2 numbers" distill run --dynamic --data data --gamma 1,-1 --out x
refuse 2 "at least one must be above 0" distill run --dynamic --data data --gamma 0,0 --out x
refuse 1 "has 600 lines but text/valid.de has 40" distill --dynamic --candidates text/valid.de --data data --out x
refuse 1 "nowhere/recipe.yaml" distill run --dynamic --student nowhere --data data --out x
refuse 2 "only one file" distill run --data data --input - - --out x
refuse 1 "nowhere/recipe.yaml" distill nowhere --data data --out x
refuse 1 "step-7" distill run --checkpoint 7 --data data --out x
refuse 1 "text/dataset.json" distill run --data text --out x
refuse 1 "new: there is a dataset already" distill run --data data --out new
refuse 1 "data: there is a dataset already" distill run --data data --out data
refuse 1 "which is not part of a dataset" distill run --data data --out text
refuse 1 "seems to translate the other way than back (de to en)" distill run --data back --out x
refuse 1 "text/train.de: its name says that it is of the target language" distill run --data data \
    --input text/train.de --out x
refuse 1 "has 600 lines but text/valid.de has 40" distill --targets text/valid.de --data data --out x
refuse 1 "nothing: cannot open" distill run --data data --input nothing --out x
printf '\n\n' > blank
refuse 1 "none of 2 sources can be translated: 2 are empty" distill run --data data --input blank --out x
refuse 1 "decode.beem" distill run --data data --set decode.beem=3 --out x
refuse 2 "--beam 4" distill run --data data --decode greedy --beam 4 --out x
if [ -e x ] || [ -e x.partial ]; then fail "a refused distillation left files"; fi
diff -r before new || fail "a refused distillation changed a dataset"

# A kill leaves the new dataset as a whole or not at all.
"$weir" distill run --data data --beam 8 --out killed > out.txt 2>&1 &
child=$!
sleep 0.05
kill -9 $child 2> /dev/null || true
wait $child 2> /dev/null || true
[ ! -e killed ] || [ -e killed/dataset.json ] || fail "half a dataset: $(ls killed)"
echo "distill.sh: fine"
