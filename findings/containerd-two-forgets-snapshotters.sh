#!/usr/bin/env bash
# Guess:   containerd 2 reads a config.toml of version 2 as containerd 1 did, or says what it cannot take over: `config migrate` is
#          there to show it.
# Happens: containerd 2.1.9 moves CRI's `snapshotter`, `disable_snapshot_annotations` and `discard_unpacked_layers` only where the same
#          file has a `runtimes` table, which 1.x did not ask for: without one pods go on with `overlayfs`, without a word, while the
#          settings beside them (pause image, registry folder, `default_runtime_name`) are taken. With the table, a runtime's own
#          `snapshotter` still comes to no entry of `runtime_platforms`, which is what 2.x chooses the snapshotter of a pull by.
# Version: github.com/containerd/containerd/v2 v2.1.9 (needs go; builds its daemon, some minutes the first time). Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
printf 'module finding\n\ngo 1.24\n\nrequire github.com/containerd/containerd/v2 v2.1.9\n' >go.mod
CGO_ENABLED=0 GOFLAGS='-mod=mod -buildvcs=false -tags=no_btrfs,no_devmapper,no_zfs' \
  go build -o containerd github.com/containerd/containerd/v2/cmd/containerd 2>build.log || { cat build.log; exit 1; }
./containerd --version | cut -d' ' -f1-3
cat >without.toml <<'TOML'
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.example/pause:3.10"
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "/etc/certs.d"
[plugins."io.containerd.grpc.v1.cri".containerd]
  default_runtime_name = "own"
  snapshotter = "native"
  disable_snapshot_annotations = false
  discard_unpacked_layers = true
TOML
cat >three.toml <<'TOML'
version = 3
[plugins."io.containerd.cri.v1.images".runtime_platforms.own]
  snapshotter = "blockfile"
TOML
cp without.toml with.toml
cat >>with.toml <<'TOML'
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.own]
    runtime_type = "io.containerd.runc.v2"
    snapshotter = "blockfile"
TOML
value() { # of a dump: what stands behind a key at the first place
  grep -m1 -oE "^ *$1 = .*" "$2" | sed "s/.* = //; s/'//g"
}
facts() {
  ./containerd --config "$1.toml" config migrate >"$1.out" 2>"$1.said"
  printf '%-8s pause %s, registries %s, default runtime %s; snapshotter %s, annotations disabled %s, discards %s; pulls by runtime: %s; said %s lines\n' "$1" \
    "$(value sandbox "$1.out")" "$(value config_path "$1.out")" "$(value default_runtime_name "$1.out")" \
    "$(value snapshotter "$1.out")" "$(value disable_snapshot_annotations "$1.out")" "$(value discard_unpacked_layers "$1.out")" \
    "$(grep -oE "runtime_platforms\.[a-z]+\]" "$1.out" | sed 's/.*\.\(.*\)\]/\1/')" "$(wc -l <"$1.said")" | tee "$1.facts"
}
facts without
facts with
facts three
same='pause registry.example/pause:3.10, registries /etc/certs.d, default runtime own; snapshotter'
grep -qF "$same overlayfs, annotations disabled true, discards false; pulls by runtime: ; said 0 lines" without.facts
grep -qF "$same native, annotations disabled false, discards true; pulls by runtime: ; said 0 lines" with.facts
grep -q "pulls by runtime: own;" three.facts # how it looks where somebody wrote it
grep -q "snapshotter = 'blockfile'" with.out # the runtime's section has it
