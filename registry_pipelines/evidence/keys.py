"""P-256 key files: make them, sign with them, believe them. What may be in them: ``key_files``.

By hand, not by securesystemslib 1.6.0: its signer of files opens unencrypted PKCS#8 alone, where ours come encrypted,
as SEC1 and in cosign's own form, and its key ids are not the hash that a bundle's hint holds. Importing it takes 115 ms
and 306 modules where boto3 is installed (28 ms and 50 without), beside 50 ms for cryptography, at each start of a
command that signs. What it has for KMS and HSM fits: a public key, and a signature over bytes. Those are ``kms``.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import copy
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from registry_pipelines.errors import InputError, KeyRefused, LocalError, SignatureInvalid
from registry_pipelines.evidence.attestors import NO_ATTESTORS, WEIGHTS, Attestor, AttestorFiles, Attestors
from registry_pipelines.evidence.bounds import MAX_KEY_BYTES
from registry_pipelines.evidence.cosign_key import encrypt_cosign_key
from registry_pipelines.evidence.dsse import verify_envelope
from registry_pipelines.evidence.identity_rules import counts
from registry_pipelines.evidence.key_files import (
    MODEL_CURVES,
    P256,
    Curves,
    read_private_key,
    read_public_keys,
    signs_by,
)
from registry_pipelines.evidence.key_terms import NO_TERMS, Terms, read_revoked
from registry_pipelines.evidence.model import CERTIFICATE, Certified, Signer, key_name
from registry_pipelines.evidence.predicates import Role, roles_for
from registry_pipelines.progress import count_text

if TYPE_CHECKING:  # certificates are read where identities are believed
    from registry_pipelines.evidence.bundles import Bundle
    from registry_pipelines.evidence.keyless.believed import Keyless
    from registry_pipelines.oci.manifests import Descriptor
    from registry_pipelines.registry.protocol import Place

MAX_SIGNATURE_BYTES = 160
"""A DER signature of P-256 has at most 72 bytes, of P-521 139."""

KeyForm = Literal["pkcs8", "cosign"]


class FileSigner:
    """A private key in memory. Implements Signer."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self._public = public_pem(key.public_key())
        self._id = key_id_of(key.public_key())

    @property
    def key_id(self) -> str:
        """See Signer."""
        return self._id

    @property
    def public_key_pem(self) -> bytes:
        """See Signer."""
        return self._public

    def sign(self, payload: bytes) -> bytes:
        """See Signer."""
        return self._key.sign(payload, signs_by(self._key.public_key()))

    def __repr__(self) -> str:
        return f"FileSigner({self._id})"


PublicKeys = Sequence[ec.EllipticCurvePublicKey]


class KeySet:
    """Public keys that are believed: for everything, or each for what its roles say. Implements Verifier.

    Terms are asked at each use: a process that reads its keys once stops believing a retired one on the day.
    """

    def __init__(
        self,
        keys: PublicKeys,
        roles: Mapping[Role, PublicKeys] = MappingProxyType({}),
        terms: Terms = NO_TERMS,
        attestors: Attestors = NO_ATTESTORS,
        keyless: Keyless | None = None,
    ) -> None:
        """keys: believed for every role that is not in ``roles``, and for statements that are no role's. terms: which
        of them are revoked, or believed for a time. attestors: with keys of their own, see :meth:`under`. keyless:
        identities that are believed beside keys. Raises InputError when there are none at all."""
        self._keys = {key_id_of(key): key for each in (keys, *roles.values()) for key in each}
        self._keys |= {key_id: key for each in attestors.known.values() for key_id, key in each.keys.items()}
        self._authorities = {name: own for name, each in attestors.known.items() if (own := each.authorities)}
        if not self._keys and keyless is None and not self._authorities:
            raise InputError("no trusted public key is given", do="Name at least one; nothing verifies without")
        self._general = [key_id_of(key) for key in keys]
        self._roles = {role: [key_id_of(key) for key in own] for role, own in roles.items()}
        self._keyless = keyless
        if keyless is not None:
            self._general += [rule.name for rule in keyless.general]
            for role, rules in keyless.roles.items():
                self._roles.setdefault(role, []).extend(rule.name for rule in rules)
        self._terms = terms
        self._attestors = attestors
        self._own: Mapping[Role, Sequence[str]] = {}
        self._certified: Callable[[Place, Descriptor], Certified] | None = None

    def under(self, attestors: Collection[str]) -> KeySet:
        """See Verifier."""
        narrowed = copy(self)
        narrowed._attestors = self._attestors.under(attestors)
        return narrowed

    def certified_by(self, certified: Callable[[Place, Descriptor], Certified]) -> KeySet:
        """The same, and whom a Notation trust policy believes. certified: as :meth:`certified`."""
        wider = copy(self)
        wider._certified = certified
        return wider

    def certified(self, place: Place, subject: Descriptor) -> Certified:
        """See Verifier."""
        if self._certified is None:
            return Certified(problem="there is no Notation trust policy to ask (signing.notation.trust)")
        return self._certified(place, subject)

    def attestor(self, name: str) -> Attestor | None:
        """See Verifier."""
        return self._attestors.known.get(name)

    def also(self, signers: Mapping[Role, Signer]) -> KeySet:
        """These keys, and each signer's for its role. For who signs: what its key wrote before must be found, also
        where nobody believes that key."""
        wider = copy(self)
        read = {role: read_public_keys(signer.public_key_pem, where="signer") for role, signer in signers.items()}
        wider._keys = {**self._keys, **{key_id_of(key): key for own in read.values() for key in own}}
        wider._own = {role: [key_id_of(key) for key in own] for role, own in read.items()}
        return wider

    def _ids(self, role: Role) -> Sequence[str]:
        return self._roles.get(role, self._general)

    @property
    def key_ids(self) -> tuple[str, ...]:
        """Ids of all keys that are believed today."""
        return tuple(key_id for key_id in self._keys if not self._terms.against(key_id))

    def verify(self, payload: bytes, signature: bytes) -> str:
        """See Verifier. Raises KeyRefused when a key made it that is trusted, and revoked or retired."""
        if len(signature) <= MAX_SIGNATURE_BYTES:
            for key_id, key in self._keys.items():
                try:
                    key.verify(signature, payload, signs_by(key))
                except InvalidSignature:
                    continue
                self._terms.check(key_id)
                return key_id
        raise SignatureInvalid("no trusted key made this signature", do="Trust the signer's key, or sign again")

    def verify_bundle(self, bundle: Bundle, *, chains: bool = False) -> tuple[str, ...]:
        """See Verifier. What a certificate says counts where identities are believed, or authorities are for whom it
        counts; its key may also be trusted."""
        certified: tuple[str, ...] = ()
        refused: SignatureInvalid | None = None
        if bundle.certificates and chains:
            try:
                certified = (self._certify(bundle),)
            except KeyRefused:
                raise
            except SignatureInvalid as error:
                refused = error
        if bundle.certificates and self._keyless is not None and not certified:
            try:
                return (self._identify(self._keyless, bundle),)
            except SignatureInvalid as error:
                refused = error if bundle.entries or refused is None else refused
        try:
            return (*certified, *verify_envelope(bundle.envelope, self))
        except SignatureInvalid as error:
            if certified:
                return certified
            if refused is not None and not isinstance(error, KeyRefused):
                raise refused from None
            raise

    def _certify(self, bundle: Bundle) -> str:
        """The id of a certificate, with the names of all attestors for whom it counts. Raises SignatureInvalid."""
        keys: dict[str, str] = {}
        refused: SignatureInvalid | None = None
        for name, authorities in self._authorities.items():
            try:
                keys[name] = key_id_of(authorities.identify(bundle))
            except SignatureInvalid as error:
                refused = refused or error
        if not keys:
            raise refused or SignatureInvalid(
                "it is signed by a certificate that no trusted key belongs to, and no authority is named for it",
                do="Name whose certificates count: --certificates ROOTS, or an attestor of weights with `certificates`",
            )
        for key_id in keys.values():
            self._terms.check(key_id)
        return " ".join((f"{CERTIFICATE}{hashlib.sha256(bundle.certificates[0]).hexdigest()}", *keys))

    def _identify(self, keyless: Keyless, bundle: Bundle) -> str:
        key_id = keyless.identify(bundle, self._terms)
        every = [*self._general, *(each for own in self._roles.values() for each in own)]
        every += [each for attestor in self._attestors.known.values() for each in attestor.ids]
        if not counts(key_id, every):
            raise SignatureInvalid(
                f"it is signed by {key_id}, who is not believed",
                do="Name that identity and its issuer under `keyless`, or have a trusted key sign it",
            )
        return key_id

    def vouching(self, key_ids: Sequence[str], predicate_type: str) -> str:
        """See Verifier."""
        believed = self.believed(predicate_type)
        for key_id in key_ids:
            if counts(key_id, believed):
                return key_id
        attestors = self._attestors.of_type(predicate_type)
        roles = () if self._attestors.alone(predicate_type) else roles_for(predicate_type)
        wanted = [*(attestor.name for attestor in attestors), *roles]
        kind = predicate_type[:200]
        raise SignatureInvalid(
            f"it is signed by {key_name(key_ids[0])}, which is trusted, but not as {' or '.join(wanted)} for {kind}"
            if wanted
            else f"it is signed by {key_name(key_ids[0])}, which is trusted for its role, and {kind} is no role's",
            do="Have a key of the right role sign it, or trust this key for that role",
        )

    def against(self, key_id: str) -> str:
        """See Verifier."""
        return self._terms.against(key_id)

    def believed(self, predicate_type: str) -> tuple[str, ...]:
        """See Verifier."""
        attestors = self._attestors.of_type(predicate_type)
        ids = [key_id for attestor in attestors for key_id in attestor.ids]
        if not self._attestors.alone(predicate_type):
            ids += self._of_roles(predicate_type)
        ids += [key_id for role in roles_for(predicate_type) for key_id in self._own.get(role, ())]
        return self._today(ids)

    def believed_pem(self, predicate_type: str) -> list[bytes]:
        """The keys of :meth:`believed` as PEM SubjectPublicKeyInfo, for other programs."""
        return [public_pem(self._keys[key_id]) for key_id in self.believed(predicate_type)]

    def counts_as(self, key_id: str, attestor: str, predicate_type: str) -> bool:
        """See Verifier."""
        known = self.attestor(attestor)
        if known is None:
            return counts(key_id, self._today(self._of_roles(predicate_type)))
        return predicate_type in known.predicate_types and known.made(key_id) and bool(self._today([key_id]))

    def _of_roles(self, predicate_type: str) -> Sequence[str]:
        roles = roles_for(predicate_type)
        return [key_id for role in roles for key_id in self._ids(role)] if roles else self._general

    def _today(self, ids: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted({key_id for key_id in ids if not self._terms.against(key_id)}))


class KeyFiles(msgspec.Struct, frozen=True):
    """Where a new key pair was written."""

    private: Path
    public: Path
    key_id: str


def generate_key(path: Path, *, password: str = "", form: KeyForm = "pkcs8") -> KeyFiles:
    """Make a P-256 key pair: ``path`` (mode 0600) and ``path`` with the suffix ``.pub``.

    form: ``pkcs8`` (encrypted when there is a password) or ``cosign`` (always encrypted, as ``cosign sign`` wants it).
    Each file appears whole or not at all. Raises InputError when one exists: a key is never overwritten.
    """
    public = path.with_suffix(".pub")
    for existing in (path, public):
        if existing.exists():
            raise _exists(existing)
    key = ec.generate_private_key(ec.SECP256R1())
    if form == "cosign":
        content = encrypt_cosign_key(_pkcs8(key, "", serialization.Encoding.DER), password)
    else:
        content = _pkcs8(key, password, serialization.Encoding.PEM)
    _write_new(path, content, mode=0o600)
    _write_new(public, public_pem(key.public_key()), mode=0o644)
    return KeyFiles(path, public, key_id_of(key.public_key()))


def load_signer(path: Path, password: str = "", *, curves: Curves = P256) -> FileSigner:
    """Read a private key file. curves: which its key may be of. Raises InputError; its text holds neither the password
    nor the key."""
    return FileSigner(read_private_key(read_key_file(path), password, where=str(path), curves=curves))


def load_verifier(
    paths: Sequence[Path],
    roles: Mapping[Role, Sequence[Path]] = MappingProxyType({}),
    *,
    until: Mapping[Path, date] = MappingProxyType({}),
    revoked: Path | None = None,
    attestors: Mapping[str, AttestorFiles] = MappingProxyType({}),
    keyless: Keyless | None = None,
    curves: Curves = P256,
) -> KeySet:
    """Read public key files; a file may hold several keys, and all of them are believed. paths and roles: as in
    KeySet. until: the last day (UTC) on which the keys of some of these files are believed. revoked: a list of revoked
    keys, see :func:`~registry_pipelines.evidence.key_terms.read_revoked`. attestors: by name. keyless: identities that
    are believed beside keys. curves: of the keys of ``paths``. Raises InputError."""
    general, own = _all_keys(paths, curves), {role: _all_keys(files) for role, files in roles.items()}
    known = {name: load_attestor(name, files) for name, files in attestors.items()}
    return KeySet(general, own, load_terms(until, revoked), Attestors(known), keyless)


def load_attestor(name: str, files: AttestorFiles) -> Attestor:
    """Read the files of an attestor. Raises InputError."""
    keys = {key_id_of(key): key for key in _all_keys(files.keys)}
    certificates = authorities = None
    if files.certificates is not None and "signature" in files.attests:
        if files.certificates.crls:
            raise InputError(
                f"the certificates of {name} have `crls`, which are of weights, and it attests `signature`",
                do="Name an attestor of weights beside it",
            )
        from registry_pipelines.evidence.notation.trust import trust_in

        certificates = trust_in(name, files.certificates)
    if files.certificates is not None and WEIGHTS in files.attests:
        from registry_pipelines.evidence.authorities import load_authorities

        authorities = load_authorities(name, files.certificates)
    return Attestor(name, tuple(files.attests), keys, tuple(files.identities), certificates, authorities)


def load_terms(until: Mapping[Path, date], revoked: Path | None) -> Terms:
    """Until when keys are believed, and which are not any more; see :func:`load_verifier`. Raises InputError."""
    days: dict[str, date] = {}
    for path, day in until.items():
        for key in _public_keys(path):
            days[key_id_of(key)] = min(day, days.get(key_id_of(key), day))
    return Terms(days, read_revoked(read_key_file(revoked), where=str(revoked)) if revoked else {})


def verifier_of(signer: Signer) -> KeySet:
    """A verifier that believes this signer alone: for who asks whether it signed something itself before. Of whatever
    curve its key is: whoever loaded the signer said which ones may be."""
    return KeySet(read_public_keys(signer.public_key_pem, where="signer", curves=MODEL_CURVES))


def key_id_of(key: ec.EllipticCurvePublicKey) -> str:
    """``sha256:<hex>`` of the DER SubjectPublicKeyInfo; the same value as the hint in a Sigstore bundle."""
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(spki).hexdigest()}"


def read_public_key(path: Path) -> ec.EllipticCurvePublicKey:
    """The one public key of a file. Raises InputError."""
    keys = _public_keys(path)
    if len(keys) != 1:
        raise InputError(f"the file has {count_text(len(keys), 'public key')}, and one is wanted", where=str(path))
    return keys[0]


def public_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    """PEM SubjectPublicKeyInfo."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _public_keys(path: Path, curves: Curves = P256) -> PublicKeys:
    return read_public_keys(read_key_file(path), where=str(path), curves=curves)


def _all_keys(paths: Sequence[Path], curves: Curves = P256) -> PublicKeys:
    return [key for path in paths for key in _public_keys(path, curves)]


def read_key_file(path: Path) -> bytes:
    """The bytes of a file of keys or certificates. Raises InputError for none, and for one that is too large."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_KEY_BYTES + 1)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        do = "Check `signing` in the configuration; `registry-pipelines sign --generate-key` makes the pair it names"
        raise InputError(
            f"the key file cannot be read: {error.strerror}", where=str(path), do=do if missing else ""
        ) from error
    if len(content) > MAX_KEY_BYTES:
        raise InputError(
            f"a file of keys has at most {MAX_KEY_BYTES} bytes",
            where=str(path),
            do="Several keys may be in several files",
        )
    return content


def _pkcs8(key: ec.EllipticCurvePrivateKey, password: str, encoding: serialization.Encoding) -> bytes:
    protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        protection = serialization.BestAvailableEncryption(password.encode())
    return key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, protection)


def _exists(path: Path) -> InputError:
    return InputError("the key file exists and is never overwritten", where=str(path), do="Choose another name")


def _write_new(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file that must not exist; a hard link from a complete temporary one makes it appear at once."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise LocalError(f"no key can be written there: {error.strerror}", where=str(path.parent)) from error
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(temporary)
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError as error:
        raise LocalError(f"the key file cannot be written: {error.strerror}", where=str(path)) from error
    finally:
        Path(temporary).unlink()
