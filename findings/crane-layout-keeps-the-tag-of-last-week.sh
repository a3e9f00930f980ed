#!/usr/bin/env bash
# Guess:   `crane pull --format=oci --annotate-ref IMAGE:TAG FOLDER`, run again when the tag has moved, leaves the new image under its name in
#          the folder, as `oras cp --to-oci-layout` and `skopeo copy` to `oci:` do.
# Happens: it appends: the name then stands in index.json twice, the old image in front, and crane says nothing. Asked for that name, oras
#          gives the new image and skopeo the old one, both with status 0: a folder that is carried over an air gap each week, and
#          unpacked with skopeo there, ships the image of the first week for ever. `crane push` of the folder wants --index then, and
#          makes one index of all weeks.
# Version: github.com/google/go-containerregistry v0.22.1, oras.land/oras v1.3.3 (needs go), skopeo 1.9.3 and docker-registry 2.8.2 of Debian
#          12, by apt. Date: 2026-11-30.
set -euo pipefail
folder=$(mktemp -d); server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
cd "$folder"
for module in github.com/google/go-containerregistry/cmd/crane@v0.22.1 oras.land/oras/cmd/oras@v1.3.3; do
  GOBIN=$folder GOFLAGS=-buildvcs=false go install "$module" 2>build.log || { cat build.log; exit 1; }
done
apt-get -qq -o APT::Sandbox::User=root download docker-registry/bookworm skopeo/bookworm
for each in *.deb; do dpkg-deb -x "$each" root; done
skopeo() { root/usr/bin/skopeo --insecure-policy "$@"; }
skopeo --version
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
printf 'version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "127.0.0.1:%s"}\n' "$folder/store" "$port" >registry.yml
root/usr/bin/docker-registry serve registry.yml >registry.log 2>&1 & server=$!
for _ in $(seq 100); do python3 -c "import socket; socket.create_connection(('127.0.0.1', $port))" 2>/dev/null && break; sleep 0.1; done
name=127.0.0.1:$port/app:v1
for week in 1 2; do
  mkdir "week$week" && echo "week $week" >"week$week/file" && tar -C "week$week" -cf layer.tar file
  ./crane append --oci-empty-base --new_layer layer.tar --new_tag "$name" >/dev/null 2>&1
  ./crane pull --format=oci --annotate-ref "$name" crane-folder
  skopeo copy --quiet --src-tls-verify=false "docker://$name" "oci:skopeo-folder:$name"
done
now=$(./crane digest "$name")
for kind in crane skopeo; do
  ./oras cp --from-oci-layout-path "$kind-folder" "$name" --to-oci-layout "$kind-oras:v1" >/dev/null
  by_skopeo=sha256:$(skopeo inspect --raw "oci:$kind-folder:$name" | sha256sum | cut -d' ' -f1)
  by_oras=$(./oras resolve --oci-layout "$kind-oras:v1")
  echo "registry ${now:0:19}, folder of $kind: $(grep -o '"digest"' "$kind-folder/index.json" | wc -l) entries; oras takes ${by_oras:0:19}, skopeo ${by_skopeo:0:19}"
  [ "$by_oras" = "$now" ]
  if [ "$kind" = crane ]; then [ "$by_skopeo" != "$now" ]; else [ "$by_skopeo" = "$now" ]; fi
done
