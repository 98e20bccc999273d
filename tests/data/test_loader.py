"""Batches hold every image once, padded so that nothing moves."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scnet.config import DataConfig, OptimConfig
from scnet.data.annotations import ImageRecord
from scnet.data.coco import CocoDataset, load_dataset
from scnet.data.images import DataError
from scnet.data.loader import Share, StepSampler, collate, eval_loader, train_loader
from scnet.data.repeats import Draw
from scnet.data.transforms import Sample
from scnet.settings import ConfigError
from scnet.types import IGNORE, Batch

CONFIG = DataConfig(size=(30, 40), workers=0)
# Python 3.12 warns wherever a process with threads forks, which is how workers start.
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


@pytest.fixture
def dataset(coco_folder: Path) -> CocoDataset:
    return load_dataset(coco_folder, "train", CONFIG, train=True, semantic=True)


def test_batch_keeps_what_samples_hold(dataset: CocoDataset) -> None:
    small = load_dataset(
        dataset.annotation_file, "train", replace(CONFIG, size=(15, 20)), train=True, semantic=True
    )
    samples = [dataset[0], small[3], small[1], dataset[2]]
    batch = collate(samples)
    assert batch.images.shape == (4, 3, 32, 64)
    assert batch.images.dtype == torch.uint8
    assert batch.sizes.tolist() == [[30, 40], [15, 20], [15, 20], [30, 40]]
    assert batch.semantic is not None
    for sample, image, semantic in zip(samples, batch.images, batch.semantic, strict=True):
        _, height, width = sample.image.shape
        assert torch.equal(image[:, :height, :width], sample.image)
        assert sample.semantic is not None
        assert torch.equal(semantic[:height, :width], sample.semantic)
        assert semantic[height:].eq(IGNORE).all()
        assert semantic[:, width:].eq(IGNORE).all()
    targets = batch.targets
    assert targets is not None
    assert targets.counts == (2, 0, 1, 1)
    assert targets.valid.tolist() == [[True, True], [False] * 2, [False, True], [False, True]]
    assert targets.labels[targets.valid].tolist() == [1, 0, 0, 1]
    assert targets.rows[targets.valid].tolist() == [0, 1, 2, 3]
    assert len(targets.masks.sizes) == targets.valid.sum() == 4


def test_batch_without_objects_has_empty_targets(dataset: CocoDataset) -> None:
    targets = collate([dataset[3]]).targets
    assert targets is not None
    assert targets.counts == (0,)
    assert targets.boxes.tolist() == [[[0, 0, 0, 0]]]
    assert not targets.valid.any()
    assert targets.masks.sizes == ()


def test_batch_of_inference_has_no_targets(coco_folder: Path) -> None:
    evaluation = load_dataset(coco_folder, "val", CONFIG, train=False)
    batches: list[Batch] = [batch for batch, _ in eval_loader(evaluation, 3, CONFIG)]
    assert [info.id for batch in batches for info in batch.info] == [1, 2, 3, 4]
    assert all(batch.targets is None and batch.semantic is None for batch in batches)


def of_shapes(dataset: CocoDataset, wide: list[bool]) -> CocoDataset:
    """Let a data set hold images of which only the shapes matter."""
    sizes = [(30, 40) if w else (40, 30) for w in wide]
    dataset.images = [ImageRecord(i, "", size) for i, size in enumerate(sizes)]
    return dataset


@pytest.mark.parametrize("number", [1, 7, 8, 61])
def test_every_image_comes_once_and_with_its_like(number: int, dataset: CocoDataset) -> None:
    wide = [i % 3 == 0 for i in range(number)]
    sampler = StepSampler(of_shapes(dataset, wide), 4)
    batches = list(sampler.batches())
    drawn = [draw.image for batch in batches for draw in batch]
    assert sorted(drawn[:number]) == list(range(number))
    assert all(len(batch) == 4 for batch in batches)  # filled up
    assert len(batches) == sampler.steps == len(sampler)
    mixed = [len({wide[draw.image] for draw in batch}) > 1 for batch in batches]
    assert not any(mixed[:-2])


def test_order_depends_on_seed_and_epoch_alone(dataset: CocoDataset) -> None:
    sampler = StepSampler(of_shapes(dataset, [True] * 50), 4)
    first = list(sampler)
    assert list(sampler) == first
    dataset.set_epoch(1)
    second = list(sampler)
    assert second != first
    dataset.set_epoch(0)
    assert list(sampler) == first
    dataset.seed = 1
    assert list(sampler) not in (first, second)


@pytest.mark.parametrize(
    ("seed", "epoch", "order"),
    [
        (0, 0, [6, 3, 8, 1, 4, 5, 9, 2, 7, 0]),
        (0, 1, [5, 3, 8, 6, 1, 4, 7, 2, 0, 9]),
        (7, 3, [8, 9, 7, 1, 2, 0, 5, 4, 6, 3]),
        (2**63, 0, [3, 8, 1, 9, 7, 4, 5, 0, 6, 2]),
    ],
)
def test_order_is_the_same_on_every_machine(
    dataset: CocoDataset, seed: int, epoch: int, order: list[int]
) -> None:
    of_shapes(dataset, [True] * 10)
    dataset.seed = seed
    dataset.set_epoch(epoch)
    drawn = [draw.image for batch in StepSampler(dataset, 5).batches() for draw in batch]
    assert drawn == order


@pytest.mark.parametrize(("processes", "pieces"), [(1, 1), (2, 1), (1, 4), (2, 2), (4, 2)])
def test_processes_and_pieces_share_each_batch(
    dataset: CocoDataset, processes: int, pieces: int
) -> None:
    of_shapes(dataset, [i % 3 == 0 for i in range(29)])
    whole = list(StepSampler(dataset, 8))
    shares = [
        list(StepSampler(dataset, 8, Share(rank, processes, pieces))) for rank in range(processes)
    ]
    for step, batch in enumerate(whole):
        shared = [
            request
            for piece in range(pieces)
            for share in shares
            for request in share[step * pieces + piece]
        ]
        assert shared == batch


def test_an_epoch_can_go_on_in_its_middle(dataset: CocoDataset) -> None:
    sampler = StepSampler(of_shapes(dataset, [True] * 30), 4, Share(pieces=2))
    whole = list(sampler)
    sampler.start = 3
    assert list(sampler) == whole[6:]
    assert len(sampler) == len(whole) - 6


def test_a_batch_that_cannot_be_shared_is_refused(dataset: CocoDataset) -> None:
    with pytest.raises(ConfigError, match=r"batch_size: 6 .* 4 processes x 1 pieces"):
        StepSampler(dataset, 6, Share(processes=4))


def test_pieces_of_a_step_are_padded_alike(dataset: CocoDataset) -> None:
    dataset.config = replace(CONFIG, scales=(10, 20, 30))
    optim = OptimConfig(batch_size=4)
    loader, _ = train_loader(dataset, optim, CONFIG, Share(pieces=4))
    batch = next(iter(train_loader(dataset, optim, CONFIG)[0]))
    pieces = list(loader)[:4]
    assert len({tuple(size) for size in batch.sizes.tolist()}) > 1
    assert torch.equal(torch.cat([piece.images for piece in pieces]), batch.images)


def test_workers_change_nothing(dataset: CocoDataset) -> None:
    dataset.config = replace(CONFIG, vertical_flip=0.5)
    optim = OptimConfig(batch_size=2, seed=5)
    for epoch in range(2):
        dataset.set_epoch(epoch)
        alone = list(train_loader(dataset, optim, CONFIG)[0])
        shared = list(train_loader(dataset, optim, replace(CONFIG, workers=2))[0])
        for a, b in zip(alone, shared, strict=True):
            assert a.info == b.info
            assert torch.equal(a.images, b.images)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_reads_the_same_from_any_process(coco_folder: Path, workers: int) -> None:
    config = replace(CONFIG, workers=workers)
    dataset = load_dataset(coco_folder, "train", config, train=True)
    file = dataset.image_root / dataset.images[0].file_name
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError) as caught:
        list(train_loader(dataset, OptimConfig(batch_size=2), config)[0])
    assert str(caught.value).startswith(f"{file}: cannot be read")
    assert "Traceback" not in str(caught.value)


class Deadly(CocoDataset):
    """Ends the process that reads it, as a kernel out of memory does."""

    def look(self, draw: Draw) -> Sample:
        os.kill(os.getpid(), signal.SIGKILL)
        return super().look(draw)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_process_that_was_killed_is_explained(coco_folder: Path) -> None:
    config = replace(CONFIG, workers=1)
    dataset = load_dataset(coco_folder, "train", config, train=True)
    dataset.__class__ = Deadly
    with pytest.raises(DataError, match=r"has ended \(DataLoader.*--data.workers 0.*--shm-size"):
        list(train_loader(dataset, OptimConfig(batch_size=2), config)[0])


@pytest.mark.parametrize("name", ["dsb2018_le360", "coco600_400px"])
def test_real_data_load_in_workers(name: str, data_dir: Path) -> None:
    config = DataConfig(size=(200, 333), workers=2)
    dataset = load_dataset(data_dir / name, "train", config, train=True, semantic=True)
    dataset.images = dataset.images[:24]
    batches: list[Batch] = list(train_loader(dataset, OptimConfig(batch_size=4), config)[0])
    assert sum(len(batch.info) for batch in batches) == 24
    for batch in batches:
        assert batch.targets is not None
        boxes, valid = batch.targets.boxes, batch.targets.valid
        assert (boxes <= batch.sizes.flip(1).repeat(1, 2)[:, None]).all()
        assert (boxes[valid][:, 2:] > boxes[valid][:, :2]).all()
        assert len(batch.targets.masks.sizes) == sum(batch.targets.counts)
