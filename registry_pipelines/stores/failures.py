"""What a store, and obstore, says of a failure, as an error of ours; no secret of an address is in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from registry_pipelines.errors import (
    DiskFull,
    Forbidden,
    NotFound,
    RegistryError,
    RegistryPipelinesError,
    Unauthorized,
    Unavailable,
)

_SECRET = re.compile(r"(://[^/\s?]+[^\s?]*)\?[^\s)]*")
_USER = re.compile(r"://(?:[^/\s]*|[^/\s:]*:[^\s?]*)@")
"""Somebody's name and password in an address; an at sign further behind is part of a key."""
_EXPIRED = ("ExpiredToken", "TokenRefreshRequired", "InvalidToken")
"""S3 answers these with 400, which obstore has no class for."""
_WORDLESS = re.compile(r"performing HEAD \S+ in \S+ - [^\n]* 400 Bad Request: *(\n|$)")
"""The same, asked for an object's size: there is no body that could say why."""
_PLAINLY: tuple[tuple[tuple[str, ...], type[RegistryError], str, str], ...] = (
    (
        ("<Code>NoSuchBucket<", "<Code>ContainerNotFound<", "<Code>ResourceNotFound<"),
        Unavailable,  # NotFound is of objects, and mostly means that there is nothing yet
        "there is no such bucket",
        "Check its name, and in the configuration its endpoint",
    ),
    (
        (
            "status code: 401 ",
            "<Code>InvalidAccessKeyId<",
            "<Code>SignatureDoesNotMatch<",
            "<Code>AuthenticationFailed<",
        ),
        Unauthorized,
        "the store does not take the credentials",
        "Check them",
    ),
    (("status code: 403 ",), Forbidden, "the store does not let us", "Check the credentials, and what they may do"),
    (
        ("error sending request",),
        Unavailable,
        "the store cannot be reached",
        "Check the endpoint and the network, then run it again",
    ),
)
"""What obstore has no class for where it happens in a list: what stands in its text, the error, its words."""
_CODE = re.compile(r"<Code>([A-Za-z]{1,60})</Code>")
_MOST_SAID = 4000
_FULL = ("No space left", "QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "status code: 507")


@contextmanager
def store_errors(where: str) -> Iterator[None]:
    """What obstore raises as errors of ours. What our own code raises within, of pieces for instance, stays."""
    from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

    try:
        yield
    except RegistryPipelinesError:
        raise
    except FileNotFoundError as error:
        raise NotFound("there is no such object", where=where) from error
    except PermissionDeniedError as error:
        raise Forbidden(f"the store does not let us: {said(error)}", where=where) from error
    except UnauthenticatedError as error:
        raise Unauthorized(f"the store does not take the credentials: {said(error)}", where=where) from error
    except (BaseError, OSError) as error:
        told, whole = said(error), str(error)[:_MOST_SAID]
        if any(word in whole for word in _FULL):
            raise DiskFull(
                f"the store is full: {told}", where=where, do="Make room there, then run it again"
            ) from error
        if any(word in whole for word in _EXPIRED) or _WORDLESS.search(whole):
            raise Unauthorized(
                f"the store does not take the credentials any more: {told}",
                where=where,
                do="Get new ones, then run it again: it goes on",
            ) from error
        for words, kind, what, do in _PLAINLY:
            if any(word in whole for word in words):
                raise kind(f"{what}: {told}", where=where, do=do) from error
        raise Unavailable(f"the store does not do it: {told}", where=where) from error


def said(error: BaseException) -> str:
    """What an error says: its first line, made :func:`plain`, and the store's word for it, which
    stands on the second where its answer begins as XML does."""
    whole = str(error)[:_MOST_SAID]
    first = plain(next(iter(whole.splitlines()), type(error).__name__))[:300]
    code = _CODE.search(whole)
    return f"{first} ({code[1]})" if code and code[1] not in first else first


def plain(text: str) -> str:
    """A text without what stands behind the question mark of an address, and without names and passwords in one."""
    return _USER.sub("://", _SECRET.sub(r"\1", text))


__all__ = ["plain", "said", "store_errors"]
