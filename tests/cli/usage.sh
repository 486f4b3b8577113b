#!/usr/bin/env bash
# The program as such: help, version, exit statuses, suggestions, full disks.
# Usage: usage.sh WEIR SOURCE_FOLDER BUILD_FOLDER
set -euo pipefail
weir=$1

fail() {
    echo "usage.sh: $*" >&2
    exit 1
}

# expect STATUS "TEXT ON STDERR" ARGUMENTS...
expect() {
    local status=$1 text=$2 got=0 said
    shift 2
    said=$("$weir" "$@" 2>&1 > /dev/null) || got=$?
    [ "$got" -eq "$status" ] || fail "weir $*: exit status $got, not $status"
    [[ $said == *"$text"* ]] || fail "weir $*: said '$said', not '$text'"
    [ "$(wc -l <<< "$said")" -le 1 ] || fail "weir $*: more than one line: $said"
}

expect 0 "" --help
expect 0 "" --version
expect 2 "weir: no command given"
expect 2 "weir: unknown command 'doktor'; did you mean doctor?" doktor
expect 2 "weir: unknown command 'xyzzy' (see" xyzzy
expect 2 "weir: doctor: unexpected argument 'x'" doctor x
expect 2 "weir: doctor: unknown option '--verbose'" doctor --verbose

"$weir" --version | grep -qE '^weir [0-9]+\.[0-9]+\.[0-9]+$' || fail "--version"
for command in $("$weir" --help | sed -n 's/^  \([a-z]\+\) .*/\1/p'); do
    "$weir" "$command" --help | grep -q "^usage: weir $command" || fail "$command --help"
done
"$weir" doctor | grep -q '^what to install$' || fail "doctor"

if [ -w /dev/full ]; then
    "$weir" --help > /dev/full 2> /dev/null && fail "a full disk went unnoticed"
fi
echo "usage.sh: fine"
