"""Every error of the library, in one tree.

RegistryPipelinesError
  InputError                  what the caller gave is wrong                     exit 8
    ReferenceInvalid
    DigestInvalid
    PlatformInvalid
    ConfigInvalid             carries every problem with its line
    LifecycleInvalid          a cloud's cleanup policy; carries every problem with its path
    RequirementsInvalid
    DockerfileInvalid         carries the line
  ContentError                bytes are not what they claim to be               exit 6
    DigestMismatch
    ManifestInvalid
      ManifestOutdated        Docker's schema 1
    ManifestTooLarge
    LayerInvalid              truncated, unsafe path, bomb, not a tar
      LayerUnlisted           whole, with an entry that no index can list
    IndexInvalid              a streaming index is damaged, or belongs to another layer
    WheelInvalid
    PathConflict              two wheels bring one path with different content
    LibraryMissing            a program of an image needs a library that nothing brings
    RecordingInvalid          a recording of a start
    ClosureIncomplete         a referenced piece is missing, or manifests form a loop
  RegistryError               a registry answered, or failed to answer
    NotFound                  tag, manifest, blob or repository                 exit 4
    Unauthorized              credentials missing or wrong                      exit 5
    Forbidden                 credentials valid, action refused                 exit 5
    Unsupported               the registry does not offer the operation         exit 1
    Refused                   the registry refuses this content                 exit 6
      TagImmutable
      RegistryFull            no space is left at the registry
      OverQuota               what an account, project or repository may hold is used up
    RedirectRefused           it sent us where we do not go                     exit 1
    Unavailable               network, time-out, 5xx; temporary                 exit 7
      RateLimited             429; temporary; knows when to come back
        QuotaSpent            the requests given for some hours are used up; temporary
      Stalled                 no byte moved for too long; temporary
      TlsFailed               certificate not trusted, or no TLS there; not temporary
  EvidenceError               a gate cannot pass                                exit 3
    EvidenceMissing
    SignatureInvalid
      KeyRefused              made by a key that is revoked, or was believed until a day that is over
    PromotionDenied           carries the verdict's reasons
      PromotionHeld           the verdict is allow; a recording or a measurement is not there yet
  AdvisoriesError             the advisory store cannot be used                 exit 8
    AdvisoriesMissing
    AdvisoriesTooOld
  LocalError                  this machine cannot do it                         exit 9
    DiskFull
    PortTaken
    StateLocked
    StateTooNew               a newer build wrote it
    ToolMissing
  StartFailed                 a program that was to be recorded or measured     exit 1
  BuildFailed                 a step of a Dockerfile failed, or took too long   exit 1

Exit codes are the command line's; 0 is success, 1 an unexpected failure, 2 wrong usage (click). Where many things are
done, see :func:`exit_code_of_many`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


class RegistryPipelinesError(Exception):
    """Base of all errors.

    what: what failed, in one sentence without full stop. where: registry, repository, digest, file and line; never a
    secret (URLs pass through :func:`registry_pipelines.redacting.redact_url` first). do: what the reader
    should do next.
    """

    exit_code = 1
    temporary = False

    def __init__(self, what: str, *, where: str = "", do: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.do = do

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        if not self.do:
            return text
        if "\n" in self.what:
            return f"{text}\n{self.do}"
        return f"{text}{' ' if text.endswith('?') else '. '}{self.do}"

    def diagnostics(self) -> dict[str, str]:
        """The same facts as a plain mapping, for JSON output and Dagster metadata."""
        return {"error": type(self).__name__, "what": self.what, "where": self.where, "do": self.do}


class InputError(RegistryPipelinesError):
    """What the caller gave is wrong; nothing was done."""

    exit_code = 8


class ReferenceInvalid(InputError):
    """An image reference does not follow the distribution grammar."""


class DigestInvalid(InputError):
    """A digest is not ``sha256:<64 hex>`` or ``sha512:<128 hex>``."""


class PlatformInvalid(InputError):
    """A platform is not ``os/architecture[/variant]``."""


class ConfigInvalid(InputError):
    """The configuration has problems; all of them are listed.

    problems: one line each, ``file:line: path: message``. do: where the file is not this project's own.
    """

    def __init__(self, problems: Sequence[str], *, where: str = "", do: str = "") -> None:
        self.problems = list(problems)
        super().__init__(
            f"problems in the configuration ({len(self.problems)}):\n  " + "\n  ".join(self.problems),
            where=where,
            do=do or "Correct them; `registry-pipelines config schema` prints what is allowed",
        )


class LifecycleInvalid(InputError):
    """A lifecycle or cleanup policy is not what its cloud takes; all problems are listed.

    problems: one line each, ``rules[2].selection.countType: message``. instead: what to write, where that is known.
    """

    def __init__(self, problems: Sequence[str], *, where: str = "", instead: Sequence[str] = ()) -> None:
        self.problems = list(problems)
        super().__init__(
            f"problems in the policy ({len(self.problems)}):\n  " + "\n  ".join(self.problems),
            where=where,
            do="\n  ".join(["Correct them; no cloud was asked", *instead]),
        )


class RequirementsInvalid(InputError):
    """Python requirements cannot be resolved to wheels for the platform."""


class DockerfileInvalid(InputError):
    """A Dockerfile cannot be read, or uses what no engine at hand can do; names the file and the line."""


class ContentError(RegistryPipelinesError):
    """Bytes are not what they claim to be; they were not stored."""

    exit_code = 6


class DigestMismatch(ContentError):
    """Content hashes to another digest than its name says."""


class ManifestInvalid(ContentError):
    """A manifest, index or config is not what its specification asks; names the JSON field."""


class ManifestOutdated(ManifestInvalid):
    """A Docker manifest of schema 1, from before 2016."""


class ManifestTooLarge(ContentError):
    """A manifest is larger than the limit of 4 MiB."""


class LayerInvalid(ContentError):
    """A layer is truncated, not a tar, a decompression bomb, or has a path that leaves its root."""


class LayerUnlisted(LayerInvalid):
    """A layer can be unpacked, and has an entry that no index of its files can list; nodes fetch it whole."""


class IndexInvalid(ContentError):
    """An index of a layer's files (SOCI, eStargz) is damaged, or does not fit the layer."""


class RecordingInvalid(ContentError):
    """A recording of a start is damaged, or names files and pages that no image has."""


class WheelInvalid(ContentError):
    """A wheel's archive or its RECORD does not hold together."""


class PathConflict(ContentError):
    """Two wheels bring the same path with different content; names both."""


class LibraryMissing(ContentError):
    """A program or a Python extension of an image needs a library, or a version of it, that nothing brings."""


class ClosureIncomplete(ContentError):
    """Something a manifest refers to does not exist, or manifests refer to each other in a circle."""


class RegistryError(RegistryPipelinesError):
    """A registry answered with an error, or did not answer.

    status: the HTTP status, 0 when there was none. code: the registry's own error code (``MANIFEST_UNKNOWN``, ...).
    """

    def __init__(self, what: str, *, where: str = "", do: str = "", status: int = 0, code: str = "") -> None:
        super().__init__(what, where=where, do=do)
        self.status = status
        self.code = code


class NotFound(RegistryError):
    """The tag, manifest, blob or repository does not exist there."""

    exit_code = 4


class Unauthorized(RegistryError):
    """Credentials are missing or wrong."""

    exit_code = 5


class Forbidden(RegistryError):
    """The credentials are valid but do not permit the action."""

    exit_code = 5


class Unsupported(RegistryError):
    """The registry does not offer the operation."""


class Refused(RegistryError):
    """The registry refuses this content (size, media type, digest, quota)."""

    exit_code = 6


class TagImmutable(Refused):
    """The tag exists with another digest and may not move."""


class RegistryFull(Refused):
    """No space is left at the registry; trying again does not help until somebody makes some."""


class OverQuota(Refused):
    """What an account, project or repository may hold is used up; other places of the registry may take it."""


class RedirectRefused(RegistryError):
    """The registry sent us to an address that is not gone to: inner networks, plain HTTP after TLS, circles, or with a
    request that cannot be sent a second time."""


class Unavailable(RegistryError):
    """The registry cannot be reached, timed out or answered 5xx; trying again may help.

    retry_after_s: seconds the registry asked to wait, None when it did not say.
    """

    exit_code = 7
    temporary = True
    retry_after_s: float | None = None


class RateLimited(Unavailable):
    """429: too many requests."""

    def __init__(self, what: str, *, where: str = "", do: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(what, where=where, do=do, status=429, code="TOOMANYREQUESTS")
        self.retry_after_s = retry_after_s


class QuotaSpent(RateLimited):
    """The requests that a registry gives for a window of time are used up; other kinds of requests are not affected.

    retry_after_s: seconds until the window ends at the latest.
    """


class Stalled(Unavailable):
    """No byte moved for the no-progress time-out.

    waited_s: how long the answer to the end of an upload, or to a manifest, was waited for; 0 for anything else.
    That has a limit of its own, after which there is no use in another wait as long.
    """

    waited_s: float = 0.0


class TlsFailed(Unavailable):
    """The certificate is not trusted, or one side speaks TLS and the other does not; trying again does not help."""

    temporary = False


class EvidenceError(RegistryPipelinesError):
    """A gate cannot pass; nothing was promoted."""

    exit_code = 3


class EvidenceMissing(EvidenceError):
    """Evidence a policy requires is not there."""


class SignatureInvalid(EvidenceError):
    """A signature does not verify, or covers another digest or predicate."""


class KeyRefused(SignatureInvalid):
    """It verifies, and its key is on the list of revoked keys, or was believed until a day that is over."""


class PromotionDenied(EvidenceError):
    """The verdict is deny. reasons: one sentence each.

    steps: what leads to a pass, as ``promote.documents.Step`` has it; who knows the commands for it calls :meth:`tell`.
    """

    def __init__(
        self, what: str, *, reasons: Sequence[str], steps: Sequence[Any] = (), where: str = "", do: str = ""
    ) -> None:
        self.reasons = list(reasons)
        self.steps = tuple(steps)
        self.next_steps: list[str] = []
        super().__init__(what + "".join(f"\n  - {reason}" for reason in self.reasons), where=where, do=do)

    def tell(self, next_steps: Sequence[str]) -> None:
        """Say what to do, in this order, in place of ``do``; nothing to do leaves that as it is."""
        self.next_steps = list(next_steps)
        if next_steps:
            lines = [f"\n  {number}. {step}" for number, step in enumerate(next_steps, 1)]
            self.do = f"Do this, in this order:{''.join(lines)}"


class PromotionHeld(PromotionDenied):
    """The verdict is allow, and what the policy wants to be there before a channel moves is still to be made.

    state: for what it waits: ``recording``, ``measurement``, ``approval``, ``deployment`` or ``time``.
    """

    def __init__(
        self,
        what: str,
        *,
        state: str,
        reasons: Sequence[str],
        steps: Sequence[Any] = (),
        where: str = "",
        do: str = "",
    ) -> None:
        self.state = state
        super().__init__(what, reasons=reasons, steps=steps, where=where, do=do)


class AdvisoriesError(RegistryPipelinesError):
    """The advisory store cannot be used."""

    exit_code = 8


class AdvisoriesMissing(AdvisoriesError):
    """There is no advisory store, or it cannot be read."""


class AdvisoriesTooOld(AdvisoriesError):
    """The advisories are older than the policy permits."""


class LocalError(RegistryPipelinesError):
    """This machine cannot do what was asked."""

    exit_code = 9


class DiskFull(LocalError):
    """No space is left where content is written; what was half written is removed."""


class PortTaken(LocalError):
    """Another program listens on the port."""


class StateLocked(LocalError):
    """Another process uses the state directory for the same work."""


class StateTooNew(LocalError):
    """What is stored was written by a newer build; nothing of it was touched."""


class StartFailed(RegistryPipelinesError):
    """A program of an image that was to be recorded failed, was not there in time, or wanted more than it may have."""


class BuildFailed(RegistryPipelinesError):
    """A step of a Dockerfile failed, or the build took longer than it may.

    step: as the engine names it, empty where no step is known. line: of the Dockerfile, 0 where nobody knows it.
    last_lines: what the step printed last, without values of secrets.
    """

    def __init__(
        self,
        what: str,
        *,
        step: str = "",
        line: int = 0,
        last_lines: Sequence[str] = (),
        where: str = "",
        do: str = "",
    ) -> None:
        self.step = step
        self.line = line
        self.last_lines = list(last_lines)
        super().__init__(what + "".join(f"\n  | {text}" for text in self.last_lines), where=where, do=do)


class ToolMissing(LocalError):
    """A program or an optional library is not installed."""


def exit_code_of_many(codes: Iterable[int]) -> int:
    """The exit code of many copies: the one that all have, as when no target can be reached; else that of
    :class:`ContentError`, for something is not whole. 0 when there are none. codes: 0 for what went well."""
    distinct = set(codes) or {0}
    return distinct.pop() if len(distinct) == 1 else ContentError.exit_code
