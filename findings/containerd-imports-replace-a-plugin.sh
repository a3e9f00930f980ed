#!/usr/bin/env bash
# Guess:   a file in containerd's `imports` adds to the main one: a drop-in that brings one more runtime, or a registry folder, leaves
#          the runtimes that the operator wrote.
# Happens: containerd 1.6.20 takes the imported file's section of a plugin in place of the main file's whole section: the operator's
#          `runc` with SystemdCgroup and his sandbox image are gone, without a word; what the file does not name has containerd's
#          defaults, so pods start with another cgroup driver than the kubelet's. Sections of other plugins stay, and so do other
#          entries of `proxy_plugins`.
# Version: containerd 1.6.20 of Debian 12, by apt. Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
(cd "$folder" && apt-get -qq -o APT::Sandbox::User=root download containerd/bookworm && dpkg-deb -x containerd_*.deb root)
containerd="$folder/root/usr/bin/containerd"
"$containerd" --version | cut -d' ' -f1-3
mkdir "$folder/conf.d"
cat >"$folder/main.toml" <<TOML
version = 2
imports = ["$folder/conf.d/*.toml"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.example/pause:3.10"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = true
[plugins."io.containerd.gc.v1.scheduler"]
  pause_threshold = 0.05
[proxy_plugins.first]
  type = "snapshot"
  address = "/run/first.sock"
TOML
cat >"$folder/drop-in.toml" <<'TOML'
version = 2
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.lazy]
  runtime_type = "io.containerd.runc.v2"
  snapshotter = "second"
[proxy_plugins.second]
  type = "snapshot"
  address = "/run/second.sock"
TOML
dump() { "$containerd" --config "$folder/main.toml" config dump; }
facts() { # of a dump: what the operator wrote, and what the drop-in brings
  printf '%-16s sandbox %s, SystemdCgroup %s, runtimes %s, gc %s, proxy plugins %s\n' "$1" \
    "$(grep -o 'sandbox_image = .*' "$2" | cut -d'"' -f2)" \
    "$(grep -c 'SystemdCgroup = true' "$2" || true)" \
    "$(grep -oE 'containerd\.runtimes\.[a-z]+\]' "$2" | sed 's/.*\.\(.*\)\]/\1/' | sort -u | paste -sd+)" \
    "$(grep -o 'pause_threshold = .*' "$2" | cut -d' ' -f3)" \
    "$(grep -oE 'proxy_plugins\.[a-z]+\]' "$2" | sed 's/.*\.\(.*\)\]/\1/' | sort | paste -sd+)"
}
dump >"$folder/alone" 2>/dev/null
facts "without drop-in" "$folder/alone" | tee "$folder/said"
cp "$folder/drop-in.toml" "$folder/conf.d/"
dump >"$folder/both" 2>/dev/null
facts "with drop-in" "$folder/both" | tee -a "$folder/said"
grep -q 'without.*pause:3.10, SystemdCgroup 1, .*runc' "$folder/said"
grep -q 'gc 0.05' <(tail -1 "$folder/said")
grep -q 'first+second' <(tail -1 "$folder/said")
grep -q 'SystemdCgroup 0' <(tail -1 "$folder/said")
grep -q 'sandbox registry.k8s.io/pause' <(tail -1 "$folder/said")
