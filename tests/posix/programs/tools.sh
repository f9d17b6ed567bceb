#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Everyday tools: cp -a, mv, sed -i, install, ln, truncate, dd, split and cat, sort, tee -a, find,
# du, chmod -R, mktemp, flock, cp --sparse, and a shell's own redirections.
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
cd "$dir"
seq 100000 >numbers
sort -rn numbers | sort -n | cmp - numbers
split -l 1000 numbers part.
cat part.* | cmp - numbers
rm part.*
sed -i 's/^7$/seven/' numbers
same seven "$(sed -n 7p numbers)" "line changed by sed -i"
install -D -m 640 numbers a/b/c/installed
same 640 "$(stat -c %a a/b/c/installed)" "mode by install"
cp -a a a2
diff -r a a2
same "$(stat -c '%a %Y %s' a/b/c/installed)" "$(stat -c '%a %Y %s' a2/b/c/installed)" "attributes by cp -a"
mv a2 a/b/moved
[ -f a/b/moved/b/c/installed ] || fail "mv of a tree"
for i in 1 2 3; do echo "$i" | tee -a log >/dev/null; done
same "1 2 3" "$(tr '\n' ' ' <log | sed 's/ $//')" "lines by tee -a"
echo four >>log
same 4 "$(wc -l <log)" "lines after >>"
: >log
same 0 "$(stat -c %s log)" "size after :>"
truncate -s 1M sparse
cp --sparse=always sparse sparse2
cmp sparse sparse2
dd if=/dev/urandom of=block bs=4k count=100 conv=fsync status=none
dd if=block of=block2 bs=64k status=none
cmp block block2
dd if=block of=block2 bs=4k oflag=direct conv=notrunc status=none
cmp block block2
chmod -R u+rwX,go-rwx a
same 700 "$(stat -c %a a/b)" "mode by chmod -R"
name=$(mktemp ./tmp.XXXXXX)
[ -f "$name" ] || fail "mktemp"
(flock -n 9 || exit 1; flock -n "$dir/lock" true && exit 2; exit 0) 9>lock || fail "flock"
ln -s "$dir/numbers" absolute
cmp absolute numbers
same 1 "$(find . -newer log -name block2 | wc -l)" "files newer than another"
[ "$(du -sk . | cut -f1)" -gt 1000 ] || fail "du"
mkdir x
tar -cf - a | tar -C x -xf -
diff -r a x/a
find . -mindepth 1 -delete
same "" "$(ls -A)" "entries at the end"
