#!/usr/bin/env bash
# Guess:   a version specifier and the order of versions agree: what is greater than 2.6.0 is not inside `<=2.6.0`.
# Happens: local labels are left out by specifiers (PEP 440, "Version matching") and count in the order. torch's
#          `2.6.0+cu124` is inside `<=2.6.0` and `==2.6.0`, outside `>2.6.0`, and greater than 2.6.0 for `Version`, for sort()
#          and for univers. Whoever compares an advisory's "<= 2.6.0" by order never finds the CUDA builds. NVIDIA's
#          `2.6.0a0+nv25.1` is below 2.6.0 in order, and outside `<2.6.0` as a specifier: missed the other way round.
# Version: packaging 26.3, univers 32.0.1. Date: 2026-11-28.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'packaging==26.3' 'univers==32.0.1'
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

from packaging.specifiers import SpecifierSet
from packaging.version import Version
from univers.version_range import PypiVersionRange
from univers.versions import PypiVersion

print("packaging", version("packaging"), "univers", version("univers"))
torch, public, nvidia = "2.6.0+cu124", "2.6.0", "2.6.0a0+nv25.1"
order = Version(torch) > Version(public)
inside = {text: SpecifierSet(text).contains(torch) for text in ("<=2.6.0", "==2.6.0", ">2.6.0")}
by_range = PypiVersion(torch) in PypiVersionRange.from_string("vers:pypi/<=2.6.0")
print(torch, "greater by order:", order, "inside:", inside, "inside univers' <=2.6.0:", by_range)
assert order and inside == {"<=2.6.0": True, "==2.6.0": True, ">2.6.0": False} and not by_range
below, matched = Version(nvidia) < Version(public), SpecifierSet("<2.6.0", prereleases=True).contains(nvidia)
print(nvidia, "below by order:", below, "by specifier:", matched)
assert below and not matched
PY
