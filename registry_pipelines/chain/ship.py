"""One release through the whole chain in one process, each stage once: what the job ``release`` does in Dagster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, Protocol, get_args

from registry_pipelines.chain import releases
from registry_pipelines.chain.result import READING, StageResult, held_text
from registry_pipelines.chain.session import Session
from registry_pipelines.config import Image
from registry_pipelines.config.notify import NotifyEvent
from registry_pipelines.errors import (
    ContentError,
    EvidenceError,
    NotFound,
    PromotionDenied,
    PromotionHeld,
    RegistryPipelinesError,
    exit_code_of_many,
)
from registry_pipelines.evidence.predicates import PROMOTION_TYPE, Role, roles_for
from registry_pipelines.promote.order import Channel
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.release import Release

Stage = Literal[
    "build",
    "rechunk",
    "convert",
    "provenance",
    "index",
    "sbom",
    "advice",
    "scan",
    "sign",
    "judge",
    "record",
    "promote",
    "replicate",
    "mirror",
]
STAGES: tuple[Stage, ...] = get_args(Stage)
"""What :func:`ship` can end with, in order. ``rechunk`` is for images with that in the configuration, ``convert`` and
``index`` for those with ``stream``, and a release has one of these two at most: what is converted has its index inside.
``advice`` is for those with a policy that asks what is inside. ``record`` is for those with ``stream.record``, and one
that fails holds nothing up but what a policy wants a pack of. ``scan`` is the step ``vulnerabilities``; ``replicate``
and ``mirror`` have a step for each place, and one that fails holds no other up."""

MOST_PROMOTIONS = 3
"""Tries at a promotion. Another process that ships the same release adds signatures of its own between our verdict and
our promotion. The gate then wants a verdict that knows them, so it is made again."""

_SIGNERS: dict[Stage, tuple[Role, ...]] = {
    "sign": ("person",),
    "judge": ("promoter",),
    "promote": roles_for(PROMOTION_TYPE),
}
"""Stages that cannot be without a key, and whose it may be."""

Status = Literal["ok", "denied", "held", "failed", "skipped"]
_NotShipped = Literal["denied", "held", "failed"]


class Tell(Protocol):
    """How somebody is notified; see ``Chain.notify``."""

    def __call__(
        self, event: NotifyEvent, release: Release, *, stage: str, what: str, reasons: Sequence[str] = ()
    ) -> list[str]:
        """What went wrong with that."""
        ...


@dataclass(frozen=True)
class Step:
    """What became of a stage: ``denied`` and ``held`` are answers, ``failed`` an error, ``skipped`` was not begun."""

    result: StageResult
    status: Status

    @property
    def outcome(self) -> str:
        """The status in words for people: ``ok, unchanged``. A stage that only reads has nothing that could change."""
        quiet = self.status == "ok" and not self.result.changed and self.result.stage not in READING
        return "ok, unchanged" if quiet else self.status

    @property
    def place(self) -> str:
        """Where a copy goes: the name of a target or mirror; empty for other stages."""
        return self.result.stage.partition(":")[2]

    def plain(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return {**self.result.plain(), "status": self.status}


@dataclass
class Shipment:
    """A release on its way."""

    image: str
    channel: str
    """The one it is promoted to: the first of its image."""
    release: Release | None = None
    """None where it could not be built."""
    steps: list[Step] = field(default_factory=list)
    """In the order of the chain."""
    rest: str = ""
    """The command that does what comes after the last stage that was asked for; empty after the last of all."""

    @property
    def denied_at(self) -> str:
        """The stage that said no; empty when none did. A report over the limits leaves it to the verdict, unless that
        was not asked for."""
        asked = [step for step in self.steps if step.status != "skipped"]
        judged = any(step.result.stage == "judge" for step in asked)
        stages = (step.result.stage for step in asked if step.status == "denied")
        return next((stage for stage in stages if not (judged and stage == "vulnerabilities")), "")

    @property
    def held(self) -> str:
        """``held: recording``: it is allowed, and what its policy wants before is still to be made; else empty."""
        return next((step.result.action for step in self.steps if step.status == "held"), "")

    @property
    def next_steps(self) -> Sequence[str]:
        """What to do about a denial, or to have it held no longer, in order; after a part of the chain that went well
        the command for the rest."""
        if self.rest and not self.exit_code:
            return [self.rest]
        ended = self.denied_at or "promote"
        return next((step.result.next_steps for step in self.steps if step.result.stage == ended), ())

    @property
    def exit_code(self) -> int:
        """0: all that was asked for is done. 3: denied, or held. Else that of the stage that failed; of copies the one
        that all have, or 6."""
        if self.denied_at or self.held:
            return EvidenceError.exit_code
        begun = [step for step in self.steps if step.status != "skipped"]
        ahead = [step.result.exit_code for step in begun if step.result.exit_code and not step.place]
        return ahead[0] if ahead else exit_code_of_many(step.result.exit_code for step in begun if step.place)

    @property
    def sentence(self) -> str:
        """How it ended, for people."""
        name = f"{self.release.image}:{self.release.tag}" if self.release else self.image
        there = [step.place for step in self.steps if step.place and step.status == "ok"]
        failed = [step.result.stage for step in self.steps if step.status == "failed"]
        promoted = any(step.result.stage == "promote" and step.status == "ok" for step in self.steps)
        if self.denied_at and not promoted:
            return f"{name} is denied at {self.denied_at}: nothing was promoted or copied"
        if self.held:
            return f"{name} is allowed, and {self.held}: nothing was promoted or copied"
        if self.denied_at or failed:
            wrong = f"{self.denied_at} was denied" if self.denied_at else f"{', '.join(failed)} failed"
            return f"{name} is not done: {wrong}; the same command does the rest"
        if not self.steps:
            return f"{name} is there; nothing more was asked for"
        if not promoted:
            return f"{name} is through {self.steps[-1].result.stage}; nothing was promoted"
        return f"{name} ships: {self.channel} names it" + (f", and it is at {', '.join(there)}" if there else "")

    def plain(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return {
            "release": self.release.key if self.release else "",
            "image": self.image,
            "denied_at": self.denied_at,
            "held": self.held,
            "stages": [step.plain() for step in self.steps],
        }


def ship(session: Session, text: str, *, until: Stage, tell: Tell) -> Shipment:
    """Build a release where there is none, or derive it of what was pushed, where the image says so; then index, scan,
    sign, judge, promote and copy it, up to and with ``until``. Of several channels it comes to the first: the next ones
    somebody asks for.

    text: as :func:`~registry_pipelines.chain.releases.find_release` takes it; an image alone is the version that the
    configuration builds, where it builds one. After a denial, or a stage that failed, nothing more is begun, but for
    copies to other places. Killed anywhere, the same call does the rest.
    Raises InputError, NotFound (no such release, and none that is built here), RegistryError when it cannot be looked
    for; what ends a stage is in the answer.
    """
    from registry_pipelines.chain.next_steps import typed  # which knows our stages

    name = text.partition("@")[0].partition(":")[0]
    work = _Work(session, tell, STAGES[: STAGES.index(until) + 1], Shipment(name, session.image(name).order[0].name))
    work.require_keys()
    release, origin = _find(session, text)
    if release is None:
        release = work.make(origin)
    if release is not None:
        if until != STAGES[-1]:
            image = session.image(release.image)
            tag = release.tag if releases.names_release(image, release.tag) else origin or release.tag
            work.shipment.rest = typed(session.config, "ship", f"{release.image}:{tag}")
        work.shipment.release = release
        work.go(release)
    return work.shipment


def _find(session: Session, text: str) -> tuple[Release | None, str]:
    """The release; None when it is to be built or derived, and of the image with which tag. Raises InputError,
    NotFound, RegistryError."""
    written, at, _ = text.partition("@")
    name, colon, tag = written.partition(":")
    image = session.image(name)
    version = image.made_here.version if image.made_here else ""
    if not at and not (colon and not tag):
        tag = tag or version
        if releases.names_origin(image, tag):  # what it ships as is meant
            tag = image.released_tag(tag)
        text = f"{name}:{tag}" if tag else name
    try:
        return releases.find_release(session, text), ""
    except NotFound as error:
        origin = image.origin_of(tag) if image.forms else tag
        if at or not origin:
            raise
        if origin == version or (image.forms and digest_at(session.places.source(image), origin)):
            return None, origin
        if not version:
            raise
        do = f"Push it first, or ship {name}:{version}, which the configuration builds"
        raise NotFound(f"there is no release {text!r}", where=str(session.places.source(image)), do=do) from error


@dataclass
class _Work:
    session: Session
    tell: Tell
    wanted: Sequence[Stage]
    shipment: Shipment

    def require_keys(self) -> None:
        """A wrong password, or a key that is not here, is told before minutes are spent on a build. Raises
        InputError."""
        keys = self.session.keys
        if "index" in self.wanted:
            keys.signers()
        for stage, roles in _SIGNERS.items():
            if stage in self.wanted:
                keys.signer(*roles)
                keys.trusted()

    def make(self, origin: str) -> Release | None:
        """The release that the configuration makes, of what it builds or of what was pushed as ``origin``; None where
        that failed."""
        from registry_pipelines.chain import build, rechunk, stream  # each stage is loaded when it comes to it

        name, release = self.shipment.image, None
        image = self.session.image(name)
        if image.made_here and image.made_here.version == origin:
            release = self._made(self._run("build", name, lambda: build.build(self.session, name)))
            if release is None:
                return None
        if image.rechunk is not None and "rechunk" in self.wanted:
            release = self._made(self._run("rechunk", name, lambda: rechunk.rechunk(self.session, name, origin)))
            if release is None:
                return None
        if image.stream is not None and image.stream.derives and "convert" in self.wanted:
            return self._made(self._run("convert", name, lambda: stream.convert(self.session, name, origin)))
        return release

    def _made(self, result: StageResult) -> Release | None:
        return Release.parse(str(result.facts["release"])) if result.ok else None

    def go(self, release: Release) -> None:
        """Every stage after the build. A report over the limits ends nothing: the verdict says why, and is evidence."""
        from registry_pipelines.chain import build, promote, record, scan, sign, stream
        from registry_pipelines.chain.image_advice import image_advice

        session = self.session.remembering()
        line: dict[Stage, Callable[[], StageResult]] = {
            "provenance": lambda: build.provenance(session, release),
            **({"index": lambda: stream.index(session, release)} if self._is_indexed(release) else {}),
            "sbom": lambda: scan.sbom(session, release),
            **({"advice": lambda: image_advice(session, release).result} if self._is_advised(release) else {}),
            "scan": lambda: scan.vulnerabilities(session, release),
            "sign": lambda: sign.sign(session, release),
            "judge": lambda: promote.judge(session, release, until=self.wanted[-1]),
            **({"record": lambda: record.record(session, release)} if self._is_recorded(release) else {}),
            "promote": lambda: self._promoted(release),
        }
        stopped = ""
        for stage in self.wanted:
            name = "vulnerabilities" if stage == "scan" else stage
            if stage in line and stopped:
                self._skip(release, name, stopped)
            elif stage in line:
                result = self._run(name, release.key, line[stage], release)
                if not result.ok and stage != "record" and (result.exit_code or stage != "scan"):
                    stopped = f"{name} {self.shipment.steps[-1].status}"
        self._copies(release, stopped)

    def _is_indexed(self, release: Release) -> bool:
        """Whether the stage has something to say: what is derived has its index inside, what has no ``stream`` has
        none. Who asks for just this stage is told."""
        settings = self.session.image(release.image).stream
        return self.wanted[-1] == "index" or (settings is not None and not settings.derives)

    def _is_advised(self, release: Release) -> bool:
        """Whether a policy of its channels asks what is inside, or somebody asks for just that."""
        from registry_pipelines.chain.channels import policies_of

        policies = (
            self.session.named_policy(name) for name in policies_of(self.session, self.session.image(release.image))
        )
        return self.wanted[-1] == "advice" or any(policy.image_advice.asks for policy in policies)

    def _is_recorded(self, release: Release) -> bool:
        """Whether the stage has something to say: the image has ``stream.record``, nodes record, or somebody asks for
        just that."""
        settings, by_nodes = self.session.image(release.image).stream, self.session.config.node.record is not None
        return self.wanted[-1] == "record" or by_nodes or (settings is not None and settings.record is not None)

    def _copies(self, release: Release, stopped: str) -> None:
        from registry_pipelines.chain.channels import reached
        from registry_pipelines.chain.mirror_release import mirror_release

        image, session = self.session.image(release.image), self.session
        mirrors = [name for name, mirror in session.config.mirrors.items() if image.name in mirror.images]
        names = [f"replicate:{each}" for each in image.targets] if "replicate" in self.wanted else []
        names += [f"mirror:{each}" for each in mirrors] if "mirror" in self.wanted else []
        elsewhere: dict[str, str] = {}
        if len(image.order) > 1 and names and not stopped:
            elsewhere = self._elsewhere(image, reached(session, release))
        targets = [name for name in image.targets if f"replicate:{name}" not in elsewhere]
        copied = self._replicas(release, targets) if names and targets and not stopped else {}
        for name in names:
            stage, _, place = name.partition(":")
            if stopped or name in elsewhere:
                self._skip(release, name, stopped or elsewhere[name])
            elif stage == "replicate":
                self._run(name, release.key, partial(_raised, copied[place]), release)
            else:
                self._run(name, release.key, partial(mirror_release, session, release, place), release)

    def _elsewhere(self, image: Image, there: Sequence[Channel]) -> dict[str, str]:
        """Copies that are for channels which the release did not come to, and why they are not made."""
        from registry_pipelines.chain.channels import going_to

        targets = {f"replicate:{name}": going_to(image.order, name) for name in image.targets}
        mirrors = [name for name, mirror in self.session.config.mirrors.items() if image.name in mirror.images]
        wanted = targets | {f"mirror:{name}": [image.order[-1]] for name in mirrors}
        return {
            name: f"for {' or '.join(each.name for each in channels)}"
            for name, channels in wanted.items()
            if not any(each in there for each in channels)
        }

    def _replicas(self, release: Release, targets: Sequence[str]) -> Mapping[str, StageResult | RegistryPipelinesError]:
        """All targets in one plan: what leaves the source leaves it once."""
        from registry_pipelines.chain import replicate

        try:
            return replicate.replicate_to(self.session, release, targets)
        except RegistryPipelinesError as error:
            return dict.fromkeys(targets, error)

    def _promoted(self, release: Release, tries: int = MOST_PROMOTIONS) -> StageResult:
        """The gate reads what it decides by from the registry now, whatever the stages before it have read."""
        from registry_pipelines.chain import promote

        try:
            channel, until = self.shipment.channel, self.wanted[-1]
            return promote.promote(self.session.remembering(), release, channel=channel, until=until)
        except PromotionHeld:
            raise
        except PromotionDenied:
            if tries == 1:
                raise
            verdict = promote.judge(self.session.remembering(), release)
            if not verdict.ok or not verdict.changed:
                raise
        return self._promoted(release, tries - 1)

    def _run(
        self, name: str, subject: str, act: Callable[[], StageResult], release: Release | None = None
    ) -> StageResult:
        """One step, with what became of it. A result that is not ok is a denial where a question was asked."""
        self.session.progress.begin(name)
        try:
            result = act()
            status: Status = result.outcome
            if status == "failed":
                result = replace(result, exit_code=result.exit_code or ContentError.exit_code)
        except RegistryPipelinesError as error:
            status = _status_of(error)
            result = _ended(name, subject, status, error)
        self.session.progress.end(name, note=result.action)
        if release is not None and status in ("denied", "held", "failed"):
            result = self._notified(release, result, status)
        self.shipment.steps.append(Step(result, status))
        return result

    def _notified(self, release: Release, result: StageResult, status: _NotShipped) -> StageResult:
        """The result, with what went wrong with the notification. What a verdict before this one said is told no second
        time, and a report over the limits is the verdict's to tell."""
        old = result.stage == "judge" and not result.changed
        if status == "denied" and (old or result.stage == "vulnerabilities"):
            return result
        what, *more = (result.action, *result.reasons) if status != "failed" else (*result.reasons, result.action)[:1]
        problems = self.tell(status, release, stage=result.stage, what=what, reasons=more)
        return replace(result, notes=[*result.notes, *problems])

    def _skip(self, release: Release, name: str, why: str) -> None:
        result = StageResult(stage=name, subject=release.key, action=f"not run: {why}", ok=False)
        self.shipment.steps.append(Step(result, "skipped"))


def _raised(outcome: StageResult | RegistryPipelinesError) -> StageResult:
    if isinstance(outcome, RegistryPipelinesError):
        raise outcome
    return outcome


def _status_of(error: RegistryPipelinesError) -> _NotShipped:
    if isinstance(error, PromotionHeld):
        return "held"
    return "denied" if isinstance(error, EvidenceError) else "failed"


def _ended(name: str, subject: str, status: Status, error: RegistryPipelinesError) -> StageResult:
    """The result of a stage that ended with an error."""
    denied = error if isinstance(error, PromotionDenied) else None
    held = error.state if isinstance(error, PromotionHeld) else ""
    return StageResult(
        stage=name,
        subject=subject,
        action=held_text(held) if held else status,
        reasons=denied.reasons if denied else [str(error)],
        next_steps=denied.next_steps if denied else (),
        ok=False,
        exit_code=error.exit_code,
    )
