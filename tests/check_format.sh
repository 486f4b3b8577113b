#!/usr/bin/env bash
# All sources are as clang-format leaves them. Usage: check_format.sh SOURCE_FOLDER
# Versions of clang-format differ in details: without version 14, Debian 12's, this is skipped (77).
set -euo pipefail

cd "${1:?usage: check_format.sh SOURCE_FOLDER}"
if ! clang-format --version 2> /dev/null | grep -q 'version 14\.'; then
    echo "check_format: clang-format 14 is missing; install clang-format" >&2
    exit 77
fi
find graph ops autodiff models optim data viz cli examples bench tests -type f \
    \( -name '*.[ch]' -o -name '*.cc' -o -name '*.cu' -o -name '*.cuh' \) -print0 |
    xargs -0 -P "$(nproc)" -n 32 clang-format --dry-run -Werror
