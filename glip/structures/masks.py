"""Functions of instance masks. `masks` means `(N, H, W)` bool, True on the thing; RLE and polygons are COCO's.

COCO's run lengths go down the columns and start with the background. Polygons need pycocotools, the rest does not.
"""

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glip.errors import ConfigError, DataError, ShapeError

Rle = dict[str, Any]  # {"size": [height, width], "counts": str}
Bits = npt.NDArray[np.bool_]
BITS, SIGN, MORE, FIRST_LETTER = 0x1F, 0x10, 0x20, ord("0")  # of the letters of a packed run length
MIN_POLYGON = 6  # numbers: three corners; pycocotools takes four for a box


def check_masks(masks: Tensor, *, name: str = "masks") -> None:
    """Refuse anything that is not a stack of masks.

    Raises:
        ShapeError: the tensor is not `(N, H, W)` bool.
    """
    if masks.ndim != 3 or masks.dtype != torch.bool:
        raise ShapeError(f"{name} must be (N, H, W) bool, got {tuple(masks.shape)} {masks.dtype}")


def encode_masks(masks: Tensor) -> list[Rle]:
    """Masks as COCO's compressed run lengths, ready for JSON.

    Args:
        masks: `(N, H, W)` bool.

    Returns:
        N of `{"size": [height, width], "counts": str}`.

    Raises:
        ShapeError: the masks have another form.
    """
    check_masks(masks)
    size = list(masks.shape[1:])
    flat = masks.transpose(1, 2).flatten(1).cpu().numpy()  # (N, W * H)
    return [{"size": size, "counts": _packed(_run_lengths(mask))} for mask in flat]


def masks_of(segmentations: Sequence[Any], size: tuple[int, int]) -> Tensor:
    """Masks from the `segmentation` fields of a COCO file, or from what `encode_masks` wrote.

    Args:
        segmentations: one a thing: a list of polygons, each a flat list x, y, x, y, ... in pixels; or run lengths,
            compressed (`counts` is a string) or not (a list of numbers).
        size: the image's `(height, width)` in pixels.

    Returns:
        `(N, H, W)` bool; N is 0 where there are none.

    Raises:
        DataError: one is none of these, or its run lengths are of another size.
    """
    masks = [_decode(segmentation, size) for segmentation in segmentations]
    return torch.from_numpy(np.stack(masks)) if masks else torch.zeros(0, *size, dtype=torch.bool)


def union_of(masks: Tensor) -> Tensor:
    """Where any of the masks is: `(N, H, W)` to `(H, W)` bool; nowhere for N = 0."""
    check_masks(masks)
    return masks.any(dim=0)


def mask_boxes(masks: Tensor) -> Tensor:
    """The tight box round each mask.

    Args:
        masks: `(N, H, W)` bool.

    Returns:
        `(N, 4)` float xyxy pixels, the far edges exclusive; zeros for a mask without a pixel.
    """
    check_masks(masks)
    spans = [_span(masks.any(dim=dim)) for dim in (1, 2)]  # columns, then rows: each (N, 2)
    return torch.stack([spans[0][:, 0], spans[1][:, 0], spans[0][:, 1], spans[1][:, 1]], dim=1).float()


def _span(hit: Tensor) -> Tensor:
    """First and one past the last True of each row: `(N, L)` to `(N, 2)`; zeros for none."""
    places = torch.arange(hit.shape[1], device=hit.device).expand_as(hit)
    last = torch.where(hit, places + 1, 0).amax(dim=1)
    first = torch.where(hit, places, hit.shape[1]).amin(dim=1).minimum(last)
    return torch.stack([first, last], dim=1)


def _decode(segmentation: Any, size: tuple[int, int]) -> Bits:
    """One thing's mask, `(H, W)` bool."""
    if isinstance(segmentation, Mapping):
        rle = _checked_size(segmentation, size)
    else:
        coco = _pycocotools()
        rle = coco.merge(coco.frPyObjects(_checked_polygons(segmentation), *size))
    counts = rle.get("counts")
    runs = counts if isinstance(counts, list) else _unpacked(counts)
    if not all(type(run) is int and run >= 0 for run in runs) or sum(runs) != size[0] * size[1]:
        raise DataError(f"segmentation's counts must add up to {size[0] * size[1]} pixels, got {counts!r:.60}")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(size[1], size[0]).T.copy()


def _run_lengths(flat: Bits) -> list[int]:
    """How many pixels are background, thing, background, ...; the first may be 0."""
    changes = np.flatnonzero(np.diff(flat, prepend=False))
    return [int(run) for run in np.diff(changes, prepend=0, append=len(flat))]


def _packed(runs: Sequence[int]) -> str:
    """COCO's string: from the fourth on the difference to the run two before, five bits a letter, lowest first."""
    letters = []
    for index, run in enumerate(runs):
        rest, is_more = run - runs[index - 2] if index > 2 else run, True
        while is_more:
            bits, rest = rest & BITS, rest >> 5
            is_more = rest != (-1 if bits & SIGN else 0)
            letters.append(chr(FIRST_LETTER + bits + (MORE if is_more else 0)))
    return "".join(letters)


def _unpacked(text: Any) -> list[int]:
    """The run lengths of COCO's string.

    Raises:
        DataError: it is none.
    """
    letters = text.decode("latin-1") if isinstance(text, bytes) else text
    if not isinstance(letters, str) or not all(0 <= ord(letter) - FIRST_LETTER < 2 * MORE for letter in letters):
        raise DataError(f"segmentation's counts must be COCO's string or a list of run lengths, got {text!r:.60}")
    runs: list[int] = []
    value = shift = 0
    for letter in letters:
        code = ord(letter) - FIRST_LETTER
        value |= (code & BITS) << shift
        shift += 5
        if not code & MORE:
            value -= (1 << shift) if code & SIGN else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise DataError(f"segmentation's counts end within a number; is the string cut short? {text!r:.60}")
    return runs


def _checked_size(rle: Mapping[str, Any], size: tuple[int, int]) -> Mapping[str, Any]:
    given = rle.get("size")
    if not isinstance(given, list | tuple) or list(given) != list(size):
        raise DataError(f"segmentation's size must be the image's [height, width] {list(size)}, got {given!r:.40}")
    return rle


def _checked_polygons(polygons: Any) -> list[list[float]]:
    parts = polygons if isinstance(polygons, list | tuple) else []
    if not parts or not all(_is_polygon(part) for part in parts):
        raise DataError(
            "segmentation must be polygons, flat lists [x, y, x, y, ...] of at least three corners, or run lengths "
            f'{{"size", "counts"}}, got {polygons!r:.60}'
        )
    return [[float(number) for number in part] for part in parts]


def _is_polygon(part: Any) -> bool:
    """Whether it is an even number of finite numbers, at least three corners."""
    return (
        isinstance(part, list | tuple)
        and len(part) >= MIN_POLYGON
        and len(part) % 2 == 0
        and all(isinstance(number, int | float) and abs(number) < 1e6 for number in part)
    )


def _pycocotools() -> ModuleType:
    try:
        from pycocotools import mask
    except ImportError as error:
        raise ConfigError("polygons need pycocotools: pip install 'glip-for-everyone[train]'") from error
    return mask  # type: ignore[no-any-return]  # pycocotools is untyped
