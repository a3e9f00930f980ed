"""Who asks for a promotion: a person by name, and how that name came to us."""

from __future__ import annotations

import os
from typing import Literal

import msgspec

from registry_pipelines.errors import InputError

Identity = Literal["claimed", "proxy"]
"""How a name came. ``claimed``: whoever asked wrote it, or it is the account that ran the command. ``proxy``: a reverse
proxy that knows its users sent it, and nobody could write another."""

MAX_NAME_CHARACTERS = 200
"""Of a name; an e-mail address has at most 254, and hardly ever more than 60."""


class Person(msgspec.Struct, frozen=True):
    """A person who asks for a promotion, as the signed record names them."""

    name: str
    identity: Identity

    @classmethod
    def named(cls, text: str, identity: Identity) -> Person:
        """Read a name; blanks around it do not count. Raises InputError for an empty one, a long one, and one with
        characters that are not seen: it stands in a signed record."""
        name = text.strip()
        if not name or len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
            raise InputError(
                f"{name[:60]!r} is no name of a person",
                do=f"Write a name or an address of 1 to {MAX_NAME_CHARACTERS} printable characters",
            )
        return cls(name, identity)


def account() -> Person:
    """The account that runs this process: whoever typed the command."""
    import getpass  # for who promotes alone

    try:
        return Person.named(getpass.getuser(), "claimed")
    except (KeyError, OSError, InputError):  # a container without an entry for its user, and nothing in the environment
        return Person(f"uid {os.getuid()}", "claimed")
