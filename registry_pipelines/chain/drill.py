"""A restore drill: a moment comes back into empty registries on this machine, and is held against what it says."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from msgspec.structs import replace

from registry_pipelines.chain.moments import Opened, moments_place, newest_whole, open_moment, tags_of
from registry_pipelines.chain.releases import releases_of
from registry_pipelines.chain.restore import Pair, copy_moment
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.chain.sign import verify
from registry_pipelines.chain.start_process import run_start
from registry_pipelines.config import DistributionRegistry, Image
from registry_pipelines.errors import EvidenceMissing, InputError, RegistryPipelinesError
from registry_pipelines.oci.files import local_errors
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.oci.times import write_time
from registry_pipelines.progress import age_text, count_text, duration_text
from registry_pipelines.recover.moment import moment_tags, read_tag, wrong_clock
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.platforms import read_images
from registry_pipelines.registry.protocol import Place, Registry
from registry_pipelines.registry.remote import remote_registry
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.release import Release
from registry_pipelines.stream.model import Record
from registry_pipelines.threads import Pool
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.verify import examine

CHECKERS = 2
"""Images compared at once; each reads its blobs with threads of its own."""
MOST_STARTS = 3
"""Releases that are tried until one starts."""
_MOST_NAMED = 10


def drill(session: Session, name: str, *, at: str = "", newest: int = 0, start: bool = True) -> StageResult:
    """Restore a moment into empty registries of this machine, compare every image with what the moment says and read
    each of its blobs, verify signatures of our releases there, and start one. What it took stays in the state folder.

    at: see ``moment.chosen_tag``. newest: only so many images of each repository, the ones that come last in the
    moment; all unless told. start: also start an image, where this machine can.

    ``facts``: ``rto_s`` (until all was back), ``rpo_s`` (the moment's age). Not ``ok`` where anything is missing,
    damaged, or unsigned though it was promoted, and where an objective is missed. Raises what ``open_moment`` does,
    LocalError.
    """
    began = time.monotonic()
    opened = open_moment(session, name, at)
    age_s = max(0.0, (session.now() - opened.made_at).total_seconds())
    folder = session.config.state / "recover" / "drills"
    with local_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=folder))
    try:
        with ExitStack() as stack:
            there = {
                each: stack.enter_context(EmbeddedServer(work / each, garbage_interval_s=None)).address
                for each in dict.fromkeys(kept.registry for kept in opened.moment.repositories)
            }
            found = _Drill(session, opened, there, newest)
            found.restore(Engine(state=work / ".transfer", progress=session.progress))
            rto_s = time.monotonic() - began
            found.compare()
            found.verify()
            started = found.start(work) if start else "not asked for"
    finally:
        shutil.rmtree(work, ignore_errors=True)
    odd = wrong_clock(opened.tag, session.now())
    problems = [*found.problems, *([odd] if odd else []), *_missed(session, opened, age_s, rto_s)]
    result = _result(opened, found, problems, started, age_s, rto_s, time.monotonic() - began)
    _keep(session, opened, result)
    return result


class _Drill:
    """One drill. there: registry of the moment to the address where it comes back."""

    def __init__(self, session: Session, opened: Opened, there: dict[str, str], newest: int) -> None:
        self._session, self._opened = session, opened
        self._vault: Registry = session.places.registry(opened.settings.to)
        self._registries = {name: remote_registry(address, plain_http=True) for name, address in there.items()}
        settings = {
            name: DistributionRegistry(name=name, kind="distribution", host=address, plain_http=True)
            for name, address in there.items()
        }
        config = session.config
        self._there = Session(replace(config, registries={**config.registries, **settings}), session.progress)
        self._addresses = there
        self.pairs: list[Pair] = [
            (kept, Place(self._registries[kept.registry], kept.repository), image)
            for kept in opened.moment.repositories
            for image in (kept.images[-newest:] if newest else kept.images)
        ]
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.bytes = self.verified = 0
        self._releases: list[Release] = []

    def restore(self, engine: Engine) -> None:
        """Bring all of it back. engine: with a state of its own, so that nothing comes from what this machine knows,
        and no receipt of a place stays that is gone a moment later."""
        for answer in copy_moment(engine, self._opened.moment, self._vault, self.pairs):
            if isinstance(answer, str):
                self.problems.append(answer)
            else:
                self.bytes += answer.bytes_moved

    def compare(self) -> None:
        """Tags, manifests, lists of referrers and every byte, held against the moment and the place of the backup."""
        with Pool(CHECKERS, "drill") as pool:
            for found in pool.map(self._compare_one, self.pairs):
                self.problems += found

    def _compare_one(self, pair: Pair) -> list[str]:
        kept, goal, image = pair
        named = f"{kept.registry}/{kept.repository}@{image.digest.short}"
        found = [
            f"{named}: the tag {tag} names {there or 'nothing'}"
            for tag in image.tags
            if (there := digest_at(goal, tag)) != image.digest
        ]
        lacking = [each for each in image.manifests if digest_at(goal, each) != each]
        found += [f"{named} lacks the manifest {each}" for each in lacking]
        try:
            kept_at = self._opened.moment.place(self._vault, kept)
            differences = examine(kept_at, goal, image.digest, content=True, foreign_layers=True).differences
        except RegistryPipelinesError as error:
            return [*found, f"{named}: {error}"]
        return found + [f"{named}: {each}" for each in differences]

    def verify(self) -> None:
        """Signatures of our own releases, as they are there now, by the keys that are believed here."""
        for image in self._images():
            promoted = {digest_at(self._there.places.source(image), each) for each in _channels(image)}
            for release in releases_of(self._there, image):
                self._releases.append(release)
                try:
                    verify(self._there, release)
                    self.verified += 1
                except EvidenceMissing as error:
                    if release.digest in promoted:
                        self.problems.append(f"{release.key} is promoted, and {error}")
                    else:
                        self.notes.append(f"{release.key} is not signed")
                except RegistryPipelinesError as error:
                    self.problems.append(f"{release.key}: {error}")

    def _images(self) -> Iterator[Image]:
        names = {(kept.registry, kept.repository) for kept, _, _ in self.pairs}
        for image in self._session.config.images.values():
            if (image.registry, image.repository) in names:
                yield image

    def start(self, work: Path) -> str:
        """Start the first release that this machine can; in words what came of it."""
        why = "no release of an image of the configuration came back"
        for release in self._releases[:MOST_STARTS]:
            place = self._there.source(release)
            top = place.registry.get_manifest(place.repository, release.digest)
            entries = [each for each in read_images(place, top) if Platform.here().matches(each.platform)]
            if not entries:
                why = f"no image that came back is for {Platform.here()}"
                continue
            image = self._session.image(release.image)
            record = (image.stream.record if image.stream else None) or Record()
            at = f"{self._addresses[image.registry]}/{image.repository}"
            try:
                told = run_start(
                    self._session, release.image, entries[0].digest, record, work / "start", cold=True, at=at
                )
            except InputError as error:
                return f"not started: {error.what}"
            except RegistryPipelinesError as error:
                if (
                    image.stream and image.stream.record
                ):  # which says how it starts; others may want a GPU, or arguments
                    self.problems.append(f"{release.key} did not start: {error}")
                    return "failed"
                why = f"{release.key} did not: {error.what}"
                continue
            return f"{release.key} in {told.result_s:.1f} s"
        return f"not started: {why}"


def _channels(image: Image) -> Sequence[str]:
    return [channel.name for channel in image.channels] or [image.channel]


def _missed(session: Session, opened: Opened, age_s: float, rto_s: float) -> Iterator[str]:
    wanted = opened.settings.objectives
    if not opened.moment.is_whole:
        settings = opened.settings
        whole, _ = newest_whole(session, settings, moment_tags(tags_of(moments_place(session, settings))))
        age_s = (session.now() - read_tag(whole)).total_seconds() if whole else math.inf
    if age_s == math.inf:
        yield "the moment is not whole, and no other one is"
    elif age_s > wanted.rpo.total_seconds():
        yield f"the newest whole moment is {age_text(age_s)} old, and the objective (rpo) is {wanted.rpo}"
    if rto_s > wanted.rto.total_seconds():
        yield f"it took {duration_text(rto_s)}, and the objective (rto) is {wanted.rto}"


def _result(
    opened: Opened, found: _Drill, problems: Sequence[str], started: str, age_s: float, rto_s: float, seconds: float
) -> StageResult:
    images = count_text(len(found.pairs), "image")
    said = f"{images} came back in {rto_s:.1f} s, and nothing of them is other than it was"
    if problems:
        said = f"{count_text(len(problems), 'problem')} with {images}"
    facts: dict[str, Scalar] = {
        "moment": opened.tag,
        "images": len(found.pairs),
        "bytes": found.bytes,
        "signatures": found.verified,
        "started": started,
        "rto_s": round(rto_s, 1),
        "rpo_s": round(age_s),
        "problems": len(problems),
    }
    return StageResult(
        stage="drill",
        subject=f"{opened.settings.name}@{opened.tag}",
        action=said,
        digest=opened.descriptor,
        bytes_moved=found.bytes,
        seconds=seconds,
        facts=facts,
        reasons=list(problems[:_MOST_NAMED]),
        notes=[*found.notes[:_MOST_NAMED], *(f"the moment is not whole: {each}" for each in opened.moment.failed)],
        ok=not problems,
    )


def _keep(session: Session, opened: Opened, result: StageResult) -> None:
    """The last drill of a backup, for whoever asks how it stands."""
    content = {"time": write_time(session.now()), "ok": result.ok, **result.facts, "reasons": list(result.reasons)}
    session.documents.write(f"recover/{opened.settings.name}-drill.json", json.dumps(content, indent=1).encode())


__all__ = ["drill"]
