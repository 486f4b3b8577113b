#!/usr/bin/env bash
# What `cmake --install` leaves is usable: through pkg-config, through find_package, from C and C++.
# Usage: install.sh WEIR SOURCE_FOLDER BUILD_FOLDER
set -euo pipefail
build=$3

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sanitize=$(sed -n 's/^WEIR_SANITIZE:STRING=//p' "$build/CMakeCache.txt")
if [ -n "$sanitize" ]; then
    echo "install.sh: fine (nothing to do for a sanitizer build)"
    exit 0
fi
cc=$(sed -n 's/^CMAKE_C_COMPILER:[A-Z]*=//p' "$build/CMakeCache.txt")
cxx=$(sed -n 's/^CMAKE_CXX_COMPILER:[A-Z]*=//p' "$build/CMakeCache.txt")

cmake --install "$build" --prefix "$work/usr" > "$work/install.log"
"$work/usr/bin/weir" --version

cat > "$work/use.c" << 'END'
#include <stdio.h>
#include "weir.h"
#include "graph/base.h"
#include "models/recipe.h"
int main(void) {
    wr_error err = {0};
    wr_recipe recipe;
    if (wr_recipe_parse("model: {dim: 64}", 16, "text", NULL, 0, &recipe, &err) != WR_OK) return 1;
    printf("%d\n", recipe.model.dim);
    return recipe.model.dim == 64 ? 0 : 1;
}
END
config=$(find "$work/usr" -name weir.pc -printf '%h')
export PKG_CONFIG_PATH=$config
read -ra cflags <<< "$(pkg-config --cflags weir)"
read -ra libs <<< "$(pkg-config --libs weir)"
"$cc" -std=c11 -Wall -Wextra -Werror "${cflags[@]}" "$work/use.c" -o "$work/use" "${libs[@]}"
"$work/use"

sed 's/wr_error err = {0}/wr_error err = {}/' "$work/use.c" > "$work/use.cc"
"$cxx" -std=c++17 -Wall -Werror "${cflags[@]}" -fsyntax-only "$work/use.cc"

cat > "$work/CMakeLists.txt" << 'END'
cmake_minimum_required(VERSION 3.25)
project(use LANGUAGES C CXX)
find_package(weir REQUIRED)
add_executable(use use.c)
target_link_libraries(use PRIVATE weir::weir)
END
cmake -S "$work" -B "$work/build" -G Ninja -DCMAKE_PREFIX_PATH="$work/usr" \
    -DCMAKE_C_COMPILER="$cc" -DCMAKE_CXX_COMPILER="$cxx" > "$work/cmake.log" || {
    cat "$work/cmake.log"
    exit 1
}
cmake --build "$work/build" > "$work/build.log" || {
    cat "$work/build.log"
    exit 1
}
"$work/build/use"
echo "install.sh: fine"
