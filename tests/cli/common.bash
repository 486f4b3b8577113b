# Sourced by the tests of the program, which are called with WEIR SOURCE_FOLDER BUILD_FOLDER. They
# run in a folder of their own, which goes away.
set -euo pipefail
test_name=$(basename "$0")
weir=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

fail() {
    echo "$test_name: $*" >&2
    exit 1
}

# refuse STATUS "TEXT" ARGUMENTS...: weir ends with that status and one message, warnings
# apart, which has the text.
# The message stays in $said.
refuse() {
    local status=$1 text=$2 got=0
    shift 2
    said=$("$weir" "$@" 2>&1 > out.txt) || got=$?
    [ "$got" -eq "$status" ] || fail "weir $*: exit status $got, not $status: $said"
    [ "$(grep '^weir: ' <<< "$said" | grep -vc '^weir: warning: ')" -eq 1 ] ||
        fail "weir $*: not one message: $said"
    [[ $said == *"weir: "*"$text"* ]] || fail "weir $*: said '$said', not '$text'"
}
