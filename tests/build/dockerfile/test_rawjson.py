"""What BuildKit tells, read from any bytes: in either form, cut anywhere, and with no secret in what comes out."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.build.dockerfile.engines.protocol import Order
from registry_pipelines.build.dockerfile.engines.rawjson import Following
from registry_pipelines.build.dockerfile.model import DockerfileSpec
from registry_pipelines.oci.platforms import Platform

SECRET = "s3cr3t value"
STARTED, DONE = "2026-11-29T17:44:24.5Z", "2026-11-29T17:44:26Z"
TEXT = ["Dockerfile:4", "--------------------", ">>> RUN false", f"ERROR: failed with {SECRET}"]


def following(*secrets: str) -> Following:
    spec = DockerfileSpec(name="app", version="v1", context=Path())
    return Following(
        Order(
            spec=spec,
            platforms=(Platform.here(),),
            labels={},
            source_date=0,
            folder=Path(),
            deadline=time.monotonic() + 60,
            secret_values=secrets,
        )
    )


def vertex(number: int, name: str, **more: object) -> dict[str, object]:
    return {"digest": f"sha256:{number:064}", "name": name, **more}


def log(number: int, text: str) -> dict[str, object]:
    return {"vertex": f"sha256:{number:064}", "stream": 1, "data": base64.b64encode(text.encode()).decode()}


STREAM: list[dict[str, object]] = [
    {"vertexes": [vertex(1, "[1/3] FROM base", started=STARTED, completed=DONE, cached=True)]},
    {"vertexes": [vertex(2, f"[2/3] RUN echo {SECRET}", started=STARTED)], "logs": [log(2, "first\nhalf of s3c")]},
    {"logs": [log(2, "r3t value\nlast")]},
    {"vertexes": [vertex(3, "[3/3] COPY a b", error="context canceled")], "warnings": [{"short": "d29yZHM="}]},
    {"vertexes": [vertex(2, f"[2/3] RUN echo {SECRET}", started=STARTED, completed=DONE, error=f"exit 1: {SECRET}")]},
]


def lines(documents: list[dict[str, object]], indent: int | None) -> list[bytes]:
    """One document a line, or as buildx 0.13 prints it."""
    text = "".join(json.dumps(each, indent=indent) + "\n" for each in documents) + "\n".join(TEXT)
    return [line.encode() for line in text.splitlines(keepends=True)]


def test_both_forms_tell_the_same() -> None:
    for indent in (None, 2):
        told = following(SECRET)
        told.read(lines(STREAM, indent))
        told.end()
        failed = told.failed()
        assert failed is not None and (failed.name, failed.error) == ("[2/3] RUN echo ***", "exit 1: ***")
        assert failed.last_lines == ("first", "half of ***", "last")
        assert (told.line, told.warnings) == (4, ("words",))
        assert [(step.name, step.seconds, step.cached) for step in told.steps] == [("[1/3] FROM base", 1.5, True)]
        assert told.text.endswith("ERROR: failed with ***")


@settings(max_examples=150, deadline=None)
@given(
    raw=st.one_of(
        st.lists(st.binary(max_size=200), max_size=20),
        st.lists(
            st.sampled_from([b"{", b"}", b"{}", b"}\n", b'{"vertexes":', b'[{"digest":1}]', b"null", b"\n"]),
            max_size=30,
        ),
    )
)
def test_any_bytes_are_read_to_the_end(raw: list[bytes]) -> None:
    told = following(SECRET)
    told.read([*raw, b"\n", *lines(STREAM[:1], None)])
    told.end()
    # Words that begin no document hide none behind them.
    assert [step.cached for step in told.steps] == [True] or any(line.startswith(b"{") for line in raw)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_secret_comes_out_however_its_log_is_cut(data: st.DataObject) -> None:
    secret = data.draw(st.text(st.characters(codec="utf-8", exclude_characters="\n\r*"), min_size=6, max_size=12))
    text = f"before {secret} after\n{secret}\nend {secret}"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    name = f"[1/1] RUN echo {secret}"
    stream = [
        {"vertexes": [vertex(1, name, started=STARTED)]},
        *({"logs": [log(1, piece)]} for piece in pieces),
        {"vertexes": [vertex(1, name, started=STARTED, completed=DONE, error=f"it said {secret}")]},
    ]
    told = following(secret)
    told.read(line.encode() + b"\n" for line in map(json.dumps, stream))
    told.end()
    failed = told.failed()
    assert failed is not None and secret not in f"{failed.name}\n{failed.error}\n{chr(10).join(failed.last_lines)}"
