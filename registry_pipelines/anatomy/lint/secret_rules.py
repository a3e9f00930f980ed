"""Rules about secrets in a Dockerfile: by ARG and ENV, in commands, in what is copied. Values are never repeated."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator

from registry_pipelines.anatomy.lint.stages import Lineage, finding
from registry_pipelines.build.dockerfile.instructions import Instruction
from registry_pipelines.scan.advice.document import Advice
from registry_pipelines.scan.secrets import is_value, secrets_in_text, sounds_secret

_DO = "RUN --mount=type=secret,id={id} ..., which reads /run/secrets/{id} or (`env=NAME`) a variable"
_FILES = re.compile(
    r"(?:\A|/)(?:\.env(?:\.(?!example|sample|template|dist)[\w.-]+)?|\.envrc|id_(?:rsa|dsa|ecdsa|ed25519)|\.netrc|_netrc|\.pypirc"
    r"|\.git-credentials|\.dockercfg|\.pgpass|kubeconfig|\.aws|\.ssh|\.kube|\.gnupg|credentials(?:\.json)?"
    r"|service[-_]account[\w-]*\.json|[^/]*key[^/]*\.pem|[^/]+\.(?:key|p12|pfx|jks|ppk|tfvars|kubeconfig))/?\Z"
)
_INDEX = re.compile(
    r"(?:index-url|INDEX_URL|_INDEX|--index|--default-index|find-links|-i)[\s=\"']+[a-z]+://[^\s/@\"']*:?[^\s/@\"']*@"
)
_ASSIGNED = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,100})=(\"[^\"]{0,500}\"|'[^']{0,500}'|\S{1,500})")


def by_argument(image: Lineage) -> Iterator[Advice]:
    """ARG and ENV that sound like secrets; in every stage, for the build cache and the provenance have them, too."""
    for instruction in image.dockerfile.all_instructions():
        if instruction.keyword not in ("ARG", "ENV"):
            continue
        for name, value in _pairs(instruction):
            held = bool(value) and (is_value(value) or "$" in value)
            if sounds_secret(name) and (held or (instruction.keyword == "ARG" and not value)):
                lasts = "stays in the image's environment" if instruction.keyword == "ENV" else "stands in the history"
                yield finding(
                    "secret-argument",
                    instruction.line_of(name),
                    f"the value of {name} {lasts}, where whoever pulls the image reads it",
                    _DO.format(id=name.lower()) + "; for the program, give it to the container when it starts",
                    example=f"{instruction.keyword} {name}",
                )


def _pairs(instruction: Instruction) -> Iterator[tuple[str, str]]:
    words = instruction.words
    if instruction.keyword == "ENV" and len(words) > 1 and "=" not in words[0]:
        yield words[0], " ".join(words[1:])
        return
    for word in words:
        name, _, value = word.partition("=")
        yield name, value.strip("\"'")


def in_commands(image: Lineage) -> Iterator[Advice]:
    """Tokens and passwords that stand in the file, and credentials of package indexes."""
    for instruction in image.dockerfile.all_instructions():
        text = instruction.value + "".join(f"\n{each.body}" for each in instruction.heredocs)
        text = text[:100_000]
        if match := _INDEX.search(text):
            yield finding(
                "index-credentials",
                instruction.line_of(match[0].partition("=")[0].split()[0]),
                "user and password of a package index: they come into the history, and with ENV into the environment; "
                "a variable in their place, too",
                "RUN --mount=type=secret,id=netrc,target=/root/.netrc pip install ..., with the host in that netrc",
            )
        kinds = [kind for kind, _ in secrets_in_text(text)]
        if instruction.keyword == "RUN":
            kinds += [f"value of {match[1]}" for match in _ASSIGNED.finditer(text) if _holds(match)]
        if kinds:
            yield finding(
                "secret-in-run",
                instruction.line,
                f"{', '.join(dict.fromkeys(kinds))}: it stands in this file, in the history and in the build cache",
                "Take it out of use now; then " + _DO.format(id="token"),
            )


def _holds(match: re.Match[str]) -> bool:
    value = match[2].strip("\"'")
    return sounds_secret(match[1]) and is_value(value) and "$" not in value


def copied(image: Lineage) -> Iterator[Advice]:
    """Files that hold secrets, by their names."""
    for step in image.steps:
        if step.instruction.keyword not in ("COPY", "ADD"):
            continue
        named = [each for each in step.paths[0] if _FILES.search(posixpath.normpath(each))]
        if named:
            yield finding(
                "secret-copied",
                step.instruction.line,
                f"{', '.join(named[:5])}: it stays in this layer, where a later step deletes it, too",
                _DO.format(id=posixpath.basename(named[0].rstrip("/")).lstrip(".") or "file")
                + "; name it in `.dockerignore`",
            )


RULES: tuple[Callable[[Lineage], Iterator[Advice]], ...] = (by_argument, in_commands, copied)
