"""What all stages of a chain share: configuration, open registries, keys, progress."""

from __future__ import annotations

import threading
from copy import copy
from datetime import UTC, datetime
from typing import cast

from registry_pipelines.chain.places import Places
from registry_pipelines.config import Config, Image
from registry_pipelines.config.decode import unknown
from registry_pipelines.errors import InputError
from registry_pipelines.evidence.keys import FileSigner, KeySet, generate_key, load_signer, load_verifier
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.progress import Progress
from registry_pipelines.registry.interface import Place
from registry_pipelines.release import Release
from registry_pipelines.transfer.delivery.receipts import ReceiptSigner
from registry_pipelines.transfer.engine import Engine


class Session:
    """One chain's tools; safe to use from many threads."""

    def __init__(self, config: Config, progress: Progress) -> None:
        self.config = config
        self.progress = progress
        self.places = Places(config)
        self._signer: FileSigner | None = None
        self._lock = threading.Lock()

    def telling(self, progress: Progress) -> Session:
        """The same session, open registries and limits included, that tells its progress elsewhere."""
        found = copy(self)
        found.progress = progress
        return found

    def engine(self, *, receipts: bool = True) -> Engine:
        """What images are copied and built with: receipts and known manifests below the state folder, the journal there
        or in the configuration's database. Limits are on the registries of :attr:`places`. receipts: False for what
        writes none, and needs no key for them. Raises InputError for a key that cannot be read."""
        return Engine(
            state=self.config.state / "transfer",
            journal_url=self.config.journal.reveal(),
            signer=self._receipt_signer() if receipts else None,
            progress=self.progress,
        )

    def image(self, name: str) -> Image:
        """An image of the configuration. Raises InputError with the closest name."""
        found = self.config.images.get(name)
        if found is None:
            raise InputError(unknown(name, self.config.images, "image"), do="Name an image of the configuration")
        return found

    def source(self, release: Release) -> Place:
        """Where a release is. Raises InputError for an unknown image."""
        return self.places.source(self.image(release.image))

    def subject(self, release: Release) -> Descriptor:
        """The descriptor of the release's top manifest, as the source registry has it now. Raises NotFound."""
        place = self.source(release)
        return place.registry.resolve(place.repository, release.digest)

    def signer(self) -> FileSigner:
        """The signing key. With ``signing.generate`` it is made at first use. Raises InputError."""
        with self._lock:
            if self._signer is None:
                self._make_key_if_told()
                self._signer = load_signer(self.config.signing_key, self.config.signing.password.reveal())
            return self._signer

    def _receipt_signer(self) -> ReceiptSigner | None:
        """The signing key where there is one: a machine that only copies writes receipts without a signature."""
        return cast(ReceiptSigner, self.signer()) if self.config.signing_key.exists() else None

    def verifier(self) -> KeySet:
        """The keys that are believed. Raises InputError."""
        with self._lock:
            self._make_key_if_told()
        return load_verifier(self.config.trusted_keys)

    def now(self) -> datetime:
        """The time that policies are applied at."""
        return datetime.now(UTC)

    def _make_key_if_told(self) -> None:
        path = self.config.signing_key
        if path.exists() or not self.config.signing.generate:
            return
        try:
            generate_key(path, password=self.config.signing.password.reveal())
        except InputError:
            # Another process made it between the look and the try; a key is never overwritten.
            if not path.exists():
                raise
