#!/usr/bin/env bash
# Guess:   what OpenSSF's model-signing signs it also verifies, by each of the ways that its API offers.
# Happens: signed by ranges (`use_shard_serialization`) it does not: the size of a range goes through a protobuf Struct,
#          which knows floats alone, and comes back as 1000.0; verifying ends in a TypeError. Rows say
#          `sha256-sharded-1000`, where the specification of 1.0 has `sha256`. With BLAKE2 it does not: signing takes
#          `blake2` and writes `blake2b`, which verifying does not know. Whole files by sha256 and BLAKE3 are verified.
#          A new installation does not even start: it imports pyOpenSSL, which its requirements bring no more.
# Version: model-signing 1.1.1, sigstore 4.5.1, pyOpenSSL 26.4.0 (PyPI). Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cd "$folder"
venv/bin/pip install -q --disable-pip-version-check 'model-signing==1.1.1' 'sigstore==4.5.1'
venv/bin/python -c 'import model_signing' 2>&1 | tail -1 | tee bare || true
grep -q "No module named 'OpenSSL'" bare
venv/bin/pip install -q --disable-pip-version-check 'pyopenssl==26.4.0'
mkdir model && printf '%2500s' x >model/weights.bin
venv/bin/python - <<'PY'
from pathlib import Path

from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec
from model_signing import hashing, signing, verifying

key = ec.generate_private_key(ec.SECP256R1())
Path("k").write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()))
Path("k.pub").write_bytes(key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo))
for name, how, expected in (
    ("files, sha256", hashing.Config().use_file_serialization(), "verified"),
    ("files, blake3", hashing.Config().use_file_serialization(hashing_algorithm="blake3"), "verified"),
    ("files, blake2", hashing.Config().use_file_serialization(hashing_algorithm="blake2"), "ValueError"),
    ("shards, sha256", hashing.Config().use_shard_serialization(shard_size=1000), "TypeError"),
):
    signing.Config().use_elliptic_key_signer(private_key="k").set_hashing_config(how).sign("model", "signature")
    said, why = "verified", ""
    try:
        verifying.Config().use_elliptic_key_verifier(public_key="k.pub").verify(Path("model"), "signature")
    except (TypeError, ValueError) as error:
        said, why = type(error).__name__, f": {error}"
    print(f"{name}: {said}{why}")
    assert said == expected, said
PY
