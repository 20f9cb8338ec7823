"""ODinW's official task files: splits, other names, prompts, and the average over tasks."""

import json
from pathlib import Path

import pytest

from glip.errors import ConfigError, DataError, FileError
from glip.evaluation.benchmark import Vocabulary
from glip.evaluation.odinw import OdinwTask, read_odinw_tasks, summarize

AQUARIUM = """
DATASETS:
  CAPTION_PROMPT: '[{"prefix": "", "name": "penguin", "suffix": ", which is black and white"},
    {"prefix": "", "name": "fish", "suffix": ""},]'
  OVERRIDE_CATEGORY: '[{"id": 1, "name": "bird", "supercategory": "creatures"}, {"id": 2, "name": "fish"}]'
  REGISTER:
    minival: {ann_file: sea/mini_val/a.json, img_dir: sea/mini_val}
    test: {ann_file: sea/test/a.json, img_dir: sea/test}
  TEST: ("minival",)
  TRAIN: ("train",)
MODEL: {ATSS: {NUM_CLASSES: 3}}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    content = {
        "images": [{"id": 4, "file_name": "x.jpg", "width": 8, "height": 8}],
        "annotations": [],
        "categories": [{"id": 1, "name": "penguin"}, {"id": 2, "name": "fish"}],
    }
    for split in ("mini_val", "test"):
        (tmp_path / "sea" / split).mkdir(parents=True)
        (tmp_path / "sea" / split / "a.json").write_text(json.dumps(content))
    return tmp_path


def task_file(folder: Path, text: str = AQUARIUM, name: str = "Aquarium.yaml") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def vocabulary(task: OdinwTask) -> Vocabulary:
    (question,) = task.questions()
    assert isinstance(question.words, Vocabulary)
    return question.words


def test_a_task_by_hand(root: Path) -> None:
    (task,) = read_odinw_tasks([task_file(root / "tasks")], root=root)
    assert task.task == "Aquarium"
    assert task.annotations == root / "sea/mini_val/a.json"
    assert task.questions()[0].image == root / "sea/mini_val/x.jpg"
    words = vocabulary(task)
    assert words.labels == ("bird", "fish")
    assert words.ids == (1, 2)
    assert words.affixes == (("", "penguin", ", which is black and white"), ("", "fish", ""))
    assert task.settings()["task"] == "Aquarium"
    assert task.settings()["prompt order"] == ["bird", "fish"]


def test_another_split_may_be_chosen(root: Path) -> None:
    (task,) = read_odinw_tasks([task_file(root / "tasks")], root=root, split="test")
    assert task.annotations == root / "sea/test/a.json"


def test_without_prompts_the_files_own_names_are_used(root: Path) -> None:
    (task,) = read_odinw_tasks([task_file(root / "tasks")], root=root, use_prompts=False)
    assert vocabulary(task) == Vocabulary(("penguin", "fish"), (1, 2))


@pytest.mark.parametrize(
    "test",
    ['("minival",)', '["minival"]', "minival", "[minival]"],
    ids=["a tuple", "a list in quotes", "a word", "YAML"],
)
def test_the_split_may_be_written_as(test: str, root: Path) -> None:
    text = AQUARIUM.replace('("minival",)', test if test != '["minival"]' else "['minival']")
    (task,) = read_odinw_tasks([task_file(root / "tasks", text)], root=root)
    assert task.annotations == root / "sea/mini_val/a.json"


def test_a_folder_gives_its_tasks_by_name_without_the_one_that_is_left_out(root: Path) -> None:
    for name in ("b.yaml", "a.yml", "_all.yaml", "plantdoc_100x100.yaml", "notes.txt"):
        task_file(root / "tasks", name=name)
    assert [task.task for task in read_odinw_tasks([root / "tasks"], root=root)] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("DATASETS: [1]", "expected an ODinW task with DATASETS", id="no task"),
        pytest.param("a: [", "not valid YAML", id="no YAML"),
        pytest.param("DATASETS: {TEST: [val], REGISTER: {}}", "no split 'val'; it has", id="a split that is not there"),
        pytest.param("DATASETS: {TEST: [], REGISTER: {}}", "must name one split", id="no split"),
        pytest.param("DATASETS: {TEST: [a, b], REGISTER: {}}", "must name one split", id="two splits"),
        pytest.param("DATASETS: {TEST: [v], REGISTER: {v: {}}}", "'ann_file' must be a path", id="no annotation file"),
        pytest.param("DATASETS: {TEST: 5, REGISTER: {}}", "must name one split", id="a number as split"),
        pytest.param("DATASETS: {TEST: [v], REGISTER: [v]}", "no split 'v'", id="a list of splits"),
        pytest.param(AQUARIUM.replace('"id": 2', '"id": 99'), "99 is no category id", id="an unknown class"),
        pytest.param(
            AQUARIUM.replace('"name": "fish", "suffix": ""},', '"name": "fish"},'),
            "CAPTION_PROMPT must be a list",
            id="a prompt without a suffix",
        ),
        pytest.param(AQUARIUM.replace('\'[{"id"', '\'open(1) [{"id"'), "no list that can be read", id="code, no list"),
    ],
)
def test_a_task_file_is_refused_for(text: str, message: str, root: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        read_odinw_tasks([task_file(root / "tasks", text)], root=root)


def test_missing_files_are_named(root: Path) -> None:
    with pytest.raises(FileError, match=r"nowhere\.yaml: no such task file"):
        read_odinw_tasks([root / "nowhere.yaml"], root=root)
    (root / "empty").mkdir()
    with pytest.raises(FileError, match="no task files"):
        read_odinw_tasks([root / "empty"], root=root)


def test_an_override_takes_the_place_of_the_list_in_its_own_order(root: Path) -> None:
    before, rest = AQUARIUM.split("OVERRIDE_CATEGORY: ")
    text = before + 'OVERRIDE_CATEGORY: \'[{"id": 2, "name": "salmon"}]\'\n' + rest.split("\n", 1)[1]
    (task,) = read_odinw_tasks([task_file(root / "tasks", text)], root=root)
    assert vocabulary(task).labels == ("salmon",)
    assert vocabulary(task).ids == (2,)
    assert list(task.score([])["per_class"]) == ["fish"]


def test_a_prompt_may_stand_in_a_file_of_its_own(root: Path) -> None:
    prompt = [{"prefix": "a", "name": "b", "suffix": "c"}, {"prefix": "", "name": "d", "suffix": ""}]
    (root / "tasks").mkdir()
    (root / "tasks" / "prompt.yaml").write_text(json.dumps(prompt))
    register = "REGISTER: {v: {ann_file: sea/test/a.json, img_dir: sea/test}}"
    text = f"DATASETS: {{TEST: [v], CAPTION_PROMPT: prompt.yaml, {register}}}"
    (task,) = read_odinw_tasks([task_file(root / "tasks", text)], root=root)
    assert vocabulary(task).affixes == (("a", "b", "c"), ("", "d", ""))


def test_two_tasks_of_one_name_are_refused(root: Path) -> None:
    paths = [task_file(root / "one"), task_file(root / "two")]
    with pytest.raises(ConfigError, match="may not be named 'Aquarium'"):
        read_odinw_tasks(paths, root=root)


def test_average_and_median() -> None:
    summary = summarize({"a": {"AP": 0.1}, "b": {"AP": 0.2}, "c": {"AP": 0.9}})
    assert summary["average AP"] == pytest.approx(0.4)
    assert summary["median AP"] == 0.2
    assert summary["number of tasks"] == "3"
    assert summary["tasks"]["c"] == {"AP": 0.9}


def test_a_task_without_boxes_has_no_average() -> None:
    with pytest.raises(DataError, match="'b' has none"):
        summarize({"a": {"AP": 0.1}, "b": {"AP": -1.0}})


def test_no_task_has_no_average() -> None:
    with pytest.raises(DataError, match="at least one task"):
        summarize({})
