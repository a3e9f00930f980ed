#!/usr/bin/env bash
# Guess:   the sha256 behind `#` in the bom-refs of auditwheel's SBOM is that of the library that was copied, or of its first eight
#          digits at least the mark in the copy's name (`libXau-154567c4.so.6.0.0`).
# Happens: it is neither. It is the sha256 of the *path* that the library had on the machine that built the wheel
#          (`/lib64/libXau.so.6.0.0`), and nothing else in the SBOM says which file in the wheel a component is. Whoever
#          hashes files links nothing; whoever tries the usual folders with the copy's name, mark removed, links every one.
# Version: pillow 13.0.0 and opencv-python-headless 5.0.0.93 (PyPI), whose SBOMs auditwheel 6.8.2 and 6.7.0 wrote. Date: 2026-11-28.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" download -q --disable-pip-version-check --no-deps --only-binary :all: --python-version 3.12 \
  --platform manylinux_2_28_x86_64 -d "$folder" 'pillow==13.0.0' 'opencv-python-headless==5.0.0.93'
"$folder/venv/bin/python" - "$folder" <<'PY'
import hashlib
import json
import re
import sys
import zipfile
from pathlib import Path

FOLDERS = ("/lib64", "/usr/lib64", "/lib", "/usr/lib")
for wheel in sorted(Path(sys.argv[1]).glob("*.whl")):
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith("sboms/auditwheel.cdx.json")]
        document = json.loads(archive.read(name))
        copies = [name for name in archive.namelist() if ".libs/" in name and not name.endswith("/")]
        contents = {hashlib.sha256(archive.read(name)).hexdigest() for name in copies}
    marks = {mark for name in copies for mark in re.findall(r"-([0-9a-f]{8})\.", name)}
    hashes = [item["bom-ref"].rpartition("#")[2] for item in document["components"] if "#" in item["bom-ref"]]
    plain = [re.sub(r"-[0-9a-f]{8}(?=\.)", "", name.rpartition("/")[2]) for name in copies]
    paths = {hashlib.sha256(f"{folder}/{name}".encode()).hexdigest(): f"{folder}/{name}" for folder in FOLDERS for name in plain}
    tool = document["metadata"]["tools"][0]
    print(wheel.name.split("-")[0], tool["name"], tool["version"], len(hashes), "hashes;",
          len(set(hashes) & contents), "of a file,", len({each[:8] for each in hashes} & marks), "of a mark,",
          len(set(hashes) & paths.keys()), "of a path:", ", ".join(sorted(paths[each] for each in hashes if each in paths)))
    assert hashes and not set(hashes) & contents and not {each[:8] for each in hashes} & marks
    assert set(hashes) <= paths.keys()
PY
