#!/usr/bin/env bash
# Guess:   `pip install --python-version 3.13` chooses what an installation with Python 3.13 needs: the docs of the option
#          speak of wheels and of Requires-Python, and the wheels are indeed those of 3.13.
# Happens: environment markers are those of the Python that runs pip. `Requires-Dist: b; python_version >= "3.13"` is left
#          out and `c; python_version < "3.13"` is taken along, with status 0: gradio without its audioop-lts, for example,
#          which then fails at the first import. `uv pip compile --python-version` takes the asked one.
# Version: pip 26.3, uv 0.13.9, run with a Python below 3.13. Date: 2026-11-28.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'pip==26.3' 'uv==0.13.9'
cd "$folder"
venv/bin/python - <<'PY'
import sys
import zipfile

assert sys.version_info < (3, 13), "run this with a Python below 3.13"
needs = ('b; python_version >= "3.13"', 'c; python_version < "3.13"')
for name, requires in (("a", needs), ("b", ()), ("c", ())):
    info = f"{name}-1.0.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *(f"Requires-Dist: {one}" for one in requires)]
    with zipfile.ZipFile(f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", "\n".join(lines) + "\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
PY
venv/bin/python -m pip --version | cut -d ' ' -f 1-2
venv/bin/uv --version | cut -d ' ' -f 1-2
pip_says=$(venv/bin/python -m pip install --disable-pip-version-check --dry-run --no-index --find-links . --target t \
  --only-binary :all: --python-version 3.13 a | grep Would)
uv_says=$(echo a | venv/bin/uv pip compile -q --no-index --find-links . --python-version 3.13 --no-header \
  --no-annotate - | tr '\n' ' ')
echo "pip: $pip_says"
echo "uv:  $uv_says"
[ "$pip_says" = "Would install a-1.0 c-1.0" ]
[ "$uv_says" = "a==1.0 b==1.0 " ]
