"""Ignore files as people and machines write them, and a small tree of files for them."""

from __future__ import annotations

import random
from pathlib import Path

NAMES = (
    *(
        "a",
        "b",
        "ab",
        "a.txt",
        "b.txt",
        "foo",
        "bar",
        "a*b",
        "a?b",
        "[x]",
        "^a",
        "#c",
        "!d",
        "é",
        "x y",
        ".env",
        "key.pem",
    ),
    *("{a}", "a+b", "$a", "(a)", "-"),
)
_PIECES = (
    *(
        "a",
        "b",
        "foo",
        "bar",
        "ab",
        ".txt",
        ".env",
        ".pem",
        "*",
        "*",
        "**",
        "?",
        "/",
        "/",
        "[ab]",
        "[^a]",
        "[a-c]",
        "[!a]",
    ),
    *(
        r"\*",
        r"\?",
        r"\[",
        "!",
        "#",
        " ",
        "./",
        "../",
        ".",
        "é",
        "x y",
        "{a}",
        "+",
        "$",
        "(",
        ")",
        "key",
        "**/",
        "/**",
        "\t",
    ),
)


def paths() -> list[str]:
    """Folders before what stands in them."""
    top = [*NAMES, "folder"]
    second = [f"{folder}/{name}" for folder in ("folder", "dir") for name in (*NAMES[:9], "deep")]
    third = [f"{folder}/deep/{name}" for folder in ("folder", "dir") for name in NAMES[:7]]
    return [*top, "dir", *second, *third]


def make_tree(folder: Path) -> None:
    every = paths()
    for path in every:
        if any(other.startswith(path + "/") for other in every):
            (folder / path).mkdir(parents=True)
        else:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(b"x")


def ignore_files(count: int, seed: int) -> list[bytes]:
    """Ignore files of one to five lines that Docker takes: real paths with wildcards in them, and wild mixtures."""
    dice = random.Random(seed)
    return [_ignore_file(dice) for _ in range(count)]


def _ignore_file(dice: random.Random) -> bytes:
    lines = "".join(_line(dice) + dice.choice(["\n", "\n", "\r\n"]) for _ in range(dice.randint(1, 5)))
    return (b"\xef\xbb\xbf" if dice.random() < 0.1 else b"") + lines.encode()


def _line(dice: random.Random) -> str:
    if dice.random() < 0.5:
        path = dice.choice([path for path in paths() if not set(path) & set("[]*?^")])
        cut = dice.randrange(len(path) + 1)
        line = path[:cut] + dice.choice(["", "*", "?", "**", "[a-z]", "/"]) + path[cut + dice.randrange(2) :]
    else:
        line = "".join(dice.choice(_PIECES) for _ in range(dice.randint(1, 5)))
    if not line.strip(" \t./!"):
        line = "a"
    return dice.choice(["", "", "", "!", "! ", "!/"]) + line
