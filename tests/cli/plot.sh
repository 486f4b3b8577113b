#!/usr/bin/env bash
# weir plot: the log of a real run as a picture, several runs, damaged logs, what is refused.
# Usage: plot.sh WEIR SOURCE_FOLDER BUILD_FOLDER
source "$(dirname "$0")/common.bash"

# has TEXT FILE / lacks TEXT FILE: as a text of the picture.
has() { grep -qF -- ">$1" "$2" || fail "$2 has no '$1'"; }
lacks() { ! grep -qF -- ">$1" "$2" || fail "$2 has '$1'"; }

"$weir" synth numbers --langs en-de --count 200 --valid 20 --test 5 --seed 5 --out text > log
"$weir" prepare --train-src text/train.en --train-tgt text/train.de --valid-src text/valid.en \
    --valid-tgt text/valid.de --vocab 100 --max-len 60 --joint --out data >> log 2>&1
cat > recipe.yaml << 'END'
model: {type: transformer, dim: 16, ffn: 16, heads: 2, encoder_layers: 1, decoder_layers: 1,
        embeddings: joint, max_len: 64}
data: {max_tokens: 512}
train: {max_updates: 8, report_every: 2, checkpoint_every: 4, valid_every: 4, valid_sentences: 4}
END
"$weir" train recipe.yaml --data data --out run --threads 1 >> log 2>&1 || fail "$(tail -n 3 log)"

"$weir" plot run --out a.svg
for text in run "loss terms" loss nll "valid nll" BLEU "bleu: best" "learning rate" "gradient norm" updates; do
    has "$text" a.svg
done
lacks seconds a.svg
lacks epoch a.svg
"$weir" plot run/log.jsonl --out - > b.svg
cmp a.svg b.svg || fail "the log itself gives another picture"
"$weir" plot run/ --what seconds,nll --title 'a < b & "c"' --out c.svg
has seconds c.svg
has 'a &lt; b &amp; &quot;c&quot;' c.svg
lacks BLEU c.svg
grep -qF '</svg>' c.svg || fail "no end"
if command -v xmllint > /dev/null; then xmllint --noout a.svg c.svg || fail "no XML"; fi
cp -r run other
mkdir deep && cp -r run deep/run
"$weir" plot run other deep/run --out d.svg
has other d.svg
has deep/run d.svg

# A torn last line, a log that goes on after a kill, a run without a report.
head -c -20 run/log.jsonl > torn.jsonl
"$weir" plot torn.jsonl --out e.svg 2> err.txt
[ ! -s err.txt ] || fail "a torn line is told: $(cat err.txt)"
{
    cat run/log.jsonl
    cat run/log.jsonl
} > other/log.jsonl
"$weir" plot other --title run --out f.svg
cmp a.svg f.svg || fail "a log with lines twice gives another picture"
mkdir fresh && : > fresh/log.jsonl
"$weir" plot fresh run --title run --out g.svg 2> err.txt
grep -q '^weir: warning: fresh/log.jsonl: there is no report yet' err.txt || fail "$(cat err.txt)"
cmp a.svg g.svg || fail "a run without a report changes the picture"

refuse 1 "there is nothing to plot" plot fresh --out x.svg
refuse 1 "nowhere" plot nowhere --out x.svg
refuse 1 "text/log.jsonl" plot text --out x.svg
refuse 1 "--what: no log has 'nlll'; did you mean nll?; there are " plot run --what nlll --out x.svg
refuse 2 "--out x.png does not end in .svg" plot run --out x.png
refuse 2 "--out" plot run
refuse 2 "RUN" plot --out x.svg
refuse 1 "no/folder" plot run --out no/folder/x.svg
printf 'neither\nof\nthese\n' > text.jsonl
refuse 1 "there is nothing to plot" plot text.jsonl --out x.svg
[ ! -e x.svg ] || fail "what was refused left a picture"
echo "plot.sh: fine"
