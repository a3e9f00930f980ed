"""One run of a backup: what every tag named, and what belonged to it. Kept beside the images, as a signed artifact.

The document is JSON in zstd. Images are found by digest, so a moment stays true however tags moved afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import msgspec
import zstandard

from registry_pipelines.errors import InputError, ManifestInvalid
from registry_pipelines.evidence.predicates import BACKUP_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import decode_json, encode_json
from registry_pipelines.oci.times import CLOCKS_DIFFER
from registry_pipelines.registry.protocol import Place, Registry
from registry_pipelines.transfer.file_sets import Kind

FORMAT = 1
"""Raise it when an older program would read a document wrongly."""
MAX_BYTES = 512 << 20
"""Of the JSON; some 300 bytes an image and 74 for each thing that refers to it."""
KIND = Kind(
    what="a moment of a backup",
    artifact_type="application/vnd.registry-pipelines.backup.v1",
    document_type="application/vnd.registry-pipelines.backup.moment.v1+json+zstd",
    file_type="application/vnd.registry-pipelines.backup.file.v1",
    predicate_type=BACKUP_TYPE,
    document_limit=MAX_BYTES,
)
CONFIGURATION = "registry-pipelines.yaml"
"""The file of the set with the configuration as it was; secrets stand there as names of variables."""

EXPIRED = "expired-"
"""In front of a second tag of a moment that is being let go: nothing is restored from it, and who was ended goes on.
The first one stays until the manifest goes, for docker-registry deletes no tag alone."""

_TAG = re.compile(r"\d{8}T\d{6}Z\Z")
_TIME = "%Y%m%dT%H%M%SZ"


class KeptImage(msgspec.Struct, frozen=True):
    """One image or artifact that tags named. manifests: all that belonged to it, itself among them: platforms,
    signatures, attestations, indexes. size: bytes of all of that."""

    digest: Digest
    tags: tuple[str, ...]
    manifests: tuple[Digest, ...]
    size: int


class KeptRepository(msgspec.Struct, frozen=True):
    """One repository of one registry, by the names of the configuration."""

    registry: str
    repository: str
    images: tuple[KeptImage, ...]


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """See the module."""

    format: int = FORMAT
    backup: str
    time: str
    """When the run began: what was pushed later may be missing. RFC 3339, UTC."""
    ended: str
    version: str
    """Of this program."""
    prefix: str
    repositories: tuple[KeptRepository, ...]
    failed: tuple[str, ...] = ()
    """What could not be read or written, a sentence each: then the moment is not whole."""
    left_out: tuple[str, ...] = ()
    """What was left out on purpose, a sentence each."""

    @property
    def is_whole(self) -> bool:
        """Whether everything that was chosen is there."""
        return not self.failed

    @property
    def tag(self) -> str:
        """See :func:`moment_tag`."""
        return moment_tag(datetime.fromisoformat(self.time))

    @property
    def tags(self) -> int:
        """How many there were."""
        return sum(len(image.tags) for each in self.repositories for image in each.images)

    def encode(self) -> bytes:
        """The document."""
        return zstandard.ZstdCompressor(level=9, write_checksum=True).compress(encode_json(self))

    @classmethod
    def decode(cls, raw: bytes, *, where: str) -> Moment:
        """Raises ManifestInvalid: damaged or another's; InputError: a newer program wrote it."""
        try:
            plain = zstandard.ZstdDecompressor().decompress(raw, max_output_size=MAX_BYTES, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise ManifestInvalid(f"the document of the backup cannot be unpacked: {error}", where=where) from error
        number = decode_json(plain, _Format, where=where, what="document of a backup").format
        if number > FORMAT:
            raise InputError(
                f"the backup has format {number}, and this program knows up to {FORMAT}",
                where=where,
                do="Restore it with the version that made it, or a newer one",
            )
        return decode_json(plain, cls, where=where, what="document of a backup")

    def place(self, registry: Registry, kept: KeptRepository) -> Place:
        """Where a repository is kept."""
        return Place(registry, stored_name(self.prefix, kept.registry, kept.repository))


class _Format(msgspec.Struct, frozen=True):
    format: int


def stored_name(prefix: str, registry: str, repository: str) -> str:
    """The repository where another one is kept."""
    return "/".join(filter(None, (prefix.strip("/"), registry, repository)))


def settings_file(registry: str, path: str = "") -> str:
    """The name of the file with a cloud registry's settings as YAML of `infra`, or of a policy file that it names:
    ``infra-us.yaml``, ``infra-us-policies%2Fpull.json``."""
    return f"infra-{registry}-{quote(path, safe='')}" if path else f"infra-{registry}.yaml"


def moments_name(prefix: str, backup: str) -> str:
    """The repository that has the moments of a backup, a tag each. No registry of a configuration has that name."""
    return "/".join(filter(None, (prefix.strip("/"), "rp-backups", backup)))


def moment_tag(time: datetime) -> str:
    """``20261129T031500Z``: tags of moments are in the order of time."""
    return time.astimezone(UTC).strftime(_TIME)


def read_tag(tag: str) -> datetime:
    """The time that a tag of :func:`moment_tags` says."""
    return datetime.strptime(tag, _TIME).replace(tzinfo=UTC)


def wrong_clock(tag: str, now: datetime) -> str:
    """What is said of a moment of the future, which a wrong clock wrote: its age is not known, and it must not pass for
    new. Empty for any other."""
    ahead = read_tag(tag) - now > CLOCKS_DIFFER
    return (
        f"the moment {tag} is of the future: a clock was or is wrong, and how old it is is not known" if ahead else ""
    )


def moment_tags(tags: Iterable[str]) -> list[str]:
    """Those that are moments, the newest first; without those that are being let go."""
    found = set(tags)
    return sorted((tag for tag in found if _TAG.match(tag) and EXPIRED + tag not in found), reverse=True)


def expired_tags(tags: Iterable[str]) -> list[str]:
    """Those of moments that are being let go, the newest first."""
    found = [tag for tag in tags if tag.startswith(EXPIRED) and _TAG.match(tag.removeprefix(EXPIRED))]
    return sorted(found, reverse=True)


def next_time(now: datetime, tags: Iterable[str]) -> datetime:
    """When a moment is that is made now: later than all others, whatever the clock says."""
    newest = max((each.removeprefix(EXPIRED) for each in tags if _TAG.match(each.removeprefix(EXPIRED))), default="")
    return max(now, read_tag(newest) + timedelta(seconds=1)) if newest else now


def chosen_tag(tags: Iterable[str], at: str) -> str:
    """The tag of a moment: of the newest, of one told exactly, or of the last one that is not after a time of RFC 3339
    or a day. Raises InputError."""
    known = moment_tags(tags)
    if not known:
        raise InputError("there is no backup yet", do="Run `recover backup` first")
    if not at:
        return known[0]
    if at in known:
        return at
    until = at.translate({ord(each): None for each in "-:"})
    until = f"{until}T235959Z" if re.fullmatch(r"\d{8}", until) else until
    if not _TAG.match(until):
        raise InputError(
            f"{at} is no time", do="Write it as 2026-11-29T03:15:00Z, as 2026-11-29, or as `recover list` does"
        )
    before = [tag for tag in known if tag <= until]
    if not before:
        raise InputError(f"no backup is as old as {at}; the oldest is {known[-1]}", do="See `recover list`")
    return before[0]


__all__ = [
    "CONFIGURATION",
    "EXPIRED",
    "KIND",
    "KeptImage",
    "KeptRepository",
    "Moment",
    "chosen_tag",
    "expired_tags",
    "moment_tag",
    "moment_tags",
    "moments_name",
    "next_time",
    "read_tag",
    "settings_file",
    "stored_name",
    "wrong_clock",
]
