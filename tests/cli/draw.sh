#!/usr/bin/env bash
# weir draw: pictures of a recipe in every format, what is opened and folded, what is refused.
# Usage: draw.sh WEIR SOURCE_FOLDER BUILD_FOLDER
source "$(dirname "$0")/common.bash"
recipe=$2/recipes/transformer-tiny.yaml

# has N TEXT FILE: exactly N lines hold it.
has() { [ "$(grep -cF -- "$2" "$3")" -eq "$1" ] || fail "$3: not $1 times '$2'"; }

"$weir" draw "$recipe" --depth 0 --out 0.dot
has 0 subgraph 0.dot
has 1 'label="encoder\n' 0.dot
has 1 'label="decoder\n' 0.dot
has 1 'label="encoder.embedding\n[10000, 128]"' 0.dot
"$weir" draw "$recipe" --vocab 500 --out 1.dot
has 2 'label="layer0..2  × 3\n' 1.dot
has 1 'label="encoder.embedding\n[500, 128]"' 1.dot
"$weir" draw "$recipe" --every-layer --out every.dot
has 2 'label="layer2\n' every.dot
"$weir" draw "$recipe" --scope decoder.layer1 --out scope.dot
has 1 'graph [ label="decoder.layer1"' scope.dot
has 1 'label="decoder.layer0\n' scope.dot
"$weir" draw "$recipe" --what gradient --dropout --batch 8 --out gradient.dot
has 1 'graph [ label="gradient"' gradient.dot
grep -qF 'B = 8, S = 24, T = 24' gradient.dot || fail "the sizes of the batch"
grep -qE '[0-9]+\.[0-9]G operations' gradient.dot || fail "no operations are counted"
"$weir" draw "$recipe" --all --out all.dot
"$weir" draw "$recipe" --all --out again.dot
cmp all.dot again.dot || fail "the same recipe gives another picture"

TIMEFORMAT=%U
if seconds=$({ time "$weir" draw "$recipe" --depth 2 --out 2.svg 2> err.txt; } 2>&1); then
    [ "${seconds%.*}" -lt 2 ] || fail "the layout took $seconds s"
    head -c 5 2.svg | grep -q '<?xml' || fail "no SVG"
    grep -q 'layer0..2' 2.svg || fail "no layers in the SVG"
    "$weir" draw "$recipe" --format png --out picture
    head -c 4 picture | grep -qa PNG || fail "no PNG"
    "$weir" draw "$recipe" --what gradient --depth 2 --out 2.pdf
    head -c 4 2.pdf | grep -q '%PDF' || fail "no PDF"
else
    grep -q 'install libgraphviz-dev' err.txt || fail "said $(cat err.txt)"
fi

# The inverse of a flow, derived; a model without one says what there is.
flowseq=$2/recipes/flowseq-tiny.yaml
"$weir" draw "$flowseq" --what inverse --out inverse.dot
has 1 'label="z: ' inverse.dot
has 1 'label="log_det: ' inverse.dot
has 1 'label="eps\n[B, T, 64]' inverse.dot
grep -q 'from noise to z' inverse.dot || fail "the title of the inverse"
"$weir" draw "$flowseq" --out forward.dot
has 0 'label="z: ' forward.dot
refuse 1 "the model has no flow, so that there is no inverse to draw; --what can be forward, \
gradient or plan" draw "$recipe" --what inverse --out x.dot

# A plan: the picture in the file, the table on the terminal.
"$weir" draw "$flowseq" --what plan --batch 4 --tgt-len 13 --out plan.svg > plan.txt
grep -qE '^at most [0-9.]+ MB in use, at step [0-9]+ of [0-9]+; arena ' plan.txt ||
    fail "no sum: $(cat plan.txt)"
grep -qE ' MB +[0-9.]+% +[0-9]+  (encoder|prior|gradients of parameters)$' plan.txt ||
    fail "no holders"
grep -qE ' [0-9]+-[0-9]+ .*f32 \[[0-9, ]+\]  models/[a-z_]+\.c:[0-9]+$' plan.txt ||
    fail "no buffers"
grep -q 'B = 4, S = 24, T = 14' plan.txt || fail "a length is not rounded up"
grep -q '>peak ' plan.svg || fail "no peak in the picture"
"$weir" draw "$recipe" --what plan --depth 2 --out plan.svg | grep -q 'decoder.layer\*' ||
    fail "no layers in the table"
refuse 2 "a plan is drawn as svg only" draw "$recipe" --what plan --out plan.png
refuse 2 "a plan is drawn as svg only" draw "$recipe" --what plan --out plan.dot

# Filters.
"$weir" draw "$recipe" --ancestors encoder.layer0.self.attention --depth 3 --out up.dot
has 0 'label="decoder' up.dot
has 1 'label="attention\n' up.dot
has 0 'label="loss' up.dot
"$weir" draw "$recipe" --descendants decoder.norm.layer_norm --out down.dot
has 0 'layer0' down.dot
has 1 'label="loss: sum' down.dot
"$weir" draw "$recipe" --only parameters --depth 2 --out only.dot
has 0 ' -> ' only.dot
has 1 'label="encoder.embedding\n[10000, 128]"' only.dot
refuse 1 "no node 'encoder.layer0.self.atention' in the picture; near names: \
encoder.layer0.self.attention, " draw "$recipe" --ancestors encoder.layer0.self.atention --out x.dot
refuse 1 "near names: " draw "$recipe" --descendants 99999999 --out x.dot
refuse 2 "--only must be" draw "$recipe" --only inputs --out x.dot

# FlowSeq base with its gradient is drawn soon.
TIMEFORMAT=%U
if "$weir" draw "$recipe" --out any.svg 2> /dev/null; then
    seconds=$({ time "$weir" draw "$2/recipes/flowseq-base.yaml" --what gradient --depth 2 \
        --out big.svg; } 2>&1)
    [ "${seconds%.*}" -lt 2 ] || fail "FlowSeq base took $seconds s"
fi

# Time by scope, on stderr and as a picture.
"$weir" bench "$recipe" --batch 2 --src-len 5 --tgt-len 5 --repeat 1 --threads 1 --vocab 100 \
    --profile-svg bars.svg > bench.json 2> profile.txt
grep -qE '^scope +steps +ms +share' profile.txt || fail "no time by scope"
grep -qE '^encoder.layer\*, backward +[0-9]+ ' profile.txt || fail "no scope in the profile"
grep -qE '^update of parameters +[0-9]+ ' profile.txt || fail "no update in the profile"
grep -q 'decoder.layer\*</text>' bars.svg || fail "no bar of the decoder"
refuse 1 "no/folder" bench "$recipe" --batch 2 --repeat 1 --vocab 100 --profile-svg no/folder/x.svg

refuse 2 "--out picture.gif does not end in .dot, .svg, .png, .pdf or .html" draw "$recipe" \
    --out picture.gif
refuse 2 "--what must be one of" draw "$recipe" --what backward --out x.dot
refuse 2 "--depth" draw "$recipe" --depth -1 --out x.dot
refuse 1 "no scope 'encoder.layer9' in the picture; there are encoder, " draw "$recipe" \
    --scope encoder.layer9 --out x.dot
refuse 1 "nothing.yaml" draw nothing.yaml --out x.dot
refuse 1 "no/folder" draw "$recipe" --out no/folder/x.dot
[ ! -e x.dot ] || fail "a refused picture left a file"
echo "draw.sh: fine"
