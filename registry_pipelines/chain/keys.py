"""The keys of a configuration: which sign here, and which are believed, role by role."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from registry_pipelines.config import Config
from registry_pipelines.config.signing import ServiceKey
from registry_pipelines.errors import InputError
from registry_pipelines.evidence.attestors import WEIGHTS
from registry_pipelines.evidence.model import Signer, key_name
from registry_pipelines.evidence.predicates import ROLES, Role

if TYPE_CHECKING:  # they bring the cryptography along, and most stages need none
    from registry_pipelines.evidence.keyless.believed import Keyless
    from registry_pipelines.evidence.keys import KeySet


def trusted_keys(config: Config) -> KeySet:
    """The keys that are believed. Raises InputError for a file that cannot be read."""
    from registry_pipelines.evidence.keys import load_verifier

    believed = load_verifier(
        _of_all_roles(config),
        config.trusted_by_role,
        until=config.retired_keys,
        revoked=config.signing.revoked,
        attestors=config.attestors,
        keyless=_identities(config),
    )
    own = config.signing.notation
    if own is None or own.trust is None:
        return believed
    from registry_pipelines.chain.notation import CertificateQuestion, managed_revocations

    return believed.certified_by(CertificateQuestion(own.trust, managed_revocations(config)))


def _of_all_roles(config: Config) -> tuple[Path, ...]:
    """Files of the keys that are believed in every role without its own. A configuration that names the keys of a role
    alone, as a side of an air gap does, or certificates, may have none of them: the one by default counts where it is
    there."""
    default = config.signing_key.with_suffix(".pub")
    own = config.signing
    others = config.trusted_by_role or _certified(config)
    unwritten = others and not (own.key or own.kms or own.generate or own.trusted)
    return tuple(path for path in config.trusted_keys if not (unwritten and path == default and not path.exists()))


def _certified(config: Config) -> bool:
    """Whether somebody's certificates count for weights."""
    return any(each.certificates and WEIGHTS in each.attests for each in config.trust.attestors.values())


def _identities(config: Config) -> Keyless | None:
    if config.signing.trust_root is None:
        return None
    from registry_pipelines.evidence.keyless.believed import load_keyless

    return load_keyless(config.signing.trust_root, config.signing.keyless, config.identities_by_role)


class Keyring:
    """Reads keys at first use and keeps them; ``signing.generate`` makes a missing one. Safe for many threads. before:
    called each time a key is given to sign with; it raises where nothing may be signed, as with a wrong clock."""

    def __init__(self, config: Config, before: Callable[[], None] = lambda: None) -> None:
        self._config, self._before = config, before
        self._signers: dict[Path | str, Signer] = {}
        self._lock = threading.Lock()

    def signer(self, *roles: Role) -> Signer:
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

    def at_hand(self, role: Role, *, make: bool = True) -> Signer | None:
        """The key of a role, None where its file is not here. make: where the configuration says so. Raises InputError
        for one that cannot be read, or that nobody believes any more; LocalError for a wrong clock."""
        service, path = self._config.kms_of(role), self._config.signing_key_of(role)
        name = service.address if service else path
        if name is None:
            return None
        with self._lock:
            if name not in self._signers:
                signer = _in_service(service) if service else self._in_file(role, make=make)
                if signer is None:
                    return None
                self._refuse_ended(signer, str(name))
                self._signers[name] = signer
            found = self._signers[name]
        self._before()
        return found

    def _in_file(self, role: Role, *, make: bool) -> Signer | None:
        path = self._config.signing_key_of(role)
        if path is None:
            return None
        if make:
            self._make_if_told(role, path)
        if not path.exists():
            return None
        from registry_pipelines.evidence.keys import load_signer

        return load_signer(path, self._config.password_of(role))

    def _refuse_ended(self, signer: Signer, where: str) -> None:
        """What is signed with such a key would be believed by nobody, which would be said much later."""
        if not (self._config.signing.revoked or self._config.retired_keys):
            return
        from registry_pipelines.evidence.keys import load_terms

        terms = load_terms(self._config.retired_keys, self._config.signing.revoked)
        if against := terms.against(signer.key_id):
            raise InputError(
                f"the key {key_name(signer.key_id)} {against}: nothing may be signed with it",
                where=where,
                do="Name another key in `signing`",
            )

    def signers(self) -> dict[Role, Signer]:
        """All keys at hand. Raises InputError for one that cannot be read, as with a wrong password; asked before work
        that ends with a signature, so that nobody waits for that answer."""
        return {role: signer for role in ROLES if (signer := self.at_hand(role))}

    def trusted(self) -> KeySet:
        """The keys that are believed. Raises InputError."""
        for role in ROLES:
            path = self._config.signing_key_of(role)
            if path and not (self._config.shared.database and path.with_suffix(".pub").exists()):
                with self._lock:
                    self._make_if_told(role, path)
        return trusted_keys(self._config)

    def trusted_if_any(self) -> KeySet | None:
        """The same for who only looks: no key is made, and None when none is here. Raises InputError for one of several
        that is missing, or cannot be read."""
        general, own = self._config.trusted_keys, self._config.trusted_by_role.values()
        files = [*general, *(path for paths in own for path in paths)]
        others = self._config.signing.trust_root is not None or _certified(self._config)
        if not others and not any(path.exists() for path in files):
            return None
        return trusted_keys(self._config)

    def _make_if_told(self, role: Role, path: Path) -> None:
        if path.exists() or not self._config.signing.generate:
            return
        if self._config.shared.database:
            raise InputError(
                "no key is made here: workers share their state, and each would sign with a key of its own, which the "
                "others do not believe",
                where=str(path),
                do="Give every worker the same `keys` folder as a secret (`registry-pipelines init` makes a key, as "
                "does any command without the shared database), or name a key service in `signing.kms`",
            )
        from registry_pipelines.evidence.keys import generate_key

        try:
            generate_key(path, password=self._config.password_of(role))
        except InputError:
            # Another process made it between the look and the try; a key is never overwritten.
            if not path.exists():
                raise


def _in_service(key: ServiceKey) -> Signer:
    from registry_pipelines.evidence.keys import read_public_key
    from registry_pipelines.evidence.kms import KmsSigner

    return KmsSigner(key.address, read_public_key(key.public), pin=key.pin.reveal())
