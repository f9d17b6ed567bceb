# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Sourced by every program case. A case is called with one argument, an empty directory of the
# file system under test; SCRATCH is an empty local directory. Exit status 0 is success, 77 means
# that the case cannot run here.
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: $0 EMPTY_DIRECTORY" >&2; exit 2; }
# shellcheck disable=SC2034 # used by the cases
dir=$1
if [ -z "${SCRATCH:-}" ]; then
    SCRATCH=$(mktemp -d)
    trap 'rm -rf "$SCRATCH"' EXIT
fi
fail() {
    echo "$*" >&2
    exit 1
}
need() {
    local program
    for program in "$@"; do
        command -v "$program" >/dev/null || { echo "$program is not installed"; exit 77; }
    done
}
# same EXPECTED FOUND WHAT
same() { [ "$1" = "$2" ] || fail "$3: expected $1, found $2"; }
# What is read next comes from the servers, as far as this user may ask for that.
drop_caches() {
    sync
    if [ -w /proc/sys/vm/drop_caches ]; then
        echo 3 >/proc/sys/vm/drop_caches
    fi
}
