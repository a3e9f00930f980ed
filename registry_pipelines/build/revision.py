"""Where an application folder comes from: its last Git commit, and what Git does not know of it.

What cannot be told is said, never guessed: a shallow clone whose history ends too early, a folder that Git refuses,
packed files that are in no commit. Outside of any repository there is nothing to say.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from registry_pipelines.build.application import application_patterns, packed_paths
from registry_pipelines.build.application_warnings import some_of
from registry_pipelines.build.requirement_lines import redacted
from registry_pipelines.threads import run_child

GIT_TIMEOUT_S = 60

_KEPT = re.compile(r"GIT_CONFIG_(?:GLOBAL|SYSTEM|NOSYSTEM|COUNT|KEY_\d+|VALUE_\d+)\Z")
"""What a caller may tell Git by the environment: settings, such as ``safe.directory``. Hooks set ``GIT_DIR``,
``GIT_INDEX_FILE`` and others, which name another repository than the folder's."""

_GITLINK = "160000"


@dataclass(frozen=True, kw_only=True)
class Revision:
    """The last commit that touched a folder."""

    commit: str = ""
    """40 (or 64) hex digits; empty when it cannot be told, and ``warnings`` say why."""
    time: datetime | None = None
    """Committer time, UTC; there is one when there is a commit."""
    dirty: bool = False
    """Whether the packed files are others than those of the commit."""
    remote: str = ""
    """Address of ``origin`` without credentials, empty when there is none."""
    warnings: tuple[str, ...] = ()
    """For people: what Git does not tell, or does not know of the folder."""

    @property
    def rfc3339(self) -> str:
        """``2026-01-31T12:00:00Z``; empty without a commit."""
        return f"{self.time:%Y-%m-%dT%H:%M:%SZ}" if self.time else ""


@dataclass(frozen=True)
class Packing:
    """Which files of a folder an image may hold, where that is not what an application layer takes. paths: files and
    links that are taken, relative to the folder. leaves_out: whether a path that is not there would be."""

    paths: Callable[[], set[str]]
    leaves_out: Callable[[str], bool]


def read_revision(folder: Path, packing: Packing | None = None) -> Revision | None:
    """The folder's revision; None outside of any repository. packing: that of an application unless told.

    The last commit *of the folder* is taken, not HEAD: an image must not change because something else did. Raises
    InputError as ``application_entries`` does.
    """
    if not _stands_in_repository(folder):
        return None
    if shutil.which("git") is None:
        return _untold("the folder is under Git, and no git program is installed here")
    try:
        return _read(folder, packing)
    except _GitError as error:
        hint = (
            "; if you trust it: git config --global --add safe.directory <its path>" if "dubious" in str(error) else ""
        )
        return _untold(f"Git does not answer for the folder: {error}{hint}")
    except OSError as error:
        return _untold(f"the repository cannot be read: {error.strerror}")


def without_credentials(address: str) -> str:
    """A remote's address without user name and password; ``git@host:path`` stays readable."""
    if "://" not in address:
        return re.sub(r"^[^/]*@", "", address)
    try:
        return urlsplit(redacted(address))._replace(query="", fragment="").geturl()
    except ValueError:  # no address at all
        return ""


class _GitError(Exception):
    """Git failed; the message is its own, without credentials."""


def _untold(reason: str, remote: str = "") -> Revision:
    return Revision(remote=remote, warnings=(f"no commit tags and labels: {reason}",))


def _stands_in_repository(folder: Path) -> bool:
    """Git's own search, without Git: it must be told apart from a repository that Git refuses."""
    place = Path(os.path.realpath(folder))
    return any(os.path.lexists(parent / ".git") for parent in (place, *place.parents))


def _read(folder: Path, packing: Packing | None) -> Revision:
    inside, shallow = _git(folder, "rev-parse", "--is-inside-work-tree", "--git-path", "shallow").split("\n", 1)
    if inside != "true":
        return _untold("the folder is no work tree of its repository")
    try:
        remote = without_credentials(_git(folder, "remote", "get-url", "origin").strip())
    except _GitError:
        remote = ""
    try:
        # Plumbing: settings for `git log` (signatures, following renames) must not change the answer.
        last = _git(folder, "rev-list", "-1", "--timestamp", "HEAD", "--", ".")
    except _GitError:
        try:
            _git(folder, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        except _GitError:
            return _untold("the repository has no commit yet", remote)
        raise
    match = re.search(r"^(\d+) ([0-9a-f]{40,64})$", last, re.M)
    if not match:
        return _untold("nothing of the folder is in a commit", remote)
    if match[2] in _ends_of_history(folder / shallow.removesuffix("\n")):
        reason = "the clone is shallow, and the folder's last commit is not in it: fetch the whole history"
        return _untold(f"{reason} (git fetch --unshallow)", remote)
    changes = _changes(folder, packing)
    return Revision(
        commit=match[2],
        time=datetime.fromtimestamp(int(match[1]), UTC),
        dirty=bool(changes),
        remote=remote,
        warnings=tuple(f"no commit tags and no revision label: {change}" for change in changes),
    )


def _ends_of_history(path: Path) -> set[str]:
    """Commits whose parents a shallow clone left out, as its file says: such a one seems to have made every file."""
    return set(path.read_text().split()) if path.is_file() else set()


def _changes(folder: Path, packing: Packing | None) -> list[str]:
    """How the packed files differ from those of the commit, in words; empty when they are the same."""
    packed = packing.paths() if packing else packed_paths(folder)
    leaves_out = packing.leaves_out if packing else application_patterns(folder).leaves_out
    differences = _differences(folder, packed)
    missing = sorted(path for path in differences.missing if not leaves_out(path))
    said = []
    if differences.unknown:
        said.append(f"files are packed that are in no commit: {some_of(differences.unknown)}")
    if differences.changed:
        said.append(f"packed files were changed since the commit: {some_of(differences.changed)}")
    if missing:
        said.append(f"the commit has what the folder has not: {some_of(missing)}")
    return said


@dataclass(frozen=True)
class _Differences:
    unknown: set[str]
    changed: set[str]
    missing: set[str]

    def below(self, prefix: str) -> _Differences:
        return _Differences(
            *({prefix + path for path in paths} for paths in (self.unknown, self.changed, self.missing))
        )


def _differences(folder: Path, packed: set[str]) -> _Differences:
    """Over the packed files of one repository and its submodules; paths relative to the folder."""
    tracked, marked, submodules = _tracked(folder)
    if marked:
        # Files that Git was told not to look at (assume-unchanged, skip-worktree): it looks, in a copy of the index.
        with tempfile.TemporaryDirectory(prefix="git-index-") as place:
            status = _status(folder, _index_without_marks(folder, marked, Path(place)))
    else:
        status = _status(folder, {})
    inside = {path for path in packed if any(path.startswith(name + "/") for name in submodules)}
    differences = _Differences(
        unknown=packed - tracked - inside,
        changed={path for path, state in status.items() if "D" not in state and path in packed | submodules},
        missing={path for path, state in status.items() if "D" in state},
    )
    for name in sorted(submodules):
        below = {path.removeprefix(name + "/") for path in inside if path.startswith(name + "/")}
        if os.path.lexists(folder / name / ".git"):
            inner = _differences(folder / name, below).below(name + "/")
            differences = _Differences(
                differences.unknown | inner.unknown,
                differences.changed | inner.changed,
                differences.missing | inner.missing,
            )
        else:
            differences.unknown.update(f"{name}/{path}" for path in below)
            differences.missing.add(name)
    return differences


def _tracked(folder: Path) -> tuple[set[str], list[str], set[str]]:
    """Files that Git follows below the folder, those marked as not to be looked at, and submodules."""
    tracked: set[str] = set()
    marked: list[str] = []
    submodules: set[str] = set()
    for line in _git(folder, "ls-files", "-v", "--stage", "-z", "--", ".").split("\0"):
        about, tab, path = line.partition("\t")
        if tab:
            tag, mode = about.split(" ")[:2]
            (submodules if mode == _GITLINK else tracked).add(path)
            if tag == "S" or tag.islower():
                marked.append(path)
    return tracked, marked, submodules


def _index_without_marks(folder: Path, marked: list[str], place: Path) -> dict[str, str]:
    index = place / "index"
    shutil.copyfile(folder / _git(folder, "rev-parse", "--git-path", "index").strip(), index)
    environment = {"GIT_INDEX_FILE": str(index)}
    for mark in ("--no-assume-unchanged", "--no-skip-worktree"):
        _git(folder, "update-index", mark, "-z", "--stdin", environment=environment, stdin="\0".join(marked))
    return environment


def _status(folder: Path, environment: dict[str, str]) -> dict[str, str]:
    """Path below the folder to Git's two letters."""
    prefix = _git(folder, "rev-parse", "--show-prefix").removesuffix("\n")
    options = ["--porcelain", "-z", "--untracked-files=no", "--no-renames", "--ignore-submodules=dirty"]
    lines = _git(folder, "status", *options, "--", ".", environment=environment).split("\0")
    return {line[3:].removeprefix(prefix): line[:2] for line in lines if line}


def _git(folder: Path, *arguments: str, environment: dict[str, str] | None = None, stdin: str = "") -> str:
    """What Git prints. Raises _GitError with its words."""
    # fsmonitor and the pager would start programs that the repository names.
    settings = ("core.fsmonitor=false", "core.pager=cat", "core.sparseCheckout=false")
    options = [part for setting in settings for part in ("-c", setting)]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or _KEPT.match(name)}
    inherited |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1"}
    inherited |= {"GIT_NO_REPLACE_OBJECTS": "1", "LC_ALL": "C", "LANGUAGE": "C", **(environment or {})}
    try:
        done = run_child(
            ["git", *options, "-C", str(folder), *arguments],
            input=os.fsencode(stdin),
            timeout_s=GIT_TIMEOUT_S,
            env=inherited,
        )
    except subprocess.TimeoutExpired as error:
        raise _GitError(f"no answer within {GIT_TIMEOUT_S} s") from error
    except OSError as error:
        raise _GitError(f"git cannot be started: {error.strerror}") from error
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines() or [f"status {done.returncode}"]
        raise _GitError(redacted(words[0].removeprefix("fatal: "))[:300])
    return os.fsdecode(done.stdout)
