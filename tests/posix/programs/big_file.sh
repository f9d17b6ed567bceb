#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A large file (BIG_FILE_MIB, 4096 for the real thing): written, dropped from the caches, read
# back, compared; then once more in parts, out of order.
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
need python3
mib=${BIG_FILE_MIB:-256}
# The same bytes for the same megabyte, wherever one starts: no second large file is needed.
stream() { # FIRST_MIB COUNT
    python3 -c '
import random, sys
first, count = int(sys.argv[1]), int(sys.argv[2])
for i in range(first, first + count):
    sys.stdout.buffer.write(random.Random(i).randbytes(1 << 20))
' "$1" "$2"
}
stream 0 "$mib" >"$dir/file"
same $((mib << 20)) "$(stat -c %s "$dir/file")" "size"
sync "$dir/file"
drop_caches
stream 0 "$mib" | cmp - "$dir/file"
# In parts, the last first, over the old bytes and behind them.
part=$((mib / 8))
for ((i = 8; i >= 0; i--)); do
    stream $((1000000 + i * part)) "$part" |
        dd of="$dir/file" bs=1M iflag=fullblock seek=$((i * part)) conv=notrunc,fsync status=none
done
drop_caches
for ((i = 0; i <= 8; i++)); do
    stream $((1000000 + i * part)) "$part" |
        cmp - <(dd if="$dir/file" bs=1M skip=$((i * part)) count="$part" status=none)
done
cp "$dir/file" "$dir/copy"
cmp "$dir/file" "$dir/copy"
