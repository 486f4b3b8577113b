#!/usr/bin/env bash
# No source file over 1000 lines, no function over 100 (its signature to its closing brace).
# Reports the median and the longest. Usage: check_lengths.sh SOURCE_FOLDER
set -euo pipefail

cd "${1:?usage: check_lengths.sh SOURCE_FOLDER}"
if ! command -v ctags > /dev/null; then
    echo "check_lengths: ctags is missing; install universal-ctags" >&2
    exit 1
fi

list=$(mktemp)
trap 'rm -f "$list"' EXIT
for folder in graph ops autodiff models optim data viz cli examples bench tests cmake scripts recipes .ci; do
    [ ! -d "$folder" ] || find "$folder" -type f \
        \( -name '*.[ch]' -o -name '*.cc' -o -name '*.cu' -o -name '*.cuh' -o -path 'scripts/*' \
        -o -name '*.sh' -o -name '*.cmake' -o -name '*.yaml' \)
done | sort > "$list"

status=0
while read -r file; do
    lines=$(wc -l < "$file")
    if [ "$lines" -gt 1000 ]; then
        echo "$file:1: $lines lines; at most 1000 are allowed, split it by its topics"
        status=1
    fi
done < "$list"

functions=$(grep -E '\.(c|h|cc|cu|cuh)$' "$list" |
    ctags -L - -o - --languages=C,C++,CUDA --kinds-C=f --kinds-C++=f --kinds-CUDA=f \
        --fields=+ne --output-format=u-ctags --excmd=number 2> /dev/null |
    awk -F'\t' '!/^!/ {
        line = 0; end = 0
        for (i = 4; i <= NF; i++) {
            if ($i ~ /^line:/) line = substr($i, 6)
            if ($i ~ /^end:/) end = substr($i, 5)
        }
        if (end > 0) print end - line + 1 "\t" $2 ":" line "\t" $1
    }' | sort -n)

if [ -z "$functions" ]; then
    echo "check_lengths: ctags found no function" >&2
    exit 1
fi
echo "$functions" | awk -F'\t' '
    { length_[NR] = $1; if ($1 > 100) { print $2 ": " $3 "() has " $1 " lines; at most 100 are allowed"; bad = 1 } }
    END {
        printf "%d functions: median %d lines, 90%% within %d, longest %d (%s)\n", NR,
            length_[int((NR + 1) / 2)], length_[int((NR * 9 + 9) / 10)], length_[NR], $3
        exit bad
    }' || status=1
exit "$status"
