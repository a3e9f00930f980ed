#!/usr/bin/env bash
# Guess:   a folder named by --find-links is there to be preferred, so when it and the index both have a wheel of one file
#          name, pip and uv take the folder's; or they say that the two differ.
# Happens: pip takes the index's, uv the folder's, both with status 0 and without a word. A patched build that keeps its file
#          name is installed by one and silently replaced by the other.
# Version: pip 26.3, uv 0.13.9. Date: 2026-11-28.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'pip==26.3' 'uv==0.13.9'
cd "$folder"
env -u PIP_FIND_LINKS venv/bin/python - <<'PY'
import functools
import pathlib
import subprocess
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer


def wheel(folder, origin):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    info = "demo-1.0.dist-info"
    with zipfile.ZipFile(folder / "demo-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("demo.py", f"ORIGIN = '{origin}'\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"demo.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


wheel("folder", "folder")
wheel("served/simple/demo", "index")
server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory="served"))
threading.Thread(target=server.serve_forever, daemon=True).start()
options = ["--index-url", f"http://127.0.0.1:{server.server_address[1]}/simple/", "--find-links", "folder"]
answers = {}
for name, command in {
    "pip": ["venv/bin/python", "-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check"],
    "uv": ["venv/bin/uv", "pip", "install", "--no-cache"],
}.items():
    done = subprocess.run([*command, *options, "--target", f"by-{name}", "demo"], capture_output=True, text=True, check=True)
    answers[name] = pathlib.Path(f"by-{name}/demo.py").read_text().split("'")[1]
    print(f"{name} took the wheel of the {answers[name]}; warnings:", "WARN" in (done.stdout + done.stderr).upper())
    assert "WARN" not in (done.stdout + done.stderr).upper()
assert answers == {"pip": "index", "uv": "folder"}
PY
venv/bin/python -m pip --version | cut -d ' ' -f 1-2
venv/bin/uv --version | cut -d ' ' -f 1-2
