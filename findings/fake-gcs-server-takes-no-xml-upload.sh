#!/usr/bin/env bash
# Guess: obstore (the Python package over Rust's object_store) can be tested against fake-gcs-server, as Google's own clients are.
# What happens: obstore uploads by the XML API (PUT /BUCKET/OBJECT), and fake-gcs-server takes that for its JSON API:
#   400 "invalid uploadType". Objects that came by the JSON API can be read. So nothing is stored through obstore.
# Versions: obstore 0.12.1, fake-gcs-server 1.56.1. Date: 2026-11-29. Needs Go and Python; the first build takes some minutes.
set -euo pipefail
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; chmod -R u+w "$work"; rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q obstore==0.12.1
GOBIN=$work/bin go install github.com/fsouza/fake-gcs-server@v1.56.1
port=$("$work/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
mkdir -p "$work/data/images"
echo stored >"$work/data/images/there"
"$work/bin/fake-gcs-server" -scheme http -host 127.0.0.1 -port "$port" -public-host "127.0.0.1:$port" \
  -external-url "http://127.0.0.1:$port" -filesystem-root "$work/data" >/dev/null 2>&1 &
server=$!
cat >"$work/ask.py" <<'END'
import json, pathlib, sys, time
import obstore
from obstore.store import GCSStore

port, work = sys.argv[1], pathlib.Path(sys.argv[2])
account = work / "account.json"
account.write_text(json.dumps({"gcs_base_url": f"http://127.0.0.1:{port}", "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}))
store = GCSStore("images", service_account=str(account), client_options={"allow_http": True})
for _ in range(50):
    try:
        print("read:", bytes(obstore.get(store, "there").bytes()).decode().strip())
        break
    except Exception:
        time.sleep(0.1)
try:
    obstore.put(store, "new", b"content")
    print("put: stored")
except Exception as error:
    print("put:", "invalid uploadType" if "invalid uploadType" in str(error) else error)
END
said=$("$work/venv/bin/python" "$work/ask.py" "$port" "$work")
echo "$said"
[ "$said" = $'read: stored\nput: invalid uploadType' ]
