"""Keys of both sides."""

from tests.evidence.conftest import make_key

__all__ = ["make_key"]
