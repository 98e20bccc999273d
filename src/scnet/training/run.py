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
from accelerate.utils import ProjectConfiguration

from scnet import recipes
from scnet.config import Config, from_dict, override, require_colours, to_dict
from scnet.data.advice import Advice
from scnet.data.coco import CocoDataset, load_dataset
from scnet.data.images import DataError
from scnet.model.detector import Detector
from scnet.runtime.distributed import gather, rank
from scnet.runtime.files import new_folder, recover
from scnet.settings import ConfigError, nested
from scnet.training.auto import AUTO, recommend
from scnet.training.log import Log, counted_classes, duration
from scnet.training.loop import Trainer
from scnet.weights import checkpoint
from scnet.weights.checkpoint import CheckpointError
from scnet.weights.pretrained import load_backbone_weights

T = TypeVar("T")


def train(
    recipe: str | Config,
    data: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str] | None = None,
    epochs: int | None = None,
    settings: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> Path:
    """Train a recipe on a data set in COCO format and return the run's folder.

    PyTorch's random numbers are seeded anew, and an `Accelerator` made before loses its state.

    Args:
        recipe: a name (`scnet recipes` lists them), a config, or "auto": what the data speak for.
        data: folder in a usual COCO layout, or an annotation file.
        output: folder of the run; must not exist. None makes `runs/RECIPE`, numbered if taken.
        epochs: short for `settings={"optim": {"epochs": ...}}`.
        settings: nested dict laid over the recipe.

    Raises:
        ConfigError: a setting that does not exist or fit.
        DataError: something wrong with the data.

    Example:
        >>> scnet.train("scnet_lite", data="my_data/", epochs=20)  # doctest: +SKIP
    """
    chosen: list[Advice] = []
    if recipe == AUTO:
        config, chosen = recommend(data, settings)
    else:
        config = recipes.find(recipe) if isinstance(recipe, str) else recipe
    named = (settings or {}).get("recipe", config.recipe)
    if named != config.recipe:
        raise ConfigError(f"recipe: {named}, but {config.recipe} is trained; say one of them")
    config = override(config, nested("data.path", str(data)))
    config = override(config, settings or {})
    if epochs is not None:
        config = override(config, nested("optim.epochs", epochs))
    accelerator = make_accelerator(config)
    dataset = load_train_set(config)
    config = fit_to_data(config, dataset)
    _require_classes_of_data(settings or {}, config)
    contrast = dataset.contrast_warning  # looked for before there is a folder, as it may raise
    torch.manual_seed(config.optim.seed)
    detector = Detector(config)
    with accelerator.main_process_first():  # the others find a download in the cache
        source = load_backbone_weights(detector.backbone, config.model.backbone)
    with _new_folder(output, config) as folder:
        log = Log(folder / "log.jsonl", quiet, main=accelerator.is_main_process)
        for advice in chosen:
            log.say(f"chosen: {advice}")
        log.say(f"backbone {config.model.backbone.name}, weights: {source}")
        _warn(log, contrast)
        with _closed_on_failure(log):
            trainer = Trainer(detector, dataset, folder, log, accelerator)
    return _finish(trainer)


def resume(folder: str | os.PathLike[str], *, quiet: bool = False) -> Path:
    """Continue a training from its last checkpoint, to the end that its config says.

    Raises:
        CheckpointError: there is nothing to resume, or the data are not those it began with.
    """
    folder = Path(folder)
    if rank() == 0:
        recover(folder / "last")
    if folder.is_dir() and not (folder / "last").is_dir():
        raise CheckpointError(
            f"{folder}: no checkpoint yet; the first comes after an epoch, or after "
            "run.checkpoint_minutes. Start a new training"
        )
    config = from_dict(yaml.safe_load((folder / "config.yaml").read_text()))
    accelerator = make_accelerator(config)
    detector = checkpoint.load(folder / "last")
    state = checkpoint.load_state(folder / "last")
    dataset = load_train_set(config)
    _require_same_data(folder, dataset, config, state)
    log = Log(folder / "log.jsonl", quiet, main=accelerator.is_main_process)
    _warn(log, dataset.contrast_warning)
    with _closed_on_failure(log):
        trainer = Trainer(detector, dataset, folder, log, accelerator)
        trainer.restore(state)
    return _finish(trainer)


def make_accelerator(config: Config) -> Accelerator:
    """Return what places a training on devices, processes and kinds of numbers.

    Raises:
        ConfigError: a precision that the device lacks, or a tracker that is not installed.
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
        return Accelerator(
            cpu=on_cpu,  # said, or torchrun's processes would not find each other
            mixed_precision="no" if precision == "fp32" else precision,
            log_with=trackers or None,
            project_config=ProjectConfiguration(logging_dir="."),
        )
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"optim.precision {precision}: {error}") from error


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


def _require_classes_of_data(settings: Mapping[str, Any], fitted: Config) -> None:
    """Refuse classes, or a number of them or of bands, where the data have others."""
    model = _group(settings, "model")
    counts = {
        "model.backbone.bands": (
            _group(model, "backbone").get("bands"),
            fitted.model.backbone.bands,
        ),
        "model.num_classes": (model.get("num_classes"), fitted.model.num_classes),
        "model.semantic.num_classes": (
            _group(model, "semantic").get("num_classes"),
            fitted.model.semantic_classes,
        ),
    }
    for path, (asked, there) in counts.items():
        if asked is not None and asked != there:
            raise ConfigError(
                f"{path}: {asked}, but {fitted.data.path} has {there}; leave the setting out, as "
                "it is taken from the data"
            )
    for key in ("classes", "category_ids"):
        asked, there = settings.get(key), getattr(fitted, key)
        if asked is not None and tuple(asked) != there:
            raise ConfigError(
                f"{key}: {', '.join(map(str, asked))}, but {fitted.data.path} has "
                f"{', '.join(map(str, there))}; choose and order classes with data.classes"
            )


def _group(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a group of settings; a switch, or none at all, holds nothing."""
    group = settings.get(name)
    return group if isinstance(group, Mapping) else {}


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
    text = yaml.safe_dump(to_dict(config), sort_keys=False)
    _once(lambda: (folder / "config.yaml").write_text(text))


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


def _require_same_data(
    folder: Path, dataset: CocoDataset, config: Config, state: Mapping[str, Any]
) -> None:
    if dataset.classes != config.classes:
        raise CheckpointError(
            f"{folder} began with {counted_classes(config.classes)}, but {config.data.path} now "
            f"has {counted_classes(dataset.classes)}; bring the data back, or start a new training"
        )
    if dataset.bands != config.model.backbone.bands:
        raise CheckpointError(
            f"{folder} began with images of {config.model.backbone.bands} bands, but "
            f"{config.data.path} now has {dataset.bands}; bring the data back, or start a new "
            "training"
        )
    if len(dataset) != state["images"]:
        raise CheckpointError(
            f"{folder} began with {state['images']} training images, but {config.data.path} now "
            f"has {len(dataset)}; bring the data back, or start a new training"
        )
