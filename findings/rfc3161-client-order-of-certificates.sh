#!/usr/bin/env bash
# Guess:   `rfc3161_client.decode_timestamp_response` reads every timestamp that OpenSSL's own authority (`openssl ts -reply`) makes:
#          it is the reference that most private authorities are built on.
# Happens: OpenSSL writes the certificates of a token in the order in which it was given them. CMS (RFC 5652) has them as a SET OF,
#          which DER sorts, and rfc3161-client reads DER alone: where the authority's certificate sorts behind the one that follows
#          it, the whole response is refused as invalid ASN.1; with the two the other way round it is read. OpenSSL verifies both.
# Version: rfc3161-client 1.0.9 (PyPI), OpenSSL 3.0 of Debian 12. Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'rfc3161-client==1.0.9' 'cryptography>=43'
cd "$folder"
openssl version
cat > ts.cnf <<'CNF'
[tsa]
serial = serial
crypto_device = builtin
signer_digest = sha256
default_policy = 1.2.3.4
digests = sha256
ess_cert_id_alg = sha256
CNF
echo 01 > serial
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }
for name in root inter tsa; do key "$name"; done
printf 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n' > inter.ext
printf 'keyUsage=critical,digitalSignature\nextendedKeyUsage=critical,timeStamping\n' > tsa.ext
# SET OF sorts by the encoded bytes, which begin with the length: a long name makes a certificate sort behind a short one.
issue() { # name, issuer, subject
    openssl req -new -key "$1.key" -subj "/CN=$3" -out "$1.csr"
    openssl x509 -req -in "$1.csr" -CA "$2.crt" -CAkey "$2.key" -CAcreateserial -days 30 -extfile "$1.ext" -out "$1.crt" 2> /dev/null
}
echo hello > file
openssl ts -query -data file -sha256 -cert -no_nonce -out query.tsq 2> /dev/null
long=$(printf 'x%.0s' $(seq 50))
for case in first behind; do
    # The authority's certificate is shorter than its issuer's, whose own issuer has a long name; or it is longer.
    [ "$case" = first ] && root="root $long" own=tsa || { root=root; own="tsa $long"; }
    openssl req -x509 -new -key root.key -subj "/CN=$root" -days 30 -out root.crt
    issue inter root inter
    issue tsa inter "$own"
    openssl ts -reply -config ts.cnf -section tsa -queryfile query.tsq -inkey tsa.key -signer tsa.crt -chain inter.crt -out "$case.tsr" 2> /dev/null
    openssl ts -verify -data file -in "$case.tsr" -CAfile root.crt -untrusted inter.crt 2> /dev/null | sed "s/^/openssl, $case: /"
done
venv/bin/python - <<'PY'
from importlib.metadata import version
from pathlib import Path

from rfc3161_client import decode_timestamp_response

print("rfc3161-client", version("rfc3161-client"))
said = {}
for case in ("first", "behind"):
    try:
        found = decode_timestamp_response(Path(f"{case}.tsr").read_bytes())
        said[case] = f"read, {len(found.signed_data.certificates)} certificates"
    except ValueError as error:
        said[case] = f"refused: {error}"
    print(f"{case}: {said[case]}")
assert said["first"].startswith("read") and said["behind"].startswith("refused"), said
PY
