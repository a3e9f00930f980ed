"""``DistributionRegistry``: the Registry protocol over HTTP (OCI distribution-spec 1.1, Docker registry API v2)."""

from __future__ import annotations

import contextlib
import urllib.parse
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Self

import msgspec

from registry_pipelines.errors import (
    ConfigInvalid,
    ContentError,
    DigestMismatch,
    Forbidden,
    NotFound,
    Refused,
    RegistryError,
    TagImmutable,
    Unauthorized,
    Unsupported,
)
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, ManifestBytes
from registry_pipelines.oci.references import check_repository, check_tag
from registry_pipelines.registry.client import listing, tokens
from registry_pipelines.registry.client.announced import described
from registry_pipelines.registry.client.credentials import CredentialFinder, Credentials, CredentialSource
from registry_pipelines.registry.client.deleting import delete_at
from registry_pipelines.registry.client.exchange import Call, Exchange, base_url
from registry_pipelines.registry.client.facts import Facts
from registry_pipelines.registry.client.manifests import Manifests
from registry_pipelines.registry.client.origins import split_url
from registry_pipelines.registry.client.probing import probe_chunks, probe_ranges
from registry_pipelines.registry.client.reader import HttpBlobReader, make_reader, range_header
from registry_pipelines.registry.client.redirects import Redirects
from registry_pipelines.registry.client.referrers import Referrers
from registry_pipelines.registry.client.retries import NEVER, Retries
from registry_pipelines.registry.client.sizes import blob_size
from registry_pipelines.registry.client.tokens import Authenticator
from registry_pipelines.registry.client.transport import Timeouts, Transport
from registry_pipelines.registry.client.uploads import Uploads
from registry_pipelines.registry.protocol import Capabilities, Carrier, Observer, Quota, Readable, UploadSession


class HttpRegistry:
    """A registry host. Safe for many threads; connections are pooled. Implements Registry; how large blobs are uploaded
    in sessions is what the kinds of registries differ in, so that is theirs.

    host: ``host[:port]``; ``docker.io`` is known. Credentials: username and password when given, else those of
    Docker's config.json (docker_config names another file), or what ``finder`` finds. plain_http: None is plain for
    loopback hosts (and no ca_file), TLS for all others. ca_file: PEM certificates trusted besides the system's.
    redirects: where in inner networks it may send us (``host``, ``host:port``, ``*.domain``, ``10.1.0.0/16``).
    dial: ``host[:port]`` it is reached by, where that is not its name (a private link, a double). transport: one that
    was made for it, which knows whom to trust by itself.
    """

    def __init__(
        self,
        host: str,
        *,
        username: str = "",
        password: str = "",
        plain_http: bool | None = None,
        ca_file: Path | None = None,
        docker_config: Path | None = None,
        timeouts: Timeouts | None = None,
        retries: Retries | None = None,
        environ: Mapping[str, str] | None = None,
        finder: CredentialFinder | None = None,
        redirects: Sequence[str] = (),
        dial: str = "",
        transport: Transport | None = None,
    ) -> None:
        self.name = _check_host(host)
        self._timeouts = timeouts or Timeouts()
        transport = transport or Transport(ca_file=ca_file, timeouts=self._timeouts, environ=environ)
        base = base_url(dial or host, plain_http=plain_http, tls_wanted=ca_file is not None)
        source = finder or CredentialSource(
            host, username=username, password=password, docker_config=docker_config, environ=environ
        )
        places = Redirects(split_url(f"{base}/", where=host)[0], transport.address_of, redirects)
        authenticator = Authenticator(
            source, transport.send, places, where=host, plain_allowed=bool(plain_http) and base.startswith("http:")
        )
        self._finder = source
        self._facts = Facts()
        self._exchange = Exchange(base, host, transport, authenticator, retries or Retries(), places)
        self._uploads = Uploads(self._exchange, self._facts, self._timeouts)
        self._manifests = Manifests(self._exchange, self._facts, self._timeouts.commit_s)
        self._referrers = Referrers(self._exchange, self._facts, self._manifests)

    def close(self) -> None:
        """Close idle connections; the object stays usable."""
        self._exchange.transport.close()

    def login(self, repository: str) -> Credentials:
        """Who we are for a repository, as it is now: for another program that asks this registry on our behalf. Raises
        as a finder does."""
        return self._finder.find(self._finder.account(repository))

    def observed(self, observer: Observer) -> Self:
        """See Observable."""
        return self._adjusted(self._exchange.retries, observer)

    def leaving_stalls(self) -> Self:
        """See Repeating."""
        retries = msgspec.structs.replace(self._exchange.retries, repeat_stalls=False)
        return self._adjusted(retries, self._exchange.observer)

    def _adjusted(self, retries: Retries, observer: Observer | None) -> Self:
        registry = copy(self)
        registry._exchange = self._exchange.adjusted(retries, observer)
        registry._uploads = self._uploads.over(registry._exchange)
        registry._manifests = self._manifests.over(registry._exchange)
        registry._referrers = self._referrers.over(registry._exchange, registry._manifests)
        return registry

    def hurried(self, limit_s: float) -> Self:
        """The same for a look whether it answers: nothing that fails is asked again, and no step waits longer. For a
        registry that was not used yet: its connections are shared, and hurry, too."""
        self._exchange.transport.timeouts = Timeouts(connect_s=limit_s, stall_s=limit_s, commit_s=limit_s)
        return self._adjusted(NEVER, None)

    @property
    def requests_sent(self) -> int:
        """Requests since this object was made, with repeated and redirected ones, without those for tokens."""
        return self._exchange.sent.value

    def observe_quota(self, observer: Callable[[Quota], None]) -> None:
        """Call ``observer``, in the caller's thread, with every answer that tells of a quota (Docker Hub's do)."""
        self._exchange.quota_observers.append(observer)

    def receive_ahead(self, byte_count: int) -> None:
        """Let the system take at most about so many bytes ahead of whoever reads, on each new connection."""
        self._exchange.transport.receive_bytes = byte_count

    def ping(self) -> None:
        """Ask whether a distribution registry answers and takes our credentials. Raises the RegistryError family."""
        self._exchange.run(Call("GET", "/v2/", frozenset(), self.name, "asking for the API"))

    def resolve(self, repository: str, reference: str) -> Descriptor:
        """See Registry. One HEAD; a GET where HEAD is refused or says too little."""
        call = self._manifests.reading("HEAD", repository, reference, (200, 404, 405, 501))
        response = self._exchange.run(replace(call, elsewhere=True))  # an object store's address may be signed for GET
        if response.status == 200:
            descriptor = described(response, reference, where=call.where)
            if descriptor:
                self._facts.head_trusted = True
                return descriptor
        elif response.status == 404 and self._facts.head_trusted and not self._exchange.is_elsewhere(response):
            raise NotFound("reading a manifest was answered with HTTP 404", where=call.where, do="Check the name")
        try:
            return self.get_manifest(repository, reference).descriptor
        except NotFound:
            self._facts.head_trusted = self._facts.head_trusted or response.status == 404
            raise

    def get_manifest(self, repository: str, reference: str) -> ManifestBytes:
        """See Registry."""
        return self._manifests.get(repository, reference)

    def put_manifest(self, repository: str, manifest: ManifestBytes, *, tag: str = "") -> None:
        """See Registry."""
        self._referrers.put(repository, manifest, tag)

    def blob_size(self, repository: str, digest: Digest) -> int | None:
        """See Registry."""
        return blob_size(self._exchange, check_repository(repository), digest)

    def open_blob(self, repository: str, digest: Digest, *, start: int = 0, stop: int | None = None) -> HttpBlobReader:
        """See Registry. A registry that answers a range with the whole blob is read past what comes before it."""
        where = self._where(repository, digest)
        ranged = range_header(start, stop)
        call = Call(
            "GET",
            f"/v2/{check_repository(repository)}/blobs/{digest}",
            tokens.pull(repository),
            where,
            "reading a blob",
            (200, 206, 416) if ranged else (200,),
            ranged,
        )
        response = self._exchange.send(call)
        if response.status == 416:  # ``crane registry serve`` knows no range without an end
            response.close()
            response = self._exchange.send(replace(call, expect=(200,), headers=None))
        try:
            reader = make_reader(response, start=start, stop=stop, where=where)
        except BaseException:
            response.close()
            raise
        if ranged:
            self._facts.learn(repository, range_reads=response.status == 206)
        return reader

    def upload_blob(self, repository: str, descriptor: Descriptor, content: Readable) -> None:
        """See Registry."""
        self._uploads.upload(check_repository(repository), descriptor, content)

    def mount_blob(self, repository: str, digest: Digest, *, source: str) -> bool:
        """See Registry."""
        return self._uploads.mount(check_repository(repository), digest, source=check_repository(source))

    def tags(self, repository: str) -> Iterator[str]:
        """See Registry."""
        return listing.names(self._exchange, self._tags_call(repository), "tags")

    def tags_after(self, repository: str, last: str, count: int) -> list[str]:
        """See TagsAfter."""
        return listing.some_after(self._exchange, self._tags_call(repository), "tags", last, count)

    def _tags_call(self, repository: str) -> Call:
        url = f"/v2/{check_repository(repository)}/tags/list"
        return Call("GET", url, tokens.pull(repository), f"{self.name}/{repository}", "listing tags")

    def repositories(self) -> Iterator[str]:
        """See Registry. Many services answer 401 or 403 to everybody, since they give no token for the catalogue
        (Docker Hub, GitLab, Artifact Registry): Unsupported, where the same credentials are good for all else."""
        call = Call("GET", "/v2/_catalog", tokens.CATALOG, self.name, "listing repositories")
        try:
            yield from listing.names(self._exchange, call, "repositories")
        except (NotFound, Forbidden, Unauthorized, Unsupported) as error:
            if isinstance(error, Unauthorized) and not self._is_logged_in():
                raise
            raise Unsupported(
                "the registry does not list its repositories",
                where=self.name,
                do="Name its repositories (`repositories:` of the configuration, `--repository`)",
                status=error.status,
                code=error.code,
            ) from error

    def _is_logged_in(self) -> bool:
        """Whether the registry takes our credentials as such; asked when it refused them for one purpose."""
        try:
            self.ping()
        except RegistryError:
            return False
        return True

    def referrers(
        self, repository: str, digest: Digest, *, artifact_type: str = "", tags: Container[str] | None = None
    ) -> list[Descriptor]:
        """See Registry. The type is filtered here: a registry's own filter is optional, and never trusted."""
        referrers = self._referrers.find(check_repository(repository), digest, tags)
        return [one for one in referrers if not artifact_type or one.artifact_type == artifact_type]

    def delete_manifest(self, repository: str, digest: Digest) -> None:
        """See Registry. Where the registry keeps no list of referrers, the subject's fallback tag forgets it too."""
        if self._facts.of(repository).referrers_api is True:
            self._manifests.delete(repository, digest)
        else:
            self._referrers.delete(repository, self.get_manifest(repository, digest))

    def delete_tag(self, repository: str, tag: str) -> None:
        """See Registry. distribution deletes by digest only and answers a tag with 400 DIGEST_INVALID. Raises
        TagImmutable."""
        where = self._where(repository, tag)
        path = f"manifests/{check_tag(tag)}"
        self.resolve(repository, tag)
        try:
            delete_at(self._exchange, self._facts, repository, path, where=where, doing="deleting a tag")
        except TagImmutable:
            raise
        except (Refused, NotFound, DigestMismatch) as error:
            raise Unsupported(
                f"the registry does not delete tags ({error.what})", where=where, do="Delete the manifest it names"
            ) from error

    def delete_blob(self, repository: str, digest: Digest) -> None:
        """See Registry."""
        where, path = self._where(repository, digest), f"blobs/{digest}"
        delete_at(self._exchange, self._facts, repository, path, where=where, doing="deleting a blob")

    def capabilities(self, repository: str) -> Capabilities:
        """See Registry. What is not known yet is learnt when it is first used, or by :meth:`probe`."""
        return self._facts.of(repository)

    def probe(self, repository: str, *, blob: Digest | None = None) -> Capabilities:
        """Try out what can be tried without leaving anything behind; writes (and cancels) an upload.

        blob: a blob of at least two bytes that is there, to try range reads with. See Registry.capabilities.
        """
        probe_chunks(self._uploads, self._facts, check_repository(repository))
        if blob is not None:
            probe_ranges(self._exchange, self._facts, repository, blob)
        with contextlib.suppress(RegistryError, ContentError):  # no answer leaves it open
            self._referrers.has_api(check_repository(repository), Digest.of(b""))
        return self.capabilities(repository)

    def _where(self, repository: str, reference: str) -> str:
        return self._manifests.where(repository, reference)


class DistributionRegistry(HttpRegistry):
    """Any registry that speaks the OCI distribution protocol. Implements UploadSessions and CarriedUploads too."""

    def begin_upload(self, repository: str) -> UploadSession:
        """See UploadSessions."""
        return self._uploads.begin(check_repository(repository))

    def append_upload(self, session: UploadSession, content: memoryview) -> None:
        """See UploadSessions."""
        self._uploads.append(session, content)

    def append_carried(self, session: UploadSession, carrier: Carrier) -> None:
        """See CarriedUploads."""
        self._uploads.append_carried(session, carrier)

    def upload_offset(self, session: UploadSession) -> int | None:
        """See UploadSessions."""
        return self._uploads.offset(session)

    def commit_upload(self, session: UploadSession, digest: Digest) -> None:
        """See UploadSessions."""
        self._uploads.commit(session, digest)

    def cancel_upload(self, session: UploadSession) -> None:
        """See UploadSessions."""
        self._uploads.cancel(session)


def _check_host(host: str) -> str:
    try:
        parts = urllib.parse.urlsplit(f"//{host}")
        usable = bool(parts.hostname) and parts.netloc == host and "@" not in host and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not host.isascii() or any(character <= " " for character in host):
        raise ConfigInvalid([f"registry {host[:100]!r}: write host or host:port"])
    return host
