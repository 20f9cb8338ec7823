"""Weak boxes by rule: where things usually are on a person, or in a picture.

For words that no data set has boxes for ("jacket", "grass"). A rule knows the place, never whether the thing is there:
that has to come from a caption.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from glip.data.describe import Box
from glip.errors import ConfigError
from glip.files import read_yaml

STANDING_RATIO = 1.5  # of a person's height and width
KINDS = ("standing", "seated", "picture")


@dataclass(frozen=True)
class UsualPlaces:
    """Shares of a box by name: `(left, top, right, bottom)` in `[0, 1]`.

    Attributes:
        standing: things on a person at least 1.5 times as high as wide.
        seated: things on a person of another shape.
        picture: things of a whole picture.
    """

    standing: Mapping[str, Box]
    seated: Mapping[str, Box]
    picture: Mapping[str, Box]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a YAML file that lists, for each kind, `names` and their `box`.

        Raises:
            FileError: the file cannot be read.
            ConfigError: a kind is unknown, or a box is not four rising shares.
        """
        content = read_yaml(path)
        if not isinstance(content, dict) or set(content) != set(KINDS):
            raise ConfigError(f"{path}: expected the kinds {', '.join(KINDS)}")
        return cls(**{kind: _shares(path, kind, rules) for kind, rules in content.items()})

    def on_person(self, box: Box) -> dict[str, Box]:
        """Every name that has a place on this person, and the place: xyxy pixels like `box`."""
        is_standing = box[3] - box[1] >= STANDING_RATIO * (box[2] - box[0])
        shares = self.standing if is_standing else self.seated
        return {name: _part_of(box, share) for name, share in shares.items()}

    def in_picture(self, size: tuple[int, int]) -> dict[str, Box]:
        """Every name that has a place in a picture of `(width, height)` pixels, and the place."""
        whole = (0.0, 0.0, float(size[0]), float(size[1]))
        return {name: _part_of(whole, share) for name, share in self.picture.items()}


def _part_of(box: Box, share: Box) -> Box:
    width, height = box[2] - box[0], box[3] - box[1]
    return (
        box[0] + share[0] * width,
        box[1] + share[1] * height,
        box[0] + share[2] * width,
        box[1] + share[3] * height,
    )


def _shares(path: Path, kind: str, rules: Sequence[Mapping[str, Any]]) -> dict[str, Box]:
    shares: dict[str, Box] = {}
    for rule in rules:
        left, top, right, bottom = map(float, rule["box"])
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ConfigError(f"{path}: {kind}: box must be left, top, right, bottom in [0, 1], got {rule['box']}")
        shares |= dict.fromkeys(rule["names"], (left, top, right, bottom))
    return shares
