"""Stages and refusals are no test files by name; their assertions shall explain themselves all the same."""

import pytest

pytest.register_assert_rewrite("tests.families.matrix", "tests.families.stages", "tests.families.refusals")
