"""ECR's own API through boto3: the calls that uploads and log-ins need, with retries and errors of ours.

Credentials are found as the aws command finds them (environment, profile, web identity, container, instance); an own
endpoint is AWS_ENDPOINT_URL_ECR. Nothing here is logged by us; botocore's own debug log, off unless a program turns it
on, shows answers, so also tokens.
"""

from __future__ import annotations

import binascii
import math
import threading
from collections.abc import Callable, Mapping
from copy import copy
from typing import Any

from msgspec.structs import replace

from registry_pipelines.registry.client.credentials import Credentials
from registry_pipelines.registry.client.exchange import Count
from registry_pipelines.registry.client.retries import Retries
from registry_pipelines.registry.client.transport import Timeouts
from registry_pipelines.registry.ecr.access import AwsAccess
from registry_pipelines.registry.ecr.calls import AwsCalls
from registry_pipelines.registry.ecr.failures import error_code, raise_translated, translate
from registry_pipelines.registry.ecr.hosts import EcrHost
from registry_pipelines.registry.ecr.tokens import read_token
from registry_pipelines.registry.protocol import Observer

ENCODE_BYTES = 768 * 1024
"""Encoded at once; a multiple of three, so that pieces of base64 join."""

_OPEN = (
    b'{"registryId":"%s","repositoryName":"%s","uploadId":"%s","partFirstByte":%d,"partLastByte":%d,"layerPartBlob":"'
)


class EcrApi:
    """The API of one host. Safe for many threads; nothing is asked before the first call.

    access: how AWS is asked. retries, observer: see AwsCalls, which makes the calls.
    """

    def __init__(
        self,
        host: EcrHost,
        *,
        name: str,
        access: AwsAccess,
        timeouts: Timeouts,
        retries: Retries,
        observer: Observer | None,
    ) -> None:
        self.account, self.name = host.account, name
        self.calls = AwsCalls(access, timeouts=timeouts, retries=retries, observer=observer)

    @property
    def retries(self) -> Retries:
        """Of every call."""
        return self.calls.retries

    @property
    def sent(self) -> Count:
        """Requests so far, without those for tokens."""
        return self.calls.sent

    def adjusted(self, retries: Retries, observer: Observer | None) -> EcrApi:
        """The same API for another use; clients, their log-in and counts are shared."""
        api = copy(self)
        api.calls = self.calls.adjusted(retries, observer)
        return api

    def call(
        self,
        operation: str,
        *,
        where: str,
        doing: str,
        settle: Callable[[], bool] | None = None,
        commits_bytes: int | None = None,
        **values: Any,
    ) -> Mapping[str, Any]:
        """See AwsCalls. commits_bytes: of the upload that it ends."""
        answer_s = 0.0
        if commits_bytes is not None:
            # To a power of two, because each limit needs a client of boto3 of its own.
            answer_s = 2.0 ** math.ceil(math.log2(self.calls.timeouts.to_commit(commits_bytes)))
        return self.calls.call(
            operation, where=where, doing=doing, settle=settle, commit_s=answer_s, registryId=self.account, **values
        )

    def send_part(self, repository: str, upload_id: str, first: int, content: memoryview, *, where: str) -> int | None:
        """One UploadLayerPart, once. Returns the last byte ECR has: the part's own when it was taken, another when ECR
        says that the part does not follow what it has, None when it refuses the part but does not say what it has.

        The body is written here and not by boto3, whose JSON costs three times the processor time and twice the memory
        (measured: 56 to 16 ms for 8 MiB). Raises as :meth:`call`.
        """
        client = self._client(where)
        last = first + len(content) - 1
        names = (self.account.encode(), repository.encode(), upload_id.encode(), first, last)
        body = _Body()
        body.request = _encode(_OPEN % names, content)
        self.sent.add()
        try:
            client.upload_layer_part(
                registryId=self.account,
                repositoryName=repository,
                uploadId=upload_id,
                partFirstByte=first,
                partLastByte=last,
                layerPartBlob=body,
            )
            return last
        except Exception as error:
            if error_code(error) == "InvalidLayerPartException":
                valid = error.response.get("lastValidByteReceived")  # type: ignore[attr-defined]
                return valid if isinstance(valid, int) else None
            self.calls.tell(translate(error, where=where, doing="sending a part"))
            raise_translated(error, where=where, doing="sending a part")

    def _client(self, where: str) -> Any:
        """The client that sends parts."""
        client = self.calls.client("ecr", where=where)
        events = client.meta.events  # by name, because registries that share an access share its clients
        with _HOOKING:
            events.register("before-parameter-build.ecr.UploadLayerPart", _take_body, unique_id="take-body")
            events.register("before-call.ecr.UploadLayerPart", _put_body, unique_id="put-body")
        return client

    def find(self) -> Credentials:
        """A log-in for the distribution protocol (GetAuthorizationToken). See CredentialFinder. A call that stalls is
        not repeated here: whoever waits for the token repeats by itself, as its own retries say."""
        once = replace(self.retries, repeat_stalls=False)
        answer = self.calls.adjusted(once, self.calls.observer).call(
            "get_authorization_token", where=self.name, doing="asking for a token", counted=False
        )
        return read_token((answer.get("authorizationData") or [{}])[0], where=self.name)


_HOOKING = threading.Lock()


class _Body(bytes):
    """An empty part for boto3, and the request that is sent for it."""

    request: bytes


def _take_body(params: dict[str, Any], context: dict[str, Any], **_: object) -> None:
    """boto3's hook before it writes a request; the context is this request's own."""
    context["registry_pipelines_request"] = params["layerPartBlob"].request


def _put_body(params: dict[str, Any], context: dict[str, Any], **_: object) -> None:
    """boto3's hook between writing a request and signing it: our body replaces the empty one."""
    params["body"] = context["registry_pipelines_request"]


def _encode(opening: bytes, content: memoryview) -> bytes:
    """The JSON of a part, base64 in it (AWS JSON 1.1); encoded in pieces, so that other threads get their turn."""
    pieces = [opening]
    for start in range(0, len(content), ENCODE_BYTES):
        pieces.append(binascii.b2a_base64(content[start : start + ENCODE_BYTES], newline=False))
    return b"".join([*pieces, b'"}'])
