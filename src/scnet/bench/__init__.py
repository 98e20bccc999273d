"""How fast models are, from an image file to COCO results, beside each other and the machine.

All models take turns in one process, so that what else the machine does falls on all alike. Each
round measures the machine's own rate of convolutions and matrix products too; the floor of a model
is what its operations would take at those rates.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from scnet.bench.machine import Rates, describe, timed
from scnet.bench.stopwatch import Stopwatch
from scnet.config import override
from scnet.data.images import read_image
from scnet.inference.model import Model, Precision
from scnet.model.detector import Detector
from scnet.runtime.device import pick_device
from scnet.runtime.memory import keep_freed, peak_memory, release_freed
from scnet.types import Size
from scnet.weights.load import read

# A model, from image files to the COCO results of each.
Contender = Callable[[Sequence[Path]], list[list[dict[str, Any]]]]

PEER = "torchvision"
USUAL_SIZE = (800, 1333)
CANDIDATES = 5  # for each object, pass the score threshold of a model with random weights
WIDE = 0.2  # deviation of its classifiers' weights
MOST = 4  # images that memory is measured with, and thresholds are chosen by


@dataclass(frozen=True)
class Setting:
    """What is measured, and how."""

    models: tuple[str, ...]  # recipes or weights; `torchvision` is the peer
    images: tuple[Path, ...] = ()  # none: a generated one
    size: Size = USUAL_SIZE  # of the network's input, of weights too
    batch: int = 1
    detections: int = 100
    precision: Precision = "fp32"
    compile: bool = False  # ours; torchvision's runs as it is
    proposals: int | None = None
    device: str = "auto"
    threads: int = 0  # 0 takes PyTorch's own number
    rounds: int = 7
    warmup: int = 2
    memory: bool = True


@dataclass
class Measured:
    """What was measured of a model."""

    model: str
    seconds: list[float] = field(default_factory=list)  # of each round, for a batch
    shares: dict[str, float] = field(default_factory=dict)  # seconds of the parts, in one round
    flops: float = 0.0  # of an image
    floor: list[float] = field(default_factory=list)  # seconds at the machine's rates, each round
    gb: float = 0.0  # most memory of a process of its own
    detections: list[float] = field(default_factory=list)  # of an image, in each round


class Ours:
    """One of our models."""

    def __init__(self, model: Model, setting: Setting) -> None:
        self.model, self.setting = model, setting
        self.threshold = model.config.model.box.score_threshold

    def __call__(self, files: Sequence[Path]) -> list[list[dict[str, Any]]]:
        if self.model.device.type == "cpu":
            keep_freed()  # which a peer before has undone
        found = self.model.predict(
            list(files),
            score=self.threshold,
            max_detections=self.setting.detections,
            batch_size=self.setting.batch,
        )
        return [one.to_coco(image_id=0) for one in found]


def bench(setting: Setting, report: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Measure models beside each other; return figures that JSON can hold.

    Raises:
        ValueError: an unknown recipe, or a precision that the device lacks.
    """
    device = pick_device(setting.device)
    with tempfile.TemporaryDirectory() as folder, _own_threads_and_memory(setting.threads):
        files = prepare(setting, Path(folder))
        if len(files) < len(setting.images):
            report(f"the first {len(files)} of {len(setting.images)} images do for all rounds")
        measured = [Measured(name) for name in setting.models]
        for entry in measured if setting.memory else ():
            report(f"memory of {entry.model}")
            entry.gb = peak_of(entry.model, setting, files[:MOST])
        runs = {name: contender(name, setting, device, files) for name in setting.models}
        rates = Rates(device, setting.precision)
        for turn in range(-setting.warmup, setting.rounds):
            report(f"round {turn + 1} of {setting.rounds}" if turn >= 0 else "warming up")
            if turn >= 0:
                rates.measure()
            _round(measured, runs, batch_of(files, turn, setting.batch), device, turn >= 0)
        for entry in measured:
            report(f"operations and shares of {entry.model}")
            run, several = runs[entry.model], batch_of(files, 0, setting.batch)
            # Compiled code has no parts to count or time: these are of the same model as it is.
            with torch.compiler.set_stance("force_eager"):
                operations = count(run, files[:1])
                if isinstance(run, Ours):
                    entry.shares = shares(run, several, device)
            entry.flops = sum(operations.values())
            entry.floor = [
                setting.batch * (operations["convolution"] / a + operations["matrix product"] / b)
                for a, b in zip(*rates.flops.values(), strict=True)
            ]
    return {
        **describe(device),
        "setting": {**vars(setting), "images": len(files) if setting.images else 0},
        "rates": rates.flops,
        "models": [vars(entry) for entry in measured],
    }


@contextlib.contextmanager
def _own_threads_and_memory(threads: int) -> Iterator[None]:
    """Compute with so many threads for a while; afterwards, and for memory, all is as usual."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        release_freed()


def contender(
    name: str, setting: Setting, device: torch.device, files: Sequence[Path]
) -> Contender:
    """Return a model that is ready to run; with random weights it finds objects all the same."""
    from scnet import recipes

    sizes: dict[str, Any] = {"data": {"size": list(setting.size), "scale_factor": None}}
    options: dict[str, Any] = {"precision": setting.precision, "compile": setting.compile}
    options["proposals"] = setting.proposals
    if name == PEER:
        from scnet.bench.peer import Peer

        if setting.proposals:
            sizes["model"] = {"rpn": {"after_nms": setting.proposals}}
        ours = _random("mask_rcnn", sizes)
        peer = Peer(ours, device, setting.precision)
        heads = peer.model.roi_heads
        heads.detections_per_img, heads.score_thresh = setting.detections, 1.0
        heads.score_thresh = _threshold([heads.box_predictor], peer, files, setting, first=True)
        return peer
    if name not in recipes.RECIPES:
        detector = read(name, quiet=True)
        detector.config = override(detector.config, sizes)
        return Ours(Model(detector, device, **options), setting)
    run = Ours(Model(_random(name, sizes), device, **options), setting)
    run.threshold = 1.0
    run.threshold = _threshold(run.model.detector.head.roi_heads.stages, run, files, setting)
    return run


def usual_size(models: Sequence[str]) -> Size:
    """Return the size to measure models at: that of the weights, where all are weights."""
    from scnet import recipes

    if any(name == PEER or name in recipes.RECIPES for name in models):
        return USUAL_SIZE
    return read(models[0], quiet=True).config.data.size


def prepare(setting: Setting, folder: Path) -> list[Path]:
    """Write the images as JPEG files, cut to the shape of the network's input."""
    height, width = setting.size
    chosen = setting.images[: setting.rounds * setting.batch]
    files = []
    for i, image in enumerate([read_image(path) for path in chosen] or [_generated()]):
        scale = min(image.width / width, image.height / height)
        cut = max(1, int(scale * width)), max(1, int(scale * height))
        left, top = (image.width - cut[0]) // 2, (image.height - cut[1]) // 2
        files.append(folder / f"{i:04d}.jpg")
        image.crop((left, top, left + cut[0], top + cut[1])).save(files[-1], quality=95)
    return files


def count(run: Contender, files: Sequence[Path]) -> dict[str, float]:
    """Return the operations of an image by kind; a multiplication with addition counts as two."""
    with FlopCounterMode(display=False) as counter:
        run(files)
    total = {"convolution": 0.0, "matrix product": 0.0}
    for operator, flops in counter.get_flop_counts()["Global"].items():
        total["convolution" if "conv" in str(operator) else "matrix product"] += flops
    return total


def shares(run: Ours, files: Sequence[Path], device: torch.device) -> dict[str, float]:
    """Return the seconds of each part of one run."""
    with Stopwatch(device=device) as watch:
        for owner, name, part in _parts(run.model):
            watch.watch(owner, name, part)
        seconds, _ = timed(functools.partial(run, files), device)
    parts = dict(watch.seconds)
    return {**parts, "other": seconds - sum(parts.values())}


def _parts(model: Model) -> Iterator[tuple[Any, str, str]]:
    """Yield what is timed: an object or module, the name of its function, and the part's name."""
    from scnet.inference import model as predicting
    from scnet.model import detector as chooser
    from scnet.ops import pooling

    detector = model.fast
    yield model, "read", "decode, resize"
    yield detector, "normalise", "normalise"
    yield detector.backbone, "forward", "backbone"
    yield detector.fpn, "forward", "FPN"
    yield detector.head.rpn, "forward", "RPN"
    yield detector.head.rpn, "proposals", "proposals"
    if detector.head.branches.semantic:
        yield detector.head.branches.semantic, "forward", "semantic branch"
    if detector.head.branches.context:
        yield detector.head.branches.context, "forward", "context branch"
    yield pooling.SparsePooler, "pool", "RoIAlign"
    yield pooling.CanvasPooler, "pool", "RoIAlign"
    for i, stage in enumerate(detector.head.roi_heads.stages):
        yield stage, "forward", f"box stage {i + 1}"
    yield chooser, "class_nms", "class NMS"
    yield detector.head.roi_heads.masks, "find", "mask branch"
    yield predicting, "place", "run lengths"


def _round(
    measured: Sequence[Measured],
    runs: dict[str, Contender],
    files: Sequence[Path],
    device: torch.device,
    counts: bool,
) -> None:
    for entry in measured:
        if entry.model == PEER:
            release_freed()  # as it is for those who use nothing of ours
        seconds, found = timed(functools.partial(runs[entry.model], files), device)
        if counts:
            entry.seconds.append(seconds)
            entry.detections.append(sum(map(len, found)) / len(files))


def batch_of(files: Sequence[Path], turn: int, size: int) -> list[Path]:
    return [files[(turn * size + i) % len(files)] for i in range(size)]


def peak_of(name: str, setting: Setting, files: Sequence[Path]) -> float:
    """Return the most memory in GB of a process that does nothing but run this model thrice."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (name, setting, files))


def _peak(name: str, setting: Setting, files: Sequence[Path]) -> float:
    if setting.threads:
        torch.set_num_threads(setting.threads)
    run = contender(name, setting, pick_device(setting.device), files)
    for turn in range(3):
        run(batch_of(files, turn, setting.batch))
    return peak_memory()


def _random(name: str, changes: dict[str, Any]) -> Detector:
    """Return a recipe with random weights, the same for all parts that recipes share.

    The classifiers start wider than for training, so that some RoIs stand out as objects do.
    """
    from scnet import recipes

    none = {"model": {"backbone": {"weights": "none"}, "box": {"score_threshold": 0.0}}}
    config = override(override(recipes.find(name), none), changes)
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay what they are
        torch.manual_seed(0)
        detector = Detector(config)
        for stage in detector.head.roi_heads.stages:
            torch.nn.init.normal_(stage.cls.weight, std=WIDE)
    return detector


def _threshold(
    modules: Any, run: Contender, files: Sequence[Path], setting: Setting, first: bool = False
) -> float:
    """Return the score above which every image has `CANDIDATES` or more for each object.

    Args:
        modules: what returns the class logits, of each stage.
        run: the model, set to find nothing.
        first: background is the first class instead of the last.
    """
    logits: list[Tensor] = []

    def keep(module: nn.Module, given: Any, out: Any) -> None:
        logits.append(out[0] if isinstance(out, tuple) else out)

    hooks = [module.register_forward_hook(keep) for module in modules]
    lowest, number = 1.0, CANDIDATES * setting.detections
    for file in files[:MOST]:
        logits.clear()
        run([file])
        scores = torch.stack(logits).float().mean(0).softmax(1)
        scores = (scores[:, 1:] if first else scores[:, :-1]).flatten()
        lowest = min(lowest, float(scores.topk(min(number, len(scores))).values[-1]))
    for hook in hooks:
        hook.remove()
    return lowest


def _generated() -> Image.Image:
    """Return an image with objects, for those who have none at hand."""
    from scnet.data.synthetic.scene import generate

    with tempfile.TemporaryDirectory() as folder:
        data = generate(Path(folder) / "data", train=1, val=1, size=(480, 800))
        return read_image(next((data / "train").iterdir()))
