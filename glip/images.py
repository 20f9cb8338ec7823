"""Anything that is a picture, as an upright RGB `PIL.Image`."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import ExifTags, Image, UnidentifiedImageError

from glip.errors import FileError, ImageError

ImageInput = str | Path | Image.Image | npt.NDArray[Any] | torch.Tensor
"""A path, a PIL image, an array `(H, W[, 1 | 3 | 4])`, or a tensor `([1 | 3 | 4,] H, W)`; uint8, or float in [0, 1]."""

Item = TypeVar("Item")
Result = TypeVar("Result")

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
_WIDE_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
_EXIF_KEYS = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
_TURNS = {  # EXIF's orientations; 1 is upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(image: ImageInput) -> Image.Image:
    """Read a picture: EXIF rotation applied; grey, palette, 16-bit and transparent ones become RGB.

    Transparent pixels show white. 16-bit values are divided by 257; a float picture must be in [0, 1].

    Raises:
        FileError: the path does not exist.
        ImageError: the input is not a picture, is empty, or is cut short.
    """
    if isinstance(image, str | Path):
        return _read_file(Path(image))
    if isinstance(image, Image.Image):
        try:
            image.load()  # a PIL image of a file decodes only now
        except (OSError, ValueError, SyntaxError) as error:
            raise ImageError(f"the image cannot be decoded ({error}); is its file cut short?") from error
        return _to_rgb(image)
    if isinstance(image, torch.Tensor):
        values = image.detach().cpu()
        values = values.float() if values.is_floating_point() else values  # NumPy has no bfloat16
        return _from_array(_channels_last(values.numpy()), what="tensor ([3,] H, W)")
    if isinstance(image, np.ndarray):
        return _from_array(image, what="array (H, W[, 3])")
    raise ImageError(f"an image must be a path, PIL image, array or tensor, got {type(image).__name__}")


def read_ahead(read: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Read in order, each item while the one before is being worked on; errors are raised in their turn.

    Args:
        read: what is done with an item, in another thread.
        items: pictures, or batches of them.
    """
    with ThreadPoolExecutor(max_workers=1) as reader:
        coming = [reader.submit(read, item) for item in items[:1]]
        for following in items[1:]:
            result = coming.pop().result()
            coming.append(reader.submit(read, following))
            yield result
        for last in coming:
            yield last.result()


def read_in_batches(images: Sequence[ImageInput], size: int) -> Iterator[tuple[list[int], list[Image.Image]]]:
    """Batches of pictures alike in shape, so that little of a batch is padding; read one batch ahead.

    Args:
        images: what `read_image` reads.
        size: most pictures in a batch; with 1 they come in order.

    Returns:
        Places in `images`, and the pictures there.

    Raises:
        FileError: as `read_image`, when the batch's turn has come.
        ImageError: as `read_image`.
    """
    places = [*range(len(images))]
    if size > 1:
        sizes = [picture_size(image) for image in images]
        places.sort(key=lambda place: sizes[place][0] / max(sizes[place][1], 1))
    batches = [places[start : start + size] for start in range(0, len(places), size)]
    read = read_ahead(lambda batch: [read_image(images[place]) for place in batch], batches)
    yield from zip(batches, read, strict=True)


def picture_size(image: ImageInput) -> tuple[int, int]:
    """(height, width) before any EXIF rotation; of a file only the head is read. (0, 0) for what is no picture."""
    if isinstance(image, str | Path):
        try:
            with Image.open(image) as opened:
                return opened.height, opened.width
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return 0, 0  # reading it will say why
    if isinstance(image, Image.Image):
        return image.height, image.width
    if getattr(image, "ndim", 0) < 2:
        return 0, 0
    sides = image.shape[-2:] if isinstance(image, torch.Tensor) else image.shape[:2]
    return int(sides[0]), int(sides[1])


def list_images(path: str | Path) -> list[Path]:
    """The picture files of a folder, sorted by name; a file is a list of itself.

    Raises:
        FileError: there is no such path, or no picture in the folder.
    """
    path = Path(path)
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.is_file() and file.suffix.lower() in SUFFIXES)
        if not found:
            raise FileError(f"{path}: no pictures in this folder; looked for {', '.join(sorted(SUFFIXES))}")
        return found
    if not path.exists():
        raise FileError(f"{path}: no such file or folder")
    return [path]


def _read_file(path: Path) -> Image.Image:
    if not path.exists():
        raise FileError(f"{path}: no such image file")
    if path.is_dir():
        raise FileError(f"{path}: is a folder, not an image file; give the files in it")
    try:
        with Image.open(path) as opened:
            return _to_rgb(opened)
    except UnidentifiedImageError as error:
        raise ImageError(f"{path}: not an image that Pillow can read; convert it to JPEG or PNG") from error
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path}: the image cannot be decoded ({error}); is the file cut short?") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if 0 in image.size:
        raise ImageError(f"an image needs at least one pixel, got {image.size[0]} x {image.size[1]}")
    turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    upright = image.copy() if turn is None else image.transpose(turn)
    # All EXIF goes, not the turn alone: Pillow can read some cameras' entries but not write them again.
    upright.info = {key: value for key, value in upright.info.items() if key not in _EXIF_KEYS}
    if upright.mode in _WIDE_MODES:
        upright = _from_wide(np.asarray(upright), is_16_bit=upright.mode.startswith("I;16"))
    if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
        layer = upright.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        upright = Image.alpha_composite(white, layer)
    return upright.convert("RGB")


def _from_wide(values: npt.NDArray[Any], *, is_16_bit: bool) -> Image.Image:
    """A 16-bit or float grey picture as 8 bits."""
    if np.issubdtype(values.dtype, np.floating):
        return Image.fromarray(_float_to_bytes(values))
    scale = 257 if is_16_bit or values.max(initial=0) > 255 else 1  # 65535 / 255
    return Image.fromarray((values // scale).clip(0, 255).astype(np.uint8))


def _from_array(values: npt.NDArray[Any], *, what: str) -> Image.Image:
    if values.dtype.kind not in "buif":
        raise ImageError(f"an image must be an {what} of numbers, got an array of {values.dtype}")
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (3, 4)):
        raise ImageError(f"an image must be an {what}, got shape {values.shape}")
    if values.size == 0:
        raise ImageError(f"an image needs at least one pixel, got shape {values.shape}")
    if np.issubdtype(values.dtype, np.floating):
        values = _float_to_bytes(values)
    elif values.dtype == np.uint16:
        values = (values // 257).astype(np.uint8)
    elif values.dtype == np.bool_:
        values = values.astype(np.uint8) * 255
    elif values.dtype != np.uint8:
        if values.min() < 0 or values.max() > 255:
            raise ImageError(f"an integer image must be in [0, 255], got {values.min()} to {values.max()}")
        values = values.astype(np.uint8)
    return _to_rgb(Image.fromarray(np.ascontiguousarray(values)))


def _channels_last(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.moveaxis(values, 0, -1) if values.ndim == 3 else values


def _float_to_bytes(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # also refuses NaN
        raise ImageError(f"a float image must be in [0, 1], got {low:g} to {high:g}; divide by 255, or give uint8")
    return np.round(values * 255).astype(np.uint8)
