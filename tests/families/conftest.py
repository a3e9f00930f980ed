"""The matrix is no test file by name; its assertions shall explain themselves all the same."""

import pytest

pytest.register_assert_rewrite("tests.families.matrix")
