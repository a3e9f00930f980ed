"""What a configuration needs of this machine: that its files, folders and keys are here and can be read.

For ``config check``: without it each stage says so when it comes to it, which for a build is after pip has run.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

from registry_pipelines.config.document import Problems, line_at
from registry_pipelines.config.here_files import Finding, said_of, unfit_files
from registry_pipelines.config.model import Config
from registry_pipelines.config.registries import EmbeddedRegistry
from registry_pipelines.config.signing import Notation
from registry_pipelines.config.trust import asked_for_together, counts_as_both
from registry_pipelines.errors import InputError
from registry_pipelines.evidence.model import key_name
from registry_pipelines.evidence.predicates import ROLES
from registry_pipelines.settings import Existing

GENERATE = "`registry-pipelines sign --generate-key` makes it"


def look_here(
    root: yaml.Node, config: Config | None, files: Iterable[tuple[Existing, Path, int, str]], problems: Problems
) -> list[str]:
    """Note what is not here; what is here and should be otherwise is returned, each as ``file:line: path: message``.

    config: None when single values are wrong already; files are looked for all the same. files: see ``Decoder.files``.
    """
    for wanted, path, line, where in files:
        if said := _missing(wanted, path):
            problems.add(line, where, said)
    if config is None or any(where.startswith("signing") for where in problems.paths):
        return []
    for where, said in (
        *unfit_files(config, problems.paths),
        *_keys(config),
        *_ended(config),
        *_notation(config),
        *_trust_root(config),
        *_attestors(config),
        *_state(config),
        *_command(config),
    ):
        problems.add(line_at(root, where), where, said)
    notes = (*_absent_keys(config), *_loose(config), *_provenance(config))
    return [f"{config.path}:{line_at(root, where)}: {where}: {said}" for where, said in notes]


def _missing(wanted: Existing, path: Path) -> str:
    """What is wrong with a file or folder; empty for nothing."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return f"there is no {wanted.what} {path}" if isinstance(error, FileNotFoundError) else _unreadable(path, error)
    if (wanted.what == "folder" and not stat.S_ISDIR(mode)) or (wanted.what == "file" and stat.S_ISDIR(mode)):
        return f"{path} is a {'folder' if stat.S_ISDIR(mode) else 'file'}, and a {wanted.what} is wanted"
    return "" if os.access(path, os.R_OK) else f"{path} cannot be read: Permission denied"


def _unreadable(path: Path, error: OSError) -> str:
    return f"{path} cannot be read: {error.strerror or error}"


def _private_keys(config: Config) -> dict[Path, Finding]:
    """Every file of a private key, with the place in the file and the password."""
    keys: dict[Path, Finding] = {}
    for role in ROLES:
        path = config.signing_key_of(role)
        if path is not None:
            at = f"signing.{role}.key" if config.signing.of(role) else "signing.key"
            keys.setdefault(path, (at, config.password_of(role)))
    return keys


def _keys(config: Config) -> Iterator[Finding]:
    """Keys that cannot be read, and where nobody signs elsewhere, that there is none."""
    keys = _private_keys(config)
    for path, (where, password) in keys.items():
        if path.exists() and (said := _unfit_to_sign(path, password)):
            yield where, said
    if _nobody_signs(config, keys):
        where, _ = next(iter(keys.values()), ("signing", ""))
        yield where, f"there is no key {next(iter(keys), '')} to sign with; {GENERATE}"
    halves = {key.with_suffix(".pub"): key for key in keys if key.exists()}
    for where, path in _believed(config):
        if path.exists():
            if said := _unbelievable(path):
                yield where, said
        elif path in halves and not where.endswith("]"):
            make = f"openssl pkey -in {halves[path]} -pubout -out {path}"
            yield where, f"the public half {path} is not there, so nothing signed with it is believed: {make}"


def _unfit_to_sign(path: Path, password: str) -> str:
    from registry_pipelines.evidence.keys import load_signer  # where there is none, nothing that reads it is loaded

    try:
        load_signer(path, password)
    except InputError as error:
        return said_of(error)
    return ""


def _unbelievable(path: Path) -> str:
    from registry_pipelines.evidence.keys import load_verifier

    try:
        load_verifier([path])
    except InputError as error:
        return said_of(error)
    return ""


def _nobody_signs(config: Config, keys: Iterable[Path]) -> bool:
    """Whether releases are to be signed, and neither a key here nor one that is believed says by whom."""
    elsewhere = any(told.trusted or told.kms or told.keyless for _, told in config.signing.told())
    return bool(config.images) and not (config.signing.generate or elsewhere or any(path.exists() for path in keys))


def _believed(config: Config) -> Iterator[tuple[str, Path]]:
    """Every file of a public key; the place in the file ends with ``]`` where it is named."""
    believed = {"signing": config.trusted_keys}
    believed |= {f"signing.{role}": paths for role, paths in config.trusted_by_role.items()}
    for where, told in config.signing.told():
        trusted = believed[where][: len(believed[where]) - len(told.retired)]
        own = f"{where}.public" if told.kms else f"{where}.key"
        for place, path in enumerate(trusted):
            yield f"{where}.trusted[{place}]" if told.trusted else own, path
        for place, each in enumerate(told.retired):
            yield f"{where}.retired[{place}]", each.key


def _trust_root(config: Config) -> Iterator[Finding]:
    path = config.signing.trust_root
    if path is not None and path.exists():
        from registry_pipelines.evidence.keyless.trust_root import load_trust_roots

        try:
            load_trust_roots(path)
        except InputError as error:
            yield "signing.trust_root", said_of(error)


def _attestors(config: Config) -> Iterator[Finding]:
    for name, attestor in config.trust.attestors.items():
        for place, path in enumerate(attestor.keys):
            if path.exists() and (said := _unbelievable(path)):
                yield f"trust.attestors.{name}.keys[{place}]", said
        files = attestor.certificates
        if files and all(path.exists() for path in (*files.roots, *files.timestamps, *files.crls)):
            from registry_pipelines.evidence.keys import load_attestor

            try:
                load_attestor(name, config.attestors[name]._replace(keys=()))
            except InputError as error:
                yield f"trust.attestors.{name}.certificates", said_of(error)
    told: set[str] = set()
    for where, one, other, what in asked_for_together(config):
        mine, theirs = (_key_ids(config.trust.attestors[name].keys) for name in (one, other))
        for key_id in mine.keys() & theirs.keys():
            said = counts_as_both(one, other, what, f"the key {key_name(key_id)} ({mine[key_id]}, {theirs[key_id]})")
            if mine[key_id] != theirs[key_id] and said not in told:  # one file is no question of this machine
                told.add(said)
                yield where, said


def _key_ids(paths: Iterable[Path]) -> dict[str, str]:
    """Ids of the keys in files that are here, each with the file's name."""
    from registry_pipelines.evidence.keys import load_verifier

    readable = (path for path in paths if path.exists() and not _unbelievable(path))
    return {key_id: path.name for path in readable for key_id in load_verifier([path]).key_ids}


def _ended(config: Config) -> Iterator[Finding]:
    """A list of revoked keys that cannot be read, and keys that would sign and are not believed any more."""
    path = config.signing.revoked
    files = [each for each in (path, *config.retired_keys) if each]
    if not files or not all(each.exists() for each in files):
        return
    from registry_pipelines.evidence.keys import load_signer, load_terms

    try:
        terms = load_terms(config.retired_keys, path)
    except InputError as error:
        if error.where == str(path):
            yield "signing.revoked", said_of(error)
        return
    for key, (where, password) in _private_keys(config).items():
        if key.exists() and not _unfit_to_sign(key, password):
            key_id = load_signer(key, password).key_id
            if against := terms.against(key_id):
                yield where, f"its key {key_name(key_id)} {against}: nothing may be signed with it"


def _notation(config: Config) -> Iterator[Finding]:
    """Certificates that sign nothing here, and a Notation trust policy that cannot be read."""
    own = config.signing.notation
    if own is None:
        return
    if own.certificates and own.certificates.exists() and (said := _uncertified(config, own)):
        yield "signing.notation.certificates", said
    if own.trust and own.trust.is_dir():
        from registry_pipelines.evidence.notation.trust import read_trust

        try:
            read_trust(own.trust)
        except InputError as error:
            yield "signing.notation.trust", said_of(error)


def _uncertified(config: Config, own: Notation) -> str:
    """Why a key here and its certificates do not go together; empty where they do, or the key is elsewhere."""
    from registry_pipelines.evidence.keys import load_signer
    from registry_pipelines.evidence.notation.signers import certify, load_certified_signer

    certificates, person = own.certificates, config.signing_key_of("person")
    try:
        if certificates and own.key and own.key.exists():
            load_certified_signer(own.key, certificates, own.password.reveal())
        elif certificates and not own.key and person and person.exists():
            certify(load_signer(person, config.password_of("person")), certificates)
    except InputError as error:
        return said_of(error)
    return ""


def _absent_keys(config: Config) -> Iterator[Finding]:
    """Keys of some roles may be on other machines."""
    keys = _private_keys(config)
    if not config.images or config.signing.generate or _nobody_signs(config, keys):
        return
    for path, (where, _) in keys.items():
        if not path.exists():
            yield where, f"there is no key {path}: nothing is signed with it on this machine"


def _loose(config: Config) -> Iterator[Finding]:
    """Private keys that others may read."""
    keys = {path: where for path, (where, _) in _private_keys(config).items()}
    for name, registry in config.registries.items():
        if isinstance(registry, EmbeddedRegistry) and registry.tls_key:
            keys.setdefault(registry.tls_key, f"registries.{name}.tls_key")
    for path, where in keys.items():
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError:
            continue
        if mode & 0o077:
            yield where, f"others may read the private key {path} (mode {mode:04o}): chmod 600 {path}"


def _provenance(config: Config) -> Iterator[Finding]:
    """Images that are pushed by somebody of whom nothing says that he makes the provenance that the policy wants."""
    if config.signing.builder:
        return
    for name, image in config.images.items():
        if image.made_here is None and "provenance" in config.policies[image.policy].required:
            yield (
                f"images.{name}",
                f"policy `{image.policy}` requires provenance, and this image is not built here: unless the CI that "
                "pushes it attaches SLSA provenance, every release is denied. Name the CI's key in "
                "`signing.builder.trusted`, or leave provenance out of the policy's `required`",
            )


def _state(config: Config) -> Iterator[Finding]:
    there = next((each for each in (config.state, *config.state.parents) if each.exists()), config.state)
    if not there.is_dir():
        yield "state", f"{there} is a file, and a folder is wanted"
    elif not os.access(there, os.W_OK | os.X_OK):
        yield "state", f"nothing may be written in {there}"


def _command(config: Config) -> Iterator[Finding]:
    program = next(iter(config.notify.command), "")
    if program and not shutil.which(config.path.parent / program if "/" in program else program):
        yield "notify.command", f"there is no program {program}"
