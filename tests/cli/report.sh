#!/usr/bin/env bash
# weir report and weir draw --format html without a browser: what the pages hold, runs in every
# state, what is refused. tests/browser looks at the pages themselves.
# Usage: report.sh WEIR SOURCE_FOLDER BUILD_FOLDER
source "$(dirname "$0")/common.bash"
recipes=$2/recipes

has() { grep -qF -- "$1" "$2" || fail "$2 has no '$1'"; }

# page FILE: a whole page that stands alone, with nothing that a name could have broken out of.
page() {
    [ "$(tail -n 1 "$1")" = "</html>" ] || fail "$1 has no end"
    [ "$(grep -o '</script>' "$1" | wc -l)" -eq 2 ] || fail "$1 has other scripts"
    has "default-src 'none'" "$1"
    if grep -oE '(src|href)="?(https?:|//|file:)[^"]*' "$1"; then fail "$1 asks for another file"; fi
    if grep -oE '@import|url\(' "$1"; then fail "$1 asks for another file"; fi
}

# ---- a model ----

"$weir" draw "$recipes/flowseq-tiny.yaml" --vocab 500 --batch 8 --format html --out flow
page flow
has '"title":"flowseq-tiny.yaml"' flow
has '"sizes":{"B":8,' flow
has '"inverse":{' flow
has '"plan":{' flow
"$weir" draw "$recipes/flowseq-tiny.yaml" --vocab 500 --batch 8 --out flow.html
cmp flow flow.html || fail "the same model gives another page"
"$weir" draw "$recipes/transformer-tiny.yaml" --out tiny.html
page tiny.html
has '"inverse":"This model has no flow' tiny.html
cp "$recipes/transformer-tiny.yaml" '<b>&"x".yaml'
"$weir" draw '<b>&"x".yaml' --out odd.html
page odd.html
has '<title>&lt;b>&amp;"x".yaml</title>' odd.html
refuse 1 "no/folder" draw "$recipes/flowseq-tiny.yaml" --out no/folder/x.html

# ---- a run ----

"$weir" synth numbers --langs en-de --count 200 --valid 20 --test 5 --seed 5 --out text > log
"$weir" prepare --train-src text/train.en --train-tgt text/train.de --valid-src text/valid.en \
    --valid-tgt text/valid.de --vocab 100 --max-len 60 --joint --out data >> log 2>&1
cat > recipe.yaml << 'EOF'
model: {type: transformer, dim: 16, ffn: 16, heads: 2, encoder_layers: 1, decoder_layers: 1,
        embeddings: joint, max_len: 64}
data: {max_tokens: 512}
train: {max_updates: 8, report_every: 2, checkpoint_every: 4, valid_every: 4, valid_sentences: 4}
EOF
"$weir" train recipe.yaml --data data --out run --threads 1 >> log 2>&1 || fail "$(tail -n 3 log)"
[ "$("$weir" report run)" = run/report.html ] || fail "the page's path is not told"
page run/report.html
for text in '"title":"run"' '"learning rate"' '"gradient norm"' '"BLEU"' '"tokens per s"' \
    '"type":"Transformer"' '"maxUpdates":8' '"checkpoints":[[4,' '"lastSaved":8' '"average":true' \
    '"sample":"' 'encoder_layers: 1'; do
    has "$text" run/report.html
done
"$weir" report run/ --out a.html > /dev/null
cmp a.html run/report.html || fail "the same run gives another page"
(cd run && "$weir" report . > /dev/null && cmp report.html ../a.html) || fail "another page of '.'"
"$weir" draw run --out model.html
page model.html

# A run that goes on: a torn last line, lines that are given again after a kill.
cp -r run torn
head -c -20 run/log.jsonl > torn/log.jsonl
"$weir" report torn --out torn.html > said.txt 2> err.txt
[ ! -s err.txt ] || fail "a torn line is told: $(cat err.txt)"
page torn.html
cat run/log.jsonl run/log.jsonl > torn/log.jsonl
mv torn/log.jsonl log.twice
cp -r run/. torn/
cp log.twice torn/log.jsonl
"$weir" report torn --out b.html > /dev/null
cmp <(sed 's/"title":"torn"/"title":"run"/; s/<title>torn/<title>run/' b.html) a.html ||
    fail "a log with lines twice gives another page"

# No report yet, no log, no checkpoint; a log that is none.
: > torn/log.jsonl
rm -rf torn/checkpoints
"$weir" report torn --out c.html > /dev/null
page c.html
has 'there is no report yet' c.html
has '"checkpoints":[]' c.html
rm torn/log.jsonl
"$weir" report torn --out c.html > /dev/null
has 'There is no log.jsonl' c.html
printf 'neither\nof [\n\xff\xfe {}\n{"kind": "valid"}\n' > torn/log.jsonl
"$weir" report torn --out c.html > /dev/null
page c.html
printf '{"kind": "valid", "update": 1, "nll": 2, "sample": "</script><b> | x | y"}\n' > torn/log.jsonl
"$weir" report torn --out c.html > /dev/null
page c.html
has '"sample":"\u003c/script\u003e\u003cb\u003e | x | y"' c.html

refuse 1 "nowhere is not a run directory" report nowhere --out x.html
refuse 1 "recipe.yaml is not a run directory" report recipe.yaml --out x.html
refuse 1 "text/recipe.yaml" report text --out x.html
refuse 1 "no/folder" report run --out no/folder/x.html
refuse 2 "RUN" report
printf 'model: {type: transformer, dimm: 16}\n' > torn/recipe.yaml
refuse 1 "dimm" report torn --out x.html
[ ! -e x.html ] || fail "what was refused left a page"
echo "report.sh: fine"
