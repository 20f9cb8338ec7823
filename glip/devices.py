"""Where a network can run."""

import torch

from glip.errors import ConfigError


def checked_device(device: str | torch.device) -> torch.device:
    """The device, if this torch has it.

    Raises:
        ConfigError: it is not there, or no device at all.
    """
    try:
        checked = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device must be like 'cpu' or 'cuda:0', got {device!r}") from error
    if checked.type == "meta":
        raise ConfigError("device 'meta' holds no numbers; use device='cpu'")
    try:
        torch.empty(0, device=checked)
    except (
        RuntimeError,
        AssertionError,
        NotImplementedError,
    ) as error:  # all mean that it is not there
        raise ConfigError(f"device {str(device)!r} is not there for this torch; use device='cpu'") from error
    return checked
