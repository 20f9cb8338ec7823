"""Anything that is a picture becomes an upright RGB picture of 8 bits; anything else is refused with its reason."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from glip.errors import FileError, ImageError
from glip.images import ImageInput, list_images, picture_size, read_ahead, read_image, read_in_batches

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
ORIENTATION, IMAGE_WIDTH = 0x0112, 0x0100  # EXIF tags


def pixels(image: Image.Image) -> list[Any]:
    """All pixels, row by row."""
    return [image.getpixel((x, y)) for y in range(image.height) for x in range(image.width)]


def flag() -> Image.Image:
    """Three columns and two rows: red, green, blue; white, white, red."""
    image = Image.new("RGB", (3, 2))
    image.putdata([RED, GREEN, BLUE, WHITE, WHITE, RED])
    return image


FLAG = [RED, GREEN, BLUE, WHITE, WHITE, RED]


def flag_array() -> npt.NDArray[np.uint8]:
    """The flag as `(2, 3, 3)`."""
    return np.array(FLAG, dtype=np.uint8).reshape(2, 3, 3)


def flag_tensor() -> torch.Tensor:
    """The flag as `(3, 2, 3)`."""
    return torch.from_numpy(flag_array()).permute(2, 0, 1)


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(flag(), id="a PIL image"),
        pytest.param(flag_array(), id="an array, channels last"),
        pytest.param(flag_array()[::-1][::-1].astype(np.int64), id="an array of wide integers in [0, 255]"),
        pytest.param(flag_array() / 255, id="an array of floats in [0, 1]"),
        pytest.param((flag_array() / 255).astype(np.float16), id="an array of half floats"),
        pytest.param(flag_array() > 0, id="an array of truth values"),
        pytest.param(flag_array().astype(np.uint16) * 257, id="an array of 16 bits"),
        pytest.param(flag_array()[:, ::-1][:, ::-1], id="a view that is not contiguous"),
        pytest.param(flag_tensor(), id="a tensor, channels first"),
        pytest.param(flag_tensor() / 255, id="a tensor of floats"),
        pytest.param((flag_tensor() / 255).requires_grad_(), id="a tensor that wants a gradient"),
        pytest.param((flag_tensor() / 255).bfloat16(), id="a tensor of brain floats"),
        pytest.param(flag_tensor() > 0, id="a tensor of truth values"),
    ],
)
def test_each_kind_of_picture_is_the_same_flag(image: ImageInput) -> None:
    found = read_image(image)
    assert found.mode == "RGB"
    assert found.size == (3, 2)
    assert pixels(found) == FLAG


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp", "gif"])
@pytest.mark.parametrize("kind", [str, Path])
def test_a_file_is_read(suffix: str, kind: type[str] | type[Path], tmp_path: Path) -> None:
    path = tmp_path / f"naïve 🐱.{suffix}"
    if suffix == "webp":
        flag().save(path, lossless=True)
    else:
        flag().save(path)
    assert pixels(read_image(kind(path))) == FLAG


def test_the_content_counts_not_the_suffix(tmp_path: Path) -> None:
    flag().save(tmp_path / "flag.jpg", format="PNG")
    assert pixels(read_image(tmp_path / "flag.jpg")) == FLAG


@pytest.mark.parametrize(
    ("orientation", "size", "upright"),
    [
        pytest.param(1, (3, 2), FLAG, id="upright"),
        pytest.param(2, (3, 2), [BLUE, GREEN, RED, RED, WHITE, WHITE], id="mirrored"),
        pytest.param(3, (3, 2), [RED, WHITE, WHITE, BLUE, GREEN, RED], id="upside down"),
        pytest.param(4, (3, 2), [WHITE, WHITE, RED, RED, GREEN, BLUE], id="mirrored and upside down"),
        pytest.param(5, (2, 3), [RED, WHITE, GREEN, WHITE, BLUE, RED], id="rows and columns exchanged"),
        pytest.param(6, (2, 3), [WHITE, RED, WHITE, GREEN, RED, BLUE], id="to be turned right"),
        pytest.param(7, (2, 3), [RED, BLUE, WHITE, GREEN, WHITE, RED], id="exchanged and upside down"),
        pytest.param(8, (2, 3), [BLUE, RED, GREEN, WHITE, RED, WHITE], id="to be turned left"),
        pytest.param(9, (3, 2), FLAG, id="a number that means nothing"),
    ],
)
def test_exif_rotation_is_applied(
    orientation: int, size: tuple[int, int], upright: list[tuple[int, int, int]], tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    flag().save(tmp_path / "turned.png", exif=exif)
    found = read_image(tmp_path / "turned.png")
    assert found.size == size
    assert pixels(found) == upright
    with Image.open(tmp_path / "turned.png") as opened:
        assert pixels(read_image(opened)) == upright  # an open PIL image, the same
    assert read_image(found).size == size  # once read it is not turned again


def test_the_colour_profile_stays_for_drawings_that_are_saved() -> None:
    image = flag()
    image.info["icc_profile"] = b"wide"
    assert read_image(image).info["icc_profile"] == b"wide"


def test_exif_that_cannot_be_written_again_does_not_hide_the_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif[IMAGE_WIDTH] = 7
    broken = exif.tobytes().replace(b"\x01\x00\x00\x04", b"\x01\x00\x00\x02")  # the width, said to be a text
    assert broken != exif.tobytes()
    flag().save(tmp_path / "turned.png", exif=broken)
    assert pixels(read_image(tmp_path / "turned.png")) == [WHITE, RED, WHITE, GREEN, RED, BLUE]


def palette() -> Image.Image:
    """Red and green from a palette, green being transparent."""
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *GREEN])
    image.putdata([0, 1])
    image.info["transparency"] = 1
    return image


def of_mode(mode: str, values: list[Any]) -> Image.Image:
    """One row of pixels."""
    image = Image.new(mode, (len(values), 1))
    image.putdata(values)
    return image


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        pytest.param(of_mode("L", [0, 77, 255]), [(0,) * 3, (77,) * 3, WHITE], id="grey"),
        pytest.param(of_mode("1", [0, 255]), [(0,) * 3, WHITE], id="black and white"),
        pytest.param(of_mode("RGBA", [(*RED, 255), (*RED, 0)]), [RED, WHITE], id="clear pixels show white"),
        pytest.param(of_mode("RGBA", [(0, 0, 0, 51)]), [(204,) * 3], id="a fifth of black over white"),
        pytest.param(of_mode("LA", [(9, 255), (9, 0)]), [(9,) * 3, WHITE], id="grey with transparency"),
        pytest.param(palette(), [RED, WHITE], id="a palette with a transparent colour"),
        pytest.param(palette().convert("RGB"), [RED, WHITE], id="RGB with one transparent colour"),
        pytest.param(of_mode("CMYK", [(0, 0, 0, 0), (0, 255, 255, 0)]), [WHITE, RED], id="CMYK"),
        pytest.param(of_mode("I;16", [514, 513, 65535]), [(2,) * 3, (1,) * 3, WHITE], id="16 bits"),
        pytest.param(of_mode("I;16", [0, 200, 256]), [(0,) * 3] * 3, id="16 bits, all dark"),
        pytest.param(of_mode("I;16", [0, 200, 255]), [(0,) * 3] * 3, id="16 bits, darker than one step of 8 bits"),
        pytest.param(of_mode("I", [514, 513, 65535]), [(2,) * 3, (1,) * 3, WHITE], id="16 bits in 32"),
        pytest.param(of_mode("F", [0.0, 0.2, 1.0]), [(0,) * 3, (51,) * 3, WHITE], id="floats in [0, 1]"),
    ],
)
def test_colours_of(image: Image.Image, expected: list[tuple[int, int, int]], tmp_path: Path) -> None:
    before = (image.mode, image.tobytes())
    found = read_image(image)
    assert found.mode == "RGB"
    assert pixels(found) == expected
    assert (image.mode, image.tobytes()) == before  # the picture that was given stays
    suffix = "tif" if image.mode in ("CMYK", "F", "I") else "png"
    image.save(tmp_path / f"image.{suffix}")
    assert pixels(read_image(tmp_path / f"image.{suffix}")) == expected


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(np.array([[0, 51, 255]], dtype=np.uint8), id="an array (H, W)"),
        pytest.param(np.array([[[0], [51], [255]]], dtype=np.uint8), id="an array (H, W, 1)"),
        pytest.param(np.array([[0.0, 0.2, 1.0]]), id="floats (H, W)"),
        pytest.param(np.array([[256, 257 * 52 - 1, 65535]], dtype=np.uint16), id="16 bits (H, W)"),
        pytest.param(torch.tensor([[0, 51, 255]], dtype=torch.uint8), id="a tensor (H, W)"),
        pytest.param(torch.tensor([[[0.0, 0.2, 1.0]]]), id="a tensor (1, H, W)"),
    ],
)
def test_grey_values_become_grey_pixels(image: ImageInput) -> None:
    assert pixels(read_image(image)) == [(0, 0, 0), (51, 51, 51), (255, 255, 255)]


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(np.array([[[255, 0, 0, 255], [255, 0, 0, 0]]], dtype=np.uint8), id="an array"),
        pytest.param(np.array([[[1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0]]]), id="an array of floats"),
        pytest.param(torch.tensor([[[1.0, 1.0]], [[0.0, 0.0]], [[0.0, 0.0]], [[1.0, 0.0]]]), id="a tensor"),
    ],
)
def test_a_fourth_channel_is_transparency_over_white(image: ImageInput) -> None:
    assert pixels(read_image(image)) == [RED, WHITE]


def test_arrays_and_tensors_stay_as_they_were() -> None:
    array, tensor = flag_array(), flag_tensor()
    read_image(array).putpixel((0, 0), (1, 2, 3))
    read_image(tensor).putpixel((0, 0), (1, 2, 3))
    np.testing.assert_array_equal(array, flag_array())
    torch.testing.assert_close(tensor, flag_tensor())


@pytest.mark.parametrize(
    ("image", "message"),
    [
        pytest.param(None, "got NoneType", id="None"),
        pytest.param([[0, 1]], "got list", id="a list"),
        pytest.param(b"\x89PNG", "got bytes", id="bytes"),
        pytest.param(Image.new("RGB", (0, 5)), "at least one pixel, got 0 x 5", id="a PIL image without columns"),
        pytest.param(np.zeros((0, 5, 3), np.uint8), "at least one pixel", id="an array without rows"),
        pytest.param(np.zeros((5, 0)), "at least one pixel", id="an array without columns"),
        pytest.param(torch.zeros(3, 0, 5), "at least one pixel", id="a tensor without rows"),
        pytest.param(np.zeros((4, 5, 2), np.uint8), r"\(H, W\[, 3\]\), got shape \(4, 5, 2\)", id="two channels"),
        pytest.param(np.zeros((4, 5, 5), np.uint8), r"got shape \(4, 5, 5\)", id="five channels"),
        pytest.param(np.zeros((3, 40, 50), np.uint8), r"got shape \(3, 40, 50\)", id="an array, channels first"),
        pytest.param(torch.zeros(40, 50, 3), r"tensor \(\[3,\] H, W\)", id="a tensor, channels last"),
        pytest.param(np.zeros(5, np.uint8), r"got shape \(5,\)", id="one row of numbers"),
        pytest.param(np.array(3, np.uint8), r"got shape \(\)", id="one number"),
        pytest.param(np.zeros((1, 4, 5, 3), np.uint8), r"got shape \(1, 4, 5, 3\)", id="a batch of arrays"),
        pytest.param(torch.zeros(1, 3, 4, 5), "got shape", id="a batch of tensors"),
        pytest.param(np.full((2, 2), np.nan), "got nan", id="NaN"),
        pytest.param(np.array([[0.0, 1.0], [np.nan, 0.5]]), "got nan", id="one NaN among numbers"),
        pytest.param(np.array([[0.0, np.inf]]), "got 0 to inf", id="infinity"),
        pytest.param(np.array([[0.0, 255.0]]), "got 0 to 255; divide by 255", id="floats up to 255"),
        pytest.param(torch.tensor([[-1.0, 1.0]]), "got -1 to 1", id="floats below zero, as after normalisation"),
        pytest.param(np.array([[0, 256]]), r"in \[0, 255\], got 0 to 256", id="an integer over 255"),
        pytest.param(np.array([[-1, 9]]), r"in \[0, 255\], got -1 to 9", id="an integer below zero"),
        pytest.param(np.array([[1j]]), "of numbers, got an array of complex", id="complex numbers"),
        pytest.param(np.array([["a"]]), "of numbers, got an array of <U1", id="letters"),
        pytest.param(np.array([[None]]), "of numbers, got an array of object", id="objects"),
        pytest.param(of_mode("F", [0.0, 300.0]), "got 0 to 300", id="a PIL image of floats over 1"),
    ],
)
def test_what_is_no_picture_is_refused(image: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read_image(image)


def truncated_jpeg(path: Path) -> None:
    """Half of a JPEG file."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("truncated", r"photo\.jpg: the image cannot be decoded .*cut short\?", id="a JPEG cut in half"),
        pytest.param(b"not a picture at all", r"photo\.jpg: not an image", id="a text"),
        pytest.param(b"", r"photo\.jpg: not an image", id="an empty file"),
        pytest.param(b"\xff\xd8\xff", r"photo\.jpg: (not an image|the image cannot)", id="only the first bytes"),
    ],
)
def test_a_broken_file_is_refused_by_name(content: str | bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        truncated_jpeg(path)
    with pytest.raises(ImageError, match=message):
        read_image(path)


def test_a_file_of_floats_over_one_is_not_called_cut_short(tmp_path: Path) -> None:
    of_mode("F", [0.0, 300.0]).save(tmp_path / "depth.tif")
    with pytest.raises(ImageError, match=r"depth\.tif: a float image must be in \[0, 1\], got 0 to 300") as refused:
        read_image(tmp_path / "depth.tif")
    assert "cut short" not in str(refused.value)


def test_a_lazy_pil_image_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    truncated_jpeg(tmp_path / "photo.jpg")
    with Image.open(tmp_path / "photo.jpg") as opened, pytest.raises(ImageError, match="cut short"):
        read_image(opened)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("missing.jpg", r"missing\.jpg: no such image file", id="missing"),
        pytest.param(".", "is a folder, not an image file", id="a folder"),
    ],
)
def test_a_path_without_a_file_is_refused(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=message):
        read_image(tmp_path / name)
    with pytest.raises(FileError, match=message):
        read_image(str(tmp_path / name))


def test_an_empty_path_is_refused() -> None:
    with pytest.raises(FileError):
        read_image("")


def test_a_folder_lists_its_pictures_by_name(tmp_path: Path) -> None:
    for name in ["b.JPG", "a.png", "c.webp", "notes.txt", "é.jpeg", "jpg"]:
        (tmp_path / name).touch()
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "d.png").touch()
    assert [path.name for path in list_images(str(tmp_path))] == ["a.png", "b.JPG", "c.webp", "é.jpeg"]
    assert list_images(tmp_path)[0] == tmp_path / "a.png"


def test_a_folder_is_no_picture_even_if_named_like_one(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "album.jpg").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["a.png"]


def test_a_file_lists_itself(tmp_path: Path) -> None:
    (tmp_path / "photo").touch()
    assert list_images(tmp_path / "photo") == [tmp_path / "photo"]


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FileError, match=r"no pictures in this folder; looked for .*\.jpg"):
        list_images(tmp_path)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"missing: no such file or folder"):
        list_images(tmp_path / "missing")


# --- many pictures -----------------------------------------------------------------------------------------------


def test_reading_ahead_keeps_the_order_and_reads_one_item_early() -> None:
    read: list[int] = []

    def read_one(item: int) -> int:
        read.append(item)
        return item * 10

    seen = read_ahead(read_one, [1, 2, 3])
    assert next(seen) == 10
    assert list(seen) == [20, 30]
    assert read == [1, 2, 3]


def test_reading_ahead_of_nothing_is_nothing() -> None:
    assert list(read_ahead(str, [])) == []


def test_an_error_is_raised_when_its_turn_has_come(tmp_path: Path) -> None:
    good = np.zeros((4, 4, 3), np.uint8)
    pictures: list[ImageInput] = [good, tmp_path / "missing.jpg", good]
    batches = read_in_batches(pictures, 1)
    assert next(batches)[0] == [0]
    with pytest.raises(FileError, match="no such image file"):
        next(batches)


def test_batches_hold_pictures_of_like_shape_and_say_where_they_stood(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / "wide.png")
    grey = Image.new("L", (40, 20))
    shapes: list[ImageInput] = [np.zeros((20, 10, 3), np.uint8), tmp_path / "wide.png", torch.zeros(3, 30, 15), grey]
    batches = list(read_in_batches(shapes, 2))
    assert [sorted(places) for places, _ in batches] == [[1, 3], [0, 2]]
    for places, pictures in batches:
        assert [picture.size for picture in pictures] == [[(10, 20), (20, 10), (15, 30), (40, 20)][p] for p in places]


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param("missing.jpg", id="a missing file"),
        pytest.param(3, id="a number"),
        pytest.param(np.zeros(3), id="one dimension"),
    ],
)
def test_what_is_no_picture_has_no_size_until_it_is_read(broken: Any) -> None:
    assert picture_size(broken) == (0, 0)
