"""The first configuration of somebody: few answers, and a file that says what each line is for and what may follow."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath
from textwrap import indent
from typing import Literal

import yaml

from registry_pipelines.config.model import VERSION
from registry_pipelines.settings import HOST, PREFIX, REPOSITORY

EMBEDDED = "embedded"
"""What stands for a registry that this program serves, where no host is named."""

FIRST_VERSION = "v0.1.0"
DOCKERFILE = "Dockerfile"


@dataclass(frozen=True)
class Spot:
    """A registry, and what is below it. host: empty for one that is served here. name: in the configuration."""

    name: str
    host: str
    path: str = ""

    @classmethod
    def read(cls, text: str, *, name: str) -> Spot:
        """``embedded`` or a host, with a path or without. Raises ValueError with a sentence for people."""
        host, _, path = text.strip().removeprefix("https://").rstrip("/").partition("/")
        if host == EMBEDDED:
            return cls(name, "", PREFIX.check(path))
        return cls(_name_of(HOST.check(host), name), host, PREFIX.check(path))


def _name_of(host: str, otherwise: str) -> str:
    """The first word of a host that is no address: ``ghcr`` for ``ghcr.io``."""
    word = re.sub(r"[^a-z0-9_-]", "", host.partition(":")[0].partition(".")[0].lower())
    return word if word[:1].isalpha() and len(word) <= 40 else otherwise


@dataclass(frozen=True)
class Answers:
    """What a person said. requirements: none where the image is pushed by somebody else; requirements_file or
    dockerfile instead of them, the latter a folder with one, or the file itself, below the configuration's folder.
    target: where releases must be, too. ports: for registries that are served here."""

    source: Spot
    repository: str
    requirements: tuple[str, ...] = ()
    requirements_file: str = ""
    dockerfile: str = ""
    target: Spot | None = None
    promote: Literal["manual", "auto"] = "manual"
    ports: tuple[int, int] = (5500, 5501)

    def __post_init__(self) -> None:
        REPOSITORY.check(self.repository)
        if self.target and self.target.host == self.source.host and self.source.host and not self.target.path:
            raise ValueError(
                f"{self.target.host} is the source already; put a prefix behind it: {self.target.host}/copies"
            )

    @property
    def built(self) -> bool:
        """Whether this program makes the image."""
        return bool(self.requirements or self.requirements_file or self.dockerfile)

    @property
    def image(self) -> str:
        """The image's name: the last part of its repository."""
        name = re.sub(r"[^a-z0-9_-]", "-", self.repository.rpartition("/")[2])
        return name[:63]

    @property
    def registries(self) -> dict[str, Spot]:
        """By name; two of one host are one."""
        spots = {self.source.name: self.source}
        if self.target is not None:
            spots.setdefault(self.target_registry, self.target)
        return spots

    @property
    def target_registry(self) -> str:
        """The name of the target's registry: the source's where it is the same host."""
        if self.target is None:
            return ""
        if self.target.host and self.target.host == self.source.host:
            return self.source.name
        return self.target.name if self.target.name != self.source.name else f"{self.target.name}-2"


def starter_file(answers: Answers) -> str:
    """A configuration for :func:`~registry_pipelines.config.load`, with comments."""
    registries = "\n".join(_registry(name, spot, answers) for name, spot in answers.registries.items())
    return f"""\
# Registry Pipelines: what is built or pushed, what it must show, where it goes.
# `registry-pipelines config check` says what is wrong with this file, docs/configuration.md has every field.
version: {VERSION}

# Keys, advisories, journals and the state of Dagster. It holds the private key: keep a copy elsewhere,
# and none in version control.
state: .registry-pipelines

registries:
{indent(registries, "  ")}

images:
  {_plain(answers.image)}:
    registry: {_plain(answers.source.name)}
    repository: {_plain(answers.repository)}
    # Tags that are releases; unless told, those that read as a version (v1.2.3). Others are never looked at.
    # tags: ["v*"]
    # The tag that an allowed release gets. It moves by promotion alone; a version tag never moves.
    channel: prod
    # manual: an allowed release waits for a person (`promote`, or the UI). auto: it goes by itself.
    promote: {answers.promote}
    # Nodes that can start an image before they have it whole want an index; {{}} makes one beside each release.
    # stream: {{}}
{indent(_targets(answers), "    ")}
{indent(_build(answers), "    ")}

{_target_section(answers)}
{_policy(answers)}
# The key that signs; its public half (.pub, beside it) is what is believed. A password is written as ${{VARIABLE}}.
signing:
  key: .registry-pipelines/keys/signing.key

# Who is told of a release that does not ship.
# notify:
#   webhook: ${{WEBHOOK}}

# What may go again, once nothing needs it; `registry-pipelines collect plan` shows it and deletes nothing.
# retention:
#   - {{registry: {_plain(answers.source.name)}, repositories: ["*"], keep_newest: 20, keep_days: 90}}

# Nothing looks for pushes until a person starts the sensor in the UI (Automation), or with this. Schedules are on.
# sensors: {{running: true}}
"""


def _registry(name: str, spot: Spot, answers: Answers) -> str:
    if not spot.host:
        port = answers.ports[0 if name == answers.source.name else 1]
        why = "# Served by this program, from the state folder: for a try, or where there is no other."
        return f"{why}\n{_plain(name)}: {{kind: embedded, port: {port}}}"
    return (
        f"# Log in once: `registry-pipelines login {name}`; or write username and password: ${{VARIABLE}} here.\n"
        "# With a certificate of an authority of your own: `ca_file: ca.pem`. Plain HTTP: `plain_http: true`, as on\n"
        "# loopback unless told.\n"
        f'{_plain(name)}: {{kind: distribution, host: "{spot.host}"}}'
    )


def _targets(answers: Answers) -> str:
    if answers.target is None:
        return "# Where every promoted release must be, too; see `targets` below.\n# targets: [elsewhere]"
    return "# Where every promoted release must be, too.\ntargets: [elsewhere]"


def _target_section(answers: Answers) -> str:
    if answers.target is None:
        example = "# targets:\n#   elsewhere: {registry: NAME, prefix: copies}"
        return f"# A registry that promoted releases must reach; it stands in `registries`, too.\n{example}\n"
    prefix = f", prefix: {_plain(answers.target.path)}" if answers.target.path else ""
    return f"targets:\n  elsewhere: {{registry: {_plain(answers.target_registry)}{prefix}}}\n"


_RECHUNK = "# Its layers made anew, one a package, so that a release moves only what changed:\n# rechunk: {}"


def _build(answers: Answers) -> str:
    if answers.dockerfile:
        return (
            "# The version is the release's tag. It never moves: count it up when anything in the context changes.\n"
            "# Docker with buildx, BuildKit or Buildah runs it; the context is the folder whose files it may copy.\n"
            f"dockerfile: {{version: {FIRST_VERSION}, {_context(answers.dockerfile)}}}\n{_RECHUNK}"
        )
    if not answers.built:
        return (
            "# Whoever builds it pushes it; with a `build` section it is made here, of wheels and a folder; with this\n"
            "# one of a Dockerfile, by BuildKit or Buildah.\n"
            f"# dockerfile: {{version: {FIRST_VERSION}, context: .}}\n{_RECHUNK}"
        )
    if answers.requirements_file:
        wanted = f"requirements_file: {_text(answers.requirements_file)}"
    else:
        wanted = f"requirements: [{', '.join(map(_text, answers.requirements))}]"
    return f"""\
build:
  # The release's tag. It never moves: count it up when anything below changes.
  version: {FIRST_VERSION}
  # A Linux root with the running Python; or an image, such as docker.io/library/python:3.12-slim.
  base: python
  {wanted}
  # A folder whose files become /app, and what a container starts.
  # application: app
  # entrypoint: [/usr/local/bin/python3, /app/main.py]"""


def _context(dockerfile: str) -> str:
    path = PurePath(dockerfile)
    if not is_dockerfile(dockerfile):
        return f"context: {_text(dockerfile)}"
    context = f"context: {_text(str(path.parent))}"
    return context if path.name == DOCKERFILE else f"{context}, file: {_text(dockerfile)}"


def is_dockerfile(name: str) -> bool:
    """Whether a path is called as files are, not folders: ``Dockerfile``, ``Dockerfile.gpu``, ``gpu.Dockerfile``."""
    return DOCKERFILE in PurePath(name).name.split(".")


def _policy(answers: Answers) -> str:
    if answers.dockerfile:
        return """\
# What a release must show before it ships. This is the default, which also wants no critical or high finding, and
# advisories of the last seven days.
policies:
  default:
    required: [provenance, sbom, vulnerabilities, signature]
"""
    if answers.built:
        return """\
# What a release must show before it ships. This is the default: provenance, SBOM, report and signature, no critical or
# high finding, advisories of the last seven days.
# policies:
#   default: {limits: {medium: 20}}
"""
    return """\
# What a release must show before it ships: as the default, without provenance, which only its builder could sign.
policies:
  default:
    required: [sbom, vulnerabilities, signature]
"""


def _plain(name: str) -> str:
    """A name of letters, digits and signs as it is, where YAML does not take it for a number or ``no``."""
    return name if yaml.safe_load(name) == name else _text(name)


def _text(value: str) -> str:
    """A YAML string between quotes. ``${`` would be a variable."""
    return str(yaml.safe_dump(value.replace("${", "$${"), default_style='"', width=10**9, allow_unicode=True)).strip()
