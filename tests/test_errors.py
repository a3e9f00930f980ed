"""The tree in the docstring of errors.py is the real one."""

from __future__ import annotations

import inspect
import re

from registry_pipelines import errors
from registry_pipelines.errors import (
    ConfigInvalid,
    NotFound,
    PromotionDenied,
    RateLimited,
    RegistryPipelinesError,
    exit_code_of_many,
)


def documented() -> dict[str, str]:
    """Class name to parent's name, read from the indented tree."""
    parents: dict[str, str] = {}
    stack: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"( *)([A-Z][A-Za-z]+)(?:  |$)", line)
        if found:
            depth = len(found[1]) // 2
            stack = [*stack[:depth], found[2]]
            parents[found[2]] = stack[depth - 1] if depth else "Exception"
    return parents


def test_docstring_tree_is_the_class_tree() -> None:
    classes = {
        name: kind.__bases__[0].__name__
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if kind.__module__ == errors.__name__
    }
    assert documented() == classes


def test_text_says_where_what_and_what_to_do() -> None:
    error = NotFound("no such tag", where="127.0.0.1:5501/ml/app:v9", do="List the tags")
    assert str(error) == "127.0.0.1:5501/ml/app:v9: no such tag. List the tags"
    assert error.diagnostics()["error"] == "NotFound"
    assert str(RegistryPipelinesError("it broke")) == "it broke"


def test_problems_and_reasons_are_all_listed() -> None:
    invalid = ConfigInvalid(["a.yaml:1: x: wrong", "a.yaml:2: y: wrong"])
    assert "problems in the configuration (2)" in str(invalid)
    assert "a.yaml:2: y: wrong" in str(invalid)
    denied = PromotionDenied("denied", reasons=["CRITICAL PYSEC-1", "unsigned"])
    assert "\n  - unsigned" in str(denied)
    assert denied.exit_code == 3


def test_only_what_may_pass_later_is_temporary() -> None:
    temporary = {
        name
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, RegistryPipelinesError) and kind.temporary
    }
    assert temporary == {"Unavailable", "RateLimited", "QuotaSpent", "Stalled"}
    assert RateLimited("slow down", retry_after_s=3).retry_after_s == 3


def test_many_have_the_exit_code_that_all_of_them_have() -> None:
    assert [exit_code_of_many(codes) for codes in ([], [0, 0], [7, 7], [7, 5], [0, 7], [6])] == [0, 0, 7, 6, 6, 6]
