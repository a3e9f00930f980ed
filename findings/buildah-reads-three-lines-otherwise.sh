#!/usr/bin/env bash
# Guess:   a Dockerfile that BuildKit builds, Buildah builds to the same image, or it says that it cannot.
# Happens: three lines mean something else, without a word. `${NAME:?message}` is an error where NAME is empty: Buildah takes the message
#          for the value. `ARG TARGETARCH=mine` is "mine" in BuildKit: Buildah puts the machine's there. A line that ends with two
#          backslashes ends there: Buildah goes on in the next one, so that `RUN true` below it never runs.
# Version: buildah 1.43.2 (Debian sid, .ci/install-long-peers). Date: 2026-11-29. Needs root and busybox-static.
set -euo pipefail
buildah=$(readlink -f "$(dirname "$0")/../.peers/buildah/buildah")
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
printf '[storage]\ndriver = "vfs"\ngraphroot = "%s/root"\nrunroot = "%s/run"\n' "$folder" "$folder" >"$folder/storage.conf"
export CONTAINERS_STORAGE_CONF=$folder/storage.conf BUILDAH_ISOLATION=chroot
mkdir -p "$folder/context/bin"
cp /bin/busybox "$folder/context/bin/sh"; cp /bin/busybox "$folder/context/bin/echo"
cat >"$folder/context/Dockerfile" <<'END'
FROM scratch
COPY bin /bin
ENV VALUE="${NOTHING:?it must be told}"
ARG TARGETARCH=mine
RUN echo "value=[$VALUE] arch=[$TARGETARCH]"
RUN echo first\\
RUN echo second
END
"$buildah" build --network=host --no-cache "$folder/context" >"$folder/out" 2>&1 || { cat "$folder/out"; exit 1; }
grep -E '^(value|first)' "$folder/out"
grep -q 'value=\[it must be told\]' "$folder/out"
if grep -q 'arch=\[mine\]' "$folder/out"; then echo "the default counts"; exit 1; fi
grep -qx 'firstRUN echo second' "$folder/out"
