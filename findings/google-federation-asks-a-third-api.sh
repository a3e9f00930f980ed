#!/usr/bin/env bash
# Guess:   google.auth.load_credentials_from_file reads a file; for a federated workload (type external_account) the network is needed
#          when a token is, and then two services: the security token service, and the one that impersonates.
# Happens: loading such a file already asks for a token *and* then Cloud Resource Manager, for the name of the project whose number stands in
#          the audience, though nobody asked for a project. Where only the token services can be reached (a private endpoint, a firewall, a
#          perimeter) credentials that work are refused with TransportError. The class's own reader, from_info, asks nobody.
# Version: google-auth 2.63.0. Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'google-auth[requests]==2.63.0'
"$folder/venv/bin/python" -W ignore - "$folder" <<'PY'
import json
import sys
from pathlib import Path

import google.auth
from google.auth import exceptions, identity_pool, transport

asked = []


class Answer:
    def __init__(self, status, document):
        self.status, self.data, self.headers = status, json.dumps(document).encode(), {}


def ask(url, method="GET", **_):
    asked.append(url.split("/")[2])
    if "sts" in url:
        return Answer(200, {"access_token": "x", "expires_in": 3600, "token_type": "Bearer",
                            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"})
    raise exceptions.TransportError(f"{url.split('/')[2]} cannot be reached from here")


folder = Path(sys.argv[1])
(folder / "subject").write_text("token of the other cloud")
document = {
    "type": "external_account",
    "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/p",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "token_url": "https://sts.googleapis.com/v1/token",
    "credential_source": {"file": str(folder / "subject")},
}
(folder / "federation.json").write_text(json.dumps(document))
scopes = ["https://www.googleapis.com/auth/cloud-platform"]
try:
    google.auth.load_credentials_from_file(str(folder / "federation.json"), scopes=scopes, request=ask)
    raise SystemExit("it asked nobody who could not be reached")
except exceptions.TransportError as error:
    print("the file's loader asked", asked, "and says:", error)
assert asked == ["sts.googleapis.com", "cloudresourcemanager.googleapis.com"], asked
asked.clear()
credentials = identity_pool.Credentials.from_info(document, scopes=scopes)
assert asked == []
credentials.refresh(ask)
print("the class's reader asked", asked, "and has a token:", credentials.token)
assert asked == ["sts.googleapis.com"]
PY
