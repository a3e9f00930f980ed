"""A registry to pull from."""

from __future__ import annotations

from tests.evidence.conftest import counted

__all__ = ["counted"]
