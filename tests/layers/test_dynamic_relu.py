"""A dynamic ReLU is the larger of two lines that the pooled image decides; with zero logits it is the ReLU."""

import torch
from torch import nn

from glip.layers.dynamic_relu import DynamicReLU


def with_logits(*logits: float) -> DynamicReLU:
    """A module whose four logits (slope 1, intercept 1, slope 2, intercept 2) are the same for each of 4 channels."""
    module = DynamicReLU(4)
    nn.init.zeros_(module.excite.weight)
    module.excite.bias.data = torch.tensor(logits).float().repeat_interleave(4)
    return module


def test_zero_logits_give_the_relu() -> None:
    features = torch.randn(2, 4, 3, 5)
    torch.testing.assert_close(with_logits(0, 0, 0, 0)(features), features.relu())


def test_saturated_logits_give_the_steepest_lines() -> None:
    features = torch.tensor([-2.0, -1.0, 0.0, 1.0]).view(1, 1, 1, 4).expand(1, 4, 1, 4)
    found = with_logits(3, -3, -3, 3)(features)  # lines 2 x - 0.5 and -x + 0.5
    torch.testing.assert_close(found[0, 0, 0], torch.tensor([2.5, 1.5, 0.5, 1.5]))


def test_each_image_of_a_batch_has_its_own_lines() -> None:
    module = DynamicReLU(8)
    features = torch.randn(3, 8, 4, 4)
    one_by_one = torch.cat([module(image) for image in features.split(1)])
    torch.testing.assert_close(module(features), one_by_one)


def test_what_the_mask_hides_has_no_say_in_the_lines() -> None:
    module = DynamicReLU(8)
    features = torch.randn(1, 8, 2, 4)
    mask = torch.tensor([[[True, True, False, False]] * 2])
    changed = torch.where(mask.unsqueeze(1), features, 100.0)
    torch.testing.assert_close(module(features, mask)[..., :2], module(changed, mask)[..., :2])


def test_no_images_give_no_images() -> None:
    assert DynamicReLU(4)(torch.zeros(0, 4, 3, 3)).shape == (0, 4, 3, 3)


def test_gradient_reaches_every_parameter() -> None:
    torch.manual_seed(0)
    module = DynamicReLU(8)
    module(torch.randn(4, 8, 3, 3)).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
