#!/usr/bin/env bash
# Guess:   a client of boto3 with an `endpoint_url` sends every operation to that address.
# Happens: operations whose model has a `hostPrefix` are sent to another host: asked for `http://127.0.0.1:PORT`, AWS Signer's
#          get_revocation_status goes to `data-127.0.0.1`, and is answered with EndpointConnectionError. A signature
#          is then never known to be good, behind a private link as before a test double. `inject_host_prefix=False` helps;
#          for AWS's own address the prefix must stay.
# Version: boto3 1.44.5. Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'boto3==1.44.5'
"$folder/venv/bin/python" - <<'PY'
from datetime import UTC, datetime
from importlib.metadata import version

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError

ENDPOINT = "http://127.0.0.1:9"  # nobody listens: what is asked for stands in the error
ASKED = {
    "signatureTimestamp": datetime.now(UTC),
    "platformId": "Notation-OCI-SHA384-ECDSA",
    "profileVersionArn": "arn:aws:signer:eu-west-1:111122223333:/signing-profiles/p/AbCdEfGhIj",
    "jobArn": "arn:aws:signer:eu-west-1:111122223333:/signing-jobs/1",
    "certificateHashes": ["0" * 192],
}


def asked(operation, values, **config):
    options = Config(retries={"total_max_attempts": 1, "mode": "standard"}, connect_timeout=5, **config)
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
    client = boto3.client("signer", region_name="eu-west-1", endpoint_url=ENDPOINT, config=options, **keys)
    try:
        getattr(client, operation)(**values)
    except EndpointConnectionError as error:
        return str(error).split('"')[1]
    except ClientError as error:
        return str(error)
    return "answered"


other = asked("list_signing_profiles", {})
prefixed = asked("get_revocation_status", ASKED)
plain = asked("get_revocation_status", ASKED, inject_host_prefix=False)
print("boto3", version("boto3"))
print("list_signing_profiles:                          ", other)
print("get_revocation_status:                          ", prefixed)
print("get_revocation_status, inject_host_prefix=False:", plain)
assert other.startswith(ENDPOINT) and plain.startswith(ENDPOINT)
assert prefixed.startswith("http://data-127.0.0.1:9/"), prefixed
PY
