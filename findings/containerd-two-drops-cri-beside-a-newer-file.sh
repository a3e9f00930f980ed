#!/usr/bin/env bash
# Guess:   containerd 2 takes a config.toml of version 2 over, and a drop-in of version 3 in its `imports` adds to it: each file says
#          which version it has.
# Happens: containerd 2.1.9 moves nothing of the older file once one of them has version 3: all that it says of CRI is dropped, with a
#          warning for each unknown key on stderr, and status 0. Runtimes with their options (SystemdCgroup, NVIDIA's binary), the
#          default runtime, registries and the pause image are containerd's defaults then. A drop-in of version 2 that names a
#          runtime in the section of version 3 takes all runtimes of the main file away, without a word; one that names it in CRI's
#          old section takes none.
# Version: github.com/containerd/containerd/v2 v2.1.9 (needs go; builds its daemon, some minutes the first time). Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
mkdir "$folder/conf.d"
containerd="$folder/containerd"
(
  cd "$folder"
  printf 'module finding\n\ngo 1.24\n\nrequire github.com/containerd/containerd/v2 v2.1.9\n' >go.mod
  CGO_ENABLED=0 GOFLAGS='-mod=mod -buildvcs=false -tags=no_btrfs,no_devmapper,no_zfs' \
    go build -o containerd github.com/containerd/containerd/v2/cmd/containerd 2>build.log || { cat build.log; exit 1; }
)
"$containerd" --version | cut -d' ' -f1-3
cat >"$folder/config.toml" <<TOML
version = 2
imports = ["$folder/conf.d/*.toml"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.example/pause:1"
[plugins."io.containerd.grpc.v1.cri".containerd]
  default_runtime_name = "nvidia"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]
  BinaryName = "/usr/bin/nvidia-container-runtime"
  SystemdCgroup = true
TOML
drop_in() { # version, section of runtimes
  printf 'version = %s\n[plugins."%s".containerd.runtimes.more]\n  runtime_type = "io.containerd.runc.v2"\n' "$1" "$2" \
    >"$folder/conf.d/more.toml"
}
facts() { # a name
  "$containerd" --config "$folder/config.toml" config dump >"$folder/out" 2>"$folder/said"
  printf '%s: default %s, runtimes %s, SystemdCgroup %s, warnings %s\n' "$1" \
    "$(sed -n "s/^ *default_runtime_name = '\(.*\)'/\1/p" "$folder/out")" \
    "$(grep -oE "runtimes\.[a-z]+\]" "$folder/out" | sed 's/runtimes\.//; s/\]//' | paste -sd,)" \
    "$(grep -c 'SystemdCgroup = true' "$folder/out" || true)" "$(grep -c 'Ignoring unknown key' "$folder/said" || true)" |
    tee -a "$folder/facts"
}
facts alone
drop_in 3 io.containerd.cri.v1.runtime; facts "version 3"
drop_in 2 io.containerd.cri.v1.runtime; facts "version 2, new section"
drop_in 2 io.containerd.grpc.v1.cri; facts "version 2, old section"
grep -q '^alone: default nvidia, runtimes .*nvidia.*, SystemdCgroup 1, warnings 0$' "$folder/facts"
grep -qE '^version 3: default runc, runtimes more(,runc)?, SystemdCgroup 0, warnings [1-9]' "$folder/facts"
grep -qE '^version 2, new section: .* runtimes more(,runc)?, SystemdCgroup 0' "$folder/facts"
grep -qE '^version 2, old section: default nvidia, runtimes .*more.*nvidia.*, SystemdCgroup 1, warnings 0$' "$folder/facts"
