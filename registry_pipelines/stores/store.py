"""A place for objects under keys, by one address: ``s3://``, ``gs://``, ``az://`` or a folder.

What the package ``obstore`` does (signed requests, retries, uploads by parts, pages of lists) is its own; here are our
errors, the limits, and which credentials it takes. An object is there whole or not at all, in each of these stores.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

from registry_pipelines.allocator import keep_arenas_few
from registry_pipelines.errors import (
    InputError,
    NotFound,
    ToolMissing,
    Unavailable,
    Unsupported,
)
from registry_pipelines.oci.files import local_errors
from registry_pipelines.stores.failures import plain, said, store_errors

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Client

    from registry_pipelines.stores.blocks import BlockUploads
    from registry_pipelines.stores.parts import PartUploads

PART_BYTES = 8 << 20
"""Of an upload by parts, at least; S3 takes none below 5 MiB."""
MOST_PARTS = 9_000
"""S3 takes 10,000 of one object."""
PARTS_AT_ONCE = 4
"""Each is in memory until it is sent."""
PIECE_BYTES = 1 << 20
"""What a reader asks for at least."""
TIMEOUT_S = 60.0
"""One request; a part of an upload is one."""
HELD_FOR = timedelta(minutes=1)
"""How long obstore takes what boto3 gave for good. By itself that is 30 minutes whatever the credentials say of their
end, and boto3 renews them 10 to 15 minutes before: for up to ten minutes requests would be signed with what has
expired. Below five minutes obstore asks boto3 before a request, ten times a second at most."""
RETRY_S = 120.0
"""A store that answers 5xx or nothing is asked again for so long."""

_SCHEMES = ("s3", "gs", "az")
_FOLDER = "file://"
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
"""Where AWS's own SDKs find a store that is another's."""
_NOT_PARTIAL = ("non-partial response", "NotPartial")
"""Obstore's words for a store that answers a range with all of the object; it has no class of its own for it."""
_SECOND = "InvalidBlockList"
_TORN = re.compile(r"#\d+\Z")
"""How obstore calls a file that is being written, behind its key."""
_TAKEN = re.compile(r"[^#]*#[0-9]+")
"""File names that obstore takes for such, and neither writes nor lists."""
_DRIVE = re.compile(r".*[A-Za-z][:|]", re.DOTALL)
"""File names whose end it takes for the letter of a drive (``A:``), and cannot write."""


@dataclass(frozen=True)
class Stored:
    """One object of a list. size: bytes. changed: when it was written, by the store's clock; S3 knows seconds."""

    key: str
    size: int
    changed: datetime


class StoreReader:
    """Bytes of an object from ``start`` on; see ``registry.protocol.BlobReader``. size: of the whole object."""

    def __init__(self, source: _Chunks | BinaryIO, where: str, *, size: int, start: int, stop: int) -> None:
        self.size, self.start = size, start
        self._source, self._where, self._left = source, where, stop - start

    def __enter__(self) -> StoreReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def readinto(self, buffer: memoryview, /) -> int:
        """See Readable. Raises Unavailable: the store ended early."""
        if not self._left or not len(buffer):
            return 0
        with store_errors(self._where):
            count: int = self._source.readinto(buffer[: self._left])  # type: ignore[union-attr]
        if not count:
            raise Unavailable("the store's answer ended early", where=self._where)
        self._left -= count
        return count

    def cut(self, start: int, stop: int | None) -> None:
        """Read past what comes before a byte, and stop before another. Raises Unavailable: it is shorter."""
        self._left = self.size
        waste = memoryview(bytearray(min(PIECE_BYTES, start))) if start else memoryview(b"")
        behind = start
        while behind:
            if not (count := self.readinto(waste[:behind])):
                raise Unavailable("the object is shorter than was asked for", where=self._where)
            behind -= count
        self.start, self._left = start, (self.size if stop is None else min(stop, self.size)) - start

    def close(self) -> None:
        """See BlobReader."""
        self._left = 0
        self._source.close()


class _NoRanges(Unsupported):
    """The store answered a range with something else."""


class _Chunks:
    """What obstore gives piece by piece, as a Readable."""

    def __init__(self, chunks: Iterator[Any]) -> None:
        self._chunks, self._piece = chunks, memoryview(b"")

    def readinto(self, buffer: memoryview, /) -> int:
        if not self._piece:
            self._piece = memoryview(next(self._chunks, b""))
        count = min(len(buffer), len(self._piece))
        buffer[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count

    def close(self) -> None:
        self._piece, self._chunks = memoryview(b""), iter(())


class ObjectStore:
    """See the module; made by :func:`open_store`. For many threads.

    All methods raise NotFound, Forbidden, Unauthorized, Unavailable (asked again before, for ``RETRY_S``), DiskFull.
    A key has parts between slashes, none of them empty.
    """

    def __init__(
        self, client: Client, name: str, folder: Path | None = None, *, parts: PartUploads | BlockUploads | None = None
    ) -> None:
        """name: the address, without secrets; for people. folder: of a store that is one, where a part of a key without
        objects may be left behind. parts: see ``parts``."""
        self._client, self.name, self.folder = client, name, folder
        self.ranges = True
        """False once the store answered a range with the whole object."""
        self.parts = parts
        """Uploads that outlive this process, where the store has them and we can ask for them."""

    def fault_of(self, key: str) -> str:
        """Why an object cannot have this key here; empty where it can."""
        name = key.rpartition("/")[2] if self.folder is not None else ""
        if _TAKEN.fullmatch(name):
            return "ends with # and digits, as the names of files end that are being written there"
        if _DRIVE.fullmatch(name):
            return "ends with a letter and : or |, which is taken for a drive there"
        return ""

    def size(self, key: str) -> int | None:
        """Bytes of an object; None where there is none."""
        found = self.describe(key)
        return None if found is None else found.size

    def describe(self, key: str) -> Stored | None:
        """An object as a list would have it; None where there is none."""
        import obstore

        try:
            with store_errors(self._at(key)):
                found = obstore.head(self._client, key)
        except NotFound:
            return None
        return Stored(key, int(found["size"]), found["last_modified"])

    def read(self, key: str, *, limit: int) -> bytes:
        """A whole small object. Raises NotFound; Unavailable: it has more than ``limit`` bytes, so it is none of
        ours."""
        with self.open(key) as reader:
            if reader.size > limit:
                raise Unavailable(f"the object has {reader.size} bytes, at most {limit} are read", where=self._at(key))
            content = bytearray(reader.size)
            position = 0
            while position < len(content):
                position += reader.readinto(memoryview(content)[position:])
            return bytes(content)

    def read_head(self, key: str, size: int) -> bytes:
        """The first bytes of an object, which has that many at least. Raises NotFound; Unavailable: it is shorter."""
        content, position = bytearray(size), 0
        with self.open(key, stop=size) as reader:
            while position < size and (count := reader.readinto(memoryview(content)[position:])):
                position += count
        return bytes(content[:position])

    def open(self, key: str, *, start: int = 0, stop: int | None = None) -> StoreReader:
        """An object from a byte on, up to (not including) another. Of a store that answers a range with all of it, what
        comes before is read and dropped. Raises NotFound; Unavailable: it is shorter."""
        if self.folder is not None:
            return self._open_file(self.folder / key, start, stop)
        if self.ranges and (start or stop is not None):
            options = {"range": {"offset": start} if stop is None else (start, stop)}
            try:
                return self._get(key, options)
            except _NoRanges:
                self.ranges = False
        reader = self._get(key, None)
        reader.cut(start, stop)
        return reader

    def _get(self, key: str, options: Any) -> StoreReader:
        import obstore
        from obstore.exceptions import BaseError

        where = self._at(key)
        with store_errors(where):
            try:
                found = obstore.get(self._client, key, options=options)
            except BaseError as error:
                if not any(word in str(error) for word in _NOT_PARTIAL):
                    raise
                raise _NoRanges(f"the store reads no ranges: {said(error)}", where=where) from error
            size, (first, last) = int(found.meta["size"]), found.range
        chunks = _Chunks(iter(found.stream(min_chunk_size=PIECE_BYTES)))
        return StoreReader(chunks, where, size=size, start=first, stop=last)

    def _open_file(self, path: Path, start: int, stop: int | None) -> StoreReader:
        """Without obstore's copies: half the processor time of a large file."""
        with store_errors(str(path)):
            file = path.open("rb", buffering=0)
            size = os.fstat(file.fileno()).st_size
            file.seek(start)
        return StoreReader(file, str(path), size=size, start=start, stop=size if stop is None else min(stop, size))

    def write(self, key: str, content: bytes) -> None:
        """Put a small object there, in place of the one before."""
        import obstore

        with store_errors(self._at(key)):
            obstore.put(self._client, key, content, use_multipart=False)

    def write_new(self, key: str, content: bytes) -> bool:
        """Put a small object where none is. False: there is one, and it stays."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        with store_errors(self._at(key)):
            try:
                obstore.put(self._client, key, content, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
        return True

    def write_pieces(self, key: str, pieces: Iterable[bytes], size: int) -> None:
        """Put a large object there, by parts that are sent as they come. size: bytes of all of them. What ``pieces``
        raise ends it, and nothing is there. Who puts the same key there at the same time puts the same content."""
        import obstore

        part = max(PART_BYTES, -(-size // MOST_PARTS))
        try:
            with store_errors(self._at(key)):
                obstore.put(self._client, key, iter(pieces), chunk_size=part, max_concurrency=PARTS_AT_ONCE)
        except Unavailable as error:
            # Azure drops all other parts of an object when one upload of it ends: whoever comes second is refused.
            if _SECOND not in str(error.__cause__) or self.size(key) != size:
                raise

    def below(self, prefix: str) -> Iterator[Stored]:
        """All objects whose keys begin with the parts of ``prefix``, page by page."""
        import obstore

        with store_errors(self._at(prefix)):
            for page in obstore.list(self._client, prefix or None):
                yield from (Stored(str(each["path"]), int(each["size"]), each["last_modified"]) for each in page)

    def folders(self, prefix: str) -> list[str]:
        """The keys' parts that come right behind ``prefix`` and have more behind them."""
        import obstore

        with store_errors(self._at(prefix)):
            found = obstore.list_with_delimiter(self._client, prefix or None)
        names = [str(each).rpartition("/")[2] for each in found["common_prefixes"]]
        if self.folder is None:
            return names
        return [name for name in names if any(files for _, _, files in os.walk(self.folder / prefix / name))]

    def delete(self, key: str) -> None:
        """Take an object away; one that is not there is no error."""
        import obstore

        try:
            with store_errors(self._at(key)):
                obstore.delete(self._client, key)
        except NotFound:
            return

    def delete_all(self, keys: Sequence[str]) -> None:
        """Take objects away that are there, many with one request where the store can."""
        import obstore

        if keys:
            with store_errors(self._at(keys[0])):
                obstore.delete(self._client, list(keys))

    def copy(self, key: str, to: str) -> None:
        """Put an object under a second key, within the store, in place of the one before. Raises NotFound, Refused by
        S3 for more than 5 GB."""
        import obstore

        with store_errors(self._at(key)):
            obstore.copy(self._client, key, to)

    def drop_torn(self, before: datetime, *, of: Container[str] | None = None, dry_run: bool = False) -> list[int]:
        """Of a store that is a folder: delete what uploads that were killed left there, unless it was written since
        ``before``; the bytes of each. No list has them, and no other store shows what is not whole. of: keys; uploads
        of others are left alone."""
        found: list[int] = []
        if (folder := self.folder) is None:
            return found
        for path in folder.rglob("*#*"):
            with store_errors(str(path)), suppress(FileNotFoundError):  # the upload ended meanwhile
                facts = path.stat()
                if not _TORN.search(path.name) or facts.st_mtime >= before.timestamp():
                    continue
                if of is not None and path.relative_to(folder).as_posix().rpartition("#")[0] not in of:
                    continue
                if not dry_run:
                    path.unlink()
                found.append(facts.st_size)
        return found

    def _at(self, key: str) -> str:
        return f"{self.name}/{key}"


def open_store(
    address: str,
    *,
    region: str = "",
    endpoint: str = "",
    aws_profile: str = "",
    lasting_uploads: bool = False,
    make: bool = True,
    timeout_s: float = TIMEOUT_S,
    retry_s: float = RETRY_S,
) -> ObjectStore:
    """A store by its address; nothing is asked yet.

    address: ``s3://BUCKET/PREFIX``, ``gs://BUCKET/PREFIX``, ``az://CONTAINER/PREFIX``, or a folder (``file:///FOLDER``
    or its path), which is made where it is not there, unless ``make`` is False. endpoint: of a store that speaks S3 and
    is not AWS; plain HTTP for ``http://``; that of the environment (``AWS_ENDPOINT_URL``) unless told. aws_profile:
    whose credentials; the default chain of boto3 unless told, or where boto3 is not there the environment's. Google's
    are the application default ones, Azure's the environment's. lasting_uploads: have ``parts``, where there are any.
    timeout_s, retry_s: of one request, and how long a store that does not answer is asked again.

    Raises InputError: no such address; NotFound: no such folder; ToolMissing: ``obstore`` is not installed.
    """
    need_stores()
    from obstore.exceptions import BaseError
    from obstore.store import LocalStore, from_url

    if "://" not in address or address.startswith(_FOLDER):
        folder = Path(address.removeprefix(_FOLDER)).expanduser().absolute()
        if not make and not folder.is_dir():
            raise NotFound("there is no such folder", where=str(folder))
        with local_errors(folder):
            return ObjectStore(LocalStore(folder, mkdir=True, automatic_cleanup=True), str(folder), folder)
    try:
        parts = urlsplit(address)
    except ValueError:  # as s3://[
        parts = urlsplit("")
    scheme = parts.scheme
    if scheme not in _SCHEMES or not parts.netloc or parts.query or parts.username or parts.fragment:
        known = ", ".join(f"{each}://NAME/PREFIX" for each in _SCHEMES)
        raise InputError(f"{plain(address)} is no object store", do=f"Write {known}, or a folder")
    keep_arenas_few()  # with forty objects a third of all memory stays where obstore's threads read
    more: dict[str, Any] = {}
    if scheme == "s3":
        endpoint = endpoint or next(filter(None, map(os.environ.get, _ENDPOINTS)), None) or ""
        more = _of_s3(region, endpoint, aws_profile)
    elif endpoint:
        more = {"base_url" if scheme == "gs" else "endpoint": endpoint}
    with store_errors(plain(address)):
        try:
            client = from_url(
                address,
                client_options={"timeout": f"{timeout_s:g}s", "allow_http": endpoint.startswith("http://")},
                retry_config={"retry_timeout": timedelta(seconds=retry_s)},
                **more,
            )
        except (BaseError, TypeError, ValueError) as error:
            raise InputError(f"the store cannot be opened: {said(error)}", where=plain(address)) from error
    by_parts: PartUploads | BlockUploads | None = None
    if lasting_uploads and scheme == "az":
        from registry_pipelines.stores.blocks import BlockUploads

        by_parts = BlockUploads(client)
    elif lasting_uploads:
        from registry_pipelines.stores.parts import part_uploads  # with boto3

        by_parts = part_uploads(address, region=region, endpoint=endpoint, aws_profile=aws_profile)
    return ObjectStore(client, address.rstrip("/"), parts=by_parts)


def need_stores() -> None:
    """Raises ToolMissing: what opens stores is not installed; for who opens one later, where nobody would be told."""
    _need("obstore", "stores", "object stores are read and written with it")


def _need(module: str, extra: str, why: str) -> None:
    if find_spec(module) is None:
        raise ToolMissing(
            f"{module} is not installed; {why}", do=f"Install it: pip install 'registry-pipelines[{extra}]'"
        )


def _of_s3(region: str, endpoint: str, profile: str) -> dict[str, Any]:
    more: dict[str, Any] = {}
    if endpoint:
        more |= {"endpoint": endpoint, "virtual_hosted_style_request": False}
    try:
        import boto3
        from botocore.exceptions import BotoCoreError
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        if profile:
            _need("boto3", "aws", "it reads AWS's profiles")
        return more | ({"region": region} if region else {})
    try:
        session = boto3.Session(profile_name=profile or None, region_name=region or None)
        if session.get_credentials() is not None:
            more["credential_provider"] = Boto3CredentialProvider(session, ttl=HELD_FOR)
    except BotoCoreError as error:
        raise InputError(f"AWS's credentials cannot be read: {error}", do="See `aws configure list`") from error
    if found := region or session.region_name:
        more["region"] = found
    return more


__all__ = ["ObjectStore", "StoreReader", "Stored", "need_stores", "open_store"]
