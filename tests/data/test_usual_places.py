"""Weak boxes by rule: shares of a person's box or of the picture."""

from pathlib import Path

import pytest

from glip.data.usual_places import UsualPlaces
from glip.errors import ConfigError

RULES = """
standing:
  - {names: [jacket, coat], box: [0.0, 0.25, 1.0, 0.5]}
seated:
  - {names: [jacket], box: [0.0, 0.5, 1.0, 1.0]}
picture:
  - {names: [sky], box: [0.0, 0.0, 1.0, 0.5]}
"""


def load(tmp_path: Path, text: str = RULES) -> UsualPlaces:
    (tmp_path / "places.yaml").write_text(text)
    return UsualPlaces.load(tmp_path / "places.yaml")


def test_a_standing_person_wears_things_at_shares_of_the_box(tmp_path: Path) -> None:
    place = (10.0, 60.0, 50.0, 100.0)
    assert load(tmp_path).on_person((10, 20, 50, 180)) == {"jacket": place, "coat": place}


def test_a_wide_box_is_a_seated_person(tmp_path: Path) -> None:
    assert load(tmp_path).on_person((0, 0, 100, 100)) == {"jacket": (0, 50, 100, 100)}


def test_the_sky_is_the_upper_half_of_the_picture(tmp_path: Path) -> None:
    assert load(tmp_path).in_picture((640, 480)) == {"sky": (0, 0, 640, 240)}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("standing: []\n", "expected the kinds standing, seated, picture"),
        (RULES.replace("[0.0, 0.0, 1.0, 0.5]", "[0.0, 0.5, 1.0, 0.5]"), "picture: box must be left, top, right"),
        (RULES.replace("[0.0, 0.0, 1.0, 0.5]", "[0.0, 0.0, 1.5, 0.5]"), "picture: box must be left, top, right"),
    ],
    ids=["a kind is missing", "a box without height", "a box outside"],
)
def test_rules_that_are_none_are_refused(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        load(tmp_path, text)


def test_the_rules_of_the_recipe_can_be_read() -> None:
    places = UsualPlaces.load(Path(__file__).parents[2] / "configs" / "words" / "places.yaml")
    assert {"shirt", "hat"} <= set(places.standing)
    assert "sky" in places.picture
