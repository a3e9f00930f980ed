#!/usr/bin/env bash
# Guess:   `containerd config dump` ("see the output of the final main config with imported in subconfig files") shows a file as it
#          is, or fails: what a file has for a newer containerd is seen there at the latest, on a node that still has the older one.
# Happens: containerd 1.6.20 leaves out what it does not know: settings of plugins that it lacks (`unpack_config` of the transfer
#          service) and keys that its CRI section does not have (a runtime's own `snapshotter`, `sandbox_mode`), which all came
#          with 1.7; with status 0 and no word on stderr. So a dump that looks clean says nothing about what one wrote.
# Version: containerd 1.6.20 of Debian 12, by apt. Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
(cd "$folder" && apt-get -qq -o APT::Sandbox::User=root download containerd/bookworm && dpkg-deb -x containerd_*.deb root)
containerd="$folder/root/usr/bin/containerd"
"$containerd" --version | cut -d' ' -f1-3
cat >"$folder/config.toml" <<'TOML'
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.example/pause:3.10"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.lazy]
    runtime_type = "io.containerd.runc.v2"
    snapshotter = "native"
    sandbox_mode = "podsandbox"
[plugins."io.containerd.transfer.v1.local"]
  max_concurrent_downloads = 9
  [[plugins."io.containerd.transfer.v1.local".unpack_config]]
    platform = "linux/amd64"
    snapshotter = "native"
TOML
"$containerd" --config "$folder/config.toml" config dump >"$folder/out" 2>"$folder/said"
echo "status 0, $(wc -l <"$folder/said") lines on stderr, $(wc -l <"$folder/out") lines of configuration"
[ ! -s "$folder/said" ]
for word in pause:3.10 runtimes.lazy] '"native"' sandbox_mode transfer unpack_config; do
  printf '%-14s shown %s times\n' "$word" "$(grep -cF "$word" "$folder/out" || true)" | tee -a "$folder/shown"
done
[ "$(grep -c 'shown 0 times' "$folder/shown")" = 4 ]
[ "$(grep -cE '^(pause:3.10|runtimes.lazy]) *shown 1 times' "$folder/shown")" = 2 ]
