"""A trained model as users hold it: any kind of image in, detections in its own pixels out."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from scnet.config import Config
from scnet.data.images import DataError, read_image
from scnet.data.transforms import eval_view, view_image
from scnet.detections import Detections
from scnet.model.detector import Detector
from scnet.ops.images import pad_images
from scnet.training import checkpoint
from scnet.types import Batch, ImageInfo

Source = str | os.PathLike[str] | Image.Image | NDArray[Any] | Tensor


class Model:
    """A detector on a device, with the settings it was trained with."""

    def __init__(self, detector: Detector, device: str | torch.device = "auto") -> None:
        self.device = pick_device(device)
        detector.to(device=self.device)
        detector.to(memory_format=torch.channels_last)
        self.detector: Detector = detector.eval()

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
        self, source: Source, *, score: float = ..., max_detections: int | None = ...
    ) -> Detections: ...
    @overload
    def predict(
        self, source: list[Source], *, score: float = ..., max_detections: int | None = ...
    ) -> list[Detections]: ...

    def predict(
        self,
        source: Source | list[Source],
        *,
        score: float = 0.5,
        max_detections: int | None = None,
    ) -> Detections | list[Detections]:
        """Return what is in an image, or in each of a list of images, from this score on.

        Args:
            source: path, PIL image, (H, W, 3) or (H, W) uint8 array, (3, H, W) tensor 0..255,
                or a list of these.
            score: lowest score.
            max_detections: most objects per image; None takes the model's own setting.

        Raises:
            DataError: an image cannot be read or has another form.

        Example:
            >>> found = scnet.load("runs/cells").predict("cells.png")  # doctest: +SKIP
        """
        if isinstance(source, list):
            return [self._predict_one(one, score, max_detections) for one in source]
        return self._predict_one(source, score, max_detections)

    def _predict_one(self, source: Source, score: float, max_detections: int | None) -> Detections:
        image = to_image(source)
        view = eval_view((image.height, image.width), self.config.data)
        images, sizes = pad_images([view_image(image, view)])
        path = str(source) if isinstance(source, str | os.PathLike) else ""
        info = ImageInfo(0, path, view.original)
        batch = Batch(images, sizes, (info,)).to(self.device)
        found = self.detector.detect(batch, min_score=score, max_detections=max_detections)
        return replace(self.detector.place(found, batch)[0], image=image)

    def __repr__(self) -> str:
        count = f"{len(self.classes)} class{'es' * (len(self.classes) > 1)}"
        return f"Model({self.config.recipe}, {count}, {self.device})"


def load(weights: str | os.PathLike[str], *, device: str | torch.device = "auto") -> Model:
    """Load a trained model.

    Args:
        weights: run folder (its best checkpoint), checkpoint folder or `.safetensors` file.
        device: "auto" takes a GPU where there is one.

    Raises:
        CheckpointError: missing, damaged, or of another architecture.

    Example:
        >>> model = load("runs/cells")  # doctest: +SKIP
    """
    return Model(checkpoint.load(weights), device)


def build(config: Config, *, pretrained: bool = True) -> Detector:
    """Return a config's bare detector, backbone weights as `config.model.backbone.weights` says.

    Args:
        pretrained: False leaves the backbone at random numbers, whatever the config says.

    Raises:
        FileNotFoundError: backbone weights cannot be had; the text says what to do.

    Example:
        >>> from scnet import recipes
        >>> detector = build(recipes.scnet(num_classes=3), pretrained=False)  # doctest: +SKIP
    """
    from scnet.model.backbone import load_backbone_weights

    detector = Detector(config)
    if pretrained:
        load_backbone_weights(detector.backbone, config.model.backbone)
    return detector


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """Return the device; "auto" is a GPU where there is one, else the CPU."""
    if device != "auto":
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def to_image(source: Source) -> Image.Image:
    """Return any kind of source as an upright RGB image.

    Raises:
        DataError: unreadable, or an array of another shape or type.
    """
    if isinstance(source, Tensor):
        if source.ndim != 3 or source.shape[0] != 3:
            raise DataError(f"a tensor image must be (3, H, W), not {tuple(source.shape)}")
        source = (
            source.detach().cpu().clamp(0, 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        )
    if isinstance(source, np.ndarray):
        return read_image(_array_image(source))
    return read_image(source)


def image_files(sources: Sequence[str]) -> list[Path]:
    """Return the image files that paths, folders and globs name.

    Raises:
        DataError: one of them names none.
    """
    import glob

    suffixes = {s for s, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    files: list[Path] = []
    for source in sources:
        path = Path(source)
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix.lower() in suffixes)
        elif path.is_file():
            found = [path]
        else:
            found = sorted(Path(p) for p in glob.glob(source, recursive=True) if Path(p).is_file())
        if not found:
            raise DataError(
                f"{source}: no image found; "
                "give an image, a folder of images or a pattern such as 'a/*.jpg'"
            )
        files += found
    return files


def write(found: Detections, folder: Path) -> tuple[Path, Path]:
    """Write the overlay picture and the COCO results of one image; return both files.

    They are named after the image; a number tells images of the same name apart.
    """
    stem, number = Path(found.path).stem or "image", 1
    while (folder / f"{stem}_masks.png").exists():
        number += 1
        stem = f"{Path(found.path).stem}-{number}"
    picture, results = folder / f"{stem}_masks.png", folder / f"{stem}.json"
    found.plot().save(picture)
    results.write_text(json.dumps(found.to_coco(image_id=1)) + "\n")
    return picture, results


def _array_image(array: NDArray[Any]) -> Image.Image:
    if (
        array.dtype != np.uint8
        or array.ndim not in (2, 3)
        or (array.ndim == 3 and array.shape[2] not in (1, 3, 4))
    ):
        raise DataError(
            f"an array image must be (H, W, 3) or (H, W) uint8, not {array.shape} {array.dtype}"
        )
    return Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array)
