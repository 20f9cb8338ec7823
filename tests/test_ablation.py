"""Training with and without a source: which runs are made, and what the table says of them."""

from pathlib import Path

import pytest

from glip.errors import ConfigError
from tools.ablate_source import numbers_of, sources_of, table

CONFIG = """
sources:
  - {kind: detection, annotations: real.json}
  - {kind: odvg, annotations: pseudo.jsonl}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "experiment.yaml"
    path.write_text(CONFIG)
    return path


@pytest.mark.parametrize(("kind", "annotations"), [("with", ["real.json", "pseudo.jsonl"]), ("without", ["real.json"])])
def test_the_source_is_taken_out(kind: str, annotations: list[str], config: Path) -> None:
    assert [one["annotations"] for one in sources_of(config, "pseudo.jsonl", kind)] == annotations


def test_a_source_that_the_experiment_does_not_have_is_named(config: Path) -> None:
    with pytest.raises(ConfigError, match=r"no source has annotations other\.json"):
        sources_of(config, "other.json", "with")


def test_numbers_are_found_at_any_depth_and_words_are_left_out() -> None:
    assert numbers_of({"set": {"recall": 0.5, "note": "new", "deep": {"AP": 1}}}) == {
        "set/recall": 0.5,
        "set/deep/AP": 1,
    }
    assert numbers_of({}) == {}


def test_the_table_has_means_and_each_seeds_value() -> None:
    rows = [
        {"kind": "without", "seed": 0, "set": {"recall": 0.5}},
        {"kind": "with", "seed": 0, "set": {"recall": 0.75}},
        {"kind": "without", "seed": 1, "set": {"recall": 0.25}},
        {"kind": "with", "seed": 1, "set": {"recall": 0.75}},
    ]
    assert table(rows).splitlines()[2:] == ["| set/recall | 0.375 | 0.750 | 0.500, 0.250 | 0.750, 0.750 |"]
