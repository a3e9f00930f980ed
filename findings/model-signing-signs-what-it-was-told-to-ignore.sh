#!/usr/bin/env bash
# Guess:   `hashing.Config().use_file_serialization(ignore_paths=[...])` of model-signing leaves those files out of the signature, as
#          `set_ignored_paths` does: the argument is that of the method which chooses how a model is read.
# Happens: they are hashed and signed all the same, and the signed list of what was ignored names them. Verifying believes that list, leaves
#          them out, and misses them: "Missing files in model", on the folder that was signed a second ago. Signing says nothing, so what a
#          job published cannot be verified by anybody; and the files that were to be left out (logs, states of a training) are named
#          in what is published. `set_ignored_paths` does what the argument says. Only its neighbour `hash` reads paths, the argument is a note.
# Version: model-signing 1.1.1, pyOpenSSL 26.4.0 (PyPI). Date: 2026-12-01.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'model-signing==1.1.1' 'sigstore==4.5.1' 'pyopenssl==26.4.0'
mkdir model && printf weights >model/weights.bin && printf '3 of 100 steps' >model/training.log
venv/bin/python - <<'PY'
import base64
import json
from importlib.metadata import version
from pathlib import Path

from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec
from model_signing import hashing, signing, verifying

print("model-signing", version("model-signing"))
key = ec.generate_private_key(ec.SECP256R1())
Path("k").write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()))
Path("k.pub").write_bytes(key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo))
left_out = Path("training.log")
found = {}
for name, how in (
    ("use_file_serialization(ignore_paths=)", hashing.Config().use_file_serialization(ignore_paths=[left_out])),
    ("use_shard_serialization(ignore_paths=), blake3", hashing.Config().use_shard_serialization(hashing_algorithm="blake3", ignore_paths=[left_out])),
    ("set_ignored_paths", hashing.Config().set_ignored_paths(paths=[left_out])),
):
    signing.Config().use_elliptic_key_signer(private_key="k").set_hashing_config(how).sign("model", "signature")
    signed = json.loads(base64.b64decode(json.loads(Path("signature").read_text())["dsseEnvelope"]["payload"]))["predicate"]
    files = sorted(line["name"] for line in signed["resources"])
    try:
        verifying.Config().use_elliptic_key_verifier(public_key="k.pub").verify(Path("model"), "signature")
        said = "verified"
    except ValueError as error:
        said = str(error)
    print(f"{name}: signed {files}, says that it ignored training.log: {'training.log' in signed['serialization']['ignore_paths']}; {said}")
    assert "training.log" in signed["serialization"]["ignore_paths"]
    found[name] = files, said
*by_argument, by_setter = found.values()
assert all(files == ["training.log", "weights.bin"] and "Missing files" in said for files, said in by_argument), found
assert by_setter == (["weights.bin"], "verified"), by_setter
PY
