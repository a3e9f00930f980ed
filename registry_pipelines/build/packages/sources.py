"""All indexes of one build: which one a project comes from, its files into the store, what is to be said of them."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from packaging.metadata import parse_email
from packaging.utils import canonicalize_name

from registry_pipelines.build.find_links_page import MAX_METADATA_BYTES, read_metadata
from registry_pipelines.build.packages.index import Advance
from registry_pipelines.build.packages.metadata import check_metadata
from registry_pipelines.build.packages.model import IndexRules
from registry_pipelines.build.packages.pages import Project, WheelFile, is_wheel_of
from registry_pipelines.build.packages.routing import asked_for, matches, normalised
from registry_pipelines.build.wheel_store import WheelStore
from registry_pipelines.errors import (
    EvidenceMissing,
    NotFound,
    RequirementsInvalid,
    SignatureInvalid,
    Unavailable,
    WheelInvalid,
)
from registry_pipelines.oci.files import disk_errors, write_file

if TYPE_CHECKING:
    from registry_pipelines.evidence.keyless.trust_root import TrustRoot

_T = TypeVar("_T")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,200}[a-z0-9])?")


_Asks = tuple[str, str, tuple[str, ...]]


class OpenIndex(Protocol):
    """An index that can be asked: over HTTP, or a folder."""

    name: str
    rules: IndexRules

    @property
    def identity(self) -> str:
        """What it is, without secrets."""
        ...

    def project(self, name: str) -> Project | None:
        """What it has of a project; None for nothing."""
        ...

    def take(self, file: WheelFile, store: WheelStore, scratch: Path, advance: Advance) -> str:
        """Have a file in the store; its sha256."""
        ...

    def document(self, url: str, limit: int, doing: str) -> bytes:
        """Something small that a page names."""
        ...

    def carried(self, filename: str) -> Mapping[str, str]:
        """What a believed key signed of a file where it was chosen (``wheels push``), as :meth:`Sources.judge` wrote it
        there; empty where nothing was carried."""
        ...

    def location(self, file: WheelFile) -> str:
        """Where a file is, for everybody's eyes; empty where nobody else can follow."""
        ...

    def close(self) -> None:
        """Close what is open."""
        ...


@dataclass(frozen=True)
class Found:
    """A project, and the one index that it comes from. reserved: named by that index in the configuration."""

    index: OpenIndex
    project: Project
    reserved: bool = False

    def file(self, filename: str) -> WheelFile:
        """One of its files. Raises NotFound."""
        for file in self.project.files:
            if file.filename == filename:
                return file
        raise NotFound(f"{self.index.name} has no file {filename[:200]}", where=self.project.name)


class Sources:
    """See the module. indexes: in the order of the configuration. state: folder for what is remembered of files. roots:
    the trust root for attestations; without one nobody can say who published a file. said: what indexes told when they
    were asked, see :attr:`said`. Safe for many threads."""

    def __init__(
        self,
        indexes: Sequence[OpenIndex],
        *,
        state: Path,
        roots: Callable[[], Sequence[TrustRoot]] | None = None,
        said: dict[str, None] | None = None,
    ) -> None:
        self.indexes = tuple(indexes)
        self.said = {} if said is None else said
        """What is to be told of this build alone, not of its image: each once, in order."""
        self._roots, self._documents = roots, state
        self._found: dict[str, Found | None] = {}
        self._told: dict[str, _Asks] = {}
        """By file name, what an index said that a wheel asks for."""
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    @property
    def identity(self) -> list[Any]:
        """What answers depend on: which indexes, and by which rules."""
        return [[index.name, index.identity, repr(index.rules), self._roots is not None] for index in self.indexes]

    def project(self, name: str) -> Found | None:
        """Where a project comes from, asked once in a build; None where no index may give it or has it.

        Raises InputError, Unauthorized, Forbidden, Unavailable, RegistryError: what an index that comes first has must
        be known before a later one is asked.
        """
        name = normalised(name)
        if not _NAME.fullmatch(name):  # it becomes part of addresses and of file names
            return None
        with self._alone(f"project {name}"):
            if name not in self._found:
                self._found[name] = self._look(name)
            return self._found[name]

    def _look(self, name: str) -> Found | None:
        asked, reserved = asked_for(name, self.indexes)
        for index in asked:
            project = index.project(name)
            if project is not None:
                return Found(index, project, reserved)
        return None

    def take(self, name: str, filename: str, store: WheelStore, advance: Advance = lambda _: None) -> tuple[str, Path]:
        """Have a file of a project in the store; its sha256 and where it is. Raises as :meth:`project`, WheelInvalid,
        NotFound."""
        found = self._required(name)
        file = found.file(filename)
        with self._alone(f"file {filename}"):
            known = store.find(file.sha256, filename) if file.sha256 else None
            if known:
                return file.sha256, known
            with disk_errors(store.root), _scratch(store.root) as folder:
                sha256 = found.index.take(file, store, folder, advance)
            if file.sha256 and sha256 != file.sha256:  # a folder whose file was changed meanwhile
                raise WheelInvalid(f"its sha256 is {sha256}, and was {file.sha256}", where=filename, do="Build again")
            path = store.find(sha256, filename)
        if path is None:
            raise NotFound(f"{filename} is gone from the store", where=str(store.root), do="Build again")
        if (told := self._told.get(filename)) and (real := read_metadata(path)) and _asks(real) != told:
            raise WheelInvalid(
                f"its index says of it something else than it says itself: {found.index.name} has changed its metadata",
                where=filename,
                do="Ask whoever runs the index: what a wheel asks for decides what else is taken",
            )
        return sha256, path

    def metadata(self, name: str, filename: str, store: WheelStore) -> bytes:
        """The METADATA of a wheel: the store's or the index's own, else out of the wheel, which is fetched for it.
        Raises RequirementsInvalid for one that would lead pip elsewhere."""
        found = self._required(name)
        file = found.file(filename)
        here = store.find(file.sha256, filename) if file.sha256 else None
        raw = read_metadata(here) if here else None
        if raw is None and file.has_metadata:
            raw = self._told_metadata(found.index, file)
        if raw is None:
            raw = read_metadata(self.take(name, filename, store)[1])
        if raw is None:
            raise WheelInvalid("it has no METADATA that can be read", where=filename, do="Ask who published it")
        check_metadata(raw, where=f"{filename} of {found.index.name}")
        return raw

    def _told_metadata(self, index: OpenIndex, file: WheelFile) -> bytes | None:
        def ask() -> bytes:
            path, question, query = file.url.partition("?")
            url = f"{path}.metadata{question}{query}"
            return index.document(url, MAX_METADATA_BYTES, f"reading the metadata of {file.filename}")

        def check(raw: bytes) -> bytes:
            right = not file.metadata_sha256 or hashlib.sha256(raw).hexdigest() == file.metadata_sha256
            asks = _asks(raw)
            if not right or not is_wheel_of(file.filename, asks[0]):
                said = f"its metadata is not what {index.name} says it is"
                raise WheelInvalid(said, where=file.filename, do="Ask whoever runs the index")
            self._told[file.filename] = asks
            return raw

        try:
            return self._remembered(index, f"{file.sha256}.metadata" if file.sha256 else "", ask, check)
        except NotFound:  # the page promises what is not there; the wheel has it
            return None

    def _required(self, name: str) -> Found:
        found = self.project(name)
        if found is None:
            raise NotFound(f"no index has {name}", where=", ".join(index.name for index in self.indexes))
        return found

    def judge(self, name: str, filename: str, sha256: str) -> tuple[dict[str, str], list[str]]:
        """What is to be written of a chosen wheel (``index``, ``status``, ``yanked``, ``attestedBy``,
        ``downloadLocation``), and what is to be told. Raises RequirementsInvalid for what the rules of its index
        refuse, SignatureInvalid and EvidenceMissing for its attestations."""
        found = self._required(name)
        file, project, rules = found.file(filename), found.project, found.index.rules
        where = f"{filename} of {found.index.name}"
        about, notes = {"index": found.index.name}, []
        if project.status:
            about["status"] = project.said
            if project.status == "quarantined":
                raise RequirementsInvalid(
                    f"its index has put {name} into quarantine ({project.said}): it may be harmful",
                    where=where,
                    do="Do without it, or look at the project and keep a wheel that you trust in an index of your own",
                )
            if project.status in rules.refuse:
                raise _refused(f"the project is {project.said}", project.status, where)
            notes.append(f"{name} is {project.said} at its index")
        if file.yanked is not None:
            about["yanked"] = file.yanked or "without a reason"
            if "yanked" in rules.refuse:
                raise _refused(f"it was yanked ({about['yanked']})", "yanked", where)
        if not file.hashes:
            if "unhashed" in rules.refuse:
                raise _refused("its index gives no hash of it", "unhashed", where)
            notes.append(f"{filename} was taken as it came: its index gives no hash of it to check")
        about |= self._attested(found, file, sha256, notes)
        if location := found.index.location(file) or found.index.carried(filename).get("downloadLocation", ""):
            about["downloadLocation"] = location
        if origin := found.index.carried(filename).get("index"):
            about["carriedFrom"] = origin
        return about, notes

    def still(self, name: str, filename: str, sha256: str, about: Mapping[str, str]) -> bool:
        """Whether a wheel that was chosen earlier is still what an index gives, and all that was written of it holds.
        An index that does not answer changes nothing. Raises what asking raises otherwise."""
        try:
            found = self.project(name)
            if found is None or found.index.name != about.get("index"):
                return False
            if found.file(filename).sha256 not in ("", sha256):
                return False
            return self.judge(name, filename, sha256)[0] == dict(about)
        except Unavailable:
            return True
        except (NotFound, RequirementsInvalid, SignatureInvalid, EvidenceMissing):
            return False  # whoever asks anew is told why

    def _attested(self, found: Found, file: WheelFile, sha256: str, notes: list[str]) -> dict[str, str]:
        """Who published a file, as its index says and a certificate proves; see ``IndexRules.attestations``."""
        from registry_pipelines.build.packages.attestations import is_published_by, publishers_of  # cryptography

        rules, where = found.index.rules, f"{file.filename} of {found.index.name}"
        wanted = rules.publishers.get(matches(found.project.name, list(rules.publishers)), "")
        names: list[str] = []
        if file.provenance and self._roots is not None:
            trusted = self._roots()

            def check(raw: bytes) -> list[str]:
                return publishers_of(raw, filename=file.filename, sha256=sha256, roots=trusted)

            names = self._provenance(found.index, file, sha256, check)
            if not names:
                notes.append(f"{file.filename} is attested by no publisher of a kind that is known here")
        elif by := found.index.carried(file.filename).get("attestedBy"):
            names = by.split(", ")  # verified there, and a believed key signed that
        elif file.provenance:
            notes.append(f"who published {file.filename} is attested, and nobody looked: set `signing.trust_root`")
        if wanted and not is_published_by(names, wanted):
            raise SignatureInvalid(
                f"it must be published by {wanted}, and {_by(names)} is attested",
                where=where,
                do="Find out why, or correct `publishers`",
            )
        if rules.attestations == "require" and not names:
            raise EvidenceMissing(
                "nobody attests who published it, and its index requires that",
                where=where,
                do="Take a version that is attested, or write `attestations: note` for this index",
            )
        return {"attestedBy": ", ".join(names)} if names else {}

    def _provenance(self, index: OpenIndex, file: WheelFile, sha256: str, check: Callable[[bytes], _T]) -> _T:
        from registry_pipelines.build.packages.attestations import MAX_PROVENANCE_BYTES

        doing = f"reading who published {file.filename}"
        return self._remembered(
            index,
            f"{sha256}.provenance",
            lambda: index.document(file.provenance, MAX_PROVENANCE_BYTES, doing),
            check,
        )

    def _remembered(self, index: OpenIndex, name: str, ask: Callable[[], bytes], check: Callable[[bytes], _T]) -> _T:
        """What an index has beside a file's content, as ``check`` reads it: asked once, and kept when it was found
        good. What another index said of the same content counts for nothing here."""
        path = self._documents / f"{hashlib.sha256(index.identity.encode()).hexdigest()[:16]}-{name}"
        if name:
            with contextlib.suppress(OSError, SignatureInvalid, WheelInvalid):
                return check(path.read_bytes())
        answer = check(raw := ask())
        if name:
            with contextlib.suppress(OSError):
                self._documents.mkdir(parents=True, exist_ok=True)
                write_file(path, raw, lasting=False)
        return answer

    def close(self) -> None:
        """Close connections of all indexes."""
        for index in self.indexes:
            index.close()

    @contextmanager
    def _alone(self, what: str) -> Iterator[None]:
        with self._lock:
            lock = self._locks.setdefault(what, threading.Lock())
        with lock:
            yield


@contextmanager
def _scratch(root: Path) -> Iterator[Path]:
    import tempfile

    from registry_pipelines.build.wheel_store import SCRATCH

    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=SCRATCH) as folder:
        yield Path(folder)


def _asks(metadata: bytes) -> _Asks:
    """Normalised project, version and requirements of METADATA; empty texts where it is none."""
    try:
        found, _ = parse_email(metadata)
    except (ValueError, RecursionError, LookupError):
        return "", "", ()
    requires = tuple(sorted("".join(text.split()) for text in found.get("requires_dist") or ()))
    return str(canonicalize_name(found.get("name") or "")), found.get("version") or "", requires


def _by(names: Sequence[str]) -> str:
    return " and ".join(names) if names else "nobody"


def _refused(what: str, rule: str, where: str) -> RequirementsInvalid:
    return RequirementsInvalid(
        what, where=where, do=f"Choose another version or project, or take `{rule}` out of `refuse` of its index"
    )


__all__ = ["Found", "OpenIndex", "Sources"]
