"""Nothing is written over unasked, JSON is whole or absent, YAML is names and values."""

import json
from pathlib import Path

import pytest

from glip.errors import ConfigError, FileError
from glip.files import check_target, read_yaml, write_json


def test_a_new_name_in_a_folder_may_be_written(tmp_path: Path) -> None:
    assert check_target(str(tmp_path / "a.json"), overwrite=False) == tmp_path / "a.json"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("there.json", "exists already", id="a file that is there"),
        pytest.param("folder", "is a folder", id="a folder"),
        pytest.param("nowhere/a.json", "there is no folder", id="a file in no folder"),
    ],
)
def test_a_target_is_refused_for(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "there.json").write_text("mine")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileError, match=message):
        check_target(tmp_path / name, overwrite=False)


def test_a_file_may_be_replaced_if_asked_for(tmp_path: Path) -> None:
    (tmp_path / "there.json").write_text("mine")
    assert check_target(tmp_path / "there.json", overwrite=True).name == "there.json"


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": [1, "ä"]})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": {1, 2}})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"a": [1, "ä"]}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "got a NoneType", id="nothing"),
        pytest.param("[1]", "got a list", id="a list"),
        pytest.param("a: [", "not valid YAML", id="no YAML"),
    ],
)
def test_yaml_is_refused_for(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_yaml(tmp_path / "a.yaml")


def test_a_missing_file_says_what_it_should_have_been(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such task file"):
        read_yaml(tmp_path / "a.yaml", what="task")
