#!/usr/bin/env bash
# Guess:   a signature by certificate counts while its certificate is valid: the specification of OMS 1.0 (section 8.2)
#          says that the leaf MUST be within its validity period, and without a timestamp nobody knows another time.
# Happens: `model_signing verify certificate` holds chains at the first second of the leaf's own validity, whatever the
#          time is, so that signatures outlive their certificates: a leaf that is over counts, and one that is yet to
#          begin. A root that was over before that second does not. digitalSignature in the `keyUsage` is enough; then
#          the `extendedKeyUsage` is not looked at. To sign, `--certificate_chain` is a must, also where the root issued
#          the leaf itself; the help has it among what may be left out.
# Version: model-signing 1.1.1, sigstore 4.5.1, pyOpenSSL 26.4.0 (PyPI). Date: 2026-11-30.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cd "$folder"
venv/bin/pip install -q --disable-pip-version-check 'model-signing==1.1.1' 'sigstore==4.5.1' 'pyopenssl==26.4.0'
mkdir model && printf '%2500s' x >model/weights.bin
venv/bin/python - <<'PY'
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from model_signing import hashing, signing, verifying

USAGES = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
          "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
NOW, YEAR = datetime.now(UTC), timedelta(days=365)


def certificate(issuer_key, key, name, begins, ends, *usages, ca=False, uses=()):
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (name, "root")]
    builder = x509.CertificateBuilder(names[1], names[0], key.public_key(), x509.random_serial_number(), begins, ends)
    builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
    builder = builder.add_extension(x509.KeyUsage(**{each: each in usages for each in USAGES}), critical=True)
    if uses:
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def pem(path, one):
    Path(path).write_bytes(one.public_bytes(form.Encoding.PEM))


root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
Path("k").write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()))


def verify(root, leaf):
    pem("root.pem", root)
    pem("leaf.pem", leaf)
    signer = signing.Config().use_certificate_signer(
        private_key="k", signing_certificate="leaf.pem", certificate_chain=["root.pem"]
    )
    signer.set_hashing_config(hashing.Config()).sign("model", "signature")
    try:
        verifying.Config().use_certificate_verifier(certificate_chain=["root.pem"]).verify(Path("model"), "signature")
    except Exception as error:
        return f"refused: {error}"
    return "verified"


def root(begins=NOW - 10 * YEAR, ends=NOW + 10 * YEAR):
    return certificate(root_key, root_key, "root", begins, ends, "key_cert_sign", ca=True)


def leaf(begins=NOW - YEAR, ends=NOW + YEAR, *usages, **more):
    return certificate(root_key, key, "leaf", begins, ends, *(usages or ("digital_signature",)), **more)


for what, expected, one, other in (
    ("valid now", "verified", root(), leaf()),
    ("over for five years", "verified", root(), leaf(NOW - 6 * YEAR, NOW - 5 * YEAR)),
    ("begins next year", "verified", root(), leaf(NOW + YEAR, NOW + 2 * YEAR)),
    ("of a root that is over by now", "verified", root(ends=NOW - YEAR), leaf(NOW - 2 * YEAR)),
    ("of a root that was over before", "refused", root(ends=NOW - 2 * YEAR), leaf()),
    ("for TLS servers", "verified", root(), leaf(uses=[ExtendedKeyUsageOID.SERVER_AUTH])),
    ("for no signatures", "refused", root(), leaf(NOW - YEAR, NOW + YEAR, "key_encipherment")),
):
    said = verify(one, other)
    print(f"{what}: {said}")
    assert said.startswith(expected), said
try:
    signing.Config().use_certificate_signer(private_key="k", signing_certificate="leaf.pem", certificate_chain=[])
    raise SystemExit("it signs without a chain")
except ValueError as error:
    print(f"without a chain: {error}"[:60])
PY
