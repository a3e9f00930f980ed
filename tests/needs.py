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


def needed_module(name: str, extra: str) -> ModuleType:
    """A module that comes with an extra of this project."""
    try:
        return importlib.import_module(name)
    except ImportError:
        missing(f"{name} is not installed (extra `{extra}`)")
