"""Samples to batches: padded to a common size, images of like shape together."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from scnet.config import DataConfig, OptimConfig
from scnet.data.coco import CocoDataset
from scnet.data.transforms import Objects, Sample
from scnet.ops.images import pad_images
from scnet.ops.masks import stack_crops
from scnet.types import IGNORE, Batch, Targets


def collate(samples: Sequence[Sample]) -> Batch:
    """Return samples as one batch; the padding is zero, and IGNORE in the semantic map."""
    images, sizes = pad_images([s.image for s in samples])
    objects = [s.objects for s in samples if s.objects is not None]
    maps = [s.semantic for s in samples if s.semantic is not None]
    return Batch(
        images=images,
        sizes=sizes,
        info=tuple(s.info for s in samples),
        targets=_targets(objects) if objects else None,
        semantic=torch.stack([_padded(m, images.shape) for m in maps]) if maps else None,
    )


class AspectRatioBatchSampler(Sampler[list[int]]):
    """Batches of images that are all wide or all tall, so that little is padded, in random order.

    Every image comes once an epoch; what is left over of both shapes shares the last batches. The
    order depends on the data set's seed and epoch alone, so a run that resumes sees what it would
    have seen.
    """

    def __init__(self, dataset: CocoDataset, batch_size: int) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.drop_last = False

    def set_epoch(self, epoch: int) -> None:
        """Draw another order; call before the epoch starts."""
        self.dataset.set_epoch(epoch)

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        wide = [ratio >= 1 for ratio in self.dataset.aspect_ratios]
        random = torch.Generator().manual_seed(
            hash((self.dataset.seed, self.dataset.epoch)) % 2**63
        )
        waiting: dict[bool, list[int]] = {True: [], False: []}
        for index in torch.randperm(len(wide), generator=random).tolist():
            batch = waiting[wide[index]]
            batch.append(index)
            if len(batch) == self.batch_size:
                yield batch
                waiting[wide[index]] = []
        rest = waiting[True] + waiting[False]
        yield from (rest[i : i + self.batch_size] for i in range(0, len(rest), self.batch_size))


def train_loader(dataset: CocoDataset, optim: OptimConfig, data: DataConfig) -> DataLoader[Sample]:
    """Return batches in random order. Before each epoch call `dataset.set_epoch`."""
    dataset.seed = optim.seed
    return _loader(dataset, AspectRatioBatchSampler(dataset, optim.batch_size), data)


def eval_loader(dataset: CocoDataset, batch_size: int, data: DataConfig) -> DataLoader[Sample]:
    """Return batches in the file's order."""
    order = range(len(dataset))
    batches = [list(order[i : i + batch_size]) for i in range(0, len(dataset), batch_size)]
    return _loader(dataset, batches, data)


def num_workers(data: DataConfig) -> int:
    """Return how many processes read images."""
    return min(_cores(), 8) if data.workers < 0 else data.workers


def _loader(
    dataset: CocoDataset, batches: Sampler[list[int]] | list[list[int]], data: DataConfig
) -> DataLoader[Sample]:
    # Workers start anew each epoch, which is how they learn its number.
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=num_workers(data),
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
    )


def _cores() -> int:
    """Return the cores this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _targets(objects: Sequence[Objects]) -> Targets:
    counts = tuple(len(o.labels) for o in objects)
    return Targets(
        boxes=torch.cat([o.boxes for o in objects]),
        labels=torch.cat([o.labels for o in objects]),
        image=torch.repeat_interleave(torch.arange(len(objects)), torch.tensor(counts)),
        masks=stack_crops([crop for o in objects for crop in o.masks]),
        counts=counts,
    )


def _padded(semantic: Tensor, shape: Sequence[int]) -> Tensor:
    right, bottom = shape[-1] - semantic.shape[1], shape[-2] - semantic.shape[0]
    return F.pad(semantic, (0, right, 0, bottom), value=IGNORE)
