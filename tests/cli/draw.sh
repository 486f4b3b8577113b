#!/usr/bin/env bash
# weir draw: pictures of a recipe in every format, what is opened and folded, what is refused.
# Usage: draw.sh WEIR SOURCE_FOLDER BUILD_FOLDER
set -euo pipefail
weir=$1
recipe=$2/recipes/transformer-tiny.yaml
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

fail() {
    echo "draw.sh: $*" >&2
    exit 1
}

# refuse STATUS "TEXT ON STDERR" ARGUMENTS...
refuse() {
    local status=$1 text=$2 got=0 said
    shift 2
    said=$("$weir" "$@" 2>&1 > out.txt) || got=$?
    [ "$got" -eq "$status" ] || fail "weir $*: exit status $got, not $status: $said"
    [[ $said == "weir: "*"$text"* ]] || fail "weir $*: said '$said', not '$text'"
}

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
grep -qF 'B = 8, S = 25, T = 25' gradient.dot || fail "the sizes of the batch"
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
