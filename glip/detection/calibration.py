"""From scores to the probability of being right (isotonic: Zadrozny and Elkan 2002; temperature: Guo et al. 2017)."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor

from glip.errors import DataError, FileError
from glip.files import check_target, write_json

CalibratorKind = Literal["isotonic", "temperature"]

SCORE_MARGIN = 1e-6  # scores are kept this far from 0 and 1, whose logits are infinite
_FIELDS: dict[str, tuple[str, ...]] = {"isotonic": ("scores", "probabilities"), "temperature": ("temperature",)}


@dataclass(frozen=True)
class Calibrator:
    """A map from scores to the probability that a detection of that score is right; it never turns an order round.

    "isotonic" draws straight lines between knots and is constant beyond the first and the last. "temperature" divides
    the score's logit.

    Attributes:
        kind: "isotonic" or "temperature".
        scores: of the knots, increasing; for "isotonic".
        probabilities: of the knots, in `[0, 1]`, not decreasing; for "isotonic".
        temperature: above 0; 1 changes nothing, more pulls probabilities towards 0.5; for "temperature".

    Raises:
        DataError: a field breaks these rules, is missing, or belongs to the other kind.
    """

    kind: CalibratorKind
    scores: tuple[float, ...] | None = None
    probabilities: tuple[float, ...] | None = None
    temperature: float | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        given = {name for name in ("scores", "probabilities", "temperature") if getattr(self, name) is not None}
        _check_fields(self.kind, given)
        if self.kind == "temperature":
            _check_temperature(self.temperature)
        else:
            _check_knots(self.scores, self.probabilities)

    def __call__(self, scores: Tensor) -> Tensor:
        """Probabilities of scores.

        Args:
            scores: any shape, in `[0, 1]`.

        Returns:
            The same shape, in `[0, 1]`; float64 for float64, else float32. NaN stays NaN.
        """
        values = scores if scores.dtype == torch.float64 else scores.float()
        if self.temperature is not None:
            return (torch.logit(values, eps=SCORE_MARGIN) / self.temperature).sigmoid()
        return _interpolate(values, values.new_tensor(self.scores), values.new_tensor(self.probabilities))

    def to_dict(self) -> dict[str, Any]:
        """The kind and its numbers, ready for JSON."""
        if self.kind == "temperature":
            return {"kind": self.kind, "temperature": self.temperature}
        return {"kind": self.kind, "scores": list(self.scores or ()), "probabilities": list(self.probabilities or ())}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The calibrator that `to_dict` described.

        Raises:
            DataError: something else than `to_dict` gives.
        """
        if not isinstance(data, Mapping) or "kind" not in data:
            raise DataError(f"a calibrator needs a kind, {_kinds()}, got {data!r}")
        numbers = {name: value for name, value in data.items() if name != "kind"}
        _check_fields(data["kind"], numbers.keys())
        return cls(data["kind"], **{name: _frozen(value) for name, value in numbers.items()})

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write `to_dict` as JSON.

        Raises:
            FileError: the file exists and `overwrite` is not set, or its folder does not exist.
        """
        write_json(check_target(path, overwrite=overwrite), self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            FileError: there is no such file.
            DataError: it holds no calibrator.
        """
        path = Path(path)
        if not path.is_file():
            raise FileError(f"{path}: no such file; give one that Calibrator.save wrote")
        try:
            return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        except ValueError as error:  # JSON and Unicode
            raise DataError(f"{path}: must be a JSON file that Calibrator.save wrote ({error})") from error


def _interpolate(values: Tensor, knots: Tensor, probabilities: Tensor) -> Tensor:
    """Straight lines between K knots, constant beyond them; `values` of any shape, the others `(K,)`."""
    right = torch.searchsorted(knots, values.contiguous()).clamp(max=len(knots) - 1)
    left = (right - 1).clamp(min=0)
    width = (knots[right] - knots[left]).clamp(min=torch.finfo(knots.dtype).tiny)  # float32 may merge two knots
    share = ((values - knots[left]) / width).clamp(0, 1)
    return torch.lerp(probabilities[left], probabilities[right], share)


def _check_fields(kind: Any, given: Any) -> None:
    """Refuse an unknown kind, and other numbers than the kind's own."""
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise DataError(f"a calibrator's kind must be {_kinds()}, got {kind!r}")
    if set(given) != set(_FIELDS[kind]):
        names = ", ".join(sorted(given)) or "nothing"
        raise DataError(f"a calibrator of kind {kind!r} needs {' and '.join(_FIELDS[kind])}, got {names}")


def _check_temperature(temperature: Any) -> None:
    if not _is_number(temperature) or temperature <= 0:
        raise DataError(f"a calibrator's temperature must be a number above 0, got {temperature!r}")


def _check_knots(scores: Any, probabilities: Any) -> None:
    for name, values in (("scores", scores), ("probabilities", probabilities)):
        if not isinstance(values, tuple) or not values or not all(map(_is_number, values)):
            raise DataError(f"a calibrator's {name} must be a list of one number or more, got {values!r}")
    if len(scores) != len(probabilities):
        raise DataError(
            f"a calibrator needs one probability for each score, got {len(probabilities)} for {len(scores)} scores"
        )
    for index, (before, after) in enumerate(pairwise(scores), start=1):
        if before >= after:
            raise DataError(f"a calibrator's scores must increase, but scores[{index}] is {after} after {before}")
    for index, (before, after) in enumerate(pairwise(probabilities), start=1):
        if before > after:
            raise DataError(
                f"a calibrator's probabilities must not fall, but probabilities[{index}] is {after} after {before}"
            )
    if probabilities[0] < 0 or probabilities[-1] > 1:
        raise DataError(
            f"a calibrator's probabilities must be in [0, 1], got {probabilities[0]} to {probabilities[-1]}"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _frozen(value: Any) -> Any:
    """A JSON list as a tuple."""
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _kinds() -> str:
    return " or ".join(map(repr, get_args(CalibratorKind)))
