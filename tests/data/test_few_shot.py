"""A few pictures of each class, by the published rule."""

from pathlib import Path

import pytest

from glip.data.examples import Example, GroundedObject
from glip.data.few_shot import select_shots


def picture(name: str, *classes: str) -> Example:
    return Example(Path(name), (4, 4), tuple(GroundedObject((0, 0, 1, 1), one) for one in classes))


def names_of(examples: list[Example]) -> list[str]:
    return [str(example.image) for example in examples]


PICTURES = [
    picture("1", "cat"),
    picture("2", "cat", "dog"),
    picture("3"),
    picture("4", "dog", "dog"),
    picture("5", "bird", "cat"),
    picture("6", "dog"),
]


@pytest.mark.parametrize(
    ("shots", "names"),
    [
        pytest.param(1, "1 2 5", id="one: 2 for its dog, 5 for its bird, whatever cats they have"),
        pytest.param(2, "1 2 4 5", id="two: the dogs of 4 count once"),
        pytest.param(3, "1 2 4 5 6", id="three: all that there are"),
        pytest.param(0, "", id="none"),
    ],
)
def test_in_the_order_given(shots: int, names: str) -> None:
    assert names_of(select_shots(PICTURES, shots)) == names.split()


@pytest.mark.parametrize("seed", range(5))
def test_every_seed_gives_enough_of_each_class_and_the_same_again(seed: int) -> None:
    chosen = select_shots(PICTURES, 1, seed=seed)
    assert {thing.name for example in chosen for thing in example.objects} == {"cat", "dog", "bird"}
    assert chosen == select_shots(PICTURES, 1, seed=seed)


def test_other_seeds_give_other_pictures() -> None:
    assert len({tuple(names_of(select_shots(PICTURES, 1, seed=seed))) for seed in range(10)}) > 1


def test_no_pictures_give_none() -> None:
    assert select_shots([], 3) == []
