"""Options that every command has, and what they open."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, cast

import click
import msgspec

from registry_pipelines.chain.places import Places
from registry_pipelines.cli.envelope import print_document
from registry_pipelines.cli.errors import guarded
from registry_pipelines.cli.progress import shown_progress
from registry_pipelines.config import ENVIRONMENT_VARIABLE, FILE_NAME
from registry_pipelines.errors import InputError
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.progress import Progress, Silent
from registry_pipelines.settings import Size
from registry_pipelines.transfer.limits.machine import MachineLimits
from registry_pipelines.versions import claim_state

if TYPE_CHECKING:  # loaded where it is used: a copy without a configuration needs none of the stages
    from registry_pipelines.chain import Chain
    from registry_pipelines.config import Config
    from registry_pipelines.evidence.keys import KeySet
    from registry_pipelines.evidence.model import Signer
    from registry_pipelines.evidence.predicates import Role
    from registry_pipelines.transfer.closure.platforms import Selection
    from registry_pipelines.transfer.delivery.receipts import ReceiptSigner
    from registry_pipelines.transfer.engine import Engine

_P = ParamSpec("_P")


class Options(msgspec.Struct, frozen=True):
    """What the common options said."""

    config_file: Path | None = None
    as_json: bool = False
    quiet: bool = False
    debug: bool = False

    def find_config(self) -> Path | None:
        """The file of ``--config``, of the environment variable, ``registry-pipelines.yaml`` here; else None."""
        if self.config_file is not None:
            return self.config_file
        named = os.environ.get(ENVIRONMENT_VARIABLE)
        if named:
            return Path(named)
        here = Path(FILE_NAME)
        return here if here.exists() else None

    def config(self, *, look: bool = False) -> Config:
        """The configuration. Raises InputError when there is none, ConfigInvalid. look: see ``config.load``."""
        path = self.find_config()
        if path is None:
            raise InputError(
                "there is no configuration",
                do=f"Give --config FILE, set {ENVIRONMENT_VARIABLE}, or run where {FILE_NAME} is; "
                "`registry-pipelines init` writes a first one",
            )
        from registry_pipelines.config import load

        return load(path, look=look)

    def config_if_any(self) -> Config | None:
        """The configuration, None when none is given or found."""
        return self.config() if self.find_config() else None

    @property
    def state(self) -> Path:
        """Where commands that need no configuration keep journals: the configuration's state folder, or the user's.
        Raises StateTooNew."""
        config = self.config_if_any()
        home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        folder = config.state if config is not None else Path(home) / "registry-pipelines"
        claim_state(folder)
        return folder / "transfer"

    def believed(self, keys: Sequence[Path]) -> KeySet | None:
        """Whose signatures count for who only looks: of ``--key``, else of the configuration's keys that are here; None
        for nobody's. Raises InputError for a key that cannot be read."""
        if keys:
            from registry_pipelines.evidence.keys import load_verifier

            return load_verifier(keys)
        config = self.config_if_any()
        if config is None:
            return None
        from registry_pipelines.chain.keys import Keyring

        return Keyring(config).trusted_if_any()

    def signer(
        self,
        key: Path | None,
        *roles: Role,
        unsigned: str,
        option: str = "--key",
        do: str = "a configuration",
        of_models: bool = False,
    ) -> Signer:
        """Who signs what a command makes: the key of a file, with the password that the configuration has for the first
        role; else the configuration's, of the first role whose key is here. unsigned: what is said where there is
        neither; do: what else may be done then. of_models: the file may have a key of P-384 or P-521, too. Raises
        InputError for no key, or one that cannot be read; LocalError where workers share a state and this machine's
        clock is not theirs."""
        config = self.config_if_any()
        if key is not None:
            from registry_pipelines.evidence.key_files import MODEL_CURVES, P256
            from registry_pipelines.evidence.keys import load_signer

            password = config.password_of(roles[0]) if config else ""
            return load_signer(key, password, curves=MODEL_CURVES if of_models else P256)
        if config is not None:
            from registry_pipelines.chain.session import Session

            return Session(config, Silent()).keys.signer(*roles)
        made = "`registry-pipelines sign --generate-key --key FILE` makes one"
        raise InputError(unsigned, do=f"Give {option} FILE ({made}), or {do}")

    def engine(self, key: Path | None) -> Engine:
        """What images are copied with, without progress. key: of the receipts; the configuration's unless told. Raises
        InputError for a key that cannot be read."""
        from registry_pipelines.transfer.engine import Engine

        config = self.config_if_any()
        shared = None
        if config and config.shared.database:
            from registry_pipelines.chain.shared import shared_of

            shared = shared_of(config)
        return Engine(state=self.state, shared=shared, signer=self._receipt_signer(key))

    def _receipt_signer(self, key: Path | None) -> ReceiptSigner | None:
        """Who signs the receipts of a copy: the key given, else the configuration's where that file is there; None is
        nobody. A key with a password gets the configuration's. Raises InputError."""
        config = self.config_if_any()
        path = key or (config.signing_key_of("promoter") if config else None)
        if path is None or (key is None and not path.exists()):
            return None
        from registry_pipelines.evidence.keys import load_signer

        return cast("ReceiptSigner", load_signer(path, config.password_of("promoter") if config else ""))

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Progress on stderr."""
        with shown_progress(quiet=self.quiet) as shown:
            yield shown

    @contextmanager
    def places(self, references: Sequence[str]) -> Iterator[Places]:
        """Places of the configuration, if there is one, and everywhere else; the embedded registries that the
        references name are listening meanwhile."""
        config = self.config_if_any()
        if config is None:
            yield Places(None, limits=MachineLimits(folder=_writable(self.state / "limits")))
            return
        from registry_pipelines.chain.serving import ensure_registries

        with ensure_registries(config, {text.partition("/")[0] for text in references}):
            yield Places(config)

    @contextmanager
    def chain(self) -> Iterator[Chain]:
        """The chain over the configuration, with progress; its embedded registries are listening meanwhile."""
        from registry_pipelines.chain import Chain
        from registry_pipelines.chain.serving import ensure_registries

        config = self.config()
        with self.progress() as shown, ensure_registries(config):
            yield Chain(config, progress=shown)


def _writable(folder: Path) -> Path | None:
    """The folder, made where it is not there; None on a machine that is only read from."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def common(command: Callable[Concatenate[Options, _P], None]) -> Callable[_P, None]:
    """Add ``--config``, ``--json``, ``--quiet``, ``--debug``; the command gets their values first.

    The process ends with the documented exit code.
    """

    def run(*arguments: _P.args, **rest: _P.kwargs) -> None:
        named: dict[str, Any] = {name: rest.pop(name) for name in ("config_file", "as_json", "quiet", "debug")}
        options = Options(**named)
        try:
            code = guarded(lambda: command(options, *arguments, **rest), as_json=options.as_json, debug=options.debug)
        except SystemExit as ended:  # the answer is no
            code = int(ended.code or 0)
        if options.as_json:
            print_document(code)
        if code:
            sys.exit(code)

    decorated = update_wrapper(run, command)
    for option in reversed(_COMMON):
        decorated = option(decorated)
    return decorated


RECEIPT_KEY = click.option(
    "--key",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Private key that signs the receipts; the configuration's unless told.",
)

BELIEVED_KEYS = click.option(
    "--key",
    "keys",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="PEM public key to believe; the configuration's trusted keys unless told.",
)


class NamedPath(click.Path):
    """A path that is told: a script's variable that is empty would name the folder that it runs in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See click."""
        if not str(value):
            self.fail("it is empty; write . for the folder that this runs in", param, ctx)
        return super().convert(value, param, ctx)


class SizeType(click.ParamType[Size]):
    """``4MiB``, ``25GB``."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Size:
        """See click."""
        if isinstance(value, Size):
            return value
        try:
            return Size.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


PLATFORM = click.option(
    "--platform", "platforms", multiple=True, metavar="OS/ARCH", help="Only this platform; may be repeated."
)
SELECTION = click.option(
    "--selection",
    type=click.Choice(["sparse", "rewritten"]),
    help="With --platform: the index as it is, lacking the others (sparse, unless told), or a new one.",
)

FOREIGN_LAYERS = click.option(
    "--foreign-layers",
    is_flag=True,
    help="Also layers that their publisher keeps elsewhere, where the source holds them; mind their licence.",
)


def read_selection(platforms: Sequence[str], selection: Selection | None) -> tuple[tuple[Platform, ...], Selection]:
    """What ``PLATFORM`` and ``SELECTION`` said. Raises InputError."""
    if selection and not platforms:
        raise InputError("--selection is about --platform, and none is named", do="Name one, or leave it out")
    return tuple(Platform.parse(text) for text in platforms), selection or "sparse"


_COMMON = (
    click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help=f"Configuration file; ${ENVIRONMENT_VARIABLE} or ./{FILE_NAME} unless told.",
    ),
    click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout."),
    click.option("--quiet", is_flag=True, help="No progress on stderr."),
    click.option("--debug", is_flag=True, help="The traceback of an error on stderr."),
)
