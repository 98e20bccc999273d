"""Training, with the step in plain sight."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor

from scnet.config import to_dict
from scnet.data.coco import CocoDataset
from scnet.data.loader import Share, train_loader
from scnet.data.overlap import shared_notes
from scnet.data.repeats import notes_of
from scnet.evaluation.run import evaluate_dataset
from scnet.inference.fused import for_inference
from scnet.model.detector import Detector
from scnet.model.sampling import RandomChoice
from scnet.runtime.distributed import gather
from scnet.runtime.memory import keeping_freed
from scnet.training.average import Average
from scnet.training.guards import Interrupted, StopSignals, disk_full, out_of_memory
from scnet.training.log import Log, introduction
from scnet.training.optim import base_rate, clip, make_optimizer, rate_factor, set_rate, update
from scnet.training.optim import restore as restore_optimizer
from scnet.training.progress import Progress, StepResult
from scnet.training.statistics import Statistics, share_statistics
from scnet.training.validation import draw_samples, load_val_set, write_figures
from scnet.types import Batch, Losses
from scnet.weights import checkpoint


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
        self.model, self.optimizer = accelerator.prepare(detector, make_optimizer(detector, optim))
        self.detector: Detector = accelerator.unwrap_model(self.model)
        self.progress = Progress(self.config, self.sampler.steps, accelerator, log)
        self.rate = base_rate(optim, optim.batch_size)
        self.best = -1.0
        self.evaluated = 0  # the step after which the last evaluation was
        self.saved = time.perf_counter()

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
        on_cpu = self.accelerator.device.type == "cpu"
        try:
            with (
                StopSignals() as signals,
                keeping_freed() if on_cpu else nullcontext(),
                warnings.catch_warnings(),
            ):
                # 1 x 1 weights lie the same in both memory formats; PyTorch warns of their names.
                warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
                # A training may have been killed between its checkpoint and the evaluation.
                if self.progress.step > self.evaluated and self._evaluation_is_due():
                    self._evaluate()
                while self.progress.part < 1:
                    self._run_epoch(signals)
        except torch.OutOfMemoryError as error:
            raise out_of_memory(error, optim.batch_size, optim.accumulate) from error
        except OSError as error:
            raise disk_full(error, self.folder) from error
        finally:
            for tracker in self.accelerator.trackers:  # else their threads outlive the interpreter
                tracker.finish()

    def _run_epoch(self, signals: StopSignals) -> None:
        """Train to the end of the epoch, of the training, or until asked to stop."""
        progress, run = self.progress, self.config.run
        self.dataset.set_epoch(progress.epoch)
        self.sampler.start = progress.step % self.sampler.steps
        self.model.train()
        # Closed, so that no process of this epoch is left when those of the next one start.
        with closing(iter(self.loader)) as batches:
            self._run_steps(zip(*[batches] * self.share.pieces, strict=False), signals)
        progress.settle()
        if run.keep_epochs and progress.epoch % run.keep_epochs == 0:
            self.save(f"epoch{progress.epoch:03d}")
        self.save("last")  # before the evaluation, so that one that fails loses nothing
        if self._evaluation_is_due():
            self._evaluate()
        if self.accelerator.is_main_process:
            self._draw_curves()
        if progress.stopping and progress.part < 1:
            raise self._interrupted()

    def _run_steps(self, steps: Iterator[Sequence[Batch]], signals: StopSignals) -> None:
        """Take steps, each of its pieces, to the end of the epoch or until asked to stop."""
        progress, every = self.progress, self.config.run.checkpoint_steps
        for pieces, waited in _timed(steps):
            self._advance(pieces, waited, signals.wanted)
            if progress.part >= 1 or progress.step % self.sampler.steps == 0:
                return
            if progress.stopping or progress.due or (every and progress.step % every == 0):
                self.save("last")
            if progress.stopping:
                raise self._interrupted()

    def _interrupted(self) -> Interrupted:
        return Interrupted(
            f"stopped at {self.progress} with a checkpoint; "
            f"continue with: scnet train --resume {self.folder}"
        )

    def train_step(self, pieces: Sequence[Batch]) -> StepResult:
        """Forward, backward, clipping, update and averaging: the whole of it.

        Where a loss or the gradient is not finite, neither weights nor statistics of batch norm
        nor optimiser nor average change; the host does not wait to know.
        """
        optim, progress = self.config.optim, self.progress
        set_rate(self.optimizer, self.rate * rate_factor(optim, progress.step, progress.part))
        self.optimizer.zero_grad()
        statistics = Statistics(self.detector)
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
        statistics.put_back(finite)  # before the average copies them
        if self.average is not None:
            self.average.update(self.detector, finite)
        # fp16 tries scales: there a gradient that is too large is no fault.
        return StepResult(means, ~(finite if self.accelerator.scaler is None else good))

    def _choice(self, piece: int, images: int) -> RandomChoice:
        """Return what chooses the samples of a piece: by place in the step's batch."""
        rank, processes, _ = self.share
        before = self.progress.step * self.config.optim.batch_size
        first = before + (piece * processes + rank) * images
        seeds = torch.arange(first, first + images, device=self.accelerator.device)
        return RandomChoice(seeds + self.config.optim.seed * 0x9E3779B1)

    def save(self, name: str) -> None:
        """Write a checkpoint of the run; only `last` can be resumed, so the others are smaller."""
        self.progress.settle()
        self.progress.due = False
        self.saved = time.perf_counter()
        random = gather(torch.get_rng_state())
        if not self.accelerator.is_main_process:
            return
        scaler = self.accelerator.scaler
        state = {
            "step": self.progress.step,
            "skipped": self.progress.skipped,
            "seconds": self.progress.seconds,
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
        progress = self.progress
        progress.step, progress.skipped = state["step"], state["skipped"]
        progress.seconds, self.best = state["seconds"], state["best"]
        restore_optimizer(self.optimizer, state["optimizer"])
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.average is not None and state["weights"] is not None:
            self.detector.load_state_dict(state["weights"])
            self.average.updates.fill_(state["updates"])
        # The number of processes may have changed; each then goes on from one of those before.
        torch.set_rng_state(state["random"][self.share.rank % len(state["random"])])
        self.log.forget_after(self.progress.step)
        # The evaluation comes after the checkpoint, and best/ before the line in the log.
        for record in self.log.records():
            if record["kind"] == "eval":
                self.best = max(self.best, record["segm"]["AP"])
                self.evaluated = record["step"]
        ended = (
            f"this training is at its end; to train further, start one with --from {self.folder}"
        )
        resuming = f"resuming in epoch {progress.epoch + 1}, {progress}"
        self.log.say(ended if progress.part >= 1 else resuming)

    def _advance(self, pieces: Sequence[Batch], waited: float, stop: bool) -> None:
        """Do a step; it is counted and logged when the device is through with it."""
        start = time.perf_counter()
        result = self.train_step([batch.to(self.accelerator.device) for batch in pieces])
        rate, seconds = self.optimizer.param_groups[0]["lr"], time.perf_counter() - start
        self.progress.add(result, pieces, rate, (seconds, waited), (stop, self._is_due()))

    def _is_due(self) -> bool:
        """Whether this process wants a checkpoint, as the last is long ago."""
        minutes = self.config.run.checkpoint_minutes
        return bool(minutes) and time.perf_counter() - self.saved >= 60 * minutes

    def _evaluation_is_due(self) -> bool:
        done, every = self.progress, self.config.eval.every
        at_the_end = done.step % self.sampler.steps == 0
        return done.part >= 1 or bool(every and at_the_end and done.epoch % every == 0)

    def _evaluate(self) -> None:
        """Score the weights on the validation images, as they are used: fast, in the precision."""
        if self.val_set is None:
            return
        self.evaluated = self.progress.step
        share_statistics(self.result)
        # Outside of autocast, whose rounding would hide whether folding changes the result.
        fast = for_inference(self.result.eval())
        with self.accelerator.autocast():
            result, found = evaluate_dataset(
                fast, self.val_set, batch_size=self.config.eval.batch_size
            )
        if result["segm"]["AP"] > self.best:
            self.best = result["segm"]["AP"]
            self.save("best")
        if self.progress.part >= 1 and self.accelerator.is_main_process:
            # Before the log, from which a resumed training knows what is evaluated already.
            write_figures(result, self.progress.step, self.folder)
        epoch = round(self.progress.step / self.sampler.steps, 4)
        figures = {kind: result[kind] for kind in ("bbox", "segm")}
        others = {name: result[name] for name in ("skipped", "seconds")}
        self.log.evaluation({"step": self.progress.step, "epoch": epoch, **figures, **others})
        flat = {f"{k}/{n}": v for k, of_kind in figures.items() for n, v in of_kind.items()}
        self.accelerator.log(flat, step=self.progress.step)
        if self.accelerator.is_main_process:
            pictures = self.folder / "samples" / f"step{self.progress.step:06d}.png"
            draw_samples(self.val_set, found, self.config.eval.pictures, pictures)

    def _draw_curves(self) -> None:
        from scnet.pictures.curves import curves

        curves(self.log.records(), self.folder / "curves.png")

    def _notes(self) -> list[str]:
        """Return what was taken for what when the data were read."""
        sets = [self.dataset] + ([self.val_set] if self.val_set else [])
        notes = [f"{s.annotation_file}: {note}" for s in sets for note in s.notes]
        notes += self.dataset.swaps.notes if self.dataset.swaps else ()
        notes += notes_of(self.dataset.repeats, self.config.data)
        if self.val_set and self.accelerator.is_main_process:  # the others say nothing
            notes += shared_notes(self.dataset.paths, self.val_set.paths)
        return notes

    def _introduce(self) -> None:
        config, share = self.config, self.share
        for line in introduction(
            config,
            parameters=sum(p.numel() for p in self.detector.parameters()),
            device=self.accelerator.device,
            images=(len(self.dataset), len(self.val_set) if self.val_set else 0),
            contents=self.dataset.contents,
            notes=self._notes(),
            steps=self.progress.total_steps,
            processes=share.processes,
            folder=self.folder,
        ):
            self.log.say(line)
        if config.run.trackers:
            self.accelerator.project_configuration.logging_dir = str(self.folder / "trackers")
            self.accelerator.init_trackers("scnet", config=_flat(to_dict(config)))


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
