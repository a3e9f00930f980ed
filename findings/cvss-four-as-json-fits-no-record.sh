#!/usr/bin/env bash
# Guess:   `as_json()` of the package cvss writes what a CVE record holds (FIRST's schemas, in CVE's own): for CVSS 4.0 as for 3.1. Its
#          `baseScore` is that of the base metrics, so it stays when somebody adds how far exploits are (`E:U`).
# Happens: 3.1 fits its schema, 4.0 does not. The version is "4" for "4.0", severities are "Critical" for "CRITICAL", the metrics have names
#          of its own (`vulnerableSystemImpactIntegrity` for `vulnIntegrityImpact`), `minimal=True` leaves nothing out. And with E:U
#          `baseScore` of 4.0 falls from 9.3 to 8.1, where that of 3.1 stays: two vectors with one base have two base scores.
# Version: cvss 3.6, cvelib 1.8.0, which has CVE's schema 5.1.1, jsonschema 4.26.0 (PyPI). Date: 2026-12-01.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'cvss==3.6' 'cvelib==1.8.0' 'jsonschema==4.26.0'
venv/bin/python - <<'PY'
import json
from importlib.metadata import version
from importlib.resources import files

from cvss import CVSS3, CVSS4
from jsonschema import Draft7Validator

print("cvss", version("cvss"), "cvelib", version("cvelib"))
record = json.loads((files("cvelib") / "schemas" / "CVE_JSON_bundled_5.1.1.json").read_text())
place = "definitions/metrics/items/properties"
metrics = record["definitions"]["metrics"]["items"]["properties"]
three = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
four = "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"
bases = {}
for kind, name, vector in ((CVSS3, "cvssV3_1", three), (CVSS4, "cvssV4_0", four)):
    written = json.loads(json.dumps(kind(vector).as_json(minimal=True), default=float))
    checked = {"definitions": record["definitions"], "$ref": f"#/{place}/{name}"}
    wrong = list(Draft7Validator(checked).iter_errors(written))
    names = metrics[name]["properties"].keys()
    known = written.keys() & names
    bases[kind] = [float(kind(vector + more).as_json()["baseScore"]) for more in ("", "/E:U")]
    print(f"{vector[:8]} version {written['version']!r}, severity {written['baseSeverity']!r}, {len(written)} fields of which its "
          f"schema knows {len(known)}; against the schema: {len(wrong)} errors; baseScore without and with E:U: {bases[kind]}")
    for error in wrong:
        print("   ", error.message[:110])
    if kind is CVSS3:
        assert not wrong
    else:
        assert wrong and written["version"] == "4" and written["baseSeverity"] == "Critical"
        assert "vulnerableSystemImpactIntegrity" in written and "vulnIntegrityImpact" in names
        assert written["exploitMaturity"] == "NOT_DEFINED"  # minimal
assert bases == {CVSS3: [9.8, 9.8], CVSS4: [9.3, 8.1]}
PY
