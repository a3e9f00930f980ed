#!/usr/bin/env bash
# Guess: obstore's provider of boto3's credentials hands on when they end, so a long upload is signed with ones that are good.
# What happens: it says 30 minutes, whatever they say. boto3 renews them 10 to 15 minutes before their end, so what it gives may be
#   good for 16 minutes more; obstore signs with it for 25. For up to ten minutes the store then answers
#   400 ExpiredToken. With ttl below five minutes obstore asks boto3 again, at most ten times a second.
# Versions: obstore 0.12.1, boto3 1.44.5. Date: 2026-11-30. Needs Python.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q obstore==0.12.1 boto3==1.44.5
cat >"$work/ask.py" <<'END'
import json, os, sys
from datetime import UTC, datetime, timedelta
import boto3
from obstore.auth.boto3 import Boto3CredentialProvider

end = datetime.now(UTC) + timedelta(minutes=16)
made = {"Version": 1, "AccessKeyId": "AKIDEXAMPLE", "SecretAccessKey": "example", "SessionToken": "t", "Expiration": end.isoformat()}
config = os.path.join(sys.argv[1], "config")
with open(os.path.join(sys.argv[1], "made.json"), "w") as file:
    json.dump(made, file)
with open(config, "w") as file:
    file.write(f"[default]\nregion = us-east-1\ncredential_process = cat {sys.argv[1]}/made.json\n")
os.environ |= {"AWS_CONFIG_FILE": config, "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
    os.environ.pop(name, None)
told = Boto3CredentialProvider(boto3.Session())()["expires_at"]
print(f"they end in {round((end - datetime.now(UTC)).total_seconds() / 60)} minutes; obstore is told {round((told - datetime.now(UTC)).total_seconds() / 60)}")
END
said=$("$work/venv/bin/python" "$work/ask.py" "$work")
echo "$said"
[ "$said" = "they end in 16 minutes; obstore is told 30" ]
