"""distribution 3.1.1's list of tags on S3: a walk over sorted keys that skips too much (distribution#4891).

From registry/storage/tagstore.go and storage/driver/s3-aws/s3.go at v3.1.1: the keys of a tag lie under its name and a
slash; a tag that was seen is skipped by the prefix of its name, slash not included.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from urllib.parse import urlencode

from registry_pipelines.registry.embedded import Request, Response
from registry_pipelines.registry.embedded.application import Handler

_LIST = re.compile(r"(/v2/.+/tags/list)(?:\?.*)?\Z")


def walked(application: Handler) -> Handler:
    """The application with that list; everything else is as it was."""

    def answer(request: Request) -> Response:
        match = _LIST.match(request.target)
        if not match:
            return application(request)
        whole = application(replace(request, target=match[1], query={}))
        if whole.status != 200:
            return whole
        limit, last = int(request.parameter("n") or -1), request.parameter("last")
        tags = walk(json.loads(whole.body)["tags"], last)
        page = tags[:limit] if limit >= 0 else tags
        headers = [("Content-Type", "application/json")]
        if len(page) == limit:
            headers.append(("Link", f'<{match[1]}?{urlencode({"last": page[-1], "n": limit})}>; rel="next"'))
        return Response(200, headers, json.dumps({"name": "app", "tags": page}).encode())

    return answer


def walk(tags: list[str], last: str) -> list[str]:
    """The tags after ``last`` that the walk finds."""
    found, skipped = [], ""
    for key in sorted(f"{tag}/current/link" for tag in tags):
        tag = key.partition("/")[0]
        if key <= last or (skipped and tag.startswith(skipped)):
            continue
        if tag.replace("/", "\0") > last.replace("/", "\0"):
            found.append(tag)
        skipped = tag
    return found
