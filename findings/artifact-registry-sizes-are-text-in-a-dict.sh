#!/usr/bin/env bash
# Guess:   `DockerImage.to_dict(image)` of Google's client has the values that the object has: image.image_size_bytes is an int, so the
#          one in the dict is, and the largest image of a repository is `max(..., key=lambda one: one["image_size_bytes"])`.
# Happens: the dict is made by way of JSON's rules for protobuf, where whole numbers of 64 bits are text. "900" is larger than
#          "12345678901", the sum of sizes is a TypeError, and times are text as well. Numbers of 32 bits and enums stay
#          numbers: of one repository `format_` is 1 in the dict, and `size_bytes` "5". `to_json` writes sizes as text, too.
# Version: google-cloud-artifact-registry 1.23.0, proto-plus and protobuf as they resolve (PyPI). Date: 2026-12-01.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'google-cloud-artifact-registry==1.23.0'
venv/bin/python - <<'PY'
from datetime import datetime, timezone
from importlib.metadata import version

from google.cloud.artifactregistry_v1 import DockerImage, Repository

print(*(f"{name} {version(name)}" for name in ("google-cloud-artifact-registry", "proto-plus", "protobuf")))
at = datetime(2026, 12, 1, tzinfo=timezone.utc)
images = [
    DockerImage(name="small", image_size_bytes=900, upload_time=at),
    DockerImage(name="large", image_size_bytes=12_345_678_901, upload_time=at),
]
dicts = [DockerImage.to_dict(image) for image in images]
by_object = max(images, key=lambda image: image.image_size_bytes).name
by_dict = max(dicts, key=lambda image: image["image_size_bytes"])["name"]
print("largest by object:", by_object, "; by dict:", by_dict, [image["image_size_bytes"] for image in dicts])
print("upload_time:", repr(dicts[0]["upload_time"]))
repository = Repository.to_dict(Repository(format_=Repository.Format.DOCKER, size_bytes=5))
print("repository:", {name: repository[name] for name in ("format_", "size_bytes")})
try:
    sum(image["image_size_bytes"] for image in dicts)
    added = ""
except TypeError as error:
    added = str(error)
print("sum:", added)
assert (by_object, by_dict) == ("large", "small") and added
assert isinstance(dicts[0]["upload_time"], str) and isinstance(images[0].upload_time, datetime)
assert repository["format_"] == 1 and repository["size_bytes"] == "5"
assert '"imageSizeBytes": "900"' in DockerImage.to_json(images[0])
PY
