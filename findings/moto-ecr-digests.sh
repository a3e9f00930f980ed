#!/usr/bin/env bash
# Guess:   moto's ECR names a manifest as ECR and every registry do: by the sha256 of its bytes.
# Happens: the digest of an image is the sha256 of its layers' digests joined: two images that differ only in the config
#          have one digest, and every image without layers has the digest of nothing. An index is named after a random number
#          below 101, so 120 different indexes share at most 101 digests. `maxResults` is taken and ignored: no page token
#          ever comes. A test that follows digests or pages on moto alone proves nothing about ECR.
# Version: moto 5.2.5, boto3 as it resolves. Date: 2026-11-28.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'moto[ecr]==5.2.5'
"$folder/venv/bin/python" - <<'PY'
import hashlib
import json
from importlib.metadata import version

import boto3
from moto import mock_aws

OCI = "application/vnd.oci.image"
LAYER = {"mediaType": f"{OCI}.layer.v1.tar", "digest": "sha256:" + "1" * 64, "size": 5}


def image(number, layers=(LAYER,)):
    config = {"mediaType": f"{OCI}.config.v1+json", "digest": f"sha256:{number:064x}", "size": 2}
    manifest = {"schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", "config": config, "layers": list(layers)}
    return json.dumps(manifest)


def index(number):
    manifest = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": []}
    return json.dumps({**manifest, "annotations": {"number": str(number)}})


def sha256(text):
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


with mock_aws():
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
    ecr = boto3.client("ecr", region_name="eu-west-1", **keys)
    ecr.create_repository(repositoryName="app")

    def put(text, tag):
        stored = ecr.put_image(repositoryName="app", imageManifest=text, imageTag=tag)
        return stored["image"]["imageId"]["imageDigest"]

    two = [put(image(1), "one"), put(image(2), "two")]
    empty = [put(image(3, ()), "three"), put(image(4, ()), "four")]
    asked = ecr.describe_images(repositoryName="app", maxResults=1)
    indexes = {put(index(number), f"index{number}") for number in range(120)}

print("moto", version("moto"), "boto3", version("boto3"))
print("two images with other configs:", len(set(two)), "digest; own sha256:", two[0] in (sha256(image(1)), sha256(image(2))))
print("two images without layers:    ", set(empty))
print("120 indexes:                  ", len(indexes), "digests")
print("maxResults=1:                 ", len(asked["imageDetails"]), "images, nextToken", asked.get("nextToken"))
assert len(set(two)) == 1 and two[0] not in (sha256(image(1)), sha256(image(2)))
assert set(empty) == {"sha256:" + hashlib.sha256(b"").hexdigest()}
assert len(indexes) <= 101
assert len(asked["imageDetails"]) > 1 and "nextToken" not in asked
PY
