"""Whatever stands in an annotation file, reading it works or says what is wrong."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.mutations import mutate

from scnet.config import DataConfig
from scnet.data.check import check
from scnet.data.coco import load_dataset
from scnet.data.images import DataError
from scnet.evaluation.scoring import score


def fault(file: Path, *, drop_invalid: bool) -> str | None:
    """Return why a file cannot be used, None if everything in it can be."""
    config = DataConfig(size=(30, 40), drop_invalid=drop_invalid)
    try:
        dataset = load_dataset(file, "train", config, train=True, semantic=True)
        for index in range(len(dataset)):
            dataset[index]
    except DataError as error:
        return str(error)
    score(dataset.ground_truth, [])
    return None


@pytest.mark.parametrize("seed", range(4))
def test_any_mutation_is_read_or_explained(
    seed: int, tmp_path: Path, content: Any, write: Callable[..., Path]
) -> None:
    draw = random.Random(seed)
    packed = {"size": [30, 40], "counts": "hb0\\9\\9"}  # the same as the crowd region's
    content["annotations"].append(content["annotations"][4] | {"id": 6, "segmentation": packed})
    file = write(content, tmp_path / "annotations/instances_train.json", tmp_path / "train")
    for _ in range(60):
        changed = copy.deepcopy(content)
        for _ in range(draw.choice([1, 1, 1, 2, 3])):
            mutate(changed, draw)
        file.write_text(json.dumps(changed))
        report = check(file)
        assert report.render()
        stopped = fault(file, drop_invalid=False)
        assert bool(stopped) == bool(report.errors)
        for reason in (stopped, fault(file, drop_invalid=True)):
            assert reason is None or str(tmp_path) in reason
