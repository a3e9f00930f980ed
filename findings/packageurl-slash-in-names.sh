#!/usr/bin/env bash
# Guess:   what packageurl-python writes, it reads back as the same package URL: a slash in a name becomes %2F, as the
#          purl specification asks.
# Happens: `to_string` writes the slash as it is, and `from_string` takes what stands before it for a namespace. A component
#          that pillow's SBOM calls `libjpeg / libjpeg-turbo` is written with blanks as %20 around a bare slash, and read without
#          them: three different URLs for one name. Only the second round is stable.
# Version: packageurl-python 0.17.6 (PyPI). Date: 2026-11-28.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'packageurl-python==0.17.6'
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

from packageurl import PackageURL

made = PackageURL("generic", None, "libjpeg / libjpeg-turbo", "3.2.0")
once = PackageURL.from_string(made.to_string())
twice = PackageURL.from_string(once.to_string())
quoted = PackageURL.from_string("pkg:generic/a%2Fb@1")
print("packageurl-python", version("packageurl-python"))
print("written:", made.to_string(), "read:", repr(once), "written again:", once.to_string())
print("pkg:generic/a%2Fb@1 is", repr(quoted), "and becomes", quoted.to_string())
assert once != made and (once.namespace, once.name) == ("libjpeg", "libjpeg-turbo")
assert twice == once
assert quoted.name == "a/b" and PackageURL.from_string(quoted.to_string()) != quoted
PY
