#!/usr/bin/env bash
# Guess:   Docker reads a .dockerignore in one way: the last line that matches a file, or a folder above it, decides.
# Happens: its matcher has two functions, "the same" by their documentation, that differ. With `folder/file`, then `!folder`,
#          MatchesOrParentMatches (the classic builder) takes folder/file back; MatchesUsingParentResults (BuildKit, which walks
#          from folder to folder) leaves it out: `!folder` changed nothing for the folder itself, so it is not remembered.
#          One builder packs a file, the other does not.
# Version: github.com/moby/patternmatcher v0.6.1 (needs go). Date: 2026-11-28.
set -euo pipefail
folder=$(mktemp -d)
trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
export GOPATH="$folder/go"
cd "$folder"
cat >go.mod <<'END'
module finding
go 1.21
require github.com/moby/patternmatcher v0.6.1
END
cat >main.go <<'END'
package main

import (
	"fmt"

	"github.com/moby/patternmatcher"
)

func main() {
	lines := []string{"folder/file", "!folder"}
	matcher, err := patternmatcher.New(lines)
	if err != nil {
		panic(err)
	}
	classic, _ := matcher.MatchesOrParentMatches("folder/file")
	_, above, _ := matcher.MatchesUsingParentResults("folder", patternmatcher.MatchInfo{})
	buildkit, _, _ := matcher.MatchesUsingParentResults("folder/file", above)
	fmt.Printf("%v leave out folder/file: classic builder %v, BuildKit %v\n", lines, classic, buildkit)
}
END
go mod tidy >/dev/null 2>&1
grep patternmatcher go.mod
output=$(go run .)
echo "$output"
[ "$output" = "[folder/file !folder] leave out folder/file: classic builder false, BuildKit true" ]
