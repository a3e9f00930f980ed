"""The keys of a configuration: which sign here, and which are believed, role by role."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from registry_pipelines.config import Config
from registry_pipelines.errors import InputError
from registry_pipelines.evidence.predicates import ROLES, Role

if TYPE_CHECKING:  # they bring the cryptography along, and most stages need none
    from registry_pipelines.evidence.keys import FileSigner, KeySet


def trusted_keys(config: Config) -> KeySet:
    """The keys that are believed. Raises InputError for a file that cannot be read."""
    from registry_pipelines.evidence.keys import load_verifier

    return load_verifier(config.trusted_keys, config.trusted_by_role)


class Keyring:
    """Reads keys at first use and keeps them; ``signing.generate`` makes a missing one. Safe for many threads."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._signers: dict[Path, FileSigner] = {}
        self._lock = threading.Lock()

    def signer(self, *roles: Role) -> FileSigner:
        """The key of the first of these roles that is at hand, for who needs one. Raises InputError when none is."""
        from registry_pipelines.evidence.keys import load_signer

        for role in roles:
            if signer := self.at_hand(role):
                return signer
        path = self._config.signing_key_of(roles[0])
        if path is not None:
            return load_signer(path)  # says what is missing where
        raise InputError(
            f"the configuration has no key of the {' or '.join(roles)} for this machine",
            do=f"Run this where that key is, or name it: signing.{roles[0]}.key",
        )

    def at_hand(self, role: Role, *, make: bool = True) -> FileSigner | None:
        """The key of a role, None where its file is not here. make: where the configuration says so. Raises InputError
        for one that cannot be read."""
        from registry_pipelines.evidence.keys import load_signer

        path = self._config.signing_key_of(role)
        if path is None:
            return None
        with self._lock:
            if path not in self._signers:
                if make:
                    self._make_if_told(role, path)
                if not path.exists():
                    return None
                self._signers[path] = load_signer(path, self._config.password_of(role))
            return self._signers[path]

    def signers(self) -> dict[Role, FileSigner]:
        """All keys at hand. Raises InputError for one that cannot be read, as with a wrong password; asked before work
        that ends with a signature, so that nobody waits for that answer."""
        return {role: signer for role in ROLES if (signer := self.at_hand(role))}

    def trusted(self) -> KeySet:
        """The keys that are believed. Raises InputError."""
        for role in ROLES:
            if path := self._config.signing_key_of(role):
                with self._lock:
                    self._make_if_told(role, path)
        return trusted_keys(self._config)

    def trusted_if_any(self) -> KeySet | None:
        """The same for who only looks: no key is made, and None when none is here. Raises InputError for one of several
        that is missing, or cannot be read."""
        general, own = self._config.trusted_keys, self._config.trusted_by_role.values()
        files = [*general, *(path for paths in own for path in paths)]
        if not any(path.exists() for path in files):
            return None
        return trusted_keys(self._config)

    def _make_if_told(self, role: Role, path: Path) -> None:
        if path.exists() or not self._config.signing.generate:
            return
        from registry_pipelines.evidence.keys import generate_key

        try:
            generate_key(path, password=self._config.password_of(role))
        except InputError:
            # Another process made it between the look and the try; a key is never overwritten.
            if not path.exists():
                raise
