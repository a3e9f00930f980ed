"""ECR's own API through boto3: the calls that uploads and log-ins need, with retries and errors of ours.

Credentials are found as the aws command finds them (environment, profile, web identity, container, instance); an own
endpoint is AWS_ENDPOINT_URL_ECR. Nothing here is logged by us; botocore's own debug log, off unless a program turns it
on, shows answers, so also tokens.
"""

from __future__ import annotations

import base64
import binascii
import math
import threading
import time
from collections.abc import Callable, Mapping
from copy import copy
from typing import Any

from registry_pipelines.errors import RegistryError, RegistryPipelinesError, Stalled, ToolMissing
from registry_pipelines.registry.client.credentials import Credentials
from registry_pipelines.registry.client.exchange import Count
from registry_pipelines.registry.client.retries import Retries
from registry_pipelines.registry.client.translate import not_answered
from registry_pipelines.registry.client.transport import Timeouts
from registry_pipelines.registry.ecr.access import AwsAccess
from registry_pipelines.registry.ecr.failures import error_code, raise_translated, translate
from registry_pipelines.registry.ecr.hosts import EcrHost
from registry_pipelines.registry.protocol import Observer

RENEW_EARLY_S = 900.0
"""A token (12 h by ECR's guide) is renewed this long before its end: ECR answers 403, not 401, to one that has expired,
so it must never be used then."""

ENCODE_BYTES = 768 * 1024
"""Encoded at once; a multiple of three, so that pieces of base64 join."""

_OPEN = (
    b'{"registryId":"%s","repositoryName":"%s","uploadId":"%s","partFirstByte":%d,"partLastByte":%d,"layerPartBlob":"'
)


class EcrApi:
    """The API of one host. Safe for many threads; nothing is asked before the first call.

    access: how AWS is asked. retries: ours; boto3's are off, because two that multiply
    hide throttling from the limits. observer: told of every failed attempt. ``sent`` is without those for tokens.
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
        self.account, self.name, self.retries = host.account, name, retries
        self._timeouts, self._observer = timeouts, observer
        self.sent = Count()
        self._clients = _Clients(access, timeouts)

    def adjusted(self, retries: Retries, observer: Observer | None) -> EcrApi:
        """The same API for another use; clients, their log-in and counts are shared."""
        api = copy(self)
        api.retries, api._observer = retries, observer
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
        """One operation by boto3's method name, tried again while its failure may pass.

        settle: after such a failure, whether it was done all the same; then the answer is empty. commits_bytes: of the
        upload that it ends. Raises the RegistryError family, InputError, ToolMissing.
        """
        answer_s = self._timeouts.stall_s
        if commits_bytes is not None:
            # To a power of two, because each limit needs a client of boto3 of its own.
            answer_s = 2.0 ** math.ceil(math.log2(self._timeouts.to_commit(commits_bytes)))
        client = self._clients.get(answer_s, where=where)
        attempt = 1
        while True:
            self.sent.add()
            try:
                answer: Mapping[str, Any] = getattr(client, operation)(registryId=self.account, **values)
                return answer
            except Exception as error:
                ours = self._failed(error, where=where, doing=doing)
                if ours.temporary and settle is not None and settle():
                    return {}
                if commits_bytes is not None and type(error).__name__ == "ReadTimeoutError":
                    raise not_answered(answer_s, where=where) from error
                if not self.retries.wait(ours, attempt):
                    raise_translated(error, where=where, doing=doing)
                attempt += 1

    def send_part(self, repository: str, upload_id: str, first: int, content: memoryview, *, where: str) -> int | None:
        """One UploadLayerPart, once. Returns the last byte ECR has: the part's own when it was taken, another when ECR
        says that the part does not follow what it has, None when it refuses the part but does not say what it has.

        The body is written here and not by boto3, whose JSON costs three times the processor time and twice the memory
        (measured: 56 to 16 ms for 8 MiB). Raises as :meth:`call`.
        """
        client = self._clients.get(self._timeouts.stall_s, where=where)
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
            self._failed(error, where=where, doing="sending a part")
            raise_translated(error, where=where, doing="sending a part")

    def _failed(self, error: Exception, *, where: str, doing: str) -> RegistryPipelinesError:
        ours = translate(error, where=where, doing=doing)
        if self._observer is not None:
            self._observer(ours)
        return ours

    def find(self) -> Credentials:
        """A log-in for the distribution protocol (GetAuthorizationToken). See CredentialFinder. A call that stalls is
        not repeated here: whoever waits for the token repeats by itself, as its own retries say."""
        client = self._clients.get(self._timeouts.stall_s, where=self.name)
        attempt = 1
        while True:
            try:
                answer = client.get_authorization_token()
                return self._read_token(answer)
            except Exception as error:
                ours = self._failed(error, where=self.name, doing="asking for a token")
                if isinstance(ours, Stalled) or not self.retries.wait(ours, attempt):
                    raise_translated(error, where=self.name, doing="asking for a token")
                attempt += 1

    def _read_token(self, answer: Mapping[str, Any]) -> Credentials:
        try:
            data = answer["authorizationData"][0]
            user, colon, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
            expires = data["expiresAt"].timestamp()
        except (LookupError, TypeError, AttributeError, ValueError):
            colon = ""
        if not colon:
            raise RegistryError("ECR gave a token that cannot be read", where=self.name) from None
        # A clock that is ahead must not ask for a token before every request: half an hour is always believed.
        return Credentials(user, password, use_until=max(expires - RENEW_EARLY_S, time.time() + 1800.0))


class _Clients:
    """Clients of ECR's API, made for sending parts. Safe for many threads."""

    def __init__(self, access: AwsAccess, timeouts: Timeouts) -> None:
        self._access, self._timeouts = access, timeouts
        self._lock = threading.Lock()
        self._made: dict[float, Any] = {}

    def get(self, answer_s: float, *, where: str) -> Any:
        """A client whose answers may take so long: boto3 has a time-out per client. Raises ToolMissing, InputError."""
        with self._lock:
            client = self._made.get(answer_s)
            if client is None:
                try:
                    client = self._made[answer_s] = self._make(answer_s)
                except ToolMissing as error:
                    raise ToolMissing(
                        "boto3 is not installed; ECR needs it",
                        where=where,
                        do="Install it: pip install 'registry-pipelines[aws]'; or give `username: AWS` and a password",
                    ) from error
                except Exception as error:
                    raise_translated(error, where=where, doing="preparing for ECR")
            return client

    def _make(self, answer_s: float) -> Any:
        client = self._access.client("ecr", answer_s=answer_s, connect_s=self._timeouts.connect_s)
        events = client.meta.events  # by name, because registries that share an access share its clients
        events.register("before-parameter-build.ecr.UploadLayerPart", _take_body, unique_id="take-body")
        events.register("before-call.ecr.UploadLayerPart", _put_body, unique_id="put-body")
        return client


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
