"""Samples to batches: padded to a common size, images of like shape together."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from scnet.config import DataConfig, OptimConfig
from scnet.data.coco import CocoDataset
from scnet.data.images import DataError
from scnet.data.repeats import Draw
from scnet.data.transforms import Objects, Sample
from scnet.ops.masks import join_crops
from scnet.settings import ConfigError
from scnet.types import IGNORE, Batch, Size, Targets


def collate(samples: Sequence[Sample], least: Size = (0, 0)) -> Batch:
    """Return samples as one batch, padded to their largest height and width, or to `least`.

    The padding is zero, and IGNORE in the semantic map.
    """
    batch = Batch.of([s.image for s in samples], [s.info for s in samples], least)
    shape = batch.images.shape
    objects = [s.objects for s in samples if s.objects is not None]
    maps = [s.semantic for s in samples if s.semantic is not None]
    return replace(
        batch,
        targets=_targets(objects) if objects else None,
        semantic=torch.stack([_padded(m, shape) for m in maps]) if maps else None,
        skipped=tuple(reason for s in samples for reason in s.skipped),
    )


class Share(NamedTuple):
    """Which part of each step's batch a process sees, and in how many pieces."""

    rank: int = 0
    processes: int = 1
    pieces: int = 1  # that pass one after the other before the weights are updated


WHOLE = Share()


class Request(NamedTuple):
    """An image to read, and the size to which the batch of its step is padded."""

    draw: Draw
    least: Size


class StepSampler(Sampler[list[Request]]):
    """Draws the batch of each step, and yields the pieces that this process sees of it.

    The images of a batch are all wide or all tall, so that little is padded. Every image comes once
    an epoch, or as often as `data.repeats` says; the last batches are of both shapes and filled up
    with images from the beginning. The batches depend on the data set's seed and epoch alone, and
    all pieces of one are padded alike. So a training sees the same on any number of processes, in
    any number of pieces, and after an interruption.
    """

    def __init__(self, dataset: CocoDataset, batch_size: int, share: Share = WHOLE) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.share = share
        self.piece, rest = divmod(batch_size, share.processes * share.pieces)
        if rest or not self.piece:
            raise ConfigError(
                f"optim.batch_size: {batch_size} images a step cannot be shared evenly by "
                f"{share.processes} processes x {share.pieces} pieces (optim.accumulate)"
            )
        self.start = 0  # steps of the epoch to leave out, as they were done before

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return -(-self.dataset.looks // self.batch_size)

    def __len__(self) -> int:
        return (self.steps - self.start) * self.share.pieces

    def __iter__(self) -> Iterator[list[Request]]:
        rank, processes, pieces = self.share
        for batch in itertools.islice(self.batches(), self.start, None):
            sizes = [self.dataset.sample_size(draw) for draw in batch]
            least = max(height for height, _ in sizes), max(width for _, width in sizes)
            for number in range(pieces):
                first = (number * processes + rank) * self.piece
                yield [Request(draw, least) for draw in batch[first : first + self.piece]]

    def batches(self) -> Iterator[list[Draw]]:
        """Yield the looks at images of each step of the epoch."""
        wide = [ratio >= 1 for ratio in self.dataset.aspect_ratios]
        draws = self.dataset.draws()
        order = [draws[i] for i in _shuffled(len(draws), self.dataset.seed, self.dataset.epoch)]
        waiting: dict[bool, list[Draw]] = {True: [], False: []}
        for draw in order:
            batch = waiting[wide[draw.image]]
            batch.append(draw)
            if len(batch) == self.batch_size:
                yield batch
                waiting[wide[draw.image]] = []
        rest = waiting[True] + waiting[False]
        missing = -len(rest) % self.batch_size
        rest += itertools.islice(itertools.cycle(order), missing)
        yield from (rest[i : i + self.batch_size] for i in range(0, len(rest), self.batch_size))


def _shuffled(number: int, seed: int, epoch: int) -> list[int]:
    """Return the numbers below `number` in an order that is the same on every machine.

    It is sorted by random words, since NumPy promises the same words in every release. Neither
    NumPy nor PyTorch promises that of its shuffling.
    """
    state = np.random.SeedSequence((seed, epoch), spawn_key=(0,))
    words = np.random.PCG64(state).random_raw(number)
    order: list[int] = np.argsort(words, kind="stable").tolist()
    return order


def train_loader(
    dataset: CocoDataset, optim: OptimConfig, data: DataConfig, share: Share = WHOLE
) -> tuple[Loader, StepSampler]:
    """Return this process's pieces of the batches in random order, and what draws them.

    Before each epoch call `dataset.set_epoch`.
    """
    dataset.seed = optim.seed
    sampler = StepSampler(dataset, optim.batch_size, share)
    return _loader(_Requested(dataset), sampler, data, _collate_requested), sampler


class _Requested(Dataset[Any]):
    """A data set that is asked with requests, and passes the size of padding on."""

    def __init__(self, dataset: CocoDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, request: Request) -> tuple[Sample, Size]:
        return self.dataset.look(request.draw), request.least


def _collate_requested(samples: Sequence[tuple[Sample, Size]]) -> Batch:
    return collate([sample for sample, _ in samples], samples[0][1])


class EvalBatch(NamedTuple):
    """Images that pass through the network together, without those that cannot be used."""

    batch: Batch | None  # None where none can be used
    faults: tuple[str | None, ...]  # why an image cannot be used, for each that was asked for


def eval_loader(
    dataset: CocoDataset, batch_size: int, data: DataConfig, images: Sequence[int] | None = None
) -> Loader:
    """Return an `EvalBatch` for so many images each, of all or of those given, in order.

    An image that cannot be used stops with a DataError unless `data.unreadable` says to skip it.
    """
    order = list(range(len(dataset)) if images is None else images)
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    usable = _Usable(dataset, skip=data.unreadable == "skip")
    return _loader(usable, batches, data, _collate_usable)


class _Usable(Dataset[Any]):
    """A data set that gives, for an image that cannot be used, the reason."""

    def __init__(self, dataset: CocoDataset, *, skip: bool) -> None:
        self.dataset = dataset
        self.skip = skip

    def __getitem__(self, index: int) -> Sample | str:
        try:
            return self.dataset[index]
        except DataError as error:
            if not self.skip:
                raise
            return str(error)


def _collate_usable(samples: Sequence[Sample | str]) -> EvalBatch:
    usable = [sample for sample in samples if isinstance(sample, Sample)]
    faults = tuple(sample if isinstance(sample, str) else None for sample in samples)
    return EvalBatch(collate(usable) if usable else None, faults)


class Loader(DataLoader[Any]):
    """A data loader whose processes report what went wrong as if they were none."""

    def __iter__(self) -> Generator[Any]:  # type: ignore[override]
        try:
            yield from super().__iter__()
        except DataError as error:  # PyTorch puts the trace of the process before the text
            _, _, text = str(error).rpartition(f"{DataError.__name__}: ")
            raise DataError(text.strip()) from None
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise DataError(
                f"a process that reads images has ended ({str(error).splitlines()[0]}); if memory "
                f"ran short: --data.workers {self.num_workers // 2}, in a container also more "
                "shared memory (docker run --shm-size 8g)"
            ) from error


def num_workers(data: DataConfig) -> int:
    """Return how many processes read images."""
    return min(_cores(), 8) if data.workers < 0 else data.workers


def _loader(
    dataset: Dataset[Any],
    batches: Sampler[list[Request]] | list[list[int]],
    data: DataConfig,
    collate: Callable[[Any], Any],
) -> Loader:
    # Workers start anew each epoch, which is how they learn its number.
    return Loader(
        dataset,
        batch_sampler=batches,
        num_workers=num_workers(data),
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_leave_signals_to_the_main_process,
        generator=torch.Generator(),  # a seed of workers must not move what a network may draw
    )


def _leave_signals_to_the_main_process(worker: int) -> None:
    """Ignore the signals that reach every process, so that the main one ends in good order.

    These are Ctrl-C in a terminal and the SIGTERM of a cluster.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # on Linux; elsewhere SIGTERM ends this process
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_end_if_the_parent_says_so, daemon=True).start()


def _end_if_the_parent_says_so() -> None:
    """Heed the SIGTERM of the main process alone."""
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)


def _cores() -> int:
    """Return the cores this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _targets(objects: Sequence[Objects]) -> Targets:
    masks = join_crops([crop for o in objects for crop in o.masks])
    return Targets.of([o.boxes for o in objects], [o.labels for o in objects], masks)


def _padded(semantic: Tensor, shape: Sequence[int]) -> Tensor:
    right, bottom = shape[-1] - semantic.shape[1], shape[-2] - semantic.shape[0]
    return F.pad(semantic, (0, right, 0, bottom), value=IGNORE)
