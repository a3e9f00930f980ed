#!/usr/bin/env bash
# Guess:   the SBOM that a wheel carries (PEP 770), made by the tool that copied foreign libraries into the wheel, names
#          each of those libraries.
# Happens: it names packages of the build image only, so the libraries that the project compiled itself are in no list:
#          FFmpeg, libvpx, libaom, libpng and libavif of opencv, nine of its 15 (auditwheel 6.7.0). One that it does name is
#          OpenSSL 1.1.1k, which a listing of the environment (pip list) does not show.
# Version: opencv-python-headless 5.0.0.93. Date: 2026-11-28.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cd "$folder"
venv/bin/python -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: --python-version 3.12 \
  --platform manylinux_2_28_x86_64 'opencv-python-headless==5.0.0.93'
venv/bin/python - <<'PY'
import json
import pathlib
import zipfile

(wheel,) = pathlib.Path().glob("*.whl")
archive = zipfile.ZipFile(wheel)
names = archive.namelist()
libraries = sorted(name.rpartition("/")[2].partition("-")[0] for name in names if ".libs/" in name and ".so" in name)
(sbom,) = [json.loads(archive.read(name)) for name in names if "/sboms/" in name and name.endswith(".json")]
named = sorted({f"{one['name']} {one.get('version', '')}" for one in sbom["components"]})
print(wheel.name)
print(len(libraries), "libraries:", *libraries)
print("named:", *named, sep="\n  ")
print("made by:", json.dumps(sbom.get("metadata", {}).get("tools")))
assert len(libraries) == 15 and {"libavcodec", "libvpx", "libpng16", "libavif"} <= set(libraries)
assert "openssl-libs 1.1.1k-15.el8_6" in named and len(named) == 6
PY
