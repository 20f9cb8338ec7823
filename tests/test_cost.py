"""Costs on paper are those of the arithmetic: by hand for each formula, by torch's own counter for whole networks."""

import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from glip.configuration import GlipConfig, glip_large, glip_nano, glip_resnet50, glip_tiny, glip_tiny_a
from glip.errors import ConfigError
from glip.layers import deform_conv as deform_conv_module
from glip.layers.transformer import PostNormEncoderLayer
from glip.models.dyhead import DyConv
from glip.models.fusion import BidirectionalFusion
from glip.models.glip import GlipModel
from tools import growth
from tools.cost import (
    Cost,
    Machine,
    backbone,
    conv,
    csp,
    deform_conv,
    dyconv,
    fusion,
    grid,
    head,
    linear,
    main,
    mlp,
    network,
    pyramid,
    resnet,
    self_attention,
    swin,
    swin_block,
    table,
    text_layer,
)

PAGE = Path(__file__).parents[1] / "docs" / "explain" / "limits.md"
GROWTH = r"^\|[^|]+\| `--[^|]+` (\| [\d.]+ ){4}\|$"  # name, flags, four numbers
FLEET = r"^\|[^|]+\| `--[^|]+` (\| [\d.]+ ){6}\|$"
Rows = dict[str, list[float]]
TOLERANCE = 0.02
SMALL_TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
SMALL: dict[str, Any] = {
    "text": SMALL_TEXT,
    "channels": 16,
    "fusion_dim": 64,
    "fusion_heads": 4,
    "num_groups": 4,
    "num_blocks": 2,
}
SMALL_SWIN: dict[str, Any] = {
    "kind": "swin",
    "embed_dim": 12,
    "depths": [1, 2, 1, 1],
    "num_heads": [1, 2, 2, 4],
    "window_size": 3,
}


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        pytest.param(linear(5, 2, 3), Cost(30, 6, 25), id="five rows of two numbers become three"),
        pytest.param(linear(0, 2, 3), Cost(0, 6, 0), id="no rows, but the matrix is there"),
        pytest.param(conv(16, 4, 2, 3, taps=9), Cost(216, 54, 44), id="a 3x3 convolution from 4x4 to 2x2"),
        pytest.param(self_attention(2, 3, 4), Cost(144, 0, 96), id="two sentences of three words look at themselves"),
        pytest.param(mlp(2, 3, 5), Cost(60, 30, 32), id="two rows of three numbers go through five and back"),
        pytest.param(swin_block(1, (3, 4), dim=2, window=4), Cost(1664, 48, 560), id="a map in one padded window"),
        pytest.param(
            swin(1, (8, 4), embed_dim=1, depths=[0, 0], window=7),
            Cost(96 + 8, 48 + 8, 98 + 6),
            id="patches and a merge",
        ),
        pytest.param(
            csp(1, (8, 8), stem=2, stage_channels=[4], depths=[1], neck=1),
            Cost(16 * 54 + 4 * 36 + 4 * 36 + 4 * 18 + 4 * 9, 54 + 36 + 36 + 18 + 9, 224 + 16 + 16 + 12 + 8),
            id="a stem and one stage: entry, exit and a pair",
        ),
        pytest.param(
            pyramid([16, 4, 1], [3, 5], 2),
            Cost(16 * 6 + 16 * 36 + 4 * 10 + 4 * 36 + 36, 6 + 36 + 10 + 36 + 36, 80 + 64 + 28 + 16 + 10),
            id="two maps and a level more",
        ),
        pytest.param(
            text_layer(1, 3, dim=2, feedforward=4),
            Cost(48 + 36 + 48, 12 + 4 + 16, 60 + 36),
            id="a layer over three words",
        ),
        pytest.param(
            fusion(1, 10, 3, channels=4, text_dim=5, fusion_dim=6, heads=2),
            Cost(3 * 10 * 6 * 4 + 3 * 3 * 6 * 9, 3 * 6 * 9, 2 * 40 + 6 * 24 + 6 * 18 + 2 * 15),
            id="ten positions and three words, folded",
        ),
        pytest.param(
            deform_conv(8, 2, 1), Cost(18, 9, 8 + 2 * 27 + 2 * 2 * 108 + 2 * 2 * 9 + 2), id="nine taps gathered twice"
        ),
        pytest.param(
            head(2, 10, 3, channels=4, text_dim=5),
            Cost(400 + 120 + 240, 40, 180 + 54 + 60 + 24),
            id="heads of two looks",
        ),
    ],
)
def test_by_hand(cost: Cost, expected: Cost) -> None:
    assert cost == expected


def test_a_level_of_a_dyconv_sees_itself_and_its_neighbours() -> None:
    found = dyconv(1, [16, 4, 1], 4)
    offsets, products = 21 * 4 * 27 * 9, (21 + 5 + 5) * 9 * 4 * 4  # all see themselves, five a finer or coarser one
    slopes = 3 * (4 * 1 + 1 * 16)
    assert found.macs == offsets + products + slopes
    assert found.weights == 4 * 27 * 9 + 3 * 9 * 4 * 4 + 20


def test_a_residual_network_strides_in_its_three_by_three_convolutions() -> None:
    stem = 256 * 3 * 64 * 49  # 32x32 to 16x16, pooled to 8x8
    first = 64 * (64 * 64 + 9 * 64 * 64 + 64 * 256 + 64 * 256)
    second = 64 * 256 * 128 + 16 * (9 * 128 * 128 + 128 * 512 + 256 * 512)
    assert resnet(1, (32, 32), layers=[1, 1]).macs == stem + first + second


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        pytest.param(Cost(macs=500, weights=10, activations=90), (10.0, "FLOP"), id="much arithmetic"),
        pytest.param(Cost(macs=5, weights=10, activations=90), (8.0, "bytes"), id="much memory"),
        pytest.param(Cost(), (0.0, "bytes"), id="nothing"),
    ],
)
def test_the_floor_is_the_slower_of_arithmetic_and_memory(cost: Cost, expected: tuple[float, str]) -> None:
    seconds, limit = Machine("abacus", flops=100, bandwidth=50).seconds(cost, 4)
    assert (seconds, limit.strip()) == expected


@pytest.mark.parametrize(
    ("size", "stride", "expected"),
    [
        pytest.param((64, 96), 32, (2, 3), id="it divides"),
        pytest.param((65, 95), 32, (3, 3), id="it does not"),
        pytest.param((0, 1), 8, (0, 1), id="nothing and next to nothing"),
    ],
)
def test_cells_cover_a_map_if(size: tuple[int, int], stride: int, expected: tuple[int, int]) -> None:
    assert grid(size, stride) == expected


def test_images_are_padded_to_multiples_of_32() -> None:
    assert network(glip_tiny(), (800, 1066), 8) == network(glip_tiny(), (800, 1088), 8)


def test_captions_share_the_pyramid() -> None:
    one, many = (network(glip_tiny(), (320, 320), 8, captions=captions) for captions in (1, 3))
    assert many["backbone"] == one["backbone"]
    assert many["pyramid"] == one["pyramid"]
    assert many["DyConv"].macs == 3 * one["DyConv"].macs
    assert many["DyConv"].weights == one["DyConv"].weights


def test_a_compiled_vocabulary_rests_the_text_encoder_only() -> None:
    read, compiled = (network(glip_tiny(), (320, 320), 8, compiled=compiled) for compiled in (False, True))
    assert {**read, "text encoder": Cost()} == compiled


def test_a_part_that_is_not_there_has_no_row() -> None:
    parts = network(glip_tiny_a(), (320, 320), 8)
    assert parts["fusion"] == parts["text layers"] == Cost()
    assert "fusion" not in table(parts, [Machine("abacus", 1, 1)], images=1, number_bytes=4)


def test_a_backbone_without_a_formula_is_refused() -> None:
    with pytest.raises(ConfigError, match="'timm' is not counted"):
        backbone(1, (32, 32), {"kind": "timm"})


@contextmanager
def countable(device: str) -> Iterator[None]:
    """Attention as products, for as long as the block runs; without data, the gather and no look at a mask, too."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if device == "meta":
            gather = deform_conv_module.gather_deform_conv2d
            stack.enter_context(mock.patch.object(deform_conv_module, "torchvision_deform_conv2d", gather))
            stack.enter_context(
                mock.patch("transformers.models.bert.modeling_bert.create_bidirectional_mask", return_value=None)
            )
        yield


def addmm_in_place(_: Any, left: list[int], right: list[int], **__: Any) -> int:
    """FLOPs of what torch's counter does not know."""
    return 2 * left[0] * left[1] * right[1]


def counted(model: GlipModel, pixels: torch.Tensor, tokens: torch.Tensor) -> dict[str, float]:
    """Multiply-adds of each part that torch saw; one image is looked at with every caption."""
    names = {"backbone": "backbone", "fpn": "pyramid", "text_encoder": "text encoder", "head": "heads"}
    kinds: dict[type[nn.Module], str] = {
        BidirectionalFusion: "fusion",
        PostNormEncoderLayer: "text layers",
        DyConv: "DyConv",
    }
    names |= {name: kinds[type(module)] for name, module in model.named_modules() if type(module) in kinds}
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: addmm_in_place})
    with countable(pixels.device.type), counter:
        model(pixels, tokens)
    found = dict.fromkeys(names.values(), 0.0)
    for owner, counts in counter.get_flop_counts().items():
        part = names.get(owner.removeprefix("GlipModel."))
        if part is not None:
            found[part] += sum(counts.values()) / 2
    return found


def assert_close(found: dict[str, Cost], expected: dict[str, float]) -> None:
    assert {part for part, cost in found.items() if cost.macs} == {part for part, macs in expected.items() if macs}
    for part, macs in expected.items():
        assert found[part].macs == pytest.approx(macs, rel=TOLERANCE), part


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(GlipConfig(backbone=SMALL_SWIN, **SMALL), id="a small Swin"),
        pytest.param(GlipConfig(backbone={"kind": "resnet", "layers": [1, 2, 1, 1]}, **SMALL), id="a small ResNet"),
        pytest.param(
            GlipConfig(
                backbone={
                    "kind": "csp",
                    "stem_channels": 4,
                    "stage_channels": [8, 16, 32, 64],
                    "stage_depths": [1, 2, 1, 1],
                    "neck_channels": 16,
                },
                **{**SMALL, "top_down": False},
            ),
            id="small CSP stages",
        ),
        pytest.param(GlipConfig(backbone=SMALL_SWIN, fusion=False, **SMALL), id="no fusion"),
    ],
)
@pytest.mark.parametrize(
    ("images", "captions"),
    [
        pytest.param(1, 1, id="one image"),
        pytest.param(2, 1, id="two images"),
        pytest.param(1, 3, id="three captions of one image"),
    ],
)
def test_multiply_adds_are_what_torch_counts_on_real_numbers_with(
    config: GlipConfig, images: int, captions: int
) -> None:
    model = GlipModel(config).eval()
    found = network(config, (96, 130), 7, images=images, captions=captions)
    expected = counted(model, torch.zeros(images, 3, 96, 160), torch.zeros(images * captions, 7, dtype=torch.long))
    assert_close(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        pytest.param(glip_tiny(), 8, id="GLIP-T (C) and 8 tokens"),
        pytest.param(glip_tiny(), 194, id="GLIP-T (C) and 194 tokens"),
        pytest.param(glip_tiny_a(), 32, id="GLIP-T (A)"),
        pytest.param(glip_large(), 32, id="GLIP-L"),
        pytest.param(glip_resnet50(), 32, id="a ResNet-50"),
        pytest.param(glip_nano(), 32, id="glip-nano"),
    ],
)
def test_multiply_adds_are_what_torch_counts_at_full_size_without_data_of(config: GlipConfig, tokens: int) -> None:
    with torch.device("meta"):
        model = GlipModel(config).eval()
        expected = counted(model, torch.empty(1, 3, 800, 1088), torch.empty(1, tokens, dtype=torch.long))
    assert_close(network(config, (800, 1066), tokens), expected)


@pytest.mark.parametrize(
    "config", [pytest.param(make(), id=make.__name__) for make in (glip_tiny, glip_large, glip_resnet50, glip_nano)]
)
def test_weights_are_the_matrices_of(config: GlipConfig) -> None:
    with torch.device("meta"):
        model = GlipModel(config)
    matrices = sum(p.numel() for p in model.parameters() if p.ndim > 1)
    tables = sum(p.numel() for name, p in model.named_parameters() if "embeddings." in name and p.ndim > 1)
    found = sum(cost.weights for cost in network(config, (64, 64), 8).values())
    assert found == pytest.approx(matrices - tables, rel=TOLERANCE)  # a caption reads a few rows of the tables


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str], list[Rows]]:
    """What the tool prints with some flags: of each table the numbers of its rows, by their first word or words."""

    def run(flags: str) -> list[Rows]:
        monkeypatch.setattr(sys, "argv", ["cost.py", *shlex.split(flags)])
        main()
        tables = [block.splitlines()[2:] for block in capsys.readouterr().out.strip().split("\n\n")]
        return [{line[:12].strip(): _numbers(line[12:]) for line in lines} for lines in tables]

    return run


def _numbers(text: str) -> list[float]:
    return [float(word) for word in text.split() if word not in ("FLOP", "bytes")]


def rows_of_page(pattern: str) -> list[list[str]]:
    """The cells of the page's table rows that match."""
    lines = PAGE.read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if re.search(pattern, line)]


def assert_rounded(cell: str, value: float) -> None:
    """The cell is the value with as many decimals as it has; the tool may have rounded it before."""
    decimals = len(cell.partition(".")[2])
    assert float(cell) == pytest.approx(value, abs=0.6 * 10**-decimals)


@pytest.mark.parametrize(
    ("flags", "cells", "columns"),
    [
        pytest.param("--tokens 8 32 194", 3, {0: 1, 1: 1, 2: 1e-3}, id="this CPU"),
        pytest.param("--tokens 8 32 194 --bytes 2", 2, {1: 1, 3: 1}, id="an H100"),
    ],
)
def test_the_page_shows_of_one_image_what_the_tool_prints_for(
    flags: str, cells: int, columns: dict[int, float], printed: Callable[[str], list[Rows]]
) -> None:
    number = r"[\d.]+"
    rows = rows_of_page(rf"^\| [\w ]+( \| {' / '.join([number] * cells)}){{3}} \|$")
    tables = printed(flags)
    assert f"`python tools/cost.py {flags}`" in PAGE.read_text()
    assert [part for part, *_ in rows] == [part for part in tables[0] if part != "images/s"]
    for part, *by_tokens in rows:
        for found, numbers in zip(by_tokens, tables, strict=True):
            values = numbers[part]
            for cell, (column, scale) in zip(found.split(" / "), columns.items(), strict=True):
                assert_rounded(cell, values[column] * scale)


@pytest.mark.parametrize("row", [pytest.param(row, id=row[0]) for row in rows_of_page(GROWTH)])
def test_the_page_shows_of_growth_what_the_tool_prints_for(
    row: list[str], printed: Callable[[str], list[Rows]]
) -> None:
    _, flags, gigamacs, gigabytes, cpu, gpu = row
    (full,), (half,) = printed(flags.strip("`")), printed(flags.strip("`") + " --bytes 2")
    assert_rounded(gigamacs, full["all"][0])
    assert_rounded(gigabytes, full["all"][1])
    assert_rounded(cpu, full["all"][2] / 1000)
    assert_rounded(gpu, half["all"][3])


@pytest.mark.parametrize("row", [pytest.param(row, id=row[0]) for row in rows_of_page(FLEET)])
def test_the_page_follows_a_billion_images_from_what_the_tool_prints_for(
    row: list[str], printed: Callable[[str], list[Rows]]
) -> None:
    _, flags, rate, hours, gpu_hours, cores, read, written = row
    (numbers,) = printed(flags.strip("`"))
    images = numbers["images/s"][1]
    assert_rounded(rate, images)
    assert_rounded(hours, 1e9 / images / 1000 / 3600)
    assert float(gpu_hours) == pytest.approx(1e9 / images / 3600, rel=2e-3)
    assert_rounded(cores, images / 100)
    assert_rounded(read, images * 1000 * 250e3 / 1e9)
    assert_rounded(written, images * 1000 * 1e3 / 1e9)


@pytest.mark.parametrize(
    ("size", "tokens", "captions"),
    [
        pytest.param((800, 1066), 8, 1, id="one image and a few words"),
        pytest.param((800, 1066), 256, 17, id="one image and a long vocabulary"),
        pytest.param((1600, 2132), 32, 1, id="a large image"),
    ],
)
def test_the_page_says_in_one_line_what_is_needed_for(size: tuple[int, int], tokens: int, captions: int) -> None:
    area = size[0] * 1088 * size[0] // 800
    found = network(glip_tiny(), size, tokens, captions=captions)
    macs = sum(cost.macs for cost in found.values())
    looks = 118e3 * area + 773 * area * tokens + 165e6 * tokens
    assert 107e3 * area + captions * looks == pytest.approx(macs, rel=TOLERANCE)


# --- how measured seconds grow beside the count ------------------------------------------------------------------


def test_growth_is_by_the_first_row_of_each_axis() -> None:
    rows: list[dict[str, object]] = [
        {"axis": "words", "label": "8 tokens", "seconds": 2.0, "floor": 1.0},
        {"axis": "words", "label": "32 tokens", "seconds": 3.0, "floor": 1.2},
        {"axis": "batch", "label": "1 images", "seconds": 5.0, "floor": 4.0},
    ]
    cells = [line.split() for line in growth.table(rows).splitlines()[1:]]
    assert [line[-5:] for line in cells] == [
        ["2.00s", "1.00s", "50%", "1.00", "1.00"],
        ["3.00s", "1.20s", "40%", "1.50", "1.20"],
        ["5.00s", "4.00s", "80%", "1.00", "1.00"],
    ]


def test_nothing_measured_is_a_heading() -> None:
    assert len(growth.table([]).splitlines()) == 1


def test_captions_of_a_list_share_the_pyramid_in_the_floor_and_in_the_measurement() -> None:
    model = GlipModel(glip_nano()).eval()
    one, two = (growth.Point("names", "", size=(32, 64), captions=captions) for captions in (1, 2))
    machine = Machine("unit", 1.0, 1e30)
    alone = network(model.config, one.size, one.tokens)
    shared = alone["backbone"].macs + alone["pyramid"].macs
    assert growth.floor(model.config, two, machine) == pytest.approx(
        2 * growth.floor(model.config, one, machine) - 2 * shared
    )
    assert growth.measure(model, one, 1) > 0
