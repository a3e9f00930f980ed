#!/usr/bin/env bash
# Guess:   `s3fs.S3FileSystem()`, made anew in each tick of a sensor, sees the bucket as it is: `exists` and `info` ask S3 for that one object.
# Happens: the constructor gives back the object of last time (fsspec keeps one for equal arguments), and with it every folder that was
#          listed once, without end. In a process that lives on, as Dagster's code server does, a model that was uploaded after the first
#          `ls` does not exist, one that was deleted is there, and one that was replaced has its old size and ETag; opening it fails with
#          "no longer exists", in each tick anew. `use_listings_cache=False` helps.
# Version: s3fs 2026.9.0, fsspec 2026.9.0, moto 5.2.5 (PyPI). Date: 2026-11-30.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 's3fs==2026.9.0' 'fsspec==2026.9.0' 'moto[server,s3]==5.2.5'
AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=b AWS_DEFAULT_REGION=us-east-1 venv/bin/python - <<'PY' 2>server.log || { tail -5 server.log; exit 1; }
import contextlib
import io
from importlib.metadata import version

import boto3
import s3fs
from moto.server import ThreadedMotoServer

with contextlib.redirect_stdout(io.StringIO()):
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
address = "http://{}:{}".format(*server.get_host_and_port())
trainer = boto3.client("s3", endpoint_url=address)
trainer.create_bucket(Bucket="models")
for name in ("replaced", "deleted"):
    trainer.put_object(Bucket="models", Key=f"llama/{name}", Body=b"old")


def tick(**options):
    bucket = s3fs.S3FileSystem(endpoint_url=address, **options)
    bucket.ls("models/llama")
    try:
        with bucket.open("models/llama/replaced") as file:
            content = file.read()
    except OSError as error:
        content = type(error).__name__
    return {
        "new exists": bucket.exists("models/llama/new"),
        "deleted exists": bucket.exists("models/llama/deleted"),
        "replaced has": (bucket.info("models/llama/replaced")["size"], content),
    }


first = tick()
trainer.put_object(Bucket="models", Key="llama/new", Body=b"new")
trainer.put_object(Bucket="models", Key="llama/replaced", Body=b"newer and longer")
trainer.delete_object(Bucket="models", Key="llama/deleted")
second, fresh = tick(), tick(use_listings_cache=False)
print("s3fs", version("s3fs"))
print("first tick:                   ", first)
print("after the trainer wrote:      ", second)
print("with use_listings_cache=False:", fresh)
assert (second["new exists"], second["deleted exists"], second["replaced has"]) == (False, True, (3, "FileExpired"))
assert (fresh["new exists"], fresh["deleted exists"], fresh["replaced has"]) == (True, False, (16, b"newer and longer"))
PY
