"""What scans compare with, and other scanners beside ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from registry_pipelines.settings import (
    ECOSYSTEM,
    FEED,
    Duration,
    EntryName,
    Existing,
    Names,
)

OSV_EXPORT = "https://osv-vulnerabilities.storage.googleapis.com"
"""OSV's public export (google.github.io/osv.dev/data, "Data dumps"). The address stands here and nowhere else."""


class Advisories(msgspec.Struct, frozen=True, kw_only=True):
    """OSV advisories that reports are made from: what `advisories update` or `advisories import` brought into the state
    folder; before that the set that comes with the package, which is old and for the demonstration."""

    source: Annotated[Path, Existing("file or folder")] | None = None
    """Folder, tar or zip of OSV records of your own, which is then used in place of those."""
    feed: Annotated[str, FEED] | None = OSV_EXPORT
    """What `advisories update` reads: OSV's export, or a mirror of it with the same files. `null`: nothing is fetched
    here, sets come by `advisories import`."""
    debian_security: Annotated[str, FEED] | None = None
    """Mirror of Debian's security archive. `advisories update` then also derives advisories of the changelogs there,
    for where `feed` has none of Debian (docs/scanning.md)."""
    ecosystems: tuple[Annotated[str, ECOSYSTEM], ...] = ()
    """OSV ecosystems that are fetched besides those that the images' SBOMs name."""


class Scanner(msgspec.Struct, frozen=True, kw_only=True):
    """Another scanner, whose findings count beside those of `advisories`. `trivy` and `grype`: without `reports` the
    program is started for each image of a release, which it reads from the registry by digest; with `reports` nothing
    is started. `ecr`, `inspector`, `google` and `google-on-demand` are the clouds' own: the image's registry is asked,
    a scan started where there is none and waited for (docs/scanning.md)."""

    name: EntryName
    program: str = ""
    """Program to start; its own name unless told. One that is not there makes every release `incomplete`."""
    reports: str = ""
    """Path of a JSON report that somebody else made, from this file's folder on: `{digest}` in it is the 64 hex digits
    of the platform's manifest, `{release}` those of the release, `{image}` and `{tag}` its names. As long as it is not
    there the release is `pending`."""
    database: Path | None = None
    """For reports of trivy, which do not say how old its data was: what `trivy version --format json` printed where
    they are made."""
    timeout: Duration = Duration(minutes=10)
    """How long one image may take."""
    registry: Annotated[str, Names("registries")] | None = None
    """For `google-on-demand`: registry of the kind `gar` whose project asks; the image's own unless told."""
