"""A detection file's COCO numbers during a run."""

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from glip.engine.answers import ask, cut
from glip.engine.config import ValidationConfig
from glip.evaluation.coco import METRICS, CocoJsonBenchmark
from glip.images import read_image
from glip.predictor import Predictor


def measure(predictor: Predictor, config: ValidationConfig, accelerator: Accelerator) -> dict[str, float]:
    """COCO's numbers; every process answers its share of the pictures, and all get the same result.

    Args:
        predictor: the model.
        config: the file.
        accelerator: this process's.
    """
    benchmark = CocoJsonBenchmark(annotations=config.annotations, images=config.images)
    batches = cut(benchmark.questions(), predictor.batch_size)
    mine = []
    was_training = predictor.model.training
    predictor.model.eval()
    with torch.inference_mode(mode=accelerator.num_processes == 1):
        for batch in batches[accelerator.process_index :: accelerator.num_processes]:
            found = ask(predictor, batch, [read_image(question.image) for question in batch])
            mine += [benchmark.answer(question, one) for question, one in zip(batch, found, strict=True)]
    predictor.model.train(was_training)
    numbers: list[dict[str, float] | None] = [None]
    shares = accelerator.gather_for_metrics(mine, use_gather_object=True) if accelerator.num_processes > 1 else mine
    if accelerator.is_main_process:
        score = benchmark.score(shares)
        numbers = [{name: score[name] for name in METRICS}]
    if accelerator.num_processes > 1:
        broadcast_object_list(numbers)
    assert numbers[0] is not None
    return numbers[0]
