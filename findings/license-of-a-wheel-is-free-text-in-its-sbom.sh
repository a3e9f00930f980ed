#!/usr/bin/env bash
# Guess:   what PyPA's `packaging` accepts as a wheel's `License-Expression` (PEP 639: an SPDX expression), CycloneDX's own factory writes
#          into an SBOM as an id or as an expression.
# Happens: as soon as a `LicenseRef-` (PEP 639 names `LicenseRef-Proprietary`) or a `+` behind an id that has no name of its own stands in
#          it (`Apache-2.0+`), the whole is a *name*, which is free text: `MIT AND LicenseRef-Proprietary` counts no MIT for whoever asks
#          by id or expression. Both are SPDX, the schema of CycloneDX takes them as `expression`, and nothing is raised.
# Version: cyclonedx-python-lib 11.12.0, license-expression 30.4.4, packaging 26.4 (PyPI). Date: 2026-12-01.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'cyclonedx-python-lib[json-validation]==11.12.0' 'license-expression==30.4.4' \
    'packaging==26.4'
venv/bin/python - <<'PY'
import json
from importlib.metadata import version

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.licenses import canonicalize_license_expression

print(*(f"{name} {version(name)}" for name in ("cyclonedx-python-lib", "license-expression", "packaging")))
check = JsonStrictValidator(SchemaVersion.V1_6)
expected = {
    "MIT": "id",
    "GPL-2.0+": "id",
    "MIT AND Apache-2.0": "expression",
    "Apache-2.0 WITH LLVM-exception": "expression",
    "LicenseRef-Proprietary": "name",
    "MIT AND LicenseRef-Proprietary": "name",
    "Apache-2.0+": "name",
    "MIT OR Apache-2.0+": "name",
}
seen = {}
for text in expected:
    assert canonicalize_license_expression(text) == text  # PyPA: valid, and written as it should be
    component = Component(name="demo", licenses=[LicenseFactory().make_from_string(text)])
    document = json.loads(JsonV1Dot6(Bom(components=[component])).output_as_string())
    (written,) = document["components"][0]["licenses"]
    (seen[text],) = written.get("license", written).keys() - {"acknowledgement", "bom-ref"}
    print(f"{text}: {written}")
    document["components"][0]["licenses"] = [{"expression": text}]
    assert check.validate_str(json.dumps(document)) is None  # the schema would take each of them as an expression
assert seen == expected
PY
