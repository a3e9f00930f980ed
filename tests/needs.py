"""What a test needs of the machine it runs on."""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """Skip on a user's machine. In CI fail: there a check that does not run looks like one that passed."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason}; CI must have it", pytrace=False)
    pytest.skip(reason)


def live(variable: str) -> str:
    """What the environment says of a real account that a test may use. Not run without it, in CI neither: it needs the
    internet, costs money, and changes something there."""
    value = os.environ.get(variable, "")
    if not value:
        pytest.skip(f"{variable} is not set: no real account is asked")
    return value


def needed_module(name: str, extra: str) -> ModuleType:
    """A module that comes with an extra of this project."""
    try:
        return importlib.import_module(name)
    except ImportError:
        missing(f"{name} is not installed (extra `{extra}`)")
