#!/usr/bin/env bash
# Guess:   a program in a wheel's .data/scripts can be started after the wheel was installed, and installers agree on
#          which files are programs.
# Happens: pip makes nothing executable that the archive does not call a regular file with an executable bit: a script
#          without that bit is installed as 0644 and cannot be started. uv makes every script 0755. A file with 0755 and
#          no file type bits is a program for uv and none for pip; a symbolic link becomes a file with the link's text
#          with both, 0644 with pip and 0755 with uv.
# Version: pip 26.3, uv 0.13.9. Date: 2026-11-28.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv tools
tools/bin/python -m pip install -q --disable-pip-version-check 'pip==26.3' 'uv==0.13.9'
python3 -m venv --without-pip by-pip
python3 -m venv --without-pip by-uv
python3 - <<'PY'
import base64
import hashlib
import stat
import zipfile

files = {
    "demo/__init__.py": (b"", 0o100644),
    "demo/link": (b"__init__.py", stat.S_IFLNK | 0o777),
    "demo/no-type": (b"#!/bin/sh\n", 0o755),
    "demo-1.0.data/scripts/demo-tool": (b"#!/bin/sh\necho works\n", 0o100644),
    "demo-1.0.dist-info/METADATA": (b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n", 0o100644),
    "demo-1.0.dist-info/WHEEL": (b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n", 0o100644),
}
rows = ["demo-1.0.dist-info/RECORD,,"]
with zipfile.ZipFile("demo-1.0-py3-none-any.whl", "w") as archive:
    for name, (content, mode) in files.items():
        entry = zipfile.ZipInfo(name)
        entry.external_attr = mode << 16
        archive.writestr(entry, content)
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.append(f"{name},sha256={digest},{len(content)}")
    archive.writestr("demo-1.0.dist-info/RECORD", "\n".join(rows) + "\n")
PY
tools/bin/python -m pip --python by-pip/bin/python install -q --disable-pip-version-check --no-index demo-1.0-py3-none-any.whl
tools/bin/uv pip install -q --no-index --python by-uv/bin/python demo-1.0-py3-none-any.whl
tools/bin/python -m pip --version; tools/bin/uv --version
python3 - <<'PY'
import pathlib
import subprocess

found = {}
for root in (pathlib.Path("by-pip"), pathlib.Path("by-uv")):
    (site,) = root.glob("lib/python3*/site-packages")
    paths = {"script": root / "bin/demo-tool", "no type bits": site / "demo/no-type", "link": site / "demo/link"}
    found[root.name] = {name: f"{path.lstat().st_mode:o}" for name, path in paths.items()}
    print(root.name, found[root.name])
files = {"script": "100644", "no type bits": "100644", "link": "100644"}
assert found == {"by-pip": files, "by-uv": dict.fromkeys(files, "100755")}
try:
    subprocess.run(["by-pip/bin/demo-tool"], check=True)
    raise SystemExit("pip's script starts now")
except PermissionError as error:
    print(error)
subprocess.run(["by-uv/bin/demo-tool"], check=True)
PY
