"""Training, with the step in plain sight."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor

from scnet.config import to_dict
from scnet.data.coco import CocoDataset
from scnet.data.loader import Share, train_loader
from scnet.evaluation.run import evaluate_dataset
from scnet.model.detector import Detector
from scnet.model.sampling import RandomChoice
from scnet.runtime.distributed import gather, largest
from scnet.runtime.memory import keep_freed
from scnet.training.average import averaged
from scnet.training.guards import Interrupted, StopSignals, disk_full, not_finite, out_of_memory
from scnet.training.log import Log, Meter, average_records, introduction
from scnet.training.optim import base_rate, make_optimizer, rate_factor
from scnet.training.validation import draw_samples, load_val_set
from scnet.types import Batch, Losses
from scnet.weights import checkpoint

HOPELESS = 50  # steps in a row that are left out: the weights themselves are broken then


class Trainer:
    """A training: what it needs and how far it is."""

    def __init__(
        self,
        detector: Detector,
        dataset: CocoDataset,
        folder: Path,
        log: Log,
        accelerator: Accelerator,
    ) -> None:
        self.config = detector.config
        self.folder = folder
        self.log = log
        self.accelerator = accelerator
        self.dataset = dataset
        self.val_set = load_val_set(self.config, log)
        optim = self.config.optim
        self.share = Share(accelerator.process_index, accelerator.num_processes, optim.accumulate)
        self.loader, self.sampler = train_loader(dataset, optim, self.config.data, self.share)
        detector.to(device=accelerator.device)
        detector.to(memory_format=torch.channels_last)
        self.average = averaged(detector, optim.ema) if optim.ema else None
        if optim.compile:
            detector.backbone.compile(dynamic=True)
            detector.fpn.compile(dynamic=True)
        # 1 x 1 weights are laid out the same in both memory formats; PyTorch warns of their names.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        self.model, self.optimizer = accelerator.prepare(detector, make_optimizer(detector, optim))
        self.detector: Detector = accelerator.unwrap_model(self.model)
        self.total_steps = optim.max_steps or optim.epochs * self.sampler.steps
        self.rate = base_rate(optim, optim.batch_size)
        self.meter = Meter()
        self.step = self.skipped = self.in_a_row = 0
        self.unreadable = 0  # images that this process left out
        self.seconds = 0.0  # spent in steps
        self.best = -1.0
        self.saved = time.perf_counter()

    @property
    def epoch(self) -> int:
        """Epochs that are whole."""
        return self.step // self.sampler.steps

    @property
    def progress(self) -> float:
        """Part of the training that is done, 0..1, by steps or by time, whichever is further."""
        minutes = self.config.optim.max_minutes
        by_time = self.seconds / (60 * minutes) if minutes else 0.0
        return min(1.0, max(self.step / self.total_steps, by_time))

    @property
    def result(self) -> Detector:
        """What is evaluated and kept: the averaged weights, where there are any."""
        if self.average is None:
            return self.detector
        return cast(Detector, self.average.module)

    def run(self) -> None:
        """Train to the end.

        Raises:
            Interrupted: a signal asked to stop; the checkpoint is written.
            TrainingError: the memory or the disk does not suffice.
        """
        self._introduce()
        optim = self.config.optim
        if self.accelerator.device.type == "cpu":
            keep_freed()
        try:
            with StopSignals() as signals:
                while self.progress < 1:
                    self._run_epoch(signals)
        except torch.OutOfMemoryError as error:
            raise out_of_memory(error, optim.batch_size, optim.accumulate) from error
        except OSError as error:
            raise disk_full(error, self.folder) from error
        finally:
            for tracker in self.accelerator.trackers:  # else their threads outlive the interpreter
                tracker.finish()
        self.accelerator.end_training()

    def _run_epoch(self, signals: StopSignals) -> None:
        """Train to the end of the epoch, of the training, or until asked to stop."""
        self.dataset.set_epoch(self.epoch)
        self.sampler.start = self.step % self.sampler.steps
        self.model.train()
        stop = False
        steps = zip(*[iter(self.loader)] * self.share.pieces, strict=False)  # the pieces of each
        for pieces, waited in _timed(steps):
            stop = self._step_and_log(pieces, waited, signals.wanted)
            if self.progress >= 1 or self.step % self.sampler.steps == 0:
                break
            if stop or self._checkpoint_is_due():
                self.save("last")
            if stop:
                raise self._interrupted()
        every, keep = self.config.eval.every, self.config.run.keep_epochs
        if self.progress >= 1 or (every and self.epoch % every == 0):
            self._evaluate()
        if keep and self.epoch % keep == 0:
            self.save(f"epoch{self.epoch:03d}")
        self.save("last")
        if self.accelerator.is_main_process:
            self._draw_curves()
        if stop and self.progress < 1:
            raise self._interrupted()

    def _interrupted(self) -> Interrupted:
        return Interrupted(
            f"stopped at step {self.step} of {self.total_steps} with a checkpoint; "
            f"continue with: scnet train --resume {self.folder}"
        )

    def train_step(self, pieces: Sequence[Batch]) -> Losses:
        """Forward, backward and update: the whole of it.

        Returns the losses of this process, averaged over its pieces.
        """
        self._set_rate()
        self.optimizer.zero_grad()
        parts = []
        for number, batch in enumerate(pieces):
            last = number == len(pieces) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                losses: Losses = self.model(batch, self._choice(number, len(batch.info)))
                total = torch.stack(list(losses.values())).sum()
                self.accelerator.backward(total / len(pieces))
            parts.append({name: value.detach() for name, value in losses.items()})
        limit = self.config.optim.clip_norm or math.inf
        norm = self.accelerator.clip_grad_norm_(self.detector.parameters(), limit)
        self.finite = self._all_finite(parts, norm)
        return {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}

    def _set_rate(self) -> None:
        rate = self.rate * rate_factor(self.config.optim, self.step, self.progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _choice(self, piece: int, images: int) -> RandomChoice:
        """Return what chooses the samples of a piece: by place in the step's batch."""
        rank, processes, _ = self.share
        first = self.step * self.config.optim.batch_size + (piece * processes + rank) * images
        seeds = torch.arange(first, first + images, device=self.accelerator.device)
        return RandomChoice(seeds + self.config.optim.seed * 0x9E3779B1)

    def _all_finite(self, parts: Sequence[Losses], norm: Tensor) -> Tensor:
        """Return, on the device, whether losses and gradient are finite."""
        values = torch.stack([value for part in parts for value in part.values()])
        if self.accelerator.scaler is not None:  # fp16 tries scales, and drops steps by itself
            return values.isfinite().all()
        return values.isfinite().all() & norm.isfinite()

    def save(self, name: str) -> None:
        """Write a checkpoint of the run; only `last` can be resumed, so the others are smaller."""
        self.saved = time.perf_counter()
        random = gather(torch.get_rng_state())
        if not self.accelerator.is_main_process:
            return
        scaler = self.accelerator.scaler
        state = {
            "step": self.step,
            "skipped": self.skipped,
            "seconds": self.seconds,
            "best": self.best,
            "images": len(self.dataset),
            "optimizer": self.optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler else None,
            "weights": self.detector.state_dict() if self.average else None,
            "updates": int(self.average.n_averaged) if self.average else 0,
            "random": random,
        }
        checkpoint.save(self.folder / name, self.result, state if name == "last" else None)

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where a saved state was, the detector having its weights already."""
        self.step, self.skipped = state["step"], state["skipped"]
        self.seconds, self.best = state["seconds"], state["best"]
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.average is not None and state["weights"] is not None:
            self.detector.load_state_dict(state["weights"])
            self.average.n_averaged.fill_(state["updates"])
        # The number of processes may have changed; each then goes on from one of those before.
        torch.set_rng_state(state["random"][self.share.rank % len(state["random"])])
        self.log.forget_after(self.step)
        self.log.say(f"resuming in epoch {self.epoch + 1}, step {self.step} of {self.total_steps}")

    def _step_and_log(self, pieces: Sequence[Batch], waited: float, stop: bool) -> bool:
        """Do a step; return whether any process was asked to stop."""
        start = time.perf_counter()
        losses = self.train_step([batch.to(self.accelerator.device) for batch in pieces])
        finite = bool(self.finite)  # waits for the device
        seconds = time.perf_counter() - start + waited
        wishes = [float(not finite), float(stop), self.seconds + seconds]
        broken, stopped, self.seconds = largest(wishes, self.accelerator.device)
        self.in_a_row = self.in_a_row + 1 if broken else 0
        if broken:
            self._leave_out(losses, pieces, finite)
        else:
            self.optimizer.step()
            if self.average is not None:
                self.average.update_parameters(self.detector)
        self.step += 1
        for reason in (reason for batch in pieces for reason in batch.skipped):
            self.unreadable += 1
            self.log.say(f"left out an image, {self.unreadable} so far: {reason}")
        images = sum(len(batch.info) for batch in pieces) * self.share.processes
        self.meter.add(losses if not broken else {}, images, seconds, waited)
        if self.step % self.config.optim.log_every == 0 or self.progress >= 1:
            self._log_step()
        return bool(stopped)

    def _leave_out(self, losses: Losses, pieces: Sequence[Batch], finite: bool) -> None:
        """Stop at a step whose loss or gradient is not finite, or count it."""
        paths = [] if finite else [info.path for batch in pieces for info in batch.info]
        everywhere = [path for of_process in gather(paths) for path in of_process]
        error = not_finite(self.step, {k: v.item() for k, v in losses.items()}, everywhere)
        if self.config.optim.nonfinite == "stop" or self.in_a_row == HOPELESS:
            raise error
        self.optimizer.zero_grad()
        self.skipped += 1
        self.log.say(f"left out step {self.step}, {self.skipped} so far: {error}")

    def _log_step(self) -> None:
        """Log the averages since the last time, over all processes."""
        record = average_records(gather(self.meter.record()))
        if not record["losses"]:  # all of these steps were left out
            return
        record = {
            "step": self.step,
            "epoch": round(self.step / self.sampler.steps, 4),
            "lr": self.optimizer.param_groups[0]["lr"],
            "skipped": self.skipped,
            "unreadable": sum(gather(self.unreadable)),
            **record,
        }
        left = self.seconds * (1 / self.progress - 1)
        self.log.train(record, self.progress, left)
        losses = {f"loss/{name}": value for name, value in record["losses"].items()}
        figures = {k: record[k] for k in ("loss", "lr", "images_per_second", "data_wait")}
        self.accelerator.log(losses | figures, step=self.step)

    def _checkpoint_is_due(self) -> bool:
        run = self.config.run
        if run.checkpoint_steps and self.step % run.checkpoint_steps == 0:
            return True
        minutes = (time.perf_counter() - self.saved) / 60
        due = bool(run.checkpoint_minutes) and minutes >= run.checkpoint_minutes
        return (self.share.processes == 1 and due) or bool(
            self.share.processes > 1 and largest([float(due)], self.accelerator.device)[0]
        )

    def _evaluate(self) -> None:
        if self.val_set is None:
            return
        result, found = evaluate_dataset(
            self.result.eval(), self.val_set, batch_size=self.config.eval.batch_size
        )
        epoch = round(self.step / self.sampler.steps, 4)
        figures = {kind: result[kind] for kind in ("bbox", "segm")}
        others = {name: result[name] for name in ("skipped", "seconds")}
        self.log.evaluation({"step": self.step, "epoch": epoch, **figures, **others})
        flat = {f"{k}/{n}": v for k, of_kind in figures.items() for n, v in of_kind.items()}
        self.accelerator.log(flat, step=self.step)
        if self.accelerator.is_main_process:
            pictures = self.folder / "samples" / f"step{self.step:06d}.png"
            draw_samples(self.val_set, found, self.config.eval.pictures, pictures)
        if result["segm"]["AP"] > self.best:
            self.best = result["segm"]["AP"]
            self.save("best")

    def _draw_curves(self) -> None:
        from scnet.pictures.curves import curves

        curves(self.log.records(), self.folder / "curves.png")

    def _introduce(self) -> None:
        config, share = self.config, self.share
        for line in introduction(
            config,
            parameters=sum(p.numel() for p in self.detector.parameters()),
            device=self.accelerator.device,
            images=(len(self.dataset), len(self.val_set) if self.val_set else 0),
            steps=self.total_steps,
            processes=share.processes,
            folder=self.folder,
        ):
            self.log.say(line)
        if config.run.trackers:
            self.accelerator.project_configuration.logging_dir = str(self.folder / "trackers")
            self.accelerator.init_trackers("scnet", config=_flat(to_dict(config)))


def _flat(values: Mapping[str, Any], start: str = "") -> dict[str, str]:
    """Return nested settings as `a.b: text`."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        path = f"{start}{name}"
        flat |= _flat(value, f"{path}.") if isinstance(value, Mapping) else {path: str(value)}
    return flat


def _timed(steps: Iterator[Sequence[Batch]]) -> Iterator[tuple[Sequence[Batch], float]]:
    """Yield what each step needs, with the seconds that it was waited for."""
    start = time.perf_counter()
    for pieces in steps:
        yield pieces, time.perf_counter() - start
        start = time.perf_counter()
