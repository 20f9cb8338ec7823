"""What many tests share."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from glip.predictor import Predictor
from glip.weights.folder import SHIPPED

PHOTOS = Path(__file__).parents[1] / "docs" / "photos"


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    """The vocabulary of bert-base-uncased, as the package ships it."""
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(SHIPPED["glip-nano"])
    return loaded


@pytest.fixture(scope="session")
def predictor() -> Predictor:
    """The shipped model."""
    return Predictor.from_pretrained()


@pytest.fixture(scope="session")
def photos() -> Path:
    """The folder of free photos."""
    return PHOTOS
