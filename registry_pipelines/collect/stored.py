"""Plans that are kept for an approval: the plan as it is, and beside it a signed statement of what it was made for.

The statement is a DSSE envelope (github.com/secure-systems-lab/dsse) of its own, so that a plan of a million images
stays a file that people read; it names the plan by digest and size. ``chain.plans`` writes them and asks for them.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from time import time

import msgspec

from registry_pipelines.collect.plan import RetentionPlan
from registry_pipelines.collect.plan_file import open_plan, write_plan
from registry_pipelines.errors import InputError, SignatureInvalid
from registry_pipelines.evidence.dsse import read_envelope, sign_envelope, verify_envelope, write_envelope
from registry_pipelines.evidence.model import Signer, Verifier
from registry_pipelines.evidence.predicates import RETENTION_PLAN_TYPE
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors, replaced, write_file
from registry_pipelines.shared.documents import Documents

STATEMENT_SCHEMA = 1
MAX_STATEMENT_BYTES = 64 * 1024
"""A statement has some hundred bytes."""
COPY_BYTES = 1024 * 1024
KEPT_S = 30 * 24 * 3600
"""Seconds for which plans stay in the state folder. They are applied within a day; people look at them for longer."""


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """What is signed of a plan. registry: its name in the configuration. host: the registry's own. rules: digest of the
    rules that the plan was made by. quarantine: days for which what goes can be brought back, as who read the plan knew
    it. made_at: RFC 3339, the plan's."""

    schema: int = STATEMENT_SCHEMA
    plan: str
    size: int
    registry: str
    host: str
    made_at: str
    rules: str
    quarantine: int


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """How far a plan was applied. ok: wholly; another try has nothing to do then. at: RFC 3339."""

    at: str
    ok: bool
    deleted: int
    refused: int


def state_statement(path: Path, plan: RetentionPlan, *, registry: str, quarantine: int) -> Statement:
    """The statement of a plan that is written at ``path``."""
    return Statement(
        plan=str(plan.digest),
        size=path.stat().st_size,
        registry=registry,
        host=plan.registry,
        made_at=plan.made_at,
        rules=plan.rules,
        quarantine=quarantine,
    )


def sign_statement(statement: Statement, signer: Signer) -> bytes:
    """The envelope, as a file has it."""
    return write_envelope(sign_envelope(msgspec.json.encode(statement), signer, payload_type=RETENTION_PLAN_TYPE))


def read_statement(raw: bytes, verifier: Verifier, *, where: str) -> Statement:
    """What a believed promoter's key said. Raises SignatureInvalid for anything else."""
    envelope = read_envelope(raw, where=where)
    signers = verify_envelope(envelope, verifier, where=where, payload_type=RETENTION_PLAN_TYPE)
    verifier.vouching(signers, RETENTION_PLAN_TYPE)
    try:
        statement: Statement = msgspec.json.decode(envelope.payload, type=ready(Statement))
    except msgspec.MsgspecError as error:
        raise SignatureInvalid(f"what is signed is not a statement of a plan: {error}", where=where) from error
    if statement.schema != STATEMENT_SCHEMA:
        raise InputError(f"the plan's statement has schema {statement.schema}", where=where, do="Make a new plan")
    return statement


class PlanStore:
    """Plans in the state: ``<hex>.json``, ``<hex>.json.sig``, and ``<hex>.done`` once one was applied."""

    def __init__(self, documents: Documents) -> None:
        self._documents, self.where = documents, documents.where

    def find(self, digest: Digest) -> Path | None:
        """A file with the plan of this digest, its signature beside it; None where none is kept."""
        return self._documents.local(f"{digest.hex}.json", f"{digest.hex}.json.sig")

    def signed(self) -> list[Digest]:
        """All plans with a signature."""
        names = {each.name for each in self._documents.entries()}
        plans = [name.removesuffix(".json") for name in sorted(names) if f"{name}.sig" in names]
        return [Digest(f"sha256:{hexadecimal}") for hexadecimal in plans]

    def save(self, plan: RetentionPlan, *, registry: str, quarantine: int, signer: Signer | None) -> Digest:
        """Keep a plan with its signature, and drop those that are too old for anybody. Raises LocalError, DiskFull."""
        with self._documents.scratch() as folder:
            made = folder / "plan.json"
            digest = write_plan(plan, made)
            if signer is not None:
                statement = state_statement(made, plan, registry=registry, quarantine=quarantine)
            self._documents.take(f"{digest.hex}.json", made)
            if signer is not None:
                self._documents.write(f"{digest.hex}.json.sig", sign_statement(statement, signer))
        self._drop_old()
        return digest

    def _drop_old(self) -> None:
        for old in self._documents.entries():
            if ".json" in old.name and old.at < time() - KEPT_S:
                self._documents.delete(old.name)

    def done(self, digest: Digest) -> Done | None:
        """How far a plan was applied; None where nobody tried, or the note of it is torn."""
        found = self._documents.read(f"{digest.hex}.done")
        try:
            return msgspec.json.decode(found.content, type=ready(Done)) if found else None
        except msgspec.MsgspecError:
            return None

    def note(self, digest: Digest, done: Done) -> None:
        """Keep how far a plan was applied. Raises LocalError, DiskFull."""
        self._documents.write(f"{digest.hex}.done", msgspec.json.encode(done))


def signature_of(path: Path) -> Path:
    """The file beside a plan's."""
    return path.with_name(f"{path.name}.sig")


def copy_plan(stored: Path, path: Path) -> None:
    """A stored plan as a further file, its signature beside it. Raises LocalError, DiskFull."""
    with local_errors(path):
        with stored.open("rb") as source, replaced(path) as part, part.open("wb") as target:
            shutil.copyfileobj(source, target, COPY_BYTES)
        if signature_of(stored).exists():
            write_file(signature_of(path), signature_of(stored).read_bytes())
        else:
            signature_of(path).unlink(missing_ok=True)


def read_signed(path: Path, verifier: Verifier) -> tuple[RetentionPlan, Statement]:
    """A plan's file that the statement beside it is about, and that statement. Raises InputError, SignatureInvalid."""
    try:
        with signature_of(path).open("rb") as file:
            envelope = file.read(MAX_STATEMENT_BYTES + 1)
        with path.open("rb") as file:
            digest = Digest(f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}")
    except FileNotFoundError as error:
        if not path.exists():
            raise InputError(f"the plan cannot be read: {error.strerror}", where=str(path)) from error
        do = f"Bring {signature_of(path).name} beside it, or plan where the promoter's key is"
        raise SignatureInvalid("the plan is not signed", where=str(path), do=do) from error
    except OSError as error:
        raise InputError(f"the plan cannot be read: {error.strerror}", where=str(path)) from error
    statement = read_statement(envelope, verifier, where=str(path))
    if statement.plan != digest:
        raise SignatureInvalid("the signature is another plan's", where=str(path), do="Make a new plan")
    return open_plan(path), statement
