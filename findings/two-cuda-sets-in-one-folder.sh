#!/usr/bin/env bash
# Guess:   packages of two CUDA majors can stand side by side, as their names (-cu12, -cu13) say; if not, an installer refuses
#          or `check` complains.
# Happens: nvidia-nvshmem-cu12 and -cu13 (torch and tensorflow[and-cuda] together bring such pairs) write 59 files of the
#          same paths, 15 of them different. pip and uv install both with status 0, one wins, and the other's RECORD no
#          longer fits. `pip check` and `uv pip check` are content.
# Version: pip 26.3, uv 0.13.9, nvidia-nvshmem-cu12 3.4.5, nvidia-nvshmem-cu13 3.4.5; 270 MB. Date: 2026-11-28.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'pip==26.3' 'uv==0.13.9'
cd "$folder"
pair=(nvidia-nvshmem-cu12==3.4.5 nvidia-nvshmem-cu13==3.4.5)
venv/bin/python -m pip --version | cut -d ' ' -f 1-2
venv/bin/uv --version | cut -d ' ' -f 1-2
for installer in pip uv; do
  python3 -m venv --without-pip "$installer"
  if [ "$installer" = pip ]; then
    venv/bin/python -m pip --python pip/bin/python install -q --no-deps "${pair[@]}"
    venv/bin/python -m pip --python pip/bin/python check
  else
    venv/bin/uv pip install -q --no-cache --python uv/bin/python --no-deps "${pair[@]}"
    venv/bin/uv pip check --python uv/bin/python
  fi
  "$installer/bin/python" - "$installer" <<'PY'
import base64
import hashlib
import sys
from importlib.metadata import files

paths, wrong = [], 0
for name in ("nvidia-nvshmem-cu12", "nvidia-nvshmem-cu13"):
    entries = [one for one in files(name) if one.hash]
    paths.append({str(one) for one in entries if ".dist-info" not in str(one)})
    for one in entries:
        found = hashlib.sha256(one.locate().read_bytes()).digest()
        wrong += base64.urlsafe_b64encode(found).rstrip(b"=").decode() != one.hash.value
common = paths[0] & paths[1]
print(f"{sys.argv[1]}: {len(common)} files of both, {wrong} that are not what a RECORD says")
assert len(common) == 59 and wrong == 15
PY
done
