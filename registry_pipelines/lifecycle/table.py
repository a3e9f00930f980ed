"""An evaluation as one table, for other programs: the inventory's columns and what happens to each image."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from registry_pipelines.errors import InputError
from registry_pipelines.lifecycle.evaluation import Evaluation
from registry_pipelines.lifecycle.words import Policy, outcome_text, questions_text, rule_text, why

FORMS = (".parquet", ".csv")


def frame(policy: Policy, evaluation: Evaluation) -> pd.DataFrame:
    """The inventory's columns, then ``outcome``, ``rule``, ``why`` and ``open`` (questions, empty for none)."""
    rows = range(evaluation.images.count)
    return evaluation.images.inventory.frame.assign(
        outcome=pd.Categorical([outcome_text(evaluation, at) for at in rows]),
        rule=pd.Categorical([rule_text(evaluation, at) for at in rows]),
        why=[why(policy, evaluation, at) for at in rows],
        open=pd.Categorical(["; ".join(questions_text(evaluation, at)) for at in rows]),
    )


def write_table(policy: Policy, evaluation: Evaluation, path: Path) -> None:
    """Write ``.parquet`` or ``.csv``. Raises InputError for another ending, OSError."""
    if path.suffix not in FORMS:
        raise InputError(f"{path.suffix or 'no ending'} is no form of a table", do=f"Write {' or '.join(FORMS)}")
    made = frame(policy, evaluation)
    if path.suffix == ".parquet":
        made.to_parquet(path, index=False, compression="zstd")
    else:
        made.to_csv(path, index=False)
