#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# 10,000 files in one directory: made, listed, counted, partly removed, listed again.
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
count=${MANY_FILES:-10000}
mkdir "$dir/many"
cd "$dir/many"
seq -f 'file%06g' "$count" >"$SCRATCH/names"
xargs touch <"$SCRATCH/names"
same "$count" "$(find . -type f | wc -l)" "files found"
# shellcheck disable=SC2012 # ls itself is what is tested
ls | diff "$SCRATCH/names" - || fail "ls differs from what was made"
drop_caches
# shellcheck disable=SC2010,SC2012
same "$count" "$(ls -l | grep -c '^-')" "files in ls -l"
find . -name '*7' -delete
same $((count - count / 10)) "$(find . -type f | wc -l)" "files after removing a tenth"
mkdir ../moved
mv file00001* ../moved/
same "$(grep -c '^file00001' "$SCRATCH/names")" \
    "$(($(find ../moved -type f | wc -l) + $(grep -c '^file00001.*7$' "$SCRATCH/names")))" "files moved"
cd ..
rm -r many moved
same "" "$(ls)" "entries at the end"
