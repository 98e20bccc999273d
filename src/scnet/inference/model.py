"""A trained model as users hold it: any kind of image in, detections in its own pixels out."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

import torch
from PIL import Image
from torch import nn

from scnet.config import Config
from scnet.data.transforms import eval_view, resize_image
from scnet.inference.changes import change
from scnet.inference.compiled import compiled
from scnet.inference.detections import Detections, place
from scnet.inference.fused import for_inference, with_proposals
from scnet.inference.sources import Source, to_pixels
from scnet.inference.tta import Augmented, Views
from scnet.model.detector import Detector
from scnet.runtime.device import pick_device
from scnet.runtime.memory import KeptMemory
from scnet.settings import ConfigError
from scnet.types import Batch, Found, ImageInfo
from scnet.weights import checkpoint, hub
from scnet.weights.load import read

Precision = Literal["fp32", "bf16", "fp16"]
AUTOCAST = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Model:
    """A detector on a device, with the settings it was trained with.

    It predicts with a copy in which batch norm is folded into the convolutions before it, and which
    shares all other weights: the same results, faster. On the CPU it keeps memory that an image
    no longer needs for the next one, until `release_memory` or its own end
    (`scnet.runtime.memory.KeptMemory` says what that means for the process).
    """

    def __init__(
        self,
        detector: Detector,
        device: str | torch.device = "auto",
        *,
        precision: Precision = "fp32",
        compile: bool = False,
        proposals: int | None = None,
        tta: Views | None = None,
        keep_memory: int | None = None,
    ) -> None:
        """Take a detector; the options are those of `load`.

        The detector itself moves to the device and leaves training mode.
        """
        self.device = pick_device(device)
        self.precision: Precision = precision
        self.warned_of_loss = False
        detector.to(device=self.device)
        detector.to(memory_format=torch.channels_last)
        self.detector: Detector = detector.eval()
        self.fast = for_inference(self.detector)
        if proposals is not None:
            self.fast = with_proposals(self.fast, proposals)
        if compile and tta:
            raise ConfigError("compiled code keeps one view of an image; give compile or tta")
        if compile:
            self.fast = compiled(self.fast)
        self.finder = Augmented(self.fast, tta) if tta else self.fast
        # On GPUs PyTorch keeps memory anyway.
        self.kept = KeptMemory(keep_memory if self.device.type == "cpu" else 0)

    @property
    def config(self) -> Config:
        """Settings that the model was trained with."""
        return self.detector.config

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, by label."""
        return self.detector.classes

    @overload
    def predict(
        self,
        source: Source,
        *,
        score: float = ...,
        max_detections: int | None = ...,
        batch_size: int = ...,
    ) -> Detections: ...
    @overload
    def predict(
        self,
        source: list[Source],
        *,
        score: float = ...,
        max_detections: int | None = ...,
        batch_size: int = ...,
    ) -> list[Detections]: ...

    def predict(
        self,
        source: Source | list[Source],
        *,
        score: float = 0.5,
        max_detections: int | None = None,
        batch_size: int = 1,
    ) -> Detections | list[Detections]:
        """Return what is in an image, or in each of a list of images, from this score on.

        Args:
            source: path, PIL image, (H, W, 3) or (H, W) uint8 array, (3, H, W) tensor 0..255,
                or a list of these. A model trained with other `data.bands` takes (H, W, bands) and
                (bands, H, W), and with another `data.range` than "full" numbers of any type.
            score: lowest score.
            max_detections: most objects per image; None takes the model's own setting.
            batch_size: images of a list that pass through the network together, in their order;
                on a GPU several are faster. They are padded to the size of the largest.

        Raises:
            DataError: an image cannot be read or has another form.
            ValueError: no batch can have that size, or so many objects cannot be asked for.

        Example:
            >>> found = scnet.load("runs/cells").predict("cells.png")  # doctest: +SKIP
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; at least one image passes at a time")
        if max_detections is not None and max_detections < 0:
            raise ValueError(f"max_detections is {max_detections}; give 0 or more")
        sources = source if isinstance(source, list) else [source]
        found: list[Detections] = []
        for start in range(0, len(sources), batch_size):
            part = sources[start : start + batch_size]
            with self.kept.using(len(part)):
                images, batch = self.read(part)
                raw = self.detect(batch, min_score=score, max_detections=max_detections)
                least = self.config.model.mask.least_visible
                placed = place(raw, batch, self.classes, self.detector.category_ids, least)
            found += [replace(f, image=i) for f, i in zip(placed, images, strict=True)]
        return found if isinstance(source, list) else found[0]

    def read(self, sources: Sequence[Source]) -> tuple[list[Image.Image], Batch]:
        """Return images to be looked at, and as a batch on the device, resized."""
        config = self.detector.config
        read = [to_pixels(source, config) for source in sources]
        faults = [image.fault for image in read if image.fault]
        if faults and not self.warned_of_loss:
            warnings.warn(f"an image loses something: {faults[0]}", stacklevel=3)
            self.warned_of_loss = True
        views = [eval_view(image.shape[:2], config.data) for image in read]
        resized = [resize_image(i.values, v.resized) for i, v in zip(read, views, strict=True)]
        info = [
            ImageInfo(0, str(s) if isinstance(s, str | os.PathLike) else "", view)
            for s, view in zip(sources, views, strict=True)
        ]
        return [image.picture for image in read], Batch.of(resized, info).to(self.device)

    def detect(
        self, batch: Batch, *, min_score: float = 0.0, max_detections: int | None = None
    ) -> Found:
        """Return what is in a batch, as `Detector.detect` does."""
        dtype = AUTOCAST[self.precision]
        cast = torch.autocast(self.device.type, dtype, enabled=self.precision != "fp32")
        with self.kept.using(len(batch.info)), cast:
            return self.finder.detect(batch, min_score=min_score, max_detections=max_detections)

    def release_memory(self) -> None:
        """Give the system back what is kept for the next image, which then takes longer."""
        self.kept.release()

    def save_pretrained(
        self, folder: str | os.PathLike[str], *, license: str | None = None, overwrite: bool = False
    ) -> None:
        """Write model.safetensors, config.json and a model card, README.md, into a folder.

        What else is in the folder stays, and so does a README.md. The folder of the training data
        is not written down.

        Args:
            license: identifier for the model card, such as "apache-2.0".
            overwrite: whether weights and config may be there already.

        Raises:
            FileExistsError: there are weights or a config, and `overwrite` is not set.

        Example:
            >>> scnet.load("runs/cells").save_pretrained("cells")  # doctest: +SKIP
        """
        hub.save(Path(folder), self.detector, license=license, overwrite=overwrite)

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        *,
        device: str | torch.device = "auto",
        **options: Any,
    ) -> Model:
        """Load what `save_pretrained` or `push_to_hub` wrote.

        Args:
            source: folder, or id OWNER/NAME of a model on the Hugging Face hub.
            device: "auto" takes a GPU where there is one.
            options: of `huggingface_hub.hf_hub_download`: `revision`, `token`, `cache_dir`, ...

        Raises:
            CheckpointError: cannot be had, or is no model of this library.

        Example:
            >>> model = scnet.Model.from_pretrained("owner/cells")  # doctest: +SKIP
        """
        there = Path(source).exists()
        file = Path(source) if there else hub.download(str(source), **options)
        return cls(checkpoint.load(file), device)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        license: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        **options: Any,
    ) -> str:
        """Upload the model to the Hugging Face hub and return the address of the commit.

        A model card that is there already stays.

        Args:
            repo_id: OWNER/NAME; created where it does not exist.
            license: identifier for the model card, such as "apache-2.0".
            private: whether a new repository is; None leaves that to the owner's settings.
            token: None takes the one that `hf auth login` stored.
            options: of `HfApi.upload_folder`: `commit_message`, `revision`, `create_pr`, ...

        Example:
            >>> model.push_to_hub("owner/cells", private=True)  # doctest: +SKIP
        """
        return hub.upload(
            repo_id, self.detector, license=license, private=private, token=token, **options
        )

    def __repr__(self) -> str:
        count = f"{len(self.classes)} class{'es' * (len(self.classes) > 1)}"
        return f"Model({self.config.recipe}, {count}, {self.device})"


def load(
    weights: str | os.PathLike[str],
    *,
    device: str | torch.device = "auto",
    precision: Precision = "fp32",
    compile: bool = False,
    proposals: int | None = None,
    image_size: tuple[int, int] | None = None,
    scale_factor: float | None = None,
    least_visible: float | None = None,
    tta: Views | None = None,
    keep_memory: int | None = None,
    quiet: bool = False,
) -> Model:
    """Load a trained model.

    Args:
        weights: run folder (its best checkpoint), checkpoint folder, `.safetensors` file, `.pth`
            file of MMDetection or torchvision, `.pkl` or `.pth` file of detectron2; where nothing
            of that name exists, the name of weights that come with the package or were published
            (`scnet zoo` lists them), or the id OWNER/NAME of a model on the Hugging Face hub.
        device: "auto" takes a GPU where there is one.
        precision: bf16 and fp16 are faster where the hardware has them, and change results
            slightly.
        compile: use torch.compile; a minute or two for each of a few image sizes, then faster on
            GPUs. Images are padded more, which changes results slightly.
        proposals: boxes of an image that the box stages read; None takes the model's own number,
            usually 1000. Fewer are faster and find less.
        image_size: the shorter side to which images are resized, and the most that the longer side
            may have, in place of `data.size` or `data.scale_factor` of the training.
        scale_factor: how much images are enlarged, whatever their size, in place of both.
        least_visible: share of its mask that an object must show where better ones overlap it, in
            place of `model.mask.least_visible`; for things that do not overlap, such as cells.
        tta: test-time augmentation: what is averaged over views of an image. "mirror" is the image
            and its mirror image, "flips" these also upside down, "turns" all eight ways to lay an
            image. Time grows with the views, which pass one at a time.
        keep_memory: bytes that the process may keep free for the next image, on a CPU with
            Linux; 0 keeps nothing, which is slower. None takes twice what the first prediction
            leaves free, for each image of a batch, and at most 2 GB.
        quiet: show no progress of a download, nor what is assumed of a file of another library.

    Raises:
        CheckpointError: missing, damaged, or of another architecture.
        ZooError: published weights cannot be had.
        ConfigError: `image_size` and `scale_factor` are both given, or `compile` and `tta`, or one
            has no such value.

    Example:
        >>> model = load("scnet_r50_20e")  # doctest: +SKIP
    """
    changed = change(image_size, scale_factor, least_visible)
    detector = read(weights, quiet=quiet)
    detector.config = changed(detector.config)
    model = Model(
        detector,
        device,
        precision=precision,
        compile=compile,
        proposals=proposals,
        tta=tta,
        keep_memory=keep_memory,
    )
    if isinstance(model.finder, Augmented) and not quiet:
        for note in model.finder.notes:
            print(f"note: {note}", file=sys.stderr)
    return model


def from_torchvision(
    model: nn.Module,
    *,
    classes: Sequence[str] = (),
    device: str | torch.device = "auto",
    quiet: bool = False,
) -> Model:
    """Take over a Mask R-CNN of torchvision with all of its settings.

    Thresholds, sizes and statistics of images, anchors and the eps of norms are read from the model
    itself, which stays as it is. Its label n is our n - 1, as its class 0 is the background. 91
    classes become COCO's 80, unless 90 names are given.

    Args:
        model: `torchvision.models.detection.MaskRCNN` on a ResNet with FPN, in any mode, on any
            device.
        classes: names of its classes, without the background.
        device: "auto" takes a GPU where there is one.
        quiet: do not say which of its classes are left out.

    Raises:
        CheckpointError: another model, or a part or setting that has no counterpart here; names it.

    Example:
        >>> from torchvision.models.detection import maskrcnn_resnet50_fpn
        >>> theirs = maskrcnn_resnet50_fpn(weights="DEFAULT")  # doctest: +SKIP
        >>> from_torchvision(theirs).predict("photo.jpg")  # doctest: +SKIP
    """
    from scnet.weights.foreign.torchvision.model import read as read_model

    conversion = read_model(model, tuple(classes))
    for line in () if quiet else conversion.remarks():
        print(line, file=sys.stderr)
    return Model(conversion.detector, device)
