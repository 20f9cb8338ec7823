"""`glip evaluate` gives the reference evaluators' numbers: fractions to 1e-6, hits exactly.

The data are made up in the benchmarks' formats; tests/evaluation/golden holds them with the expected numbers.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from glip.cli.main import main
from glip.evaluation.flickr30k import read_entities
from glip.evaluation.grounding import score_grounding

GOLDEN = Path(__file__).parent / "golden"
EXPECTED: dict[str, Any] = json.loads((GOLDEN / "golden.json").read_text())


@pytest.fixture
def evaluate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Run `glip evaluate ARGUMENTS... --output FILE` and read the file."""

    def run(*arguments: object) -> dict[str, Any]:
        output = tmp_path / "result.json"
        monkeypatch.setattr("sys.argv", ["glip", "evaluate", *map(str, arguments), "--output", str(output)])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 0
        result: dict[str, Any] = json.loads(output.read_text())
        assert result["settings"]["benchmark"] == arguments[0]
        metrics: dict[str, Any] = result["metrics"]
        return metrics

    return run


@pytest.mark.parametrize(
    ("protocol", "name"),
    [
        pytest.param("fixed", "fixed_ap", id="10,000 a category"),
        pytest.param("standard", "standard_ap_300_per_image", id="300 an image"),
    ],
)
def test_lvis_with(protocol: str, name: str, evaluate: Any) -> None:
    metrics = evaluate(
        *("lvis", "--annotations", GOLDEN / "lvis/lvis_v1_minival_inserted_image_name.json"),
        *("--predictions", GOLDEN / "lvis/predictions.json", "--protocol", protocol),
    )
    for key, value in EXPECTED["lvis"][name].items():
        assert metrics[key] == pytest.approx(value, abs=1e-6), key


@pytest.mark.parametrize(
    ("options", "name"),
    [
        pytest.param(["--plus-one"], "glip_xywh_plus1", id="GLIP's extra pixel"),
        pytest.param([], "plain_xywh", id="plain widths"),
    ],
)
def test_coco_with(options: list[str], name: str, evaluate: Any) -> None:
    metrics = evaluate(
        *("coco", "--annotations", GOLDEN / "coco/instances_val2017.json"),
        *("--predictions", GOLDEN / "coco/predictions.json", *options),
    )
    for key, value in EXPECTED["coco"][name].items():
        if key != "per_category_AP":
            assert metrics[key] == pytest.approx(value, abs=1e-6), key


@pytest.mark.parametrize("protocol", ["any-box", "merged-box"])
@pytest.mark.parametrize("split", ["val", "test"])
def test_flickr30k(split: str, protocol: str, evaluate: Any) -> None:
    metrics = evaluate(
        *("flickr30k", "--root", GOLDEN / "flickr30k", "--split", split),
        *("--predictions", GOLDEN / f"flickr30k/predictions_{split}.json", "--protocol", protocol),
    )
    expected = EXPECTED["flickr30k"][split][protocol.replace("-", "_")]
    assert metrics["hits"] == expected["hits"]
    assert metrics["totals"] == expected["totals"]
    for rank in expected["hits"]:
        assert metrics[rank] == pytest.approx(expected[rank], abs=1e-6)


def test_a_repeated_sentence_changes_nothing() -> None:
    sentences = read_entities(GOLDEN / "flickr30k", "test")
    once = json.loads((GOLDEN / "flickr30k/predictions_test.json").read_text())
    twice = once + json.loads((GOLDEN / "flickr30k/duplicates_test.json").read_text())
    keys = ("image_id", "sentence_id")
    counted_once, counted_twice = (score_grounding(sentences, found, key_fields=keys).hits for found in (once, twice))
    assert counted_twice == counted_once


@pytest.mark.parametrize("overlap", ["iou", "giou"])
@pytest.mark.parametrize("name", ["refcoco", "refcoco+", "refcocog"])
def test_referring_expressions_of(name: str, overlap: str, evaluate: Any) -> None:
    metrics = evaluate(
        *("refcoco", "--annotations", GOLDEN / f"refexp/finetune_{name}_val.json"),
        *("--predictions", GOLDEN / f"refexp/predictions_{name}_val.json"),
        *(["--giou"] if overlap == "giou" else []),
    )
    shares = EXPECTED["refexp"]["official_giou" if overlap == "giou" else "iou"][name]
    for key, count in EXPECTED["refexp"][f"hits_{overlap}"][name].items():
        assert metrics["hits"][key] == count
        assert metrics[key] == pytest.approx(shares[key], abs=1e-6)


@pytest.mark.parametrize(("protocol", "boxes"), [("any-box", "separateGT"), ("merged-box", "mergedGT")])
@pytest.mark.parametrize("split", ["val", "test"])
def test_flickr30k_by_mdetrs_files(split: str, protocol: str, boxes: str, evaluate: Any) -> None:
    """The converter's boxes give the numbers of the XML files; it has dropped the phrases' types."""
    annotations = GOLDEN / f"flickr30k/mdetr_annotations/final_flickr_{boxes}_{split}.json"
    metrics = evaluate(
        *("flickr30k", "--annotations", annotations, "--protocol", protocol),
        *("--predictions", GOLDEN / f"flickr30k/predictions_{split}.json"),
    )
    expected = EXPECTED["flickr30k"][split][protocol.replace("-", "_")]
    assert metrics["totals"] == {"all": expected["totals"]["all"]}
    assert {rank: count["all"] for rank, count in metrics["hits"].items()} == {
        rank: count["all"] for rank, count in expected["hits"].items()
    }


@pytest.mark.parametrize(
    ("options", "name"),
    [
        pytest.param(["--plus-one"], "glip_xywh_plus1", id="GLIP's extra pixel"),
        pytest.param([], "plain_xywh", id="plain widths"),
    ],
)
def test_coco_of_each_category_with(options: list[str], name: str, evaluate: Any) -> None:
    metrics = evaluate(
        *("coco", "--annotations", GOLDEN / "coco/instances_val2017.json"),
        *("--predictions", GOLDEN / "coco/predictions.json", *options),
    )
    truth = json.loads((GOLDEN / "coco/instances_val2017.json").read_text())
    names = {str(category["id"]): category["name"] for category in truth["categories"]}
    for key, value in EXPECTED["coco"][name]["per_category_AP"].items():
        assert metrics["per_class"][names[key]]["AP"] == pytest.approx(value, abs=1e-6), key


@pytest.mark.parametrize(
    ("file", "name"),
    [
        pytest.param("results_xywh.json", "plain_xywh", id="plain widths"),
        pytest.param("results_xywh_plus1.json", "glip_xywh_plus1", id="GLIP's extra pixel, in the file"),
    ],
)
def test_a_coco_results_file_with(file: str, name: str, evaluate: Any) -> None:
    metrics = evaluate(
        *("coco", "--annotations", GOLDEN / "coco/instances_val2017.json", "--predictions", GOLDEN / "coco" / file)
    )
    for key, value in EXPECTED["coco"][name].items():
        if key != "per_category_AP":
            assert metrics[key] == pytest.approx(value, abs=1e-6), key
