"""Training, with the step in plain sight."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator
from torch.nn.utils import clip_grad_norm_

from scnet import checkpoint, recipes
from scnet.config import Config, from_dict, nested, override, to_dict
from scnet.data.coco import CocoDataset, load_dataset
from scnet.data.images import DataError, read_image
from scnet.data.loader import train_loader
from scnet.detections import Detections
from scnet.evaluation import evaluate_dataset, truth_as_detections
from scnet.model.backbone import load_backbone_weights
from scnet.model.detector import Detector
from scnet.training.log import Log, Meter, duration
from scnet.training.optim import base_rate, make_optimizer, rate_factor
from scnet.types import Batch, Losses

SHOWN = 0.5  # lowest score in the pictures of validation images


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

    Args:
        recipe: a name (`scnet recipes` lists them) or a config.
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
    config = recipes.find(recipe) if isinstance(recipe, str) else recipe
    config = override(config, nested("data.path", str(data)))
    config = override(config, settings or {})
    if epochs is not None:
        config = override(config, nested("optim.epochs", epochs))
    dataset = load_train_set(config)
    config = fit_to_data(config, dataset)
    torch.manual_seed(config.optim.seed)
    detector = Detector(config)
    source = load_backbone_weights(detector.backbone, config.model.backbone)
    folder = new_folder(output, config.recipe)
    (folder / "config.yaml").write_text(yaml.safe_dump(to_dict(config), sort_keys=False))
    log = Log(folder / "log.jsonl", quiet)
    log.say(f"backbone {config.model.backbone.name}, weights: {source}")
    return _finish(Trainer(detector, dataset, folder, log))


def resume(folder: str | os.PathLike[str], *, quiet: bool = False) -> Path:
    """Continue a training from its last checkpoint, to the end that its config says.

    Raises:
        CheckpointError: there is nothing to resume.
    """
    folder = Path(folder)
    if folder.is_dir() and not (folder / "last").is_dir():
        raise checkpoint.CheckpointError(
            f"{folder}: no checkpoint yet, the first comes after an epoch; start a new training"
        )
    detector = checkpoint.load(folder / "last")
    state = checkpoint.load_state(folder / "last")
    config = from_dict(yaml.safe_load((folder / "config.yaml").read_text()))
    trainer = Trainer(detector, load_train_set(config), folder, Log(folder / "log.jsonl", quiet))
    trainer.restore(state)
    return _finish(trainer)


class Trainer:
    """A training: what it needs and how far it is."""

    def __init__(self, detector: Detector, dataset: CocoDataset, folder: Path, log: Log) -> None:
        self.config = detector.config
        self.folder = folder
        self.log = log
        self.dataset = dataset
        self.val_set = _load_val_set(self.config, log)
        self.loader = train_loader(dataset, self.config.optim, self.config.data)
        optim = self.config.optim
        self.accelerator = Accelerator()
        detector.to(memory_format=torch.channels_last)
        self.model, self.optimizer = self.accelerator.prepare(
            detector, make_optimizer(detector, optim)
        )
        self.detector: Detector = self.accelerator.unwrap_model(self.model)
        self.total_steps = optim.max_steps or optim.epochs * len(self.loader)
        self.rate = base_rate(optim, optim.batch_size)
        self.meter = Meter()
        self.step = self.epoch = 0
        self.seconds = 0.0  # spent in steps
        self.best = -1.0
        self._introduce()

    def run(self) -> None:
        """Train to the end."""
        while self.progress < 1:
            self.dataset.set_epoch(self.epoch)
            self.model.train()
            for batch, waited in _timed(self.loader):
                self._step_and_log(batch.to(self.accelerator.device), waited)
                if self.progress >= 1:
                    break
            self.epoch += 1
            every = self.config.eval.every
            if self.progress >= 1 or (every and self.epoch % every == 0):
                self._evaluate()
            self.save("last")
            self._draw_curves()

    def train_step(self, batch: Batch) -> Losses:
        """Forward, backward and update: the whole of it."""
        rate = self.rate * rate_factor(self.config.optim, self.step, self.progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        losses: Losses = self.model(batch)
        total = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(total):
            parts = {name: value.detach().item() for name, value in losses.items()}
            paths = ", ".join(info.path for info in batch.info)
            raise FloatingPointError(
                f"the loss is not finite at step {self.step}: {parts}; images: {paths}. "
                "Lower --optim.lr or set --optim.clip-norm; "
                "`scnet check-data` finds broken annotations"
            )
        self.optimizer.zero_grad()
        self.accelerator.backward(total)
        if self.config.optim.clip_norm:
            clip_grad_norm_(self.detector.parameters(), self.config.optim.clip_norm)
        self.optimizer.step()
        return losses

    @property
    def progress(self) -> float:
        """Part of the training that is done, 0..1, by steps or by time, whichever is further."""
        minutes = self.config.optim.max_minutes
        by_time = self.seconds / (60 * minutes) if minutes else 0.0
        return min(1.0, max(self.step / self.total_steps, by_time))

    def save(self, name: str) -> None:
        """Write a checkpoint of the run."""
        state = {
            "step": self.step,
            "epoch": self.epoch,
            "seconds": self.seconds,
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
        }
        checkpoint.save(self.folder / name, self.detector, state)

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where a saved state was."""
        self.step, self.epoch = state["step"], state["epoch"]
        self.seconds, self.best = state["seconds"], state["best"]
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        self.log.say(f"resuming after epoch {self.epoch}, step {self.step} of {self.total_steps}")

    def _step_and_log(self, batch: Batch, waited: float) -> None:
        start = time.perf_counter()
        losses = self.train_step(batch)
        seconds = time.perf_counter() - start + waited
        self.step += 1
        self.seconds += seconds
        self.meter.add(losses, len(batch.info), seconds, waited)
        if self.step % self.config.optim.log_every and self.progress < 1:
            return
        record = {
            "step": self.step,
            "epoch": round(self.step / len(self.loader), 4),
            "lr": self.optimizer.param_groups[0]["lr"],
            **self.meter.record(),
        }
        left = self.seconds * (1 / self.progress - 1)
        self.log.train(record, self.progress, left)

    def _evaluate(self) -> None:
        if self.val_set is None:
            return
        result, found = evaluate_dataset(
            self.detector, self.val_set, batch_size=self.config.eval.batch_size
        )
        epoch = round(self.step / len(self.loader), 4)
        figures = {kind: result[kind] for kind in ("bbox", "segm")}
        self.log.evaluation(
            {"step": self.step, "epoch": epoch, **figures, "seconds": result["seconds"]}
        )
        self._draw_samples(self.val_set, found)
        if result["segm"]["AP"] > self.best:
            self.best = result["segm"]["AP"]
            self.save("best")

    def _draw_samples(self, val_set: CocoDataset, found: Sequence[Detections]) -> None:
        """Draw some validation images twice: ground truth, and what was found."""
        from scnet.visualize import grid, overlay

        count = min(self.config.eval.pictures, len(found))
        if not count:
            return
        images, captions = [], []
        for i in (round(k * (len(found) - 1) / max(1, count - 1)) for k in range(count)):
            truth = truth_as_detections(val_set, i)
            images += [overlay(read_image(truth.path), truth.rle), found[i].plot(SHOWN)]
            captions += [f"ground truth: {len(truth)} objects", f"found, score from {SHOWN:g}"]
        folder = self.folder / "samples"
        folder.mkdir(exist_ok=True)
        grid(images, captions, columns=2).save(folder / f"step{self.step:06d}.png")

    def _draw_curves(self) -> None:
        from scnet.curves import curves

        curves(self.log.records(), self.folder / "curves.png")

    def _introduce(self) -> None:
        config, optim = self.config, self.config.optim
        parameters = sum(p.numel() for p in self.detector.parameters()) / 1e6
        minutes = f" or {optim.max_minutes:g} minutes" if optim.max_minutes else ""
        val = f"{len(self.val_set)} val" if self.val_set else "no val"
        short, long = config.data.size
        for line in (
            f"recipe {config.recipe}: {parameters:.1f} M parameters, on "
            f"{self.accelerator.device}, float32",
            f"data {config.data.path}: {len(self.dataset)} train and {val} images, "
            f"{_names(config.classes)}",
            f"images resized to {short} (longer side at most {long}), {optim.batch_size} a step, "
            f"{self.total_steps} steps{minutes}, {optim.optimizer} at {self.rate:g}",
            f"run folder {self.folder}",
        ):
            self.log.say(line)


def load_train_set(config: Config) -> CocoDataset:
    """Return a config's training images, with semantic maps where the model learns from them."""
    if not config.data.path:
        raise DataError("no data set given; add --data PATH")
    semantic = config.model.semantic is not None
    return load_dataset(config.data.path, "train", config.data, train=True, semantic=semantic)


def fit_to_data(config: Config, dataset: CocoDataset) -> Config:
    """Return the config with the classes of the data set, and of its stuff maps."""
    model = replace(config.model, num_classes=len(dataset.classes))
    if model.semantic is not None:
        semantic = replace(model.semantic, num_classes=dataset.semantic_classes)
        model = replace(model, semantic=semantic)
    return replace(config, model=model, classes=dataset.classes, category_ids=dataset.category_ids)


def new_folder(output: str | os.PathLike[str] | None, name: str, root: str = "runs") -> Path:
    """Make a folder for results: `output`, or `root/name` with a number where that is taken.

    Raises:
        FileExistsError: `output` exists and holds something.
    """
    if output is not None:
        folder = Path(output)
        if folder.exists() and any(folder.iterdir()):
            raise FileExistsError(
                f"{folder}: exists and is not empty; give another folder or remove it"
            )
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    number = 1
    while True:
        folder = Path(root) / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1


def _finish(trainer: Trainer) -> Path:
    try:
        trainer.run()
    finally:
        trainer.log.close()
    trainer.log.say(f"trained for {duration(trainer.seconds)}; {trainer.step} steps")
    return trainer.folder


def _load_val_set(config: Config, log: Log) -> CocoDataset | None:
    try:
        return load_dataset(
            config.data.path, "val", config.data, train=False, classes=config.classes
        )
    except DataError as error:
        log.say(f"no evaluation during training: {error}")
        return None


def _timed(loader: Any) -> Iterator[tuple[Batch, float]]:
    """Yield batches, each with the seconds that it was waited for."""
    start = time.perf_counter()
    for batch in loader:
        yield batch, time.perf_counter() - start
        start = time.perf_counter()


def _names(classes: tuple[str, ...]) -> str:
    shown = ", ".join(classes[:5]) + (", ..." if len(classes) > 5 else "")
    return f"{len(classes)} class{'es' if len(classes) > 1 else ''} ({shown})"
