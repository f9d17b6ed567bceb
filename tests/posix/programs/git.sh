#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# git: clone of a repository with thousands of files, fsck, checkout of another branch, gc.
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
need git
files=${GIT_FILES:-3000}
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 HOME=$SCRATCH
export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@example.org GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@example.org

source=$SCRATCH/source
git init -q -b main "$source"
for ((i = 0; i < files; i++)); do
    sub=$source/d$((i % 40))/e$((i % 7))
    [ -d "$sub" ] || mkdir -p "$sub"
    printf 'file %d\n%s\n' "$i" "${RANDOM}${RANDOM}" >"$sub/f$i.txt"
done
ln -s d0/e0 "$source/link"
printf '#!/bin/sh\n' >"$source/tool"
chmod +x "$source/tool"
git -C "$source" add -A
git -C "$source" commit -q -m one
git -C "$source" checkout -q -b other
for ((i = 0; i < files; i += 3)); do
    echo changed >>"$source/d$((i % 40))/e$((i % 7))/f$i.txt"
done
git -C "$source" rm -q -r -f d5
git -C "$source" commit -q -a -m two
git -C "$source" checkout -q main

git clone -q --no-local "$source" "$dir/clone"
git -C "$dir/clone" fsck --full --strict
same "" "$(git -C "$dir/clone" status --porcelain)" "status after clone"
diff -r --no-dereference -x .git "$source" "$dir/clone"
git -C "$dir/clone" checkout -q other
git -C "$source" checkout -q other
diff -r --no-dereference -x .git "$source" "$dir/clone"
git -C "$dir/clone" gc -q --prune=now
drop_caches
git -C "$dir/clone" fsck --full --strict
echo more >"$dir/clone/more"
git -C "$dir/clone" add more
git -C "$dir/clone" commit -q -m three
git -C "$dir/clone" push -q "$source" other:pushed
same "$(git -C "$dir/clone" rev-parse other)" "$(git -C "$source" rev-parse pushed)" "pushed commit"
