#!/usr/bin/env bash
# Guess:   a layer that makes a hard link to a file of a layer below gives that file one more name: whoever has a file under two
#          names there has it under three; or, as overlayfs copies up what changes, the new name alone is a copy.
# Happens: neither. The kernel copies the file up under the name that was linked to, and links that: this name and the new one are
#          one file in the upper layer, and every other name that the file has below stays another file with the old mode. What
#          changes the new name afterwards (containerd sets owner and mode of a link) changes both, and not the third.
# Version: Linux overlayfs, 6.x, without `index=on`, as containerd and Docker mount it. Date: 2026-11-29.
set -euo pipefail
unshare -m bash -euo pipefail -c '
folder=$(mktemp -d); mount -t tmpfs none "$folder"; cd "$folder"
mkdir lower upper work merged
echo one > lower/a; ln lower/a lower/b
mount -t overlay none -o lowerdir=lower,upperdir=upper,workdir=work merged
ln merged/b merged/c; chmod 4755 merged/c
stat -c "%n inode %i mode %a" merged/*
same() { [ "$(stat -c %i "merged/$1")" = "$(stat -c %i "merged/$2")" ]; }
same b c; ! same a b
[ "$(stat -c %a merged/b)" = 4755 ]; [ "$(stat -c %a merged/a)" = 644 ]
[ "$(ls upper | tr "\n" " ")" = "b c " ]
echo "the name that was linked to went up with the new one; the other stayed: $(uname -r)"
umount merged; cd /; umount "$folder"; rmdir "$folder"
'
