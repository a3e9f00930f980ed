#!/usr/bin/env bash
# Guess:   `pip install --target` of another version replaces the first one, or refuses with a status that is not 0.
# Happens: a warning and status 0. The package stays as it was, and the new version's .dist-info is added beside the old
#          one: the old code runs, two versions are listed, and an SBOM made of the folder names both.
# Version: pip 26.3 installing packaging 24.2, then 25.0. Date: 2026-11-28.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'pip==26.3'
cd "$folder"
venv/bin/python -m pip --version | cut -d ' ' -f 1-2
for version in 24.2 25.0; do
  venv/bin/python -m pip install -q --disable-pip-version-check --target site "packaging==$version" 2>&1 | cut -c 1-110
  echo "packaging $version: status ${PIPESTATUS[0]}"
done
code=$(PYTHONPATH=site python3 -c 'import packaging; print(packaging.__version__)')
infos=$(cd site && echo *.dist-info)
echo "code: $code; listed: $infos"
[ "$code" = 24.2 ]
[ "$infos" = "packaging-24.2.dist-info packaging-25.0.dist-info" ]
