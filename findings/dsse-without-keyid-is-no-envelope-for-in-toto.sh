#!/usr/bin/env bash
# Guess:   a DSSE envelope that one Python package of this field writes, another reads: sigstore's models (the `dsseEnvelope` of a Sigstore
#          bundle) and in-toto's own `Metadata.load`, which says that it reads DSSE.
# Happens: in DSSE `keyid` is optional, and sigstore's models, as protobuf's JSON does, leave out what is empty: a signature by a certificate
#          has no key id. in-toto and securesystemslib ask for the field and raise KeyError: 'keyid', though `load` names InvalidMetadata
#          and FormatError as what it raises. With `"keyid": ""` beside the signature the envelope is read.
# Version: in-toto 3.1.0, securesystemslib 1.6.0, sigstore-models 0.0.6 (PyPI). Date: 2026-12-01.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'in-toto==3.1.0' 'securesystemslib[crypto]==1.6.0' 'sigstore-models==0.0.6'
venv/bin/python - <<'PY'
import base64
import json
from importlib.metadata import version
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from in_toto.models.metadata import Metadata
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import Error
from sigstore_models.intoto import Envelope as Written, Signature

print(*(f"{name} {version(name)}" for name in ("in-toto", "securesystemslib", "sigstore-models")))
kind = "application/vnd.in-toto+json"
link = {"_type": "link", "name": "build", "materials": {}, "products": {}, "byproducts": {}, "command": [], "environment": {}}
payload = json.dumps(link).encode()
signature = ec.generate_private_key(ec.SECP256R1()).sign(
    b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload), ec.ECDSA(hashes.SHA256())
)
written = Written(
    payload=base64.b64encode(payload), payload_type=kind, signatures=[Signature(sig=base64.b64encode(signature))]
).to_json()
envelope = json.loads(written)
print("sigstore-models writes the signature with the fields", sorted(envelope["signatures"][0]))
assert sorted(envelope["signatures"][0]) == ["sig"]


def read(how, document):
    try:
        return type(how(document)).__name__
    except Exception as error:
        assert not isinstance(error, Error), error
        return repr(error)


def by_file(document):
    Path("link").write_text(json.dumps(document))
    return Metadata.load("link")


with_key = json.loads(written)
with_key["signatures"][0]["keyid"] = ""
for name, how in (("securesystemslib", Envelope.from_dict), ("in-toto", by_file)):
    without, beside = read(how, json.loads(written)), read(how, json.loads(json.dumps(with_key)))
    print(f"{name}: without keyid {without}, with an empty one {beside}")
    assert without == "KeyError('keyid')" and beside == "Envelope"
PY
