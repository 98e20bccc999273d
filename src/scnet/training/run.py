"""Start a training, or go on with one: data, model, folder, processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import yaml
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import DistributedType, ProjectConfiguration

from scnet.config import Config, require_colours, to_dict
from scnet.data.coco import CocoDataset, load_dataset
from scnet.data.images import DataError
from scnet.idle import Facts, refuse
from scnet.model.detector import Detector
from scnet.runtime.distributed import gather, rank
from scnet.runtime.files import new_folder, recover, whole_file
from scnet.settings import ConfigError
from scnet.training.asked import ask, evaluates, require_classes_of_data
from scnet.training.log import Log, duration
from scnet.training.loop import Trainer
from scnet.training.resuming import (
    CONFIG,
    changed,
    require_run,
    require_same_data,
    stored_config,
)
from scnet.training.start import Start, find_start
from scnet.weights import checkpoint
from scnet.weights.checkpoint import CheckpointError
from scnet.weights.pretrained import load_backbone_weights

T = TypeVar("T")


def train(
    recipe: str | Config,
    data: str | os.PathLike[str],
    *,
    start: str | os.PathLike[str] | None = None,
    finetune: bool = False,
    output: str | os.PathLike[str] | None = None,
    epochs: int | None = None,
    settings: Mapping[str, Any] | None = None,
    base: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> Path:
    """Train a recipe on a data set in COCO format and return the run's folder.

    PyTorch's random numbers are seeded anew, and an `Accelerator` made before loses its state.

    Args:
        recipe: a name (`scnet recipes` lists them), a config, or "auto": what the data speak for.
        data: folder in a usual COCO layout, or an annotation file.
        start: trained detector to go on from, with all of it that fits and the classes of the data:
            whatever `scnet.load` reads. None starts from ImageNet weights of the backbone.
        finetune: go on from `start` gently: at a lower rate, with more of the backbone frozen and
            for fewer epochs than the recipe's (`scnet.training.finetune`), where these are not set.
        output: folder of the run; must not exist. None makes `runs/RECIPE`, numbered if taken.
        epochs: short for `settings={"optim": {"epochs": ...}}`.
        settings: nested dict laid over the recipe; each of them must have an effect.
        base: nested dict laid under `settings`, such as the content of another run's config.yaml;
            where it holds a setting without effect, a note says so.

    Raises:
        ConfigError: a setting that does not exist or fit, or that others leave without effect;
            `finetune` without `start`, or where all that it would change is set.
        DataError: something wrong with the data.
        CheckpointError, ZooError: `start` is no detector, or cannot be had.

    Example:
        >>> scnet.train("scnet_lite", data="my_data/", epochs=20)  # doctest: +SKIP
    """
    beginning = find_start(start, base or {}, finetune=finetune, quiet=quiet)
    asked = ask(recipe, data, base=base, settings=settings, epochs=epochs, start=beginning)
    accelerator = make_accelerator(asked.config)
    dataset = load_train_set(asked.config)
    if finetune and beginning is not None:
        asked = asked.fine_tuned(beginning.config, dataset.looks)
    config = fit_to_data(asked.config, dataset)
    require_classes_of_data(asked, config)
    contrast = dataset.contrast_warning  # looked for before there is a folder, as it may raise
    torch.manual_seed(config.optim.seed)
    detector = Detector(config)
    facts = Facts(config, evaluates(config), detector.backbone.has_batch_norm)
    asked.refuse_idle(facts)
    began = _fill(detector, beginning, accelerator)
    with _new_folder(output, config) as folder:
        log = Log(folder / "log.jsonl", quiet, main=accelerator.is_main_process)
        chosen = (f"chosen: {advice}" for advice in asked.chosen)
        for line in (*chosen, *asked.remarks(facts), *began):
            log.say(line)
        _warn(log, contrast)
        with _closed_on_failure(log):
            trainer = Trainer(detector, dataset, folder, log, accelerator)
    return _finish(trainer)


def resume(
    folder: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> Path:
    """Continue a training from its last checkpoint, to the end that its config says.

    Args:
        folder: of the run.
        data: where the data set is now, if it has moved; the run remembers it.
        settings: nested dict laid over those of the run; `resuming.MAY_CHANGE` lists which may be.

    Raises:
        CheckpointError: there is nothing to resume, or the data are not those it began with.
        ConfigError: a setting that a training cannot change.
    """
    folder = Path(folder)
    require_run(folder)
    if rank() == 0:
        recover(folder / "last")
    if not (folder / "last").is_dir():
        raise CheckpointError(
            f"{folder}: no checkpoint yet; the first comes after an epoch, or after "
            "run.checkpoint_minutes. Start a new training"
        )
    stored = stored_config(folder)
    config = changed(stored, folder, data, settings or {})
    accelerator = make_accelerator(config)
    detector = checkpoint.load(folder / "last", **to_dict(config))
    state = checkpoint.load_state(folder / "last")
    dataset = load_train_set(config)
    require_same_data(folder, dataset, config, state)
    refuse(settings or {}, Facts(config, evaluates(config), detector.backbone.has_batch_norm))
    if config != stored:
        _write_config(folder, config)
    log = Log(folder / "log.jsonl", quiet, main=accelerator.is_main_process)
    _warn(log, dataset.contrast_warning)
    with _closed_on_failure(log):
        trainer = Trainer(detector, dataset, folder, log, accelerator)
        trainer.restore(state)
    return _finish(trainer)


def make_accelerator(config: Config) -> Accelerator:
    """Return what places a training on devices, processes and kinds of numbers.

    Raises:
        ConfigError: a precision or norm that the device lacks, or a tracker that is not installed.
    """
    AcceleratorState._reset_state()  # of an earlier training in this process
    trackers = list(config.run.trackers)
    missing = [name for name in trackers if name not in map(str, get_available_trackers())]
    if missing:
        raise ConfigError(
            f"run.trackers: {', '.join(missing)} cannot be had; is it installed, or a slip? "
            f"There are {', '.join(map(str, get_available_trackers())) or 'none'}"
        )
    precision = config.optim.precision
    on_cpu = not torch.accelerator.is_available()
    if on_cpu and precision == "fp16":
        raise ConfigError("optim.precision: fp16 needs a GPU; on a CPU take bf16 or fp32")
    try:
        accelerator = Accelerator(
            cpu=on_cpu,  # said, or torchrun's processes would not find each other
            mixed_precision="no" if precision == "fp32" else precision,
            log_with=trackers or None,
            project_config=ProjectConfiguration(logging_dir="."),
        )
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"optim.precision {precision}: {error}") from error
    launched = accelerator.distributed_type != DistributedType.NO
    if launched and accelerator.device.type == "cpu":
        _refuse_sync(config)
    return accelerator


def _refuse_sync(config: Config) -> None:
    """Refuse norms over the images of all processes; where they may meet, PyTorch needs GPUs."""
    model = config.model
    if model.backbone.sync_norm:
        raise ConfigError(
            "model.backbone.sync_norm: under torchrun it needs GPUs; on CPUs set it off"
        )
    if "sync" in (model.norm, *model.norms):
        raise ConfigError(
            "model.norm, or that of a part: under torchrun sync needs GPUs; on CPUs take group or "
            "batch"
        )


def load_train_set(config: Config) -> CocoDataset:
    """Return a config's training images, with semantic maps where the model learns from them."""
    if not config.data.path:
        raise DataError("no data set given; add --data PATH")
    semantic = config.model.semantic is not None
    dataset = load_dataset(config.data.path, "train", config.data, train=True, semantic=semantic)
    if not dataset.contents.objects:
        raise DataError(
            f"{dataset.annotation_file}: no object to learn from: {dataset.contents}; "
            "`scnet check-data` shows all that is wrong"
        )
    return dataset


def fit_to_data(config: Config, dataset: CocoDataset) -> Config:
    """Return the config with the classes and bands of the data set, and those of stuff maps."""
    require_colours(config.data, dataset.bands)
    backbone = replace(config.model.backbone, bands=dataset.bands)
    model = replace(config.model, num_classes=len(dataset.classes), backbone=backbone)
    if model.semantic is not None:
        semantic = replace(model.semantic, num_classes=dataset.semantic_classes)
        model = replace(model, semantic=semantic)
    return replace(config, model=model, classes=dataset.classes, category_ids=dataset.category_ids)


def _fill(detector: Detector, beginning: Start | None, accelerator: Accelerator) -> list[str]:
    """Give a detector the weights that its training begins with; return what to say of them."""
    if beginning is not None:
        beginning.require_same_bands(detector.config)
        return beginning.fill(detector)
    backbone = detector.config.model.backbone
    with accelerator.main_process_first():  # the others find a download in the cache
        source = load_backbone_weights(detector.backbone, backbone)
    return [f"backbone {backbone.name}, weights: {source}"]


def _warn(log: Log, text: str) -> None:
    if text:
        log.say(f"warning: {text}")


def _finish(trainer: Trainer) -> Path:
    try:
        trainer.run()
    finally:
        trainer.log.close()
    done = trainer.progress
    trainer.log.say(f"trained for {duration(done.seconds)}; {done.step} steps")
    return trainer.folder


@contextmanager
def _closed_on_failure(log: Log) -> Iterator[None]:
    """Take the progress bar off the screen where the block raises, lest it hides the cursor."""
    try:
        yield
    except BaseException:
        log.close()
        raise


@contextmanager
def _new_folder(output: str | os.PathLike[str] | None, config: Config) -> Iterator[Path]:
    """Make the run's folder; it is gone again where the block raises, else it gets the config."""
    folder = _once(lambda: new_folder(output, config.recipe))
    try:
        yield folder
    except BaseException:
        if rank() == 0:
            with suppress(OSError):  # it holds something
                folder.rmdir()
        raise
    _write_config(folder, config)


def _write_config(folder: Path, config: Config) -> None:
    def write() -> None:
        with whole_file(folder / CONFIG) as new:
            new.write_text(yaml.safe_dump(to_dict(config), sort_keys=False))

    _once(write)


def _once(work: Callable[[], T]) -> T:
    """Return what some work on files gives, which the main process does for all."""
    done: list[T | OSError | None] = [None]
    if rank() == 0:
        try:
            done = [work()]
        except OSError as error:
            done = [error]
    result = gather(done[0])[0]
    if isinstance(result, OSError):
        raise result
    return cast(T, result)
