#!/usr/bin/env bash
# The sanitizers of this build see planted mistakes, in spite of their suppression files: a race in
# a parallel loop, a read behind an array, a signed overflow. Nothing to do for other builds.
# Usage: sanitizers.sh WEIR SOURCE_FOLDER BUILD_FOLDER
set -euo pipefail
build=$3

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sanitize=$(sed -n 's/^WEIR_SANITIZE:STRING=//p' "$build/CMakeCache.txt")
cc=$(sed -n 's/^CMAKE_C_COMPILER:[A-Z]*=//p' "$build/CMakeCache.txt")

# planted NAME "TEXT OF THE REPORT" FLAGS...: the program must be stopped with that report.
planted() {
    local name=$1 text=$2
    shift 2
    "$cc" -g -O1 "$@" "$work/$name.c" -o "$work/$name"
    if "$work/$name" 2> "$work/$name.log" > /dev/null; then
        echo "sanitizers.sh: $name went unnoticed" >&2
        exit 1
    fi
    grep -q "$text" "$work/$name.log" || {
        cat "$work/$name.log" >&2
        exit 1
    }
}

cat > "$work/race.c" << 'END'
int main(void) {
    long sum = 0;
#pragma omp parallel for num_threads(2)
    for (int i = 0; i < 100000; i++)
        sum += i;
    return sum == 1;
}
END
cat > "$work/behind.c" << 'END'
#include <stdlib.h>
int main(int argc, char **argv) {
    (void)argv;
    int *array = calloc(4, sizeof *array);
    int value = array[3 + argc];
    free(array);
    return value;
}
END
cat > "$work/overflow.c" << 'END'
#include <limits.h>
int main(int argc, char **argv) {
    (void)argv;
    volatile int big = INT_MAX;
    big += argc;
    return big == 7;
}
END

case $sanitize in
thread) planted race "data race" -fopenmp -fsanitize=thread ;;
address)
    planted behind "heap-buffer-overflow" -fsanitize=address,undefined
    planted overflow "signed integer overflow" -fsanitize=address,undefined \
        -fno-sanitize-recover=undefined
    ;;
*) ;;
esac
echo "sanitizers.sh: fine (${sanitize:-no sanitizer in this build})"
