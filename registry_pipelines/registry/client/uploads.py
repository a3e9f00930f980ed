"""Sending blobs: one pass with known length, or chunk by chunk in a session that survives a kill.

Source: distribution-spec 1.1, "Pushing blobs", and what registries really do (docs/registries.md).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from registry_pipelines.errors import (
    DigestMismatch,
    NotFound,
    RateLimited,
    Refused,
    RegistryError,
    RegistryPipelinesError,
    Unavailable,
    Unsupported,
)
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.client.exchange import Call, Exchange
from registry_pipelines.registry.client.facts import Facts
from registry_pipelines.registry.client.origins import split_url
from registry_pipelines.registry.client.redirects import resolve_location
from registry_pipelines.registry.client.response import Response
from registry_pipelines.registry.client.sizes import blob_size
from registry_pipelines.registry.client.tokens import push
from registry_pipelines.registry.client.transport import Timeouts
from registry_pipelines.registry.protocol import BUFFER_BYTES, Carrier, Readable, UploadSession

_RANGE = re.compile(r"(?:bytes[= ])?(\d{1,19})-(\d{1,19})\Z", re.IGNORECASE)
_OCTETS = {"Content-Type": "application/octet-stream"}


@runtime_checkable
class Rewindable(Protocol):
    """Content that can be read again from its first byte, as ``blobs.BytesSource``."""

    def rewind(self) -> None:
        """Start again."""
        ...


class HashedBody:
    """A blob as a request body: hashed while it is sent. The last piece is held back until the digest is known to be
    right, so a registry never gets the whole of wrong content."""

    def __init__(self, descriptor: Descriptor, content: Readable, *, where: str) -> None:
        self.size = descriptor.size
        self._descriptor = descriptor
        self._content = content
        self._where = where
        self._begun = False

    def rewind(self) -> bool:
        """See Body."""
        if self._begun and not isinstance(self._content, Rewindable):
            return False
        if isinstance(self._content, Rewindable):
            self._content.rewind()
        return True

    def chunks(self) -> Iterator[memoryview]:
        """See Body. Raises DigestMismatch."""
        self._begun = True
        hasher = self._descriptor.digest.hasher()
        buffer = memoryview(bytearray(min(BUFFER_BYTES, self.size) or 1))
        left = self.size
        while left:
            count = self._content.readinto(buffer[:left])
            if not count:
                raise self._mismatch(f"the content ends {left} bytes before the {self.size} its descriptor says")
            left -= count
            hasher.update(buffer[:count])
            if not left:
                self.check_end(hasher.hexdigest())
            yield buffer[:count]

    def check_end(self, hex_digest: str) -> None:
        """Raise DigestMismatch unless the content ends here and hashes to its name."""
        if self._content.readinto(memoryview(bytearray(1))):
            raise self._mismatch(f"the content is longer than the {self.size} bytes its descriptor says")
        if hex_digest != self._descriptor.digest.hex:
            algorithm = self._descriptor.digest.algorithm
            raise self._mismatch(f"content hashes to {algorithm}:{hex_digest}, expected {self._descriptor.digest}")

    def _mismatch(self, what: str) -> DigestMismatch:
        return DigestMismatch(what, where=self._where, do="Nothing was stored; fetch the content from another place")


class Uploads:
    """The upload verbs of one registry."""

    def __init__(self, exchange: Exchange, facts: Facts, timeouts: Timeouts) -> None:
        self._exchange = exchange
        self._facts = facts
        self._timeouts = timeouts

    def over(self, exchange: Exchange) -> Uploads:
        """The same over an adjusted exchange."""
        return Uploads(exchange, self._facts, self._timeouts)

    def upload(self, repository: str, descriptor: Descriptor, content: Readable) -> None:
        """POST, then one PUT with Content-Length: the form every registry takes. See Registry.upload_blob.

        A broken upload is sent again when the content can be rewound; else Unavailable is the caller's to handle. What
        is repeated by itself (the POST, the question for the blob) is not repeated once more here: five times five
        requests to a registry that is down took half a minute for each blob.
        """
        attempt = 1
        while True:
            body = HashedBody(descriptor, content, where=self._where(repository, descriptor.digest))
            if not descriptor.size:
                body.check_end(descriptor.digest.hasher().hexdigest())
            session = self.begin(repository)
            try:
                return self._send_whole(session, descriptor, body)
            except Unavailable as error:
                settled = self._settled(repository, descriptor)
                if settled:
                    return None
                if settled is None:
                    raise
                self._cancel_quietly(session)
                if not isinstance(content, Rewindable) or not self._exchange.retries.wait(error, attempt):
                    raise
                content.rewind()
                attempt += 1
            except Refused:  # Nexus refuses whoever of two clients comes second with one blob (nexus-public#967)
                if not self._settled(repository, descriptor):
                    raise
                return None

    def _send_whole(self, session: UploadSession, descriptor: Descriptor, body: HashedBody) -> None:
        where = self._where(session.repository, descriptor.digest)
        call = self._finish_call(session, descriptor.digest, "sending a blob", body)
        try:
            self._stored(self._exchange.run(call), descriptor.digest, where)
        except Unavailable:
            raise
        except BaseException:
            self._cancel_quietly(session)
            raise

    def mount(self, repository: str, digest: Digest, *, source: str) -> bool:
        """201 is mounted; 202 opened an upload instead, which is cancelled. A refusal means: not mounted, upload it; so
        do two repositories with an account each, of which none can do both."""
        if not self._exchange.share_an_account(repository, source):
            return False
        where = self._where(repository, digest)
        scopes = push(repository) | frozenset({f"repository:{source}:pull"})
        url = f"/v2/{repository}/blobs/uploads/?mount={digest}&from={source}"
        try:
            response = self._exchange.run(Call("POST", url, scopes, where, "mounting a blob", (201, 202)))
        except Unavailable:
            raise
        except RegistryError:
            return False
        self._facts.learn(repository, mount=response.status == 201 or None)
        if response.status == 202:
            with contextlib.suppress(RegistryError):
                self.cancel(self._session(repository, response))
        return response.status == 201

    def begin(self, repository: str) -> UploadSession:
        """Open an upload."""
        where = self._where(repository)
        url = f"/v2/{repository}/blobs/uploads/"
        response = self._exchange.run(Call("POST", url, push(repository), where, "opening an upload", (202, 201)))
        return self._session(repository, response)

    def _session(self, repository: str, response: Response) -> UploadSession:
        location = upload_location(response, where=self._where(repository))
        smallest = response.header("OCI-Chunk-Min-Length")
        return UploadSession(
            repository, location, min_chunk_bytes=int(smallest) if smallest.isdigit() and len(smallest) < 16 else 0
        )

    def append(self, session: UploadSession, content: memoryview) -> None:
        """Send one chunk at our own offset; a lost answer is settled by asking how much is stored.

        Raises NotFound when the upload cannot go on and a new one must be begun. distribution 2.8 keeps its offset in
        the Location (``_state``), so after a lost answer it never goes on (404 BLOB_UPLOAD_INVALID).
        """
        end = session.offset + len(content)
        attempt = 1
        while session.offset < end:
            try:
                self._patch(session, content[len(content) - (end - session.offset) :])
                session.offset = end
            except (Unavailable, Refused) as error:
                if isinstance(error, Refused) and error.status != 416:
                    raise
                stored = session.offset if isinstance(error, RateLimited) else self._stored_by(session, end)
                if stored is None or (stored == session.offset and not self._exchange.retries.wait(error, attempt)):
                    raise
                session.offset = stored
                attempt += 1
        self._facts.learn(session.repository, chunked_upload=True)

    def append_carried(self, session: UploadSession, carrier: Carrier) -> None:
        """A streamed PATCH, as Docker's own pushes are: without Content-Range, because its length is not known."""
        where = self._where(session.repository)
        call = Call(
            "PATCH",
            session.location,
            push(session.repository),
            where,
            "sending content",
            (202, 201, 204),
            {**_OCTETS, "Transfer-Encoding": "chunked"},
            answer_s=self._timeouts.to_commit(session.offset),
            once=True,
            carrier=carrier,
        )
        response = self._exchange.run(call)
        session.offset += carrier.sent_bytes
        if response.header("Location"):
            session.location = upload_location(response, where=where)

    def _patch(self, session: UploadSession, content: memoryview) -> None:
        headers = {**_OCTETS, "Content-Range": f"{session.offset}-{session.offset + len(content) - 1}"}
        # ECR answers 201 where the specification says 202; 204 is seen behind proxies.
        response = self._exchange.run(
            Call(
                "PATCH",
                session.location,
                push(session.repository),
                self._where(session.repository),
                "sending a chunk",
                (202, 201, 204),
                headers,
                content,
                once=True,
            )
        )
        if response.header("Location"):
            session.location = upload_location(response, where=self._where(session.repository))

    def _stored_by(self, session: UploadSession, end: int) -> int | None:
        """The registry's offset after a failed chunk, where it can only be true. ECR's stays behind what is stored, so
        one behind ours proves nothing: None, and the caller gives the upload up. Raises NotFound."""
        stored = self.offset(session)
        if stored is None:
            raise NotFound("the upload is gone", where=self._where(session.repository), do="Begin a new one")
        return stored if session.offset <= stored <= end else None

    def offset(self, session: UploadSession) -> int | None:
        """Bytes the registry says it has; None when the upload is gone. distribution 2.8 says ``0-0`` for nothing."""
        call = Call(
            "GET",
            session.location,
            push(session.repository),
            self._where(session.repository),
            "asking for an upload's state",
            (204, 200, 202, 201),
        )
        try:
            response = self._exchange.run(call)
        except NotFound:
            return None
        match = _RANGE.match(response.header("Range"))
        if response.header("Location"):
            session.location = upload_location(response, where=call.where)
        if not match:
            return 0 if not response.header("Range") else None
        if match[2] == "0":
            return min(session.offset, 1)
        return int(match[2]) + 1

    def commit(self, session: UploadSession, digest: Digest) -> None:
        """Finish. See UploadSessions.commit_upload. A failed try is settled by HEAD before the next."""
        descriptor = Descriptor(media_type="", digest=digest, size=session.offset)
        call = self._finish_call(session, digest, "finishing an upload", None)
        attempt = 1
        while True:
            try:
                return self._stored(self._exchange.run(call), digest, call.where)
            except (Unavailable, NotFound) as error:
                settled = self._settled(session.repository, descriptor)
                if settled:
                    return None
                if settled is None or not self._exchange.retries.wait(error, attempt):
                    raise
                attempt += 1
            except Refused:
                if not self._settled(session.repository, descriptor):
                    raise
                return None

    def cancel(self, session: UploadSession) -> None:
        """Give an upload up; unknown ones, and registries that cannot cancel, are fine."""
        call = Call(
            "DELETE",
            session.location,
            push(session.repository),
            self._where(session.repository),
            "cancelling an upload",
            (204, 200, 202, 404),
            once=True,
        )
        with contextlib.suppress(NotFound, Unsupported, Refused):
            self._exchange.run(call)

    def _cancel_quietly(self, session: UploadSession) -> None:
        """An open upload eats storage in some registries for ever; the error that led here matters more."""
        with contextlib.suppress(RegistryPipelinesError):
            self.cancel(session)

    def _finish_call(self, session: UploadSession, digest: Digest, doing: str, body: HashedBody | None) -> Call:
        join = "&" if "?" in session.location else "?"
        return Call(
            "PUT",
            f"{session.location}{join}digest={digest}",
            push(session.repository),
            self._where(session.repository, digest),
            doing,
            (201, 204, 200),
            _OCTETS,
            body,
            answer_s=self._timeouts.to_commit(session.offset if body is None else body.size),
            once=True,
        )

    def _settled(self, repository: str, descriptor: Descriptor) -> bool | None:
        """After a lost answer: the blob may be committed all the same. None when nobody answers, however often this was
        asked: then there is nothing to cancel, and no use in sending again."""
        try:
            return blob_size(self._exchange, repository, descriptor.digest) == descriptor.size
        except Unavailable:
            return None
        except RegistryPipelinesError:
            return False

    def _stored(self, response: Response, digest: Digest, where: str) -> None:
        named = response.header("Docker-Content-Digest")
        if named and named.partition(":")[0] == digest.algorithm and named != digest:
            raise DigestMismatch(f"the registry stored {named[:140]}, expected {digest}", where=where)

    def _where(self, repository: str, digest: str = "") -> str:
        return f"{self._exchange.name}/{repository}{'@' if digest else ''}{digest}"


def upload_location(response: Response, *, where: str) -> str:
    """Where an upload goes on. Raises RegistryError for plain HTTP to another host after TLS.

    A registry behind a TLS proxy that does not tell it so writes ``http://`` and its own host: that stays TLS.
    """
    target = resolve_location(response, where=where)
    (asked, _), (named, path) = split_url(response.url, where=where), split_url(target, where=where)
    if asked.scheme == "http" or named.scheme == "https":
        return target
    if asked.host != named.host:
        raise RegistryError("the upload was sent from TLS to plain HTTP on another host", where=where)
    return f"https://{asked}{path}"
