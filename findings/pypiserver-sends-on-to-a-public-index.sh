#!/usr/bin/env bash
# Guess:   a package server of one's own gives what it has, and answers 404 for a project that it lacks.
# Happens: pypiserver sends on (303) to a public index whoever asks for what it lacks, by default. pip follows without a word, so
#          one --index-url, of a private server, is also the public index: a private name that is not there yet, or not any
#          more, is anybody's. --disable-fallback gives the 404. Nothing here asks the host that is named.
# Version: pypiserver 2.4.2. Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d); trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'pypiserver==2.4.2'
mkdir "$folder/packages"
ask() {  # options of the server -> status, and whether another host is named
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  "$folder/venv/bin/pypi-server" run -i 127.0.0.1 -p "$port" "$@" "$folder/packages" >/dev/null 2>&1 &
  server=$!
  python3 - "$port" <<'PY'
import http.client
import sys
import time
from urllib.parse import urlsplit

for _ in range(600):
    try:
        connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
        connection.request("GET", "/simple/acme-core/")
        answer = connection.getresponse()
        break
    except OSError:
        time.sleep(0.1)
elsewhere = urlsplit(answer.headers.get("Location", "")).hostname not in (None, "127.0.0.1")
print(answer.status, "another host" if elsewhere else "no other host")
PY
  kill "$server"; wait "$server" 2>/dev/null || true
}
first=$(ask); second=$(ask --disable-fallback)
echo "as it is: $first"
echo "with --disable-fallback: $second"
[ "$first" = "303 another host" ] || [ "$first" = "302 another host" ] || { echo "this changed"; exit 1; }
[ "$second" = "404 no other host" ] || { echo "this changed"; exit 1; }
