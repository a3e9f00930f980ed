#!/usr/bin/env bash
# Guess:   Docker's classic builder (`DOCKER_BUILDKIT=0`) refuses what only BuildKit does, as it does for `RUN --mount` and `COPY --chmod`.
# Happens: since its parser is BuildKit's it takes more than it does. `RUN <<EOF` runs an empty command, and the build succeeds without
#          a line of it; `COPY --exclude` copies what it excludes. No word of either. (20.10, with a parser of its own, refuses both.)
# Version: docker.io 28.5.2 (Debian sid, .ci/install-long-peers). Date: 2026-11-29. Needs root and busybox-static.
set -euo pipefail
peers=$(readlink -f "$(dirname "$0")/../.peers/docker28")
folder=$(mktemp -d); export PATH=$peers:$PATH DOCKER_HOST=unix://$folder/d.sock HOME=$folder DOCKER_BUILDKIT=0
dockerd --data-root "$folder/root" --exec-root "$folder/run" -H "$DOCKER_HOST" -p "$folder/d.pid" --iptables=false --ip6tables=false \
  --bridge=none --ip-forward=false --feature containerd-snapshotter=false >"$folder/log" 2>&1 &
daemon=$!
trap 'kill $daemon; wait $daemon || true; umount "$folder/run/netns/default" 2>/dev/null || true; rm -rf "$folder"' EXIT
for _ in $(seq 100); do docker version >/dev/null 2>&1 && break; sleep 0.2; done
mkdir -p "$folder/base/bin" "$folder/context"
cp /bin/busybox "$folder/base/bin/sh"; cp /bin/busybox "$folder/base/bin/ls"
tar -C "$folder/base" -c . | docker import - base:1 >/dev/null
echo kept >"$folder/context/kept"; echo left out >"$folder/context/left"
cat >"$folder/context/Dockerfile" <<'END'
FROM base:1
RUN <<EOF
echo this line runs > /ran
exit 1
EOF
COPY --exclude=left kept left /copied/
RUN ls / /copied
END
docker build --network=host --no-cache "$folder/context" >"$folder/out" 2>&1
grep -x left "$folder/out" && grep 'Successfully built' "$folder/out"
if grep -qx ran "$folder/out"; then echo "the heredoc ran"; exit 1; fi
