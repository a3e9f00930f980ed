#!/usr/bin/env bash
# Guess:   a sensor as Dagster's docs have it (`get_objects(bucket, since_key=cursor)`, then the last key is the cursor) starts a run for each
#          object that is new in the bucket, and each is new once.
# Happens: objects are sorted by their time, which S3 tells in whole seconds, and within one second by name; what stands behind the
#          cursor is new. `shard-1`, uploaded in the same second as the cursor `shard-2` and after the look, stands in front of it: no later look
#          has it. Where the cursor's own object is uploaded again it goes to the end, and all that came between is never seen. Where
#          it is deleted (a lifecycle rule) every look from then on raises. No object is told of as missed; only the docstring of the
#          deprecated `get_s3_keys` knows the second of the three.
# Version: dagster-aws 0.29.27, dagster 1.13.27, moto 5.2.5 as the S3 (PyPI). Date: 2026-12-01.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'dagster-aws==0.29.27' 'dagster==1.13.27' 'moto[s3]==5.2.5'
venv/bin/python - <<'PY'
import time
from importlib.metadata import version

import boto3
from dagster_aws.s3.sensor import get_objects
from moto import mock_aws

print(*(f"{name} {version(name)}" for name in ("dagster-aws", "dagster", "moto")))


def look(since=None):
    """What a look of the sensor finds new, and the cursor after it."""
    keys = [found["Key"] for found in get_objects("models", since_key=since, client=s3)]
    return keys, keys[-1] if keys else since


def next_second():
    now = int(time.time())
    while int(time.time()) == now:
        time.sleep(0.005)


with mock_aws():
    s3 = boto3.client("s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    s3.create_bucket(Bucket="models")

    def put(*keys):
        for key in keys:
            s3.put_object(Bucket="models", Key=key, Body=b"weights")

    next_second()
    put("shard-2")
    first, cursor = look()
    put("shard-1", "shard-3")
    times = {found["LastModified"] for found in s3.list_objects_v2(Bucket="models")["Contents"]}
    assert len(times) == 1, "the machine was too slow: all three belong into one second"
    second, cursor = look(cursor)
    print("first look:", first, "then shard-1 and shard-3 come, second look:", second)
    next_second()
    put("new-1")
    next_second()
    put("shard-3")
    third, cursor = look(cursor)
    print("new-1 comes, and shard-3, the cursor, once more; third look:", third)
    next_second()
    put("new-2")
    s3.delete_object(Bucket="models", Key=cursor)
    try:
        look(cursor)
        said = ""
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    print("new-2 comes, and the cursor is deleted; each later look:", said)
assert (first, second, third) == (["shard-2"], ["shard-3"], [])
assert "not present" in said
PY
