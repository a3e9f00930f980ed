#!/usr/bin/env bash
# Guess:   `cosign attest --type slsaprovenance --predicate FILE` signs what stands in FILE, or refuses it: of a type that it knows it checks
#          that the fields are there (cosign 2.5 says "required field builder missing").
# Happens: the name means SLSA 0.2. Given a provenance of SLSA 1, which is what builders write today, cosign 3.1.3 finds no field that it
#          knows, and signs `{}`: status 0, a valid signature, a predicateType that a policy asks for, and nothing about source or builder.
#          With `slsaprovenance1` or an address as type the content comes through, but for whole numbers above 2**53: the run
#          12345678901234567 is signed as 12345678901234568.
# Version: github.com/sigstore/cosign/v3 v3.1.3 (needs go; builds it, many minutes the first time). Date: 2026-11-30.
set -euo pipefail
folder=$(mktemp -d); trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
cd "$folder"
GOBIN=$folder GOFLAGS=-buildvcs=false go install github.com/sigstore/cosign/v3/cmd/cosign@v3.1.3 2>build.log || { cat build.log; exit 1; }
export COSIGN_PASSWORD=
./cosign generate-key-pair >/dev/null 2>&1
echo content >blob
cat >provenance.json <<'END'
{
  "buildDefinition": {
    "buildType": "https://example.com/train/v1",
    "externalParameters": {"ref": "main", "run": 12345678901234567},
    "resolvedDependencies": [{"uri": "git+https://example.com/model", "digest": {"gitCommit": "0123456789012345678901234567890123456789"}}]
  },
  "runDetails": {"builder": {"id": "https://example.com/builder"}}
}
END
for type in slsaprovenance slsaprovenance1 https://slsa.dev/provenance/v1; do
  bundle=bundle-${type##*/}
  ./cosign attest-blob --yes --key cosign.key --type "$type" --predicate provenance.json --tlog-upload=false --use-signing-config=false \
    --bundle "$bundle" blob >/dev/null 2>said && code=0 || { cat said; code=1; }
  ./cosign verify-blob-attestation --key cosign.pub --insecure-ignore-tlog --bundle "$bundle" --type "$type" blob >said 2>&1 && good=0 || { cat said; good=1; }
  echo "--type $type: attest exit $code, verify exit $good"
  [ "$code$good" = 00 ]
  python3 - "$bundle" "$type" <<'PY'
import base64
import json
import sys

envelope = json.load(open(sys.argv[1]))["dsseEnvelope"]
signed = json.loads(base64.b64decode(envelope["payload"]))
given = json.load(open("provenance.json"))
print("  signed:", signed["predicateType"], json.dumps(signed["predicate"])[:150])
if sys.argv[2] == "slsaprovenance":
    assert signed["predicateType"] == "https://slsa.dev/provenance/v0.2" and signed["predicate"] == {}
else:
    definition = signed["predicate"]["buildDefinition"]
    assert definition["resolvedDependencies"] == given["buildDefinition"]["resolvedDependencies"]
    assert definition["externalParameters"] == {"ref": "main", "run": 12345678901234568}
PY
done
