"""Who frees the bytes of what was deleted, at registries whose files are not ours; and what their own collectors break.

An API for it does not exist (distribution-spec 1.1 deletes manifests, tags and blobs; what happens to the bytes is the
registry's affair), so all that can be given is exact advice, and a check of what a collector is about to do.
``chain/garbage.py`` calls this.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from registry_pipelines.errors import DigestInvalid, ReferenceInvalid
from registry_pipelines.inventory.survey import Survey
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.references import check_repository

MAX_CHECK_BYTES = 256 * 1024 * 1024
"""Of a dry run's output; one line of about 100 bytes for each manifest and blob."""

_ELIGIBLE = re.compile(r"\s*(manifest|blob) eligible for deletion: (\S+)\s*\Z")
"""distribution 2.8 and 3, registry/storage/garbagecollect.go."""


@dataclass(frozen=True)
class Collector:
    """How a registry frees bytes. title: what people call it. advice: sentences, most important first. source, date: of
    what is said, as in ``registry/client/words.py``."""

    title: str
    advice: tuple[str, ...]
    source: str
    date: str


DISTRIBUTION = Collector(
    "docker-registry (CNCF distribution)",
    (
        "it frees nothing by itself: its operator runs `registry garbage-collect CONFIG`, where its files are",
        "while that runs nobody may push: set `storage.maintenance.readonly.enabled: true` and restart first; a blob "
        "whose manifest is not there yet is removed, and with `cache.blobdescriptor: inmemory` the server says until "
        "its restart that it has it, takes manifests that need it, and sends nothing",
        "never give `-m` (`--delete-untagged`) to version 2.8: it deletes the platforms of tagged indexes and all "
        "evidence, for they have no tag of their own; `collect` deletes by digest what may go, so `-m` is not needed",
        "see before what would go: `registry garbage-collect --dry-run CONFIG > FILE`, then "
        "`registry-pipelines collect garbage REGISTRY --check FILE`",
        "DELETE of a manifest needs `storage.delete.enabled: true`; DELETE of a blob takes it from one repository and "
        "leaves its bytes on the disk, so it is not used here",
    ),
    "run against 2.8.2 (tests/collect/test_collectors.py); distribution/distribution#3178, #3822",
    "2026-11-29",
)

COLLECTORS: Mapping[str, Collector] = {
    "ecr": Collector(
        "ECR",
        (
            "it frees layers by itself once no image of the repository needs them, and says neither when nor how many",
            "referrers of a deleted image go within 24 hours; archived images are charged for 90 days at least",
            "a lifecycle policy of the repository deletes too: `lifecycle explain` says what it does",
        ),
        "AWS's user guide, Deleting an image and Archiving an image",
        "2026-11",
    ),
    "artifact-registry": Collector(
        "Artifact Registry",
        (
            "it frees layers by itself after a version is deleted",
            "cleanup policies work about once a day, and delete 600,000 versions a day at most",
        ),
        "Google's documentation, Cleanup policies",
        "2026-11",
    ),
    "harbor": Collector(
        "Harbor",
        (
            "its administrator runs Administration > Clean Up > Garbage Collection, or has it scheduled; people go on "
            "pushing meanwhile (before 2.1 it was read-only)",
            "blobs that came within the last 2 hours stay",
            "leave `Allow garbage collection on untagged artifacts` off: platforms and evidence have no tag",
            "tag immutability keeps what a retention rule would let go (goharbor/harbor#20989)",
        ),
        "Harbor's documentation 2.7, Garbage Collection",
        "2026-11",
    ),
    "quay": Collector(
        "Quay",
        (
            "it collects by itself, but a deleted tag keeps its bytes in the time machine (two weeks unless the "
            "organisation says otherwise)",
            "the label `quay.expires-after` of an image makes Quay delete its tag; copies carry it",
        ),
        "Red Hat Quay's documentation, Tag expiration and Garbage collection fields",
        "2026-11",
    ),
    "zot": Collector(
        "zot",
        (
            "it collects by itself where `storage.gc` is on, every `gcInterval`, what is older than `gcDelay`",
            "its `retention` policies delete too; there `deleteUntagged` and `deleteReferrers` speak of platforms and "
            "evidence",
        ),
        "zot's documentation, Storage and Retention (not run here)",
        "2026-11",
    ),
    "gitlab": Collector(
        "GitLab",
        (
            "gitlab.com collects by itself; on own machines so does the registry with a metadata database, and an "
            "administrator runs `gitlab-ctl registry-garbage-collect` where it has none, with -m as docker-registry",
        ),
        "GitLab's documentation, Online garbage collection",
        "2026-11",
    ),
    "artifactory": Collector(
        "Artifactory", ("it collects by itself, every 4 hours",), "JFrog's documentation", "2026-11"
    ),
    "acr": Collector(
        "ACR", ("it frees layers by itself after manifests are deleted",), "Azure's documentation", "2026-11"
    ),
    "ghcr": Collector(
        "GHCR", ("it frees layers by itself after versions are deleted",), "GitHub's documentation", "2026-11"
    ),
    "docker-hub": Collector(
        "Docker Hub", ("it frees layers by itself after images are deleted",), "Docker's documentation", "2026-11"
    ),
}
"""By family of registries, as ``registry/client/words.py`` calls them."""

SELF_HOSTED = ("harbor", "quay", "zot", "gitlab", "artifactory")
"""What a host may be that no family's name tells: then all are said."""


@dataclass(frozen=True)
class Eligible:
    """What a collector's dry run would delete. manifests: by repository; blobs: of the whole registry."""

    manifests: Mapping[str, frozenset[Digest]] = field(default_factory=dict)
    blobs: frozenset[Digest] = frozenset()


@dataclass(frozen=True)
class Endangered:
    """Something that a collector would delete and a tag leads to. tags: some of those; blob: whether it is one."""

    repository: str
    digest: Digest
    tags: tuple[str, ...]
    blob: bool = False


def read_dry_run(text: str) -> Eligible:
    """What ``registry garbage-collect --dry-run`` of distribution 2.8 and 3 printed. A manifest belongs to the
    repository whose name stood alone on a line before it. Whatever else stands there is passed over."""
    manifests: dict[str, set[Digest]] = {}
    blobs: set[Digest] = set()
    repository = ""
    for line in text.splitlines():
        found = _ELIGIBLE.match(line)
        try:
            if found is None:
                repository = check_repository(line.strip())
            elif found[1] == "blob":
                blobs.add(Digest.parse(found[2]))
            else:
                manifests.setdefault(repository, set()).add(Digest.parse(found[2]))
        except (ReferenceInvalid, DigestInvalid):
            continue
    return Eligible({name: frozenset(each) for name, each in manifests.items()}, frozenset(blobs))


def endangered(surveyed: Survey, eligible: Eligible) -> list[Endangered]:
    """What of one repository would go although a tag leads to it: children of indexes, evidence, and layers of what
    stays. Whatever a survey finds, a tag leads to."""
    going = eligible.manifests.get(surveyed.repository, frozenset()) | eligible.manifests.get("", frozenset())
    tags = _tags_above(surveyed)
    found = []
    for digest, node in surveyed.nodes.items():
        above = tuple(sorted(tags.get(digest, ())))
        if digest in going:
            found.append(Endangered(surveyed.repository, digest, above))
        else:
            found += [
                Endangered(surveyed.repository, blob, above, True) for blob in node.blobs if blob in eligible.blobs
            ]
    return found


def _tags_above(surveyed: Survey) -> dict[Digest, set[str]]:
    """By manifest the tags that lead to it."""
    tags: dict[Digest, set[str]] = {}
    for tag, root in surveyed.tags.items():
        waiting: Iterable[Digest] = [root]
        while waiting:
            below: list[Digest] = []
            for digest in waiting:
                if tag not in tags.setdefault(digest, set()):
                    tags[digest].add(tag)
                    node = surveyed.nodes[digest]
                    below += [*node.children, *node.referrers]
            waiting = below
    return tags
