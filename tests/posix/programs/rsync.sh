#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# rsync -aHAX --checksum: hard links, links, times, modes, owners, user attributes, sparse files;
# a second run finds nothing to do.
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
need rsync setfattr
tree=$SCRATCH/tree
mkdir -p "$tree/a/b/c" "$tree/empty"
for ((i = 0; i < ${RSYNC_FILES:-500}; i++)); do
    head -c $((i * 37 % 9000)) /dev/urandom >"$tree/a/f$i"
done
head -c 20000000 /dev/urandom >"$tree/a/b/large"
truncate -s 50M "$tree/a/b/sparse"
echo tail >>"$tree/a/b/sparse"
ln "$tree/a/f1" "$tree/a/b/hard"
ln "$tree/a/f1" "$tree/hard2"
ln -s ../f2 "$tree/a/b/soft"
ln -s nowhere "$tree/dangling"
mkfifo "$tree/fifo"
chmod 4755 "$tree/a/f3"
chmod 1777 "$tree/empty"
chmod 0 "$tree/a/f4"
touch -d '2001-02-03 04:05:06.789012345' "$tree/a/f5"
touch -h -d '1999-01-01' "$tree/dangling"
touch -d '2002-02-02' "$tree/a/b/c"
printf 'x' >"$tree/a/ name with spaces and "$'\xc3\xa9\n'
setfattr -n user.note -v value "$tree/a/f6"
setfattr -n user.dir -v value "$tree/a/b"
if [ "$(id -u)" = 0 ]; then
    chown 1234:5678 "$tree/a/f7"
fi
rsync -aHAX --checksum "$tree/" "$dir/copy/"
drop_caches
same "" "$(rsync -aHAX --checksum --delete --itemize-changes "$tree/" "$dir/copy/")" "changes of a second run"
same "" "$(rsync -aHAX --checksum --delete --itemize-changes --dry-run "$dir/copy/" "$tree/")" "changes the other way"
same 3 "$(stat -c %h "$dir/copy/hard2")" "links of a hard-linked file"
# Changes are found and carried over, in place and by replacement.
echo more >>"$tree/a/b/large"
rm "$tree/a/f8"
mv "$tree/a/f9" "$tree/renamed"
rsync -aHAX --checksum --delete --inplace "$tree/" "$dir/copy/"
same "" "$(rsync -aHAX --checksum --delete --itemize-changes "$tree/" "$dir/copy/")" "changes after an update"
diff -r --no-dereference -x fifo "$tree" "$dir/copy"
# Within the mount.
rsync -aHAX --sparse "$dir/copy/" "$dir/second/"
same "" "$(rsync -aHAX --checksum --delete --itemize-changes "$tree/" "$dir/second/")" "changes of the inner copy"
