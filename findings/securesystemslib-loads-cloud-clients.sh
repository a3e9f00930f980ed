#!/usr/bin/env bash
# Guess:   `import securesystemslib.signer` costs the same whatever is installed beside it: clients of clouds and tokens are
#          loaded when a key of theirs is used (each has its own URI scheme and a `from_priv_key_uri` of its own).
# Happens: every client that is installed is loaded at once, AWS' with all of botocore: more than three times the modules. A
#          command that signs with a file pays for it at each start, because somebody installed boto3 for something else.
# Version: securesystemslib 1.6.0, cryptography 46.0.3, boto3 1.42.7 (PyPI), Python 3.11. Date: 2026-11-28.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
install() { "$folder/venv/bin/pip" install -q --disable-pip-version-check "$@"; }
count() {
  "$folder/venv/bin/python" - <<'PY'
import sys
import cryptography.hazmat.primitives.asymmetric.ec  # what any signer needs

before = set(sys.modules)
import securesystemslib.signer

loaded = set(sys.modules) - before
print(len(loaded), sum(name.split(".")[0] in ("boto3", "botocore", "s3transfer", "jmespath") for name in loaded))
PY
}
install 'securesystemslib==1.6.0' 'cryptography==46.0.3'
read -r alone aws_alone < <(count)
install 'boto3==1.42.7'
read -r beside aws_beside < <(count)
echo "securesystemslib 1.6.0: $alone modules alone ($aws_alone of AWS), $beside where boto3 is installed ($aws_beside of AWS)"
[ "$aws_alone" = 0 ] && [ "$aws_beside" -gt 50 ] && [ "$beside" -gt $((3 * alone)) ]
