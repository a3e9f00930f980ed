"""A server of S3's API on loopback, which is not ours (moto), with one bucket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import boto3
import pytest
from moto.server import ThreadedMotoServer

BUCKET = "backups"
REGION = "us-east-1"
SECRET = "s3cr3t-of-the-test"


@contextmanager
def s3_server() -> Iterator[str]:
    """Its address, as ``http://127.0.0.1:PORT``; meanwhile the environment has credentials for it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
            patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
            patch.delenv("AWS_PROFILE", raising=False)
            boto3.Session().client("s3", endpoint_url=address, region_name=REGION).create_bucket(Bucket=BUCKET)
            yield address
    finally:
        server.stop()
