#!/usr/bin/env bash
# Guess:   a predicate that is given to in-toto's own Python package as a dict is the predicate of the statement; the same statement,
#          written twice, is the same bytes, so it may be attached, signed and compared by its digest.
# Happens: it goes through a protobuf Struct. Every whole number becomes a float: 3 is written 3.0, which Go's json refuses for an int, and a
#          run or byte count above 2**53 becomes another number (12345678901234567 is signed as 1.2345678901234568e+16). The keys of
#          the predicate come out in another order in each process, so one attestation has as many digests as there were runs. `validate()`
#          is content.
# Version: in-toto-attestation 0.9.3, protobuf 6.33.2 (PyPI). Date: 2026-11-30.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'in-toto-attestation==0.9.3' 'protobuf==6.33.2'
cat >write.py <<'PY'
from google.protobuf.json_format import MessageToJson
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement

subject = ResourceDescriptor(name="model", digest={"sha256": "0" * 64})
predicate = {"passed": True, "shards": 3, "run": 12345678901234567, "by": "ci", "policy": "p", "at": "2026-11-30T00:00:00Z"}
statement = Statement([subject.pb], "https://example.com/evaluation/v1", predicate)
statement.validate()
print(MessageToJson(statement.pb, indent=None))
PY
for _ in $(seq 12); do venv/bin/python write.py; done >written
venv/bin/python - <<'PY'
import json
from importlib.metadata import version
from pathlib import Path

lines = Path("written").read_text().splitlines()
orders = {tuple(json.loads(line)["predicate"]) for line in lines}
print("in-toto-attestation", version("in-toto-attestation"), "protobuf", version("protobuf"))
print("given: shards 3, run 12345678901234567; written:", lines[0][lines[0].index('"predicate":') :])
print(f"12 processes: {len(set(lines))} different statements, keys in {len(orders)} orders")
assert '"shards": 3.0' in lines[0] and '"run": 1.2345678901234568e+16' in lines[0]
assert len(orders) > 1 and len({json.dumps(json.loads(line), sort_keys=True) for line in lines}) == 1
PY
