#!/usr/bin/env bash
# Guess:   a valid CycloneDX document that is read and written again by the ecosystem's own library says the same, or reading
#          it is an error.
# Happens: what the library has no class for is gone without a word, and the result is valid: compositions (so "this list
#          is incomplete" becomes a list that looks whole), annotations, and of a component its modelCard and data.
# Version: cyclonedx-python-lib 11.12.0. Date: 2026-11-28.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'cyclonedx-python-lib[json-validation]==11.12.0'
"$folder/venv/bin/python" - <<'PY'
import json
from importlib.metadata import version

from cyclonedx.model.bom import Bom
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

said = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "version": 1,
    "components": [
        {
            "type": "machine-learning-model",
            "bom-ref": "m",
            "name": "classifier",
            "modelCard": {"modelParameters": {"task": "classification"}},
        },
        {
            "type": "data",
            "bom-ref": "d",
            "name": "training set",
            "data": [{"type": "dataset", "classification": "secret"}],
        },
    ],
    "compositions": [{"aggregate": "incomplete", "assemblies": ["m"]}],
    "annotations": [
        {
            "subjects": ["m"],
            "annotator": {"individual": {"name": "a reviewer"}},
            "timestamp": "2026-11-28T00:00:00Z",
            "text": "not for production",
        }
    ],
}
check = JsonStrictValidator(SchemaVersion.V1_6)
assert check.validate_str(json.dumps(said)) is None
written = JsonV1Dot6(Bom.from_json(said)).output_as_string()
assert check.validate_str(written) is None
left = json.loads(written)
lost = sorted(said.keys() - left.keys())
keys = [{key for one in document["components"] for key in one} for document in (said, left)]
of_components = sorted(keys[0] - keys[1])
print("cyclonedx-python-lib", version("cyclonedx-python-lib"))
print("lost of the document:", lost, "of components:", of_components)
assert lost == ["annotations", "compositions"] and of_components == ["data", "modelCard"]
PY
