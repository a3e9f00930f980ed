"""Commands of Dockerfiles and of an image's history, to be shown without the secrets in them.

A value is hidden when its name, its form or where it stands says that it may be a secret: what is hidden for nothing
costs a word, and what is shown stays in logs, SARIF files and signed documents for good.
"""

from __future__ import annotations

import re

from registry_pipelines.scan.secrets import without_tokens

MAX_REDACTED = 100_000
"""Characters of a text that is shown."""
HIDDEN = "***"

_NAME = re.compile(
    r"PASS(?:WORD|WD|PHRASE|\Z|[_.-])|(?:\A|[_.-])PWD|SECRET|TOKEN(?!IZER)|API[_.-]?KEY|CREDENTIAL|AUTH(?!OR(?!I))"
    r"|JWT|(?:ACCESS|PRIVATE|AUTH|SIGNING|ENCRYPTION|ACCOUNT|MASTER|LICENSE|SSH|PUBLISH|DEPLOY)[_.-]?KEY|_PWD\Z|\APAT\Z|_PAT\Z",
    re.IGNORECASE,
)
_NO_SECRET = re.compile(r"[_.-](?:FILE|PATH|URL|NAME|ID|TYPE|TTL|DIR)\Z", re.IGNORECASE)
_WORD = (
    r"(?:\\\"(?:[^\"\\]|\\(?!\"))*(?:\\\"|\Z)|\\.|\"(?:\\.|[^\"\\])*(?:\"|\Z)|'[^']*(?:'|\Z)|`[^`]*(?:`|\Z)"
    r"|\$\([^()]*\)|[^\s\"'`\\])+"
)
"""As a shell reads one: quoted parts and others with no space between, up to the end where a quote is never closed."""
_REFERENCE = re.compile(r"[\"']?\$(?:[A-Za-z_][A-Za-z0-9_]*|\{[A-Za-z_][A-Za-z0-9_]*\})[\"']?")
_ASSIGNED = re.compile(
    rf"(?P<name>(?<![A-Za-z0-9_])[A-Za-z_][A-Za-z0-9_.-]{{0,200}})(?P<is>\\?[\"']?\s{{0,9}}=\s{{0,9}})(?P<value>{_WORD})",
    re.DOTALL,
)
_FIELD = re.compile(
    rf"(?P<name>(?<![A-Za-z0-9_])[A-Za-z_][A-Za-z0-9_.-]{{0,200}})(?P<is>\\?[\"']?\s{{0,9}}:(?!//)\s{{0,9}})(?P<value>{_WORD})",
    re.DOTALL,
)
_OPTION = re.compile(
    rf"(?P<name>(?<!\S)--?[A-Za-z][A-Za-z0-9_.-]{{2,100}})(?P<is>\s{{1,9}})(?P<value>(?!-){_WORD})", re.DOTALL
)
_OLD_FORM = re.compile(
    r"(?P<name>(?<!\S)(?:ENV|ARG|LABEL)\s{1,9}[A-Za-z_][A-Za-z0-9_.-]{0,200})(?P<is>\s{1,9})(?P<value>[^=\s].*)"
)
_USER = re.compile(rf"((?<!\S)(?:-u|--user|--proxy-user|--creds|--(?:src|dest)-creds)[ =]{{1,9}})({_WORD})", re.DOTALL)
_SCHEME = re.compile(r"\b(Bearer|Basic)(\s{1,9})([^\s\"'\\]+)", re.IGNORECASE)
_NETRC = re.compile(r"((?:machine|login|account)\s{1,9}\S{1,200}\s{1,9}password\s{1,9})(\S+)", re.IGNORECASE)
_USER_INFORMATION = re.compile(r"([a-z][a-z0-9+.-]{1,20}://)[^\s/@'\"]{1,2000}@", re.IGNORECASE)
_KEY_TEXT = re.compile(r"-----BEGIN [A-Z0-9 ]{0,20}PRIVATE KEY.*", re.DOTALL)
_BUILD_ARGUMENTS = re.compile(r"((?:\A|\s)\|\d{1,4} )(.*?)(\s(?:/\S*sh|powershell|cmd)\s.*|\Z)", re.DOTALL)
"""Before a command in the history of classic ``docker build``: their values stand there without quotes."""
_ARGUMENT = re.compile(
    r"(?P<name>[A-Za-z_][A-Za-z0-9_]{0,200})(?P<is>=)(?P<value>.*?)(?=\s[A-Za-z_][A-Za-z0-9_]{0,200}=|\Z)", re.DOTALL
)


def redacted(text: str) -> str:
    """A command or a line without tokens, keys, the users and passwords of URLs, and the values of variables, fields
    and options that sound like secrets. A value that only names another variable stays."""
    text = _KEY_TEXT.sub(f"{HIDDEN} PRIVATE KEY {HIDDEN}", without_tokens(text[:MAX_REDACTED], HIDDEN))
    text = _BUILD_ARGUMENTS.sub(lambda match: match[1] + _ARGUMENT.sub(_hidden, match[2]) + match[3], text, count=1)
    text = _USER_INFORMATION.sub(rf"\1{HIDDEN}@", text)
    for pattern in (_NETRC, _USER):
        text = pattern.sub(rf"\1{HIDDEN}", text)
    text = _SCHEME.sub(rf"\1\2{HIDDEN}", text)
    for pattern in (_ASSIGNED, _OLD_FORM, _OPTION):
        text = pattern.sub(_hidden, text)
    return _FIELD.sub(_hidden_field, text)


def _hidden(match: re.Match[str]) -> str:
    name = match["name"].split()[-1]
    secret = _NAME.search(name) and not _NO_SECRET.search(name) and not _REFERENCE.fullmatch(match["value"])
    return f"{match['name']}{match['is']}{HIDDEN}" if secret else match[0]


def _hidden_field(match: re.Match[str]) -> str:
    """Of JSON, YAML and headers; prose has colons, too."""
    is_field = match["is"][0] in "\\\"'" or re.search("[_-]", match["name"]) or match["name"].lower() == "password"
    return _hidden(match) if is_field else match[0]


__all__ = ["HIDDEN", "redacted"]
