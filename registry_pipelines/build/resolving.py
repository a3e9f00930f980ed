"""Requirements to pinned wheels, by pip's own resolver and with the user's own pip settings.

``pip install --dry-run --report`` answers which files would be installed, with their hashes; ``pip download`` fetches
those that are not in the store yet, hash-checked. Indexes, credentials, proxies and certificates are pip's business;
its HTTP cache asks an index only whether a page changed.
Trap: pip 23 takes ``--platform`` only together with ``--target``, even for a dry run.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from registry_pipelines.build.builder import BuildSpec, LockedWheel
from registry_pipelines.build.cache import BuildCache
from registry_pipelines.build.pip_process import NOTHING_READ, Fetched, pip_command, read_statuses
from registry_pipelines.build.pip_question import Question
from registry_pipelines.build.requirement_lines import redacted, source_options
from registry_pipelines.build.target import WheelTarget
from registry_pipelines.build.wheel_store import SCRATCH, WheelStore
from registry_pipelines.errors import (
    DiskFull,
    LocalError,
    RegistryPipelinesError,
    RequirementsInvalid,
    ToolMissing,
    Unavailable,
)
from registry_pipelines.oci.files import disk_errors
from registry_pipelines.threads import Pool, run_child

if TYPE_CHECKING:  # builds without an index of the configuration load none of it
    from registry_pipelines.build.packages.sources import Sources

PIP_TIMEOUT_S = 3600
"""Downloading a CUDA stack of 5 GB over a slow line."""

MAX_REPORT_BYTES = 64 * 1024 * 1024
"""pip's report repeats the metadata of every package; 300 packages give about 5 MB."""

DOWNLOADS = 4
"""Wheels that are fetched at a time from the indexes of a configuration; one large wheel fills a usual line."""

STRONG_HASHES = ("sha256", "sha512", "sha384")
"""What pip takes for ``--hash``; an index that gives md5 alone gives nothing to check."""


@dataclass(frozen=True)
class StoredWheel:
    """A pinned wheel and where its file is kept."""

    locked: LockedWheel
    path: Path
    notes: tuple[str, ...] = ()
    """What a reader of the build should know of it: yanked, taken without a hash, of another content elsewhere."""


Look = Callable[[StoredWheel], object]

Choice = dict[str, Any]
"""One package of pip's answer: ``name``, ``version``, ``filename``, ``sha256`` (empty: not known yet), ``url``,
``hash`` (algorithm and digits of the best that its index gives), ``notes``."""


def resolve(
    spec: BuildSpec,
    target: WheelTarget,
    *,
    store: WheelStore,
    cache: BuildCache,
    look: Look | None = None,
    fetched: Callable[[int], object] = lambda _: None,
    packages: Sources | None = None,
) -> list[StoredWheel]:
    """The wheels the requirements mean for a target, sorted by name, all in the store.

    look: called, from any thread, with each wheel of a folder as soon as it is in the store and others are still read.
    fetched: called, from another thread, with so many more bytes of wheels that pip has brought.
    packages: the indexes that wheels come from, and from nowhere else; pip's own settings without. What they raise is
    in their own words (``Sources``).
    Raises RequirementsInvalid (pip's own words, or a wheel that does not fit the target), ToolMissing without pip,
    Unavailable where an index does not answer.
    pip is asked every time, unless the requirements pin every package of its last answer, or its only sources are local
    folders that hold what they held then.
    """
    if not spec.requirements and not spec.requirements_file:
        return []
    with disk_errors(store.root):
        store.root.mkdir(parents=True, exist_ok=True)
    store.sweep()
    with disk_errors(store.root), tempfile.TemporaryDirectory(dir=store.root, prefix=SCRATCH) as name:
        question = Question(spec, target, Path(name), packages.identity if packages else None)
        seen = Fetched(question.folder / "tmp", fetched)
        held = question.folders_hold  # before pip looks: what changes while it works is seen the next time
        known = cache.note(question.key)
        choices = _reusable(known, question, store)
        if choices is not None and packages is not None and not _still_given(choices, packages):
            choices = None
        if choices is None:
            if packages is not None:
                choices = _through_indexes(question, packages, store, look, seen)
            else:
                with store.reading_ahead(question.likely_wheels()):
                    choices = _ask(question, seen)
                target.check(choice["filename"] for choice in choices)
                choices = _fetch(question, choices, store, look, seen)
            cache.remember_note(question.key, {"items": choices, "folders": held})
    return [_stored(choice, store) for choice in sorted(choices, key=lambda choice: str(choice["name"]))]


def _through_indexes(
    question: Question, packages: Sources, store: WheelStore, look: Look | None, seen: Fetched
) -> list[Choice]:
    """pip's answer where it sees nothing but the indexes, each with what its index says of it; all in the store."""
    from registry_pipelines.build.packages.front import Front

    with Front(packages, store) as front:
        question.front = front
        try:
            choices = _ask(question, seen)
        except RegistryPipelinesError:
            front.raise_failure()  # says why pip found nothing
            raise
        front.raise_failure()
        question.check(choice["filename"] for choice in choices)

        def take(choice: Choice) -> None:
            named = front.named(choice["url"])
            if named is None:
                choice["sha256"] = _link(choice, store, question)
            else:
                choice["sha256"], _ = packages.take(*named, store, seen.more)
                about, notes = packages.judge(*named, choice["sha256"])
                choice["origin"], choice["url"] = about, ""
                choice["notes"] += notes
            if look:
                look(_stored(choice, store))

        with Pool(DOWNLOADS, "packages") as pool:
            list(pool.map(take, choices))
    return choices


def _still_given(choices: Sequence[Choice], packages: Sources) -> bool:
    """Whether indexes that answer still give these wheels: a project may be in quarantine by now, or have been taken
    from a stranger on a day on which the private index denied it."""

    def given(choice: Choice) -> bool:
        project = str(canonicalize_name(choice["filename"].partition("-")[0]))
        about = choice.get("origin")
        return about is None or packages.still(project, choice["filename"], choice["sha256"], about)

    with Pool(DOWNLOADS, "packages") as pool:
        return all(pool.map(given, choices))


def _ask(question: Question, seen: Fetched) -> list[Choice]:
    report = question.folder / "report.json"
    target = ["--target", str(question.folder / "target"), *question.target] if question.target else []
    _pip(
        [
            *("install", "--dry-run", "--ignore-installed", "--quiet", "--only-binary", ":all:"),
            *("--report", str(report), *target, *question.sources(), *question.arguments()),
        ],
        *(question, seen),
        statuses=None if question.front else question.folder / "statuses",
    )
    if report.stat().st_size > MAX_REPORT_BYTES:
        raise RequirementsInvalid(f"pip's report is larger than {MAX_REPORT_BYTES} bytes", where=question.where)
    answer = json.loads(report.read_bytes())
    choices = [_read_choice(entry, question) for entry in answer["install"]]
    if question.front is None:
        _add_status(choices, read_statuses(question.folder / "statuses"), question.where)
    return choices


def _add_status(choices: Sequence[Choice], statuses: Mapping[str, tuple[str, str]], where: str) -> None:
    """Notes of what indexes say of projects that come from there. Raises RequirementsInvalid for one in quarantine."""
    for choice in choices:
        if urlsplit(choice["url"]).scheme == "file":
            continue  # somebody here chose this very file
        if NOTHING_READ in statuses:
            choice["notes"].append("this pip does not show whether its index calls the project archived or quarantined")
        status, reason = statuses.get(choice["name"], ("", ""))
        said = f"{status}: {reason[:200]}" if reason else status
        if status == "quarantined":
            raise RequirementsInvalid(
                f"its index has put {choice['name']} into quarantine ({said}): it may be harmful",
                where=where,
                do="Do without it, or look at the project and name a wheel that you trust in `find_links`",
            )
        if status:
            choice["notes"].append(f"{choice['name']} is {said} at its index")


def _read_choice(entry: dict[str, Any], question: Question) -> Choice:
    info = entry["download_info"]
    filename = unquote(urlsplit(info["url"]).path.rpartition("/")[2])
    name, version = str(canonicalize_name(entry["metadata"]["name"])), str(entry["metadata"]["version"])
    try:
        parse_wheel_filename(filename)
    except (InvalidWheelFilename, InvalidVersion) as error:
        raise RequirementsInvalid(
            f"{name} is not a wheel ({filename})", where=question.where, do="Build a wheel of it first (`pip wheel`)"
        ) from error
    hashes = info.get("archive_info", {}).get("hashes") or {}
    sha256 = hashes.get("sha256", "")
    strong = next((f"{kind}:{hashes[kind]}" for kind in STRONG_HASHES if hashes.get(kind)), "")
    notes = [f"{name} {version} was yanked from its index"] if entry.get("is_yanked") else []
    return {
        "name": name,
        "version": version,
        "filename": filename,
        "sha256": sha256 if re.fullmatch(r"[0-9a-f]{64}", sha256) else "",
        "url": info["url"],
        "hash": strong,
        "notes": notes,
    }


def _fetch(
    question: Question, choices: list[Choice], store: WheelStore, look: Look | None, seen: Fetched
) -> list[Choice]:
    """Have the files in the store and every item's sha256. Local files are linked; others are downloaded by the exact
    addresses of the report, with the options of the requirements that name indexes, for their credentials."""
    local = [choice for choice in choices if urlsplit(choice["url"]).scheme == "file"]

    def take(choice: Choice) -> None:
        choice["sha256"] = _link(choice, store, question)
        if look:
            look(_stored(choice, store))

    with Pool(os.cpu_count() or 1, "link") as pool:
        list(pool.map(take, local))
    remote = [choice for choice in choices if choice not in local]
    _download(
        question,
        [choice for choice in remote if choice["sha256"] and not store.find(choice["sha256"], choice["filename"])],
        *(store, seen),
    )
    _download(question, [choice for choice in remote if not choice["sha256"] and choice["hash"]], store, seen)
    _download(question, [choice for choice in remote if not choice["hash"]], store, seen)
    for choice in choices:
        other = question.other_content(choice["filename"], choice["sha256"], store)
        if other:
            choice["notes"].append(f"{choice['filename']} in {other} has another content than the one taken")
    return choices


def _link(choice: Choice, store: WheelStore, question: Question) -> str:
    path = Path(unquote(urlsplit(choice["url"]).path)).resolve()
    try:
        sha256 = store.link(path, choice["filename"])
    except OSError as error:
        raise RequirementsInvalid(
            f"the wheel cannot be read: {error.strerror or error}", where=str(path), do="Repair the folder of wheels"
        ) from error
    if choice["sha256"] not in ("", sha256):
        raise RequirementsInvalid(
            f"its sha256 is {sha256}, its index says {choice['sha256']}", where=str(path), do="Fetch the file anew"
        )
    return sha256


def _download(question: Question, choices: Sequence[Choice], store: WheelStore, seen: Fetched) -> None:
    if not choices:
        return
    checked = bool(choices[0]["hash"])
    pins = [f"{choice['name']} @ {choice['url']}" + _hash_option(choice) for choice in choices]
    downloads = Path(tempfile.mkdtemp(dir=question.folder))
    wanted = downloads.with_suffix(".txt")
    wanted.touch(mode=0o600)
    wanted.write_text("\n".join([*source_options(question.lines), *pins]) + "\n")
    _pip(
        [
            *("download", "--quiet", "--no-deps", *(["--require-hashes"] if checked else [])),
            *("--only-binary", ":all:", "-d", str(downloads)),
            *(*question.target, *question.sources(), "-r", str(wanted)),
        ],
        *(question, seen),
    )
    for choice in choices:
        path = downloads / choice["filename"]
        if not path.is_file():
            raise RequirementsInvalid(
                f"pip resolved {choice['filename']} and did not download it",
                where=question.where,
                do="Look whether an index changes under way, or run the build again",
            )
        seen.is_whole(choice["filename"], path.stat().st_size)
        choice["sha256"] = choice["sha256"] or store.sha256(path)
        if not checked:
            choice["notes"].append(f"{choice['filename']} was taken as it came: its index gives no hash of it to check")
        store.take(path, choice["sha256"])


def _hash_option(choice: Choice) -> str:
    return f" --hash={choice['hash']}" if choice["hash"] else ""


_UNANSWERED = re.compile(r"Retrying \(Retry\(total=0,.* after connection broken by '(.*)': /")
"""What pip writes at its last try, in one line; then it goes on as if that index had nothing."""


def _pip(arguments: Sequence[str], question: Question, seen: Fetched, *, statuses: Path | None = None) -> None:
    command = pip_command(arguments, question.markers, statuses)
    try:
        with seen.looking():
            fronted = question.front.settings if question.front else {}
            environment = {**question.environment(), **fronted, "TMPDIR": str(seen.folder)}
            done = run_child(command, env=environment, timeout_s=PIP_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LocalError(f"pip did not finish: {error}", where=question.where) from error
    if done.returncode == 0:
        return
    output = redacted((done.stderr or done.stdout)[-4000:].decode(errors="replace")).strip()
    output = question.front.redacted(output) if question.front else output
    if "No space left on device" in output:
        raise DiskFull("pip found no space left", where=question.where, do="Free space or choose another state folder")
    if re.search("No module named '?pip", output):
        raise ToolMissing("pip is not installed", where=sys.executable, do="Run `python -m ensurepip`")
    if unanswered := _UNANSWERED.search(output):
        raise Unavailable(
            f"an index did not answer pip: {unanswered[1]}",
            where=question.where,
            do="Check the network, and pip's index",
        )
    raise RequirementsInvalid(
        f"pip found no set of wheels: {output}",
        where=question.where,
        do=question.advice,
    )


def _reusable(known: Any, question: Question, store: WheelStore) -> list[Choice] | None:
    """The last answer, when another one cannot be given: each of its packages is pinned, or every source is a local
    folder that holds what it held; and all files are there, and no local folder has another under such a name."""
    if not isinstance(known, dict):
        return None
    choices: list[Choice] = known["items"]
    held = question.folders_hold
    same = held is not None and known["folders"] == held
    if not same and not _pinned(choices, question):
        return None
    if any(not choice["sha256"] or store.find(choice["sha256"], choice["filename"]) is None for choice in choices):
        return None
    if any(question.other_content(choice["filename"], choice["sha256"], store) for choice in choices):
        return None  # a wheel was built anew under its old version
    return choices


def _pinned(choices: Sequence[Choice], question: Question) -> bool:
    """Whether requirements name each of the packages with exactly its version, and nothing else is left open."""
    pinned: dict[str, str] = {}
    for line in question.lines:
        if line.constraint or (line.option[0] and not line.is_nested):
            continue
        pin = line.pin()
        if pin is None:
            return False
        pinned[pin[0]] = pin[1]
    try:
        return all(
            choice["name"] in pinned and Version(pinned[choice["name"]]) == Version(choice["version"])
            for choice in choices
        )
    except InvalidVersion:
        return False


def _stored(choice: Choice, store: WheelStore) -> StoredWheel:
    path = store.root / choice["sha256"] / choice["filename"]
    locked = LockedWheel(
        name=choice["name"],
        version=choice["version"],
        filename=choice["filename"],
        sha256=choice["sha256"],
        size=path.stat().st_size,
        origin=tuple(sorted(choice.get("origin", {}).items())),
    )
    return StoredWheel(locked, path, tuple(choice["notes"]))
