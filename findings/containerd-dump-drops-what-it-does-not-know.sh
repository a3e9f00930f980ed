#!/usr/bin/env bash
# Guess:   `containerd config dump` ("see the output of the final main config with imported in subconfig files") shows a file as it
#          is, or fails: a section, or a key, of a newer containerd, or a mistyped one, is seen there at the latest.
# Happens: containerd 1.6.20 leaves out what it does not know: settings of plugins that it lacks (`unpack_config` of the transfer
#          service, which came with 1.7) and keys that CRI's section does not have, with status 0 and no word on stderr. An unknown key
#          *outside* of `plugins` is not shown either. So a dump that looks clean says nothing about what one wrote; a key of
#          the wrong type is an error.
# Version: containerd 1.6.20 of Debian 12, by apt. Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
(cd "$folder" && apt-get -qq -o APT::Sandbox::User=root download containerd/bookworm && dpkg-deb -x containerd_*.deb root)
containerd="$folder/root/usr/bin/containerd"
"$containerd" --version | cut -d' ' -f1-3
cat >"$folder/config.toml" <<'TOML'
version = 2
oom_scores = -999
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.example/pause:3.10"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshoter = "native"
[plugins."io.containerd.transfer.v1.local"]
  max_concurrent_downloads = 9
  [[plugins."io.containerd.transfer.v1.local".unpack_config]]
    platform = "linux/amd64"
    snapshotter = "native"
TOML
dump() { "$containerd" --config "$folder/config.toml" config dump >"$folder/out" 2>"$folder/said"; }
dump
echo "status 0, $(wc -l <"$folder/said") lines on stderr, $(wc -l <"$folder/out") lines of configuration"
[ ! -s "$folder/said" ]
for word in pause:3.10 oom_scores snapshoter transfer unpack_config; do
  printf '%-14s shown %s times\n' "$word" "$(grep -c "$word" "$folder/out" || true)" | tee -a "$folder/shown"
done
[ "$(grep -c 'shown 0 times' "$folder/shown")" = 4 ]
grep -q 'pause:3.10 *shown 1 times' "$folder/shown"
sed -i 's/^    snapshoter = .*/    snapshotter = 7/' "$folder/config.toml"
if dump; then echo "a wrong type is taken"; exit 1; fi
echo "a wrong type: $(tail -1 "$folder/said" | cut -c1-100)"
