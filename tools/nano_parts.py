"""What words beyond COCO's classes may mean to a detector of COCO's classes: parts of its things, and likenesses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from glip.data.describe import Box
from glip.data.usual_places import UsualPlaces
from glip.detection.nms import suppress
from glip.files import read_yaml
from glip.structures.boxes import pairwise_iou

OWNER, SAME_THING = 0.35, 0.5  # least probability of a thing whose parts are told; IoU of two boxes of one thing
LIKE, PART = 0.5, 0.7  # how sure a likeness and a part's place can be
LEAST_PART = 0.03  # a side of a part, as a share of the picture's
PERSON = "person"


@dataclass(frozen=True)
class PartRule:
    """Where parts of some things are.

    Attributes:
        names: of the parts.
        of: classes that have them.
        boxes: shares of the thing's box, one or several possible places.
    """

    names: Sequence[str]
    of: Sequence[str]
    boxes: Sequence[Box]


class BeyondCoco:
    """Rules of a YAML file, and the places of clothes and the like on people.

    Args:
        classes: COCO's, in the detector's order.
        rules: the YAML file (configs/words/beyond_coco.yaml).
        people: where things are on people.
    """

    def __init__(self, classes: Sequence[str], rules: Path, people: UsualPlaces) -> None:
        content = read_yaml(rules)
        self.classes, self.people = list(classes), people
        self.parts = [PartRule(**rule) for rule in content["parts"]]
        self.likenesses: dict[str, list[int]] = {}
        for rule in content["like"]:
            for name in rule["names"]:
                self.likenesses.setdefault(name, []).extend(self.classes.index(one) for one in rule["classes"])

    def shares(self) -> dict[str, Tensor]:
        """Each name's shares of the classes, `(classes,)`; nothing for a part, which is a place and not a class."""
        nothing = torch.zeros(len(self.classes))
        shares = {name: nothing for rule in self.parts for name in rule.names}
        shares |= {name: nothing for kind in (self.people.standing, self.people.seated) for name in kind}
        for name, places in self.likenesses.items():
            shares[name] = nothing.index_fill(0, torch.tensor(places), LIKE)
        return shares

    def evidence(self, boxes: Tensor, probabilities: Tensor, side: int) -> dict[str, Tensor]:
        """How surely each part is at each position of a picture: the position's box is where such a part would be.

        Args:
            boxes: `(N, 4)` xyxy pixels, what the detector draws at each position.
            probabilities: `(N, classes)`.
            side: of the picture, in pixels; parts that are much smaller are left out.

        Returns:
            `(N,)` in `[0, 1]` by name; names without evidence are left out.
        """
        found: dict[str, Tensor] = {}
        least = LEAST_PART * side
        for index, box, probability in self._things(boxes, probabilities):
            for names, places in self._places(self.classes[index], box):
                big = [place for place in places if min(place[2] - place[0], place[3] - place[1]) >= least]
                if not big:
                    continue
                overlap = pairwise_iou(boxes, torch.tensor(big)).amax(dim=1)
                sure = PART * probability * ((overlap - 0.4) / 0.25).clamp(0, 1)
                for name in names:
                    found[name] = torch.maximum(found[name], sure) if name in found else sure
        return found

    def _things(self, boxes: Tensor, probabilities: Tensor) -> list[tuple[int, Box, float]]:
        """Class, box and probability of what the detector is sure of."""
        best, kinds = probabilities.max(dim=1)
        sure = (best > OWNER).nonzero()[:, 0]
        kept = sure[suppress(boxes[sure], best[sure], kinds[sure], threshold=SAME_THING, legacy=False)]
        return [
            (int(kinds[place]), (box[0], box[1], box[2], box[3]), float(best[place]))
            for place, box in zip(kept.tolist(), boxes[kept].tolist(), strict=True)
        ]

    def _places(self, owner: str, box: Box) -> list[tuple[Sequence[str], list[Box]]]:
        if owner == PERSON:
            by_place: dict[Box, list[str]] = {}
            for name, place in self.people.on_person(box).items():
                by_place.setdefault(place, []).append(name)
            return [(names, [place]) for place, names in by_place.items()]
        return [(rule.names, [_part_of(box, share) for share in rule.boxes]) for rule in self.parts if owner in rule.of]


def _part_of(box: Box, share: Box) -> Box:
    width, height = box[2] - box[0], box[3] - box[1]
    left, top, right, bottom = share
    return (box[0] + left * width, box[1] + top * height, box[0] + right * width, box[1] + bottom * height)


def gather(pictures: Sequence[Mapping[str, Tensor]], lengths: Sequence[int], drawn: Tensor) -> dict[str, Tensor]:
    """Evidence of all pictures' positions behind each other, at the drawn ones: `(len(drawn),)` by name."""
    names = sorted({name for picture in pictures for name in picture})
    gathered = {}
    for name in names:
        parts = [p.get(name, torch.zeros(length)) for p, length in zip(pictures, lengths, strict=True)]
        gathered[name] = torch.cat(parts)[drawn]
    return gathered


def part_chances(pictures: Sequence[Mapping[str, Tensor]], lengths: Sequence[int]) -> Tensor:
    """Chances of all pictures' positions to be drawn, so that every part is drawn as often: `(sum of lengths,)`."""
    totals: dict[str, float] = {}
    for picture in pictures:
        for name, sure in picture.items():
            totals[name] = totals.get(name, 0.0) + float(sure.sum())
    chances = [torch.zeros(length) for length in lengths]
    for index, picture in enumerate(pictures):
        for name, sure in picture.items():
            if totals[name]:
                chances[index] += sure / totals[name] / len(totals)
    return torch.cat(chances)
