"""Images of Dockerfiles: every form that the reference has, and nothing else is touched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.build.from_lines import rewrite
from registry_pipelines.errors import InputError

DOCKERFILE = """\
# syntax=docker/dockerfile:1
ARG VERSION=3.12
ARG BASE
FROM --platform=$BUILDPLATFORM python:${VERSION}-slim AS build
RUN echo "FROM nothing"
COPY --from=ghcr.io/astral-sh/uv:0.5 /uv /bin/uv
from Build as second
FROM ${BASE}
FROM ${OTHER:-alpine}
FROM scratch
COPY --chown=1:1 --from=build /x /x
COPY --from=0 /y /y
"""


def test_every_form() -> None:
    text, found = rewrite(DOCKERFILE, lambda image: f"cache/{image}@sha256:0")
    assert [(each.line, each.image, each.why) for each in found] == [
        (4, "python:3.12-slim", ""),
        (6, "ghcr.io/astral-sh/uv:0.5", ""),
        (7, "Build", "a stage of the file"),
        (8, "", "a variable in it has no value"),
        (9, "alpine", ""),
        (10, "scratch", "scratch"),
    ]
    assert "FROM --platform=$BUILDPLATFORM cache/python:3.12-slim@sha256:0 AS build\n" in text
    assert "COPY --from=cache/ghcr.io/astral-sh/uv:0.5@sha256:0 /uv /bin/uv\n" in text
    assert "FROM cache/alpine@sha256:0\n" in text
    for line in ("from Build as second\n", "FROM ${BASE}\n", 'RUN echo "FROM nothing"\n', "COPY --from=0 /y /y\n"):
        assert line in text


def test_a_file_without_from() -> None:
    with pytest.raises(InputError, match="no FROM"):
        rewrite("RUN true\n", str)


@given(st.text(max_size=200))
def test_what_names_no_image_stays_byte_for_byte(text: str) -> None:
    try:
        done, found = rewrite(text, lambda image: image)
    except InputError:
        return
    assert found
    if all(each.image == each.written or each.why for each in found):
        assert done == text


@given(st.sampled_from(["\n", "\r\n"]), st.text(" \t", max_size=5))
def test_line_ends_and_spaces_stay(ending: str, spaces: str) -> None:
    text = f"{spaces}FROM a:1{ending}RUN x{ending}"
    assert rewrite(text, lambda image: image)[0] == text
