#!/usr/bin/env bash
# Guess:   a layer that is converted to eStargz unpacks to the same files.
# Happens: of a name that stands in a layer twice the package keeps the last entry, and forgets that hard links were made to
#          the first. With a (old), b as a link to a, a (new), the tar unpacks to a with new and b with old content. The
#          converted layer has b in front of a, as a link to it: tar cannot unpack it, and a node that mounts it by its table
#          shows the new content in both. The old content is lost.
# Version: github.com/containerd/stargz-snapshotter/estargz v0.18.2 (needs go). Date: 2026-11-28.
set -euo pipefail
folder=$(mktemp -d)
trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
export GOPATH="$folder/go"
cd "$folder"
cat >go.mod <<'END'
module finding
go 1.24
require github.com/containerd/stargz-snapshotter/estargz v0.18.2
END
cat >main.go <<'END'
package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"

	"github.com/containerd/stargz-snapshotter/estargz"
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func main() {
	var layer bytes.Buffer
	writer := tar.NewWriter(&layer)
	add := func(name string, kind byte, link, content string) {
		header := &tar.Header{Name: name, Typeflag: kind, Linkname: link, Mode: 0o644, Size: int64(len(content))}
		if err := writer.WriteHeader(header); err != nil {
			panic(err)
		}
		must(writer.Write([]byte(content)))
	}
	add("a", tar.TypeReg, "", "old")
	add("b", tar.TypeLink, "a", "")
	add("a", tar.TypeReg, "", "new")
	if err := writer.Close(); err != nil {
		panic(err)
	}
	must(0, os.WriteFile("layer.tar", layer.Bytes(), 0o644))
	built := must(estargz.Build(io.NewSectionReader(bytes.NewReader(layer.Bytes()), 0, int64(layer.Len()))))
	blob := must(io.ReadAll(built))
	must(0, os.WriteFile("estargz.tar.gz", blob, 0o644))
	reader := must(estargz.Open(io.NewSectionReader(bytes.NewReader(blob), 0, int64(len(blob)))))
	content := make([]byte, 3)
	must(must(reader.OpenFile("b")).ReadAt(content, 0))
	fmt.Printf("mounted: b has %q\n", content)
}
END
go mod tidy >/dev/null 2>&1
grep estargz go.mod
output=$(go run .)
mkdir before after
tar -xf layer.tar -C before
output+=$'\n'"unpacked before: b has \"$(cat before/b)\""
output+=$'\n'"unpacked after: $(tar -xzf estargz.tar.gz -C after 2>/dev/null && echo "b has \"$(cat after/b)\"" || echo 'tar fails')"
echo "$output"
[ "$output" = 'mounted: b has "new"
unpacked before: b has "old"
unpacked after: tar fails' ]
