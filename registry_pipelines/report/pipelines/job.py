"""What the pipeline of one image does, in the words of no CI system."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from registry_pipelines.report.pipelines.settings import Pipelines


@dataclass(frozen=True, kw_only=True)
class Job:
    """One image's pipeline. configuration: its file from the repository's root. paths: patterns from there, of what the
    image is made of. package: what pip installs. needs_engine: whether it is built from a Dockerfile. variables: what
    the configuration reads that is no secret."""

    image: str
    configuration: str
    paths: Sequence[str]
    package: str
    settings: Pipelines
    needs_engine: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def ship(self) -> str:
        """The command that does the work; run again it does the rest."""
        words = (
            "registry-pipelines",
            "ship",
            self.image,
            "--until",
            self.settings.until,
            "--config",
            self.configuration,
        )
        return shlex.join(words)

    @property
    def minutes(self) -> int:
        """The time limit."""
        return max(1, round(self.settings.time_limit.total_seconds() / 60))


GIT_VERSION = "TZ=UTC git show -s --format=%cd --date=format-local:%Y.%m.%d-%H%M%S"
"""The commit's own time, so that a pipeline that is run again makes the same version."""


def version_script(tag: str, variable: str) -> list[str]:
    """Lines of a POSIX shell that set ``version``: that of the git tag, or the commit's time and name. tag: the shell
    variable with the tag's name, empty on a branch."""
    return [
        f'version="${{{tag}}}"',
        f'if [ -z "$version" ]; then version="$({GIT_VERSION})-g$(git rev-parse --short=12 HEAD)"; fi',
        f'export {variable}="$version"',
    ]


BRANCH_VERSION = "2026.11.29-201500-g0123456789ab"
"""What such a version looks like; held against the image's tags."""


def quoted(text: str) -> str:
    """A double-quoted scalar of YAML, whatever is in it: of ASCII as JSON writes it, of the rest by YAML's own escape
    (YAML 1.2, sections 5.7 and 7.3.1), for JSON's pairs of surrogates are two characters there."""
    return '"' + "".join(json.dumps(each)[1:-1] if each < "\x7f" else f"\\U{ord(each):08x}" for each in text) + '"'


def quoted_list(values: Sequence[str]) -> str:
    """A flow sequence of YAML."""
    return f"[{', '.join(map(quoted, values))}]"


def glob_expression(pattern: str) -> str:
    """A pattern with ``*`` as a regular expression of the whole text; RE2's, which all CI systems take."""
    return "^" + ".*".join(_escaped(part) for part in pattern.split("*")) + "$"


def path_expression(pattern: str) -> str:
    """The same of a path: ``**`` is any folders, ``*`` none of them."""
    return "^" + ".*".join("[^/]*".join(map(_escaped, part.split("*"))) for part in pattern.split("**")) + "$"


def _escaped(text: str) -> str:
    return "".join(each if each.isalnum() or each in "_/-" else f"\\{each}" for each in text)


__all__ = [
    "BRANCH_VERSION",
    "Job",
    "glob_expression",
    "path_expression",
    "quoted",
    "quoted_list",
    "version_script",
]
