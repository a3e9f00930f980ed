#!/usr/bin/env bash
# Guess:   obstore lists a bucket of S3 as boto3 does: a prefix is the beginning of a key (`model-0` finds the shards `model-00001`...), and
#          a key that obstore itself could not write is listed all the same, or left out.
# Happens: a prefix is whole segments between slashes: "llama/model-0" finds nothing, without a word, where S3 has two. One object whose key
#          has `//` (a script joined "runs/" and "/log") and every listing that comes past it is an error, with all other objects of the
#          page gone; nobody can list the bucket until it is renamed by another client. And `put("done/")`, the marker of a folder, writes
#          the key `done`: boto3, which looks for `done/`, does not find it, and obstore does not find boto3's.
# Version: obstore 0.12.1, boto3 1.44.8, moto 5.2.5 as the S3 (PyPI). Date: 2026-12-01.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'obstore==0.12.1' 'boto3==1.44.8' 'moto[server,s3]==5.2.5'
export AWS_EC2_METADATA_DISABLED=true
venv/bin/python - <<'PY'
import logging
from importlib.metadata import version

import boto3
from moto.server import ThreadedMotoServer
from obstore.store import S3Store

logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
address = "http://{}:{}".format(*server.get_host_and_port())
s3 = boto3.client("s3", endpoint_url=address, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
s3.create_bucket(Bucket="models")
store = S3Store(
    "models", endpoint=address, region="us-east-1", access_key_id="x", secret_access_key="x",
    virtual_hosted_style_request=False, client_options={"allow_http": True},
)


def by_boto(prefix=""):
    return [found["Key"] for found in s3.list_objects_v2(Bucket="models", Prefix=prefix).get("Contents", [])]


def by_obstore(prefix=None):
    try:
        return [found["path"] for page in store.list(prefix) for found in page]
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"


def there(ask):
    try:
        ask()
        return True
    except Exception:
        return False


print(*(f"{name} {version(name)}" for name in ("obstore", "boto3", "moto")))
for key in ("llama/model-00001", "llama/model-00002", "llama-70b/model-00001"):
    s3.put_object(Bucket="models", Key=key, Body=b"weights")
for prefix in ("llama/model-0", "llama"):
    print(f"prefix {prefix}: boto3 {by_boto(prefix)}, obstore {by_obstore(prefix)}")
assert (len(by_boto("llama/model-0")), by_obstore("llama/model-0")) == (2, [])
assert (len(by_boto("llama")), len(by_obstore("llama"))) == (3, 2)

store.put("done/", b"")
s3.put_object(Bucket="models", Key="ready/", Body=b"")
print("put('done/') wrote", [key for key in by_boto() if "done" in key])
assert "done" in by_boto() and "done/" not in by_boto()
assert there(lambda: s3.head_object(Bucket="models", Key="ready/")) and not there(lambda: store.head("ready/"))

s3.put_object(Bucket="models", Key="runs//log", Body=b"")
print(f"with runs//log: boto3 {len(by_boto())} keys, obstore {by_obstore()}")
assert len(by_boto()) == 6 and "InvalidPathError" in by_obstore()
server.stop()
PY
