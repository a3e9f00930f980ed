#!/usr/bin/env bash
# Guess:   lib4sbom, which reads SPDX and CycloneDX into one list of packages, gives as many packages as the document has; the two formats
#          tell the same.
# Happens: of a CycloneDX document it keeps one component for each name and version, the last one. Debian's zlib 1.3.1 and PyPI's zlib
#          1.3.1 are one package with the PyPI purl, and what is asked about the Debian one is answered with "not there"; a component of
#          another type (a model, its application) of that name is gone as well. The same packages in SPDX are all read. No word of it.
# Version: lib4sbom 0.10.4, cyclonedx-python-lib 11.12.0, which calls the document valid (PyPI). Date: 2026-12-01.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'lib4sbom==0.10.4' 'cyclonedx-python-lib[json-validation]==11.12.0'
venv/bin/python - <<'PY'
import json
from importlib.metadata import version
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from lib4sbom.parser import SBOMParser

packages = [
    ("library", "zlib", "1.3.1", "pkg:deb/debian/zlib@1.3.1"),
    ("library", "zlib", "1.3.1", "pkg:pypi/zlib@1.3.1"),
    ("application", "reranker", "2", "pkg:generic/reranker@2"),
    ("machine-learning-model", "reranker", "2", "pkg:mlflow/reranker@2"),
]
cyclonedx = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "version": 1,
    "components": [
        {"type": kind, "bom-ref": purl, "name": name, "version": number, "purl": purl} for kind, name, number, purl in packages
    ],
}
spdx = {
    "spdxVersion": "SPDX-2.3",
    "dataLicense": "CC0-1.0",
    "SPDXID": "SPDXRef-DOCUMENT",
    "name": "image",
    "documentNamespace": "https://sbom.example/1",
    "creationInfo": {"created": "2026-12-01T00:00:00Z", "creators": ["Tool: hand"]},
    "packages": [
        {
            "SPDXID": f"SPDXRef-{place}",
            "name": name,
            "versionInfo": number,
            "downloadLocation": "NOASSERTION",
            "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}],
        }
        for place, (_, name, number, purl) in enumerate(packages)
    ],
}
assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(cyclonedx)) is None
print("lib4sbom", version("lib4sbom"))
read = {}
for name, document in (("cdx", cyclonedx), ("spdx", spdx)):
    Path(f"{name}.json").write_text(json.dumps(document))
    parser = SBOMParser()
    parser.parse_file(f"{name}.json")
    read[name] = [package["externalreference"][0][2] for package in parser.get_packages()]
    print(f"{parser.get_type()}: {len(read[name])} of {len(packages)} packages: {read[name]}")
assert read["spdx"] == [purl for *_, purl in packages]
assert read["cdx"] == ["pkg:pypi/zlib@1.3.1", "pkg:mlflow/reranker@2"]
PY
