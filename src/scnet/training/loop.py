"""Training, with the step in plain sight."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from jaxtyping import Bool, Float
from torch import Tensor

from scnet.config import to_dict
from scnet.data.coco import CocoDataset
from scnet.data.loader import Share, train_loader
from scnet.evaluation.run import evaluate_dataset
from scnet.inference.fused import for_inference
from scnet.model.detector import Detector
from scnet.model.sampling import RandomChoice
from scnet.runtime.distributed import OnTheWay, gather, largest
from scnet.runtime.memory import keep_freed
from scnet.training.average import Average
from scnet.training.guards import Interrupted, StopSignals, disk_full, not_finite, out_of_memory
from scnet.training.log import Log, Meter, average_records, introduction
from scnet.training.optim import base_rate, clip, make_optimizer, rate_factor, set_rate, update
from scnet.training.optim import restore as restore_optimizer
from scnet.training.validation import draw_samples, load_val_set
from scnet.types import Batch, Losses
from scnet.weights import checkpoint

HOPELESS = 50  # steps in a row that are left out: the weights themselves are broken then


class StepResult(NamedTuple):
    """What a step gives, on the device."""

    losses: Losses  # of this process, averaged over its pieces
    left_out: Bool[Tensor, ""]  # something was not finite, so that nothing has changed


class Pending(NamedTuple):
    """A step that the device may still be at."""

    number: int
    rate: float
    losses: Losses
    pieces: Sequence[tuple[str, ...]]  # paths of the images of each piece
    unreadable: tuple[str, ...]  # images that could not be used, with the reason
    waited: float  # seconds for data
    # the most of all processes: left out, asked to stop, checkpoint is due, seconds of the step
    flags: OnTheWay


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
        self.average = Average(detector, optim.ema) if optim.ema else None
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
        self.pending: Pending | None = None
        self.stopping = self.due = False  # a process was asked to stop, wants a checkpoint
        self.behind = 0.0  # seconds spent waiting for steps, not counted yet
        self.best = -1.0
        self.evaluated = 0  # the step after which the last evaluation was
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
        return self.average.module

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
                # A training may have been killed between its checkpoint and the evaluation.
                if self.step > self.evaluated and self._evaluation_is_due():
                    self._evaluate()
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
        steps = zip(*[iter(self.loader)] * self.share.pieces, strict=False)  # the pieces of each
        for pieces, waited in _timed(steps):
            self._advance(pieces, waited, signals.wanted)
            if self.progress >= 1 or self.step % self.sampler.steps == 0:
                break
            every = self.config.run.checkpoint_steps
            if self.stopping or self.due or (every and self.step % every == 0):
                self.save("last")
            if self.stopping:
                raise self._interrupted()
        self._settle()
        keep = self.config.run.keep_epochs
        if keep and self.epoch % keep == 0:
            self.save(f"epoch{self.epoch:03d}")
        self.save("last")  # before the evaluation, so that one that fails loses nothing
        if self._evaluation_is_due():
            self._evaluate()
        if self.accelerator.is_main_process:
            self._draw_curves()
        if self.stopping and self.progress < 1:
            raise self._interrupted()

    def _interrupted(self) -> Interrupted:
        return Interrupted(
            f"stopped at step {self.step} of {self.total_steps} with a checkpoint; "
            f"continue with: scnet train --resume {self.folder}"
        )

    def train_step(self, pieces: Sequence[Batch]) -> StepResult:
        """Forward, backward, clipping, update and averaging: the whole of it.

        Where a loss or the gradient is not finite, neither weights nor optimiser nor average
        change; the host does not wait to know.
        """
        optim = self.config.optim
        set_rate(self.optimizer, self.rate * rate_factor(optim, self.step, self.progress))
        self.optimizer.zero_grad()
        parts: list[Losses] = []
        for number, batch in enumerate(pieces):
            last = number == len(pieces) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                losses: Losses = self.model(batch, self._choice(number, len(batch.info)))
                total = torch.stack(list(losses.values())).sum() / len(pieces)
                self.accelerator.backward(total * _one_if_finite(total))
            parts.append({name: value.detach() for name, value in losses.items()})
        means = {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}
        good = torch.stack(list(means.values())).isfinite().all()
        self.accelerator.unscale_gradients(self.optimizer)  # of fp16
        finite = clip(self.detector.parameters(), optim.clip_norm).isfinite() & good
        update(self.optimizer, finite)
        if self.average is not None:
            self.average.update(self.detector, finite)
        # fp16 tries scales: there a gradient that is too large is no fault.
        return StepResult(means, ~(finite if self.accelerator.scaler is None else good))

    def _choice(self, piece: int, images: int) -> RandomChoice:
        """Return what chooses the samples of a piece: by place in the step's batch."""
        rank, processes, _ = self.share
        first = self.step * self.config.optim.batch_size + (piece * processes + rank) * images
        seeds = torch.arange(first, first + images, device=self.accelerator.device)
        return RandomChoice(seeds + self.config.optim.seed * 0x9E3779B1)

    def save(self, name: str) -> None:
        """Write a checkpoint of the run; only `last` can be resumed, so the others are smaller."""
        self._settle()
        self.due = False
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
            "updates": int(self.average.updates) if self.average else 0,
            "random": random,
        }
        checkpoint.save(self.folder / name, self.result, state if name == "last" else None)

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where a saved state was, the detector having its weights already."""
        self.step, self.skipped = state["step"], state["skipped"]
        self.seconds, self.best = state["seconds"], state["best"]
        restore_optimizer(self.optimizer, state["optimizer"])
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.average is not None and state["weights"] is not None:
            self.detector.load_state_dict(state["weights"])
            self.average.updates.fill_(state["updates"])
        # The number of processes may have changed; each then goes on from one of those before.
        torch.set_rng_state(state["random"][self.share.rank % len(state["random"])])
        self.log.forget_after(self.step)
        # The evaluation comes after the checkpoint, and best/ before the line in the log.
        for record in self.log.records():
            if record["kind"] == "eval":
                self.best = max(self.best, record["segm"]["AP"])
                self.evaluated = record["step"]
        self.log.say(f"resuming in epoch {self.epoch + 1}, step {self.step} of {self.total_steps}")

    def _advance(self, pieces: Sequence[Batch], waited: float, stop: bool) -> None:
        """Do a step; it is counted and logged when the device is through with it."""
        start = time.perf_counter()
        result = self.train_step([batch.to(self.accelerator.device) for batch in pieces])
        own = time.perf_counter() - start
        self._settle()  # the step before: the device is at this one meanwhile
        wishes = [float(stop), float(self._is_due()), own + waited + self.behind]
        self.behind = 0.0
        self.pending = Pending(
            number=self.step,
            rate=self.optimizer.param_groups[0]["lr"],
            losses=result.losses,
            pieces=[tuple(info.path for info in batch.info) for batch in pieces],
            unreadable=tuple(reason for batch in pieces for reason in batch.skipped),
            waited=waited,
            flags=self._agree(result.left_out, wishes),
        )
        self.step += 1
        if not runs_ahead(self.accelerator.device):
            self._settle()

    def _agree(self, left_out: Tensor, wishes: list[float]) -> OnTheWay:
        """Send to the host what holds for all processes."""
        others = torch.tensor(wishes).to(left_out.device, non_blocking=True)
        return OnTheWay(largest(torch.cat([left_out.float().view(1), others])))

    def _settle(self) -> None:
        """Wait for the end of the step under way, where there is one; count it and log it.

        Raises:
            FloatingPointError: something was not finite, and such steps are not to be left out.
        """
        if self.pending is None:
            return
        step, self.pending = self.pending, None
        start = time.perf_counter()
        left_out, stop, due, seconds = step.flags.read()
        self.behind += time.perf_counter() - start
        self.stopping, self.due = self.stopping or bool(stop), bool(due)
        self.seconds += seconds
        self.in_a_row = self.in_a_row + 1 if left_out else 0
        if left_out:
            self._leave_out(step)
        for reason in step.unreadable:
            self.unreadable += 1
            self.log.say(f"left out an image, {self.unreadable} so far: {reason}")
        images = sum(map(len, step.pieces)) * self.share.processes
        self.meter.add({} if left_out else step.losses, images, seconds, step.waited)
        if (step.number + 1) % self.config.optim.log_every == 0 or self.progress >= 1:
            self._log_step(step)

    def _leave_out(self, step: Pending) -> None:
        """Stop at a step whose loss or gradient is not finite, or count it."""
        paths = [path for of_piece in step.pieces for path in of_piece]
        everywhere = [path for of_process in gather(paths) for path in of_process]
        losses = {name: value.item() for name, value in step.losses.items()}
        error = not_finite(step.number, losses, everywhere)
        if self.config.optim.nonfinite == "stop" or self.in_a_row == HOPELESS:
            raise error
        self.skipped += 1
        self.log.say(f"left out step {step.number}, {self.skipped} so far: {error}")

    def _log_step(self, step: Pending) -> None:
        """Log the averages since the last time, over all processes."""
        record = average_records(gather(self.meter.record()))
        if not record["losses"]:  # all of these steps were left out
            return
        record = {
            "step": step.number + 1,
            "epoch": round((step.number + 1) / self.sampler.steps, 4),
            "lr": step.rate,
            "skipped": self.skipped,
            "unreadable": sum(gather(self.unreadable)),
            **record,
        }
        left = self.seconds * (1 / self.progress - 1)
        self.log.train(record, self.progress, left)
        losses = {f"loss/{name}": value for name, value in record["losses"].items()}
        figures = {k: record[k] for k in ("loss", "lr", "images_per_second", "data_wait")}
        self.accelerator.log(losses | figures, step=record["step"])

    def _is_due(self) -> bool:
        """Whether this process wants a checkpoint, as the last is long ago."""
        minutes = self.config.run.checkpoint_minutes
        return bool(minutes) and time.perf_counter() - self.saved >= 60 * minutes

    def _evaluation_is_due(self) -> bool:
        every, at_the_end = self.config.eval.every, self.step % self.sampler.steps == 0
        return self.progress >= 1 or bool(every and at_the_end and self.epoch % every == 0)

    def _evaluate(self) -> None:
        """Score the weights on the validation images, as they are used: fast, in the precision."""
        if self.val_set is None:
            return
        self.evaluated = self.step
        with self.accelerator.autocast():
            result, found = evaluate_dataset(
                for_inference(self.result.eval()),
                self.val_set,
                batch_size=self.config.eval.batch_size,
            )
        if result["segm"]["AP"] > self.best:
            self.best = result["segm"]["AP"]
            self.save("best")
        epoch = round(self.step / self.sampler.steps, 4)
        figures = {kind: result[kind] for kind in ("bbox", "segm")}
        others = {name: result[name] for name in ("skipped", "seconds")}
        self.log.evaluation({"step": self.step, "epoch": epoch, **figures, **others})
        flat = {f"{k}/{n}": v for k, of_kind in figures.items() for n, v in of_kind.items()}
        self.accelerator.log(flat, step=self.step)
        if self.accelerator.is_main_process:
            pictures = self.folder / "samples" / f"step{self.step:06d}.png"
            draw_samples(self.val_set, found, self.config.eval.pictures, pictures)

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


def runs_ahead(device: torch.device) -> bool:
    """Whether the host can prepare a step while the device is at the one before."""
    return device.type != "cpu"


def _one_if_finite(total: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Return a factor that makes the whole gradient NaN, in all processes, if the loss is bad."""
    return torch.where(total.detach().isfinite(), 1.0, math.nan)


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
