"""Golden texts: what is left of secrets in URLs and in free text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.redacting import redact_text, redact_url
from registry_pipelines.registry.client.connection import Request
from registry_pipelines.registry.client.credentials import Credentials
from registry_pipelines.registry.client.exchange import Call

URLS = [
    ("https://reg.example/v2/a/tags/list?n=10&last=v1", "https://reg.example/v2/a/tags/list?n=10&last=v1"),
    ("https://user:pw@reg.example:5000/v2/", "https://reg.example:5000/v2/"),
    ("https://token@reg.example/", "https://reg.example/"),
    (
        "https://bucket.s3.amazonaws.com/x?X-Amz-Credential=AKIA&X-Amz-Signature=abc&digest=sha256:1",
        "https://bucket.s3.amazonaws.com/x?X-Amz-Credential=REDACTED&X-Amz-Signature=REDACTED&digest=sha256:1",
    ),
    ("/v2/a/blobs/uploads/u?_state=abc", "/v2/a/blobs/uploads/u?_state=REDACTED"),
    ("https://reg.example/x#access_token=abc", "https://reg.example/x"),
    # A password that nobody escaped does not end the host.
    ("redis://:pa/ss@broker:6379/0", "redis://broker:6379/0"),
    ("postgresql://rp:a?b#c/d@db/state?sslmode=require", "postgresql://db/state?sslmode=REDACTED"),
    ("https://reg.example:5000/v2/a@sha256:1", "https://reg.example:5000/v2/a@sha256:1"),
    ("https://[::1]/v2/a@sha256:1", "https://[::1]/v2/a@sha256:1"),
    ("https://[::1/broken?sig=abc", "(an address that is not a URL)"),
    ("", ""),
]

TEXTS = [
    ("nothing secret in sha256:0123abcd of team/app:v1", "nothing secret in sha256:0123abcd of team/app:v1"),
    ("sent Authorization: Bearer abc.def", "sent Authorization: Bearer REDACTED"),
    ("basic dXNlcjpwdw== was refused", "basic REDACTED was refused"),
    ("GET https://u:pw@h/x?sig=abc&n=1 failed", "GET https://h/x?sig=REDACTED&n=1 failed"),
    ('{"access_token": "abc", "expires_in": 60}', '{"access_token": REDACTED, "expires_in": 60}'),
    ("password=hunter2&user=me", "password=REDACTED&user=me"),
    ("identitytoken: 'abc def' here", "identitytoken: REDACTED here"),
    ("got eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2ln from it", "got REDACTED from it"),
]


@pytest.mark.parametrize(("url", "expected"), URLS)
def test_urls(url: str, expected: str) -> None:
    assert redact_url(url) == expected


@pytest.mark.parametrize(("text", "expected"), TEXTS)
def test_texts(text: str, expected: str) -> None:
    assert redact_text(text) == expected


@pytest.mark.parametrize(("text", "_expected"), [*TEXTS, *URLS])
def test_redacting_twice_changes_nothing(text: str, _expected: str) -> None:
    assert redact_text(redact_text(text)) == redact_text(text)


_SECRETS = st.text("abcdefXYZ0123456789+=._-", min_size=12, max_size=40).map(lambda text: f"s3cr3t{text}")


@given(_SECRETS, st.sampled_from(["Bearer {}", "Basic {}", "token={}", "https://u:{}@h/", "https://h/?X-Sig={}&n=1"]))
@settings(max_examples=150, deadline=None)
def test_no_secret_survives(secret: str, shape: str) -> None:
    assert "s3cr3t" not in redact_text(f"the request {shape.format(secret)} failed")


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text_and_url_can_be_redacted(text: str) -> None:
    redact_text(text)
    redact_url(text)


def test_requests_show_neither_headers_nor_addresses() -> None:
    """Tracebacks of test runners and loggers print values."""
    request = Request("GET", "https://h/?sig=s3cr3t", "reg/a", {"Authorization": "Bearer s3cr3t"}, b"s3cr3t")
    call = Call("GET", "https://h/?sig=s3cr3t", frozenset(), "reg/a", "reading")
    for shown in (request, call, Credentials("user", "s3cr3t", "s3cr3t")):
        assert "s3cr3t" not in repr(shown)
