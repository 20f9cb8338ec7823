"""A calibrator maps scores to probabilities without turning their order round, and survives a JSON file."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from glip.detection.calibration import Calibrator
from glip.errors import DataError, FileError

STEPS = Calibrator("isotonic", scores=(0.2, 0.6, 0.8), probabilities=(0.1, 0.5, 0.9))
HOT = Calibrator("temperature", temperature=2.0)


@pytest.mark.parametrize(
    ("score", "probability"),
    [
        pytest.param(0.6, 0.5, id="a knot"),
        pytest.param(0.3, 0.2, id="a quarter of the way to the second knot"),
        pytest.param(0.7, 0.7, id="half of the way to the third"),
        pytest.param(0.2, 0.1, id="the first knot"),
        pytest.param(0.0, 0.1, id="before the first"),
        pytest.param(0.8, 0.9, id="the last knot"),
        pytest.param(1.0, 0.9, id="after the last"),
    ],
)
def test_isotonic_draws_straight_lines_between_knots(score: float, probability: float) -> None:
    torch.testing.assert_close(STEPS(torch.tensor([score])), torch.tensor([probability]))


def test_one_knot_is_a_constant() -> None:
    constant = Calibrator("isotonic", scores=(0.5,), probabilities=(0.25,))
    assert constant(torch.tensor([0.0, 0.5, 1.0])).tolist() == [0.25] * 3


@pytest.mark.parametrize(
    ("temperature", "score", "probability"),
    [
        pytest.param(2.0, 0.9, 0.75, id="the odds 9 become their root 3"),
        pytest.param(2.0, 0.1, 0.25, id="the odds 1/9 become 1/3"),
        pytest.param(0.5, 0.75, 0.9, id="below 1 the odds 3 become their square 9"),
        pytest.param(1.0, 0.3, 0.3, id="1 changes nothing"),
        pytest.param(3.0, 0.5, 0.5, id="a half stays"),
        pytest.param(2.0, 0.0, 1 / 1001, id="0 counts as a millionth"),
        pytest.param(2.0, 1.0, 1000 / 1001, id="1 counts as a millionth less"),
    ],
)
def test_temperature_divides_the_logit(temperature: float, score: float, probability: float) -> None:
    found = Calibrator("temperature", temperature=temperature)(torch.tensor([score]))
    torch.testing.assert_close(found, torch.tensor([probability]), rtol=1e-4, atol=0)


both = pytest.mark.parametrize("calibrator", [pytest.param(STEPS, id="isotonic"), pytest.param(HOT, id="temperature")])


@both
def test_a_higher_score_is_never_less_probable(calibrator: Calibrator) -> None:
    probabilities = calibrator(torch.linspace(0, 1, 10_001))
    assert (probabilities.diff() >= 0).all()
    assert 0 <= probabilities[0] < probabilities[-1] <= 1


@both
@pytest.mark.parametrize("shape", [(0,), (0, 4), (), (2, 3)])
def test_the_shape_stays(calibrator: Calibrator, shape: tuple[int, ...]) -> None:
    assert calibrator(torch.full(shape, 0.5)).shape == shape


@both
def test_a_transposed_tensor_gives_the_transposed_probabilities(calibrator: Calibrator) -> None:
    scores = torch.tensor([[0.1, 0.3, 0.5], [0.7, 0.8, 0.9]])
    torch.testing.assert_close(calibrator(scores.T), calibrator(scores).T)


@both
@pytest.mark.parametrize(
    ("given", "returned"),
    [
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
        (torch.bfloat16, torch.float32),
        (torch.int64, torch.float32),
    ],
)
def test_probabilities_are_float(calibrator: Calibrator, given: torch.dtype, returned: torch.dtype) -> None:
    scores = torch.tensor([0.0, 0.5, 1.0]).to(given)
    probabilities = calibrator(scores)
    assert probabilities.dtype == returned
    torch.testing.assert_close(probabilities.float(), calibrator(scores.float()))


@both
def test_the_scores_stay_as_they_were(calibrator: Calibrator) -> None:
    scores = torch.tensor([0.0, 0.3, 1.0])
    calibrator(scores)
    assert scores.tolist() == torch.tensor([0.0, 0.3, 1.0]).tolist()


@both
def test_nan_stays_nan(calibrator: Calibrator) -> None:
    assert calibrator(torch.tensor([math.nan, 0.5])).isnan().tolist() == [True, False]


def test_knots_too_near_for_float32_give_numbers() -> None:
    near = Calibrator("isotonic", scores=(0.5, 0.5 + 1e-12, 0.6), probabilities=(0.2, 0.4, 0.8))
    probabilities = near(torch.tensor([0.4, 0.5, 0.55, 0.7]))
    torch.testing.assert_close(probabilities, torch.tensor([0.2, 0.2, 0.6, 0.8]))


@pytest.mark.parametrize(
    ("calibrator", "data"),
    [
        pytest.param(
            STEPS,
            {"kind": "isotonic", "scores": [0.2, 0.6, 0.8], "probabilities": [0.1, 0.5, 0.9]},
            id="isotonic",
        ),
        pytest.param(HOT, {"kind": "temperature", "temperature": 2.0}, id="temperature"),
    ],
)
def test_dict_and_file_give_it_back(calibrator: Calibrator, data: dict[str, Any], tmp_path: Path) -> None:
    assert calibrator.to_dict() == data
    assert Calibrator.from_dict(data) == calibrator
    calibrator.save(tmp_path / "calibrator.json")
    assert json.loads((tmp_path / "calibrator.json").read_text()) == data
    assert Calibrator.load(tmp_path / "calibrator.json") == calibrator


def isotonic(scores: Any, probabilities: Any) -> dict[str, Any]:
    return {"kind": "isotonic", "scores": scores, "probabilities": probabilities}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param([], r"needs a kind, 'isotonic' or 'temperature', got \[\]", id="a list"),
        pytest.param({"temperature": 1.0}, r"needs a kind, .*, got \{'temperature': 1.0\}", id="no kind"),
        pytest.param({"kind": "platt"}, r"kind must be 'isotonic' or 'temperature', got 'platt'", id="another kind"),
        pytest.param({"kind": ["isotonic"]}, r"kind must be .*, got \['isotonic'\]", id="a list as the kind"),
        pytest.param({"kind": "temperature"}, "'temperature' needs temperature, got nothing", id="no temperature"),
        pytest.param(
            {"kind": "isotonic", "temperature": 1.0},
            "'isotonic' needs scores and probabilities, got temperature",
            id="the other kind's number",
        ),
        pytest.param(
            isotonic([0.5], [0.5]) | {"bias": 1}, "got bias, probabilities, scores", id="a number that nobody knows"
        ),
        pytest.param({"kind": "temperature", "temperature": 0.0}, "above 0, got 0.0", id="a temperature of 0"),
        pytest.param({"kind": "temperature", "temperature": math.nan}, "above 0, got nan", id="a temperature of NaN"),
        pytest.param({"kind": "temperature", "temperature": True}, "above 0, got True", id="True as the temperature"),
        pytest.param({"kind": "temperature", "temperature": "2"}, "above 0, got '2'", id="a word as the temperature"),
        pytest.param(isotonic([], []), r"scores must be a list of one number or more, got \(\)", id="no knots"),
        pytest.param(isotonic("0.5", [0.5]), r"scores must be a list .*, got '0.5'", id="a word as the scores"),
        pytest.param(isotonic(0.5, [0.5]), r"scores must be a list .*, got 0.5", id="a number as the scores"),
        pytest.param(isotonic([0.5], [None]), r"probabilities must be a list .*, got \(None,\)", id="null in a list"),
        pytest.param(isotonic([0.1, 0.2], [0.5]), "got 1 for 2 scores", id="lists of different lengths"),
        pytest.param(isotonic([0.2, 0.2], [0.1, 0.2]), r"scores\[1\] is 0.2 after 0.2", id="equal scores"),
        pytest.param(isotonic([0.1, 0.2], [0.2, 0.1]), r"probabilities\[1\] is 0.1 after 0.2", id="a fall"),
        pytest.param(isotonic([0.1, 0.2], [0.2, 1.5]), r"in \[0, 1\], got 0.2 to 1.5", id="a probability above 1"),
        pytest.param(isotonic([0.1, 0.2], [-0.5, 1.0]), r"in \[0, 1\], got -0.5 to 1.0", id="a probability below 0"),
    ],
)
def test_is_refused_in_dict_and_file(data: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        Calibrator.from_dict(data)
    path = tmp_path / "calibrator.json"
    path.write_text(json.dumps(data))
    with pytest.raises(DataError, match=rf"^{path}: .*{message}"):
        Calibrator.load(path)


def test_a_field_of_the_other_kind_is_refused_at_birth() -> None:
    with pytest.raises(DataError, match="'temperature' needs temperature, got scores, temperature"):
        Calibrator("temperature", scores=(0.5,), temperature=1.0)


def test_a_file_that_exists_is_only_replaced_if_asked(tmp_path: Path) -> None:
    path = tmp_path / "calibrator.json"
    HOT.save(path)
    with pytest.raises(FileError, match="exists already"):
        STEPS.save(path)
    assert Calibrator.load(path) == HOT
    STEPS.save(path, overwrite=True)
    assert Calibrator.load(path) == STEPS


@pytest.mark.parametrize("name", ["", "nowhere/calibrator.json"])
def test_a_path_that_cannot_be_written_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"is a folder; give a file|there is no folder"):
        HOT.save(tmp_path / name, overwrite=True)


@pytest.mark.parametrize("name", ["", "missing.json"])
def test_a_file_that_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=rf"{tmp_path / name}: no such file"):
        Calibrator.load(tmp_path / name)


@pytest.mark.parametrize("content", [pytest.param(b"{", id="half of JSON"), pytest.param(b"\xff\xfe\x00", id="bytes")])
def test_a_file_that_is_no_json_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "calibrator.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"^{path}: must be a JSON file that Calibrator.save wrote"):
        Calibrator.load(path)
