"""Pairs for the loss tests, and the double loops that say what their losses are."""

import math

import torch
from torch import Tensor, nn

from glip.contrastive.losses import InfoNceLoss, SigmoidLoss
from glip.structures.output import ClipOutput

PAIRS, WIDTH, INPUTS = 6, 4, 5
GROUPS = torch.tensor([0, 1, 2, 0, 3, 1])
LOSSES: dict[str, InfoNceLoss | SigmoidLoss] = {
    f"{name}, {'own rows' if local else 'all rows'}, {'chunks' if chunk else 'whole'}": kind(
        local_loss=local, chunk_size=chunk
    )
    for name, kind in (("softmax", InfoNceLoss), ("sigmoid", SigmoidLoss))
    for local in (True, False)
    for chunk in (None, 2)
}


class TwoTowers(nn.Module):
    """The least network with two towers: a linear map each, a scale and a bias."""

    def __init__(self) -> None:
        super().__init__()
        chance = torch.Generator().manual_seed(3)
        self.image = nn.Parameter(torch.randn(INPUTS, WIDTH, generator=chance, dtype=torch.float64))
        self.text = nn.Parameter(torch.randn(INPUTS, WIDTH, generator=chance, dtype=torch.float64))
        self.log_scale = nn.Parameter(torch.tensor(math.log(5.0), dtype=torch.float64))
        self.bias = nn.Parameter(torch.tensor(-1.0, dtype=torch.float64))

    def forward(self, inputs: Tensor) -> ClipOutput:
        """`(B, 2, INPUTS)` to the features of B pairs."""
        return ClipOutput(
            image_features=nn.functional.normalize(inputs[:, 0] @ self.image, dim=-1),
            text_features=nn.functional.normalize(inputs[:, 1] @ self.text, dim=-1),
            logit_scale=self.log_scale.exp(),
            logit_bias=self.bias * 1,
        )


def pair_inputs(count: int = PAIRS) -> Tensor:
    """`(count, 2, INPUTS)`, the same numbers each time."""
    return torch.randn(count, 2, INPUTS, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """Of every parameter by its name, zero where the loss does not depend on it."""
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}


def softmax_by_loops(output: ClipOutput, groups: Tensor | None = None) -> Tensor:
    """CLIP's loss as the paper says it, a number at a time."""
    images, texts, count = output.image_features, output.text_features, len(output.image_features)
    total = torch.zeros((), dtype=images.dtype)
    for one in range(count):
        for queries, keys in ((images, texts), (texts, images)):
            others = torch.zeros((), dtype=images.dtype)
            for other in range(count):
                if other == one or groups is None or groups[one] != groups[other]:
                    others = others + torch.exp(output.logit_scale * (queries[one] * keys[other]).sum())
            own = torch.exp(output.logit_scale * (queries[one] * keys[one]).sum())
            total = total - torch.log(own / others)
    return total / (2 * count)


def sigmoid_by_loops(output: ClipOutput, groups: Tensor | None = None) -> Tensor:
    """SigLIP's loss as the paper says it, a number at a time."""
    images, texts, count = output.image_features, output.text_features, len(output.image_features)
    assert output.logit_bias is not None
    total = torch.zeros((), dtype=images.dtype)
    for image in range(count):
        for text in range(count):
            if image != text and groups is not None and groups[image] == groups[text]:
                continue
            sign = 1 if image == text else -1
            logit = output.logit_scale * (images[image] * texts[text]).sum() + output.logit_bias
            total = total + torch.log1p(torch.exp(-sign * logit))
    return total / count
