"""A transformers model whose weights fit exactly or are refused."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from glip.errors import CheckpointError
from glip.weights.folder import check_model_folder


class StrictModel(PreTrainedModel):
    """`PreTrainedModel` that keeps its constructor's initial values and fills nothing in silently."""

    def _init_weights(self, module: nn.Module) -> None:
        """Leave every module as its constructor made it.

        transformers would draw all weights again, and with them the focal prior, the scales and torchvision's own
        initialisation. Parts that are transformers models (BERT) still follow their own rule. Only buffers that no
        file holds are computed again, which timm's modules can do.
        """
        compute_buffers = getattr(module, "init_non_persistent_buffers", None)
        if compute_buffers is not None:
            compute_buffers()

    def recompute_activations(self) -> None:
        """Keep less for the backward pass and compute it again there; dropout is the same the second time."""
        # transformers 5.23 calls it activation checkpointing and warns of the older name
        enable = getattr(self, "activation_checkpointing_enable", self.gradient_checkpointing_enable)
        enable({"use_reentrant": False})

    @classmethod
    def from_pretrained(  # type: ignore[override]  # options pass through
        cls, pretrained_model_name_or_path: str | os.PathLike[str], *args: Any, **kwargs: Any
    ) -> Self:
        """Load weights that `save_pretrained` wrote, in float32 unless `dtype` says otherwise.

        Raises:
            CheckpointError: the file lacks a tensor, has one too many, or one of another shape.
        """
        if Path(pretrained_model_name_or_path).is_dir():
            check_model_folder(Path(pretrained_model_name_or_path), kind=_kind(cls))
        kwargs.setdefault("dtype", torch.float32)
        kwargs["ignore_mismatched_sizes"] = True  # reported, and refused below with our own error
        wants_report = kwargs.pop("output_loading_info", False)
        loaded: Any = super().from_pretrained(pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs)
        model, report = loaded
        for fault in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if report[fault]:
                names = sorted(str(name) for name in report[fault])
                raise CheckpointError(
                    f"{pretrained_model_name_or_path}: {len(names)} {fault.replace('_', ' ')}, first {names[0]}; "
                    "the weights do not belong to this config.json"
                )
        return cast(Self, loaded if wants_report else model)


def _kind(model: type[StrictModel]) -> str:
    assert model.config_class is not None
    return model.config_class.model_type


def check_state(source: str, expected: Mapping[str, torch.Size], state: Mapping[str, Tensor], *, config: str) -> None:
    """Refuse weights that are not exactly the expected ones.

    Args:
        source: where they come from, for errors.
        expected: shapes by name.
        state: the weights by name.
        config: what the shapes come from, for errors.

    Raises:
        CheckpointError: one is missing, too many, or of another shape.
    """
    missing = sorted(expected.keys() - state.keys())
    unexpected = sorted(state.keys() - expected.keys())
    if missing or unexpected:
        raise CheckpointError(
            f"{source}: {len(missing)} missing and {len(unexpected)} unexpected tensors "
            f"(first: {(missing or unexpected)[0]}); the file does not fit this {config}"
        )
    for name, shape in expected.items():
        if state[name].shape != shape:
            raise CheckpointError(
                f"{source}: {name} must be {tuple(shape)}, got {tuple(state[name].shape)}; "
                f"give the {config} of this file"
            )
