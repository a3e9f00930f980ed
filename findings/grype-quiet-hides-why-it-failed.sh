#!/usr/bin/env bash
# Guess:   `grype --quiet` leaves out progress and hints; that a scan failed, and why, stands on stderr all the same, as with trivy --quiet.
# Happens: nothing at all is printed, on either stream: without a database, or for an image that is not there, the status is 1 and the
#          reason is gone. A job that keeps stderr to say why a scan failed keeps nothing. Without --quiet, and
#          with stderr in a file, grype prints no progress anyway, and the reason, coloured even there.
# Version: github.com/anchore/grype v0.121.2 (needs go; builds it, many minutes the first time). Date: 2026-11-30.
set -euo pipefail
folder=$(mktemp -d); trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
cd "$folder"
printf 'module commands\n\ngo 1.26.0\n\nrequire github.com/anchore/grype v0.121.2\n' >go.mod
CGO_ENABLED=0 GOFLAGS='-mod=mod -buildvcs=false' go build -o grype github.com/anchore/grype/cmd/grype 2>/dev/null
mkdir image
export GRYPE_DB_CACHE_DIR=$folder/none GRYPE_DB_AUTO_UPDATE=false GRYPE_CHECK_FOR_APP_UPDATE=false
go version -m grype | grep -P '\tmod\tgithub.com/anchore/grype\t'

quiet=0; ./grype --quiet "dir:$folder/image" --output json >quiet.out 2>quiet.err || quiet=$?
plain=0; ./grype "dir:$folder/image" --output json >plain.out 2>plain.err || plain=$?
echo "with --quiet: status $quiet, $(wc -c <quiet.out) bytes on stdout, $(wc -c <quiet.err) on stderr"
echo "without: status $plain, $(wc -c <plain.out) bytes on stdout, and on stderr:"
cat -v plain.err

[ "$quiet" = 1 ] && [ "$plain" = 1 ]
[ ! -s quiet.out ] && [ ! -s quiet.err ]
grep -q 'failed to load vulnerability db' plain.err && grep -q $'\x1b\\[31m' plain.err
