#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tar: extract /usr/include and /usr/share/doc, compare contents, modes, owners and times.
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
need tar diff
for tree in ${TAR_TREES:-/usr/include /usr/share/doc}; do
    [ -d "$tree" ] || continue
    name=$(basename "$tree")
    tar -C "$tree" -cf "$SCRATCH/$name.tar" .
    mkdir "$dir/$name"
    tar -C "$dir/$name" -xpf "$SCRATCH/$name.tar"
    diff -r --no-dereference "$tree" "$dir/$name"
    drop_caches
    diff -r --no-dereference "$tree" "$dir/$name"
    # Metadata: tar compares what it has extracted (mode, owner, mtime, link targets).
    tar -C "$dir/$name" -df "$SCRATCH/$name.tar"
    # And the way back: an archive made from the mount has the same list.
    tar -C "$dir/$name" -cf "$SCRATCH/back.tar" --sort=name .
    tar -C "$tree" -cf "$SCRATCH/forth.tar" --sort=name .
    diff <(tar -tvf "$SCRATCH/forth.tar" | awk '{ if ($1 ~ /^d/) $3 = ""; print }') \
        <(tar -tvf "$SCRATCH/back.tar" | awk '{ if ($1 ~ /^d/) $3 = ""; print }')
    rm "$SCRATCH/$name.tar" "$SCRATCH/back.tar" "$SCRATCH/forth.tar"
    rm -r "${dir:?}/$name"
done
