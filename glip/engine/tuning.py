"""Which parameters a run trains: all, the last layers, a prompt, or low-rank additions."""

import copy
import re
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import BaseModel, PositiveInt
from torch import nn

from glip.errors import ConfigError
from glip.models.glip import GlipModel

LAST_LAYERS = ("head.box", "head.centerness", "head.word_projection", "head.word_bias", "head.bias", "head.log_scale")
"""What the published linear probing trains (spec: `linear_prob`)."""
LORA_TARGETS = (
    r"text_encoder\.bert\.encoder\..*\.(query|key|value|dense)|blocks\..*\.text_layer\.(query|key|value|expand)"
)


class TuningConfig(BaseModel, frozen=True, extra="forbid"):
    """What is trained.

    Attributes:
        mode: "full": everything that is not `frozen`; "linear": the head's linear layers; "prompt": an addition to the
            words' features, the network itself stays; "lora": low-rank additions to the text side's linear layers, and
            the head's linear layers.
        frozen: modules that are not trained, by name; for "full".
        prompt_length: words that get an addition, for "prompt"; the published number.
        lora_rank: of the additions.
        lora_alpha: they are scaled by `lora_alpha / lora_rank`.
    """

    mode: Literal["full", "linear", "prompt", "lora"] = "full"
    frozen: tuple[str, ...] = ("text_encoder",)
    prompt_length: PositiveInt = 1000
    lora_rank: PositiveInt = 8
    lora_alpha: PositiveInt = 16


@dataclass(frozen=True, eq=False)
class TunedModel:
    """A model whose parameters know whether they are trained.

    Attributes:
        model: the network.
        still: modules that stay in evaluation mode: no dropout, no drop path.
    """

    model: GlipModel
    still: tuple[nn.Module, ...]

    def train(self) -> None:
        """Training mode, but for what stays still."""
        self.model.train()
        for module in self.still:
            module.eval()


def prepare_tuning(model: GlipModel, config: TuningConfig) -> TunedModel:
    """Freeze what is not trained, and add what is.

    Args:
        model: the network that training starts from; it is changed.
        config: what is trained.

    Raises:
        ConfigError: a frozen module does not exist, or peft is missing.
    """
    match config.mode:
        case "full":
            return TunedModel(model, tuple(_freeze(model, name) for name in config.frozen))
        case "linear":
            _train_only(model, LAST_LAYERS)
            return TunedModel(model, (model.backbone, model.fpn, model.text_encoder))
        case "prompt":
            model = _with_prompt(model, config.prompt_length)
            _train_only(model, ("text_prompt",))
            return TunedModel(model, (model,))
        case "lora":
            _train_only(model, LAST_LAYERS)
            _add_lora(model, config)
            return TunedModel(model, (model.backbone, model.fpn))


def merged(model: GlipModel) -> GlipModel:
    """A model without low-rank additions: where there are any, a copy with them added to the weights."""
    if not any(".lora_A." in name for name, _ in model.named_parameters()):
        return model
    from peft.tuners.tuners_utils import BaseTunerLayer

    plain = copy.deepcopy(model)
    for name, module in list(plain.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            parent, _, last = name.rpartition(".")
            setattr(plain.get_submodule(parent), last, module.get_base_layer())
    return plain


def _freeze(model: GlipModel, name: str) -> nn.Module:
    parts = [part for part, _ in model.named_modules() if part]
    if name not in parts:
        top = [part for part in parts if "." not in part]
        raise ConfigError(f"tuning.frozen: the model has no part {name!r}; name one of {top}, or in it")
    return model.get_submodule(name).requires_grad_(requires_grad=False)


def _train_only(model: GlipModel, names: tuple[str, ...]) -> None:
    for name, parameter in model.named_parameters():
        parameter.requires_grad = any(name == one or name.startswith(f"{one}.") for one in names)


def _with_prompt(model: GlipModel, length: int) -> GlipModel:
    """The same network with an addition of zeros to the words' features; one that has it already keeps it."""
    if model.config.prompt_length:
        return model
    config = copy.deepcopy(model.config)
    config.prompt_length = length
    longer = GlipModel(config)
    missing, _ = longer.load_state_dict(model.state_dict(), strict=False)
    assert missing == ["text_prompt"], missing
    return longer


def _add_lora(model: GlipModel, config: TuningConfig) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ConfigError("tuning.mode 'lora' needs peft: pip install 'glip-for-everyone[train]'") from error
    targets = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and re.fullmatch(LORA_TARGETS, name)
    ]
    lora: Any = LoraConfig(
        r=config.lora_rank, lora_alpha=config.lora_alpha, target_modules=targets, init_lora_weights=True
    )
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with torch.random.fork_rng():
        inject_adapter_in_model(lora, model)
    for parameter in trained:
        parameter.requires_grad_()  # peft freezes all but its own
