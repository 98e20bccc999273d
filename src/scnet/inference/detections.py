"""What was found in one image: boxes, scores, labels and masks in the pixels of the original.

Masks stay COCO run lengths until somebody asks for pixels: a hundred masks of a 12-megapixel photo
are some 100 KB that way and 1.2 GB as pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from scnet.ops import rle
from scnet.ops.boxes import seen_back
from scnet.ops.placing import run_lengths_in
from scnet.ops.visible import visible
from scnet.types import Batch, Found, Size

if TYPE_CHECKING:
    from PIL import Image

ROWS = 20  # of the printed table


@dataclass(frozen=True, eq=False, repr=False)
class Detections:
    """Objects of one image, by falling score of their boxes. Selections keep everything together.

    >>> found = model.predict("cells.png")  # doctest: +SKIP
    >>> found[found.scores > 0.8].plot().save("cells_masks.png")  # doctest: +SKIP
    """

    boxes: Float[Tensor, "N 4"]  # xyxy in pixels of the original image, on the CPU
    scores: Float[Tensor, "N"]
    labels: Int[Tensor, "N"]  # index into `classes`
    rle: Sequence[rle.RLE]  # mask of each object
    size: Size
    classes: tuple[str, ...]
    category_ids: tuple[int | str, ...]  # of each class, in the annotation file it came from
    # PIL image or (H, W, 3) uint8 array, for `plot`; None = read again from `path`
    image: Any = None
    path: str = ""
    # IoU of each mask with its object, 0..1, as the model foretells; None = it does not score masks
    mask_ious: Float[Tensor, "N"] | None = None

    def __post_init__(self) -> None:
        lengths = {len(self.boxes), len(self.scores), len(self.labels), len(self.rle)}
        if len(lengths) > 1:
            raise ValueError(f"boxes, scores, labels and rle differ in length: {sorted(lengths)}")
        if self.mask_ious is not None and len(self.mask_ious) != len(self):
            raise ValueError(f"{len(self.mask_ious)} mask_ious, but {len(self)} objects")
        if len(self.classes) != len(self.category_ids):
            raise ValueError(
                f"{len(self.classes)} classes but {len(self.category_ids)} category ids"
            )

    def __len__(self) -> int:
        return len(self.rle)

    def __getitem__(self, index: Any) -> Detections:
        """Select by number, slice, mask or list of numbers; the result is always Detections."""
        chosen = _positions(index, len(self))
        return replace(
            self,
            boxes=self.boxes[chosen],
            scores=self.scores[chosen],
            labels=self.labels[chosen],
            rle=[self.rle[i] for i in chosen.tolist()],
            mask_ious=None if self.mask_ious is None else self.mask_ious[chosen],
        )

    def __repr__(self) -> str:
        count = "1 object" if len(self) == 1 else f"{len(self)} objects"
        name = f" in {self.path}" if self.path else ""
        title = f"{count}{name} ({self.size[1]} x {self.size[0]} px)"
        return "\n".join([title, *self._rows()])

    def _rows(self) -> list[str]:
        if not len(self):
            return []
        width = max(5, *map(len, self.names[:ROWS]))
        rows = [f"{'class':<{width}}  score  {'box (x1 y1 x2 y2)':^27}      area"]
        shown = zip(self.names, self.scores.tolist(), self.boxes.tolist(), self.areas, strict=True)
        for name, score, box, area in list(shown)[:ROWS]:
            corners = " ".join(f"{v:6.1f}" for v in box)
            rows.append(f"{name:<{width}}  {score:5.3f}  {corners}  {area:8d}")
        return rows + [f"... and {len(self) - ROWS} more"] * (len(self) > ROWS)

    @property
    def mask_scores(self) -> Float[Tensor, "N"]:
        """Score of each mask: that of its box, times the IoU where the model scores masks."""
        return self.scores if self.mask_ious is None else self.scores * self.mask_ious

    @property
    def names(self) -> list[str]:
        """Class name of each object."""
        return [self.classes[label] for label in self.labels.tolist()]

    @property
    def areas(self) -> list[int]:
        """Number of pixels of each mask."""
        return [rle.area(mask) for mask in self.rle]

    def masks(self) -> Bool[Tensor, "N H W"]:
        """Return the masks as pixels; one byte for each pixel of the image and object."""
        pixels = torch.empty((len(self), *self.size), dtype=torch.bool)
        for out, mask in zip(pixels, self.rle, strict=True):
            out.copy_(rle.decode(mask, self.size))
        return pixels

    def to_coco(self, image_id: int | str) -> list[dict[str, Any]]:
        """Return the entries of a COCO result file, ready for JSON.

        `score` is that of the box. Where the model scores masks, each entry has a `mask_score` too.

        Args:
            image_id: of the image, in the annotation file that the results are for.
        """
        x1, y1, x2, y2 = self.boxes.double().unbind(1)
        rows = torch.stack([x1, y1, x2 - x1, y2 - y1], dim=1).tolist()
        values = zip(rows, self.scores.tolist(), self.labels.tolist(), self.rle, strict=True)
        entries: list[dict[str, Any]] = [
            {
                "image_id": image_id,
                "category_id": self.category_ids[label],
                "bbox": box,
                "score": score,
                "segmentation": dict(mask),
            }
            for box, score, label, mask in values
        ]
        if self.mask_ious is not None:
            for entry, score in zip(entries, self.mask_scores.tolist(), strict=True):
                entry["mask_score"] = score
        return entries

    def to_supervision(self) -> Any:
        """Return the same as `supervision.Detections`.

        Its confidence is the score of the box; that of the mask is in `data`, where the model
        scores masks.

        Raises:
            ImportError: supervision is not installed.
        """
        try:
            supervision = import_module("supervision")
        except ImportError as error:
            hint = "to_supervision() needs the package supervision: pip install supervision"
            raise ImportError(hint) from error
        data = {"class_name": np.array(self.names, dtype=str)}
        if self.mask_ious is not None:
            data["mask_score"] = self.mask_scores.numpy()
        return supervision.Detections(
            xyxy=self.boxes.numpy(),
            mask=self.masks().numpy(),
            confidence=self.scores.numpy(),
            class_id=self.labels.numpy(),
            data=data,
        )

    def plot(self, score: float = 0.0, **options: Any) -> Image.Image:
        """Draw the objects whose boxes have at least this score, with it.

        `options` are those of `pictures.overlay.overlay`.

        Raises:
            ValueError: there is neither an image nor a path to read it from.
        """
        from scnet.pictures.overlay import overlay

        found = self[self.scores >= score]
        return overlay(
            found._picture(),
            found.rle,
            boxes=found.boxes,
            names=found.names,
            scores=found.scores.tolist(),
            one_class=len(found.classes) == 1,
            **options,
        )

    def _picture(self) -> Any:
        from scnet.data.images import read_picture

        if self.image is not None:
            return self.image
        if not self.path:
            raise ValueError(
                "these detections carry no image and no path, so there is nothing to plot on"
            )
        return read_picture(self.path)


def place(
    found: Found,
    batch: Batch,
    classes: tuple[str, ...],
    category_ids: tuple[int, ...],
    least_visible: float = 0.0,
) -> list[Detections]:
    """Turn what was found in a batch into detections in the pixels of the original images.

    Boxes without width or height are left out: they hold no pixel, and so show nothing. So are
    objects that show less than `least_visible` of their masks (`MaskConfig.least_visible`).
    """
    inverse = batch.inverse
    if inverse.device.type == "mps":  # has no float64, which placing needs
        found = Found(*(x if x is None else x.cpu() for x in found))  # type: ignore[arg-type]
        inverse = inverse.cpu()
    back = inverse[found.image]
    placed = seen_back(found.boxes, back)
    # One copy to the host instead of four; float64 holds all of them exactly.
    columns = [placed, found.scores[:, None], found.labels[:, None], found.image[:, None]]
    if found.mask_ious is not None:
        columns.append(found.mask_ious[:, None])
    table = torch.cat([x.double() for x in columns], dim=1).cpu()
    image = table[:, 6].long()
    # Run lengths are made where the masks are: only they travel from a GPU, not pixels.
    limits = back[:, 3].flip(1).long()
    sizes = [batch.info[i].view.original for i in image.tolist()]
    rles = run_lengths_in(found.masks, placed, limits, sizes)
    # Only here, as it would cost a wait for the device above.
    solid = (table[:, 2:4].float() > table[:, :2].float()).all(1)
    table, rles = table[solid], list(itertools.compress(rles, solid.tolist()))
    counts = image[solid].bincount(minlength=len(batch.info)).tolist()
    starts = itertools.accumulate(counts, initial=0)
    rows = zip(torch.split(table, counts), starts, batch.info, strict=False)
    detections = [
        Detections(
            boxes=of_image[:, :4].float(),
            scores=of_image[:, 4].float(),
            labels=of_image[:, 5].long(),
            rle=tuple(rles[start : start + len(of_image)]),
            size=info.view.original,
            classes=classes,
            category_ids=category_ids,
            path=info.path,
            mask_ious=None if found.mask_ious is None else of_image[:, 7].float(),
        )
        for of_image, start, info in rows
    ]
    if not least_visible:
        return detections
    return [one[visible(one.rle, one.size, least_visible)] for one in detections]


def _positions(index: Any, length: int) -> Int[Tensor, "M"]:
    """Turn any index into non-negative positions, checked against `length`."""
    if isinstance(index, slice):
        return torch.arange(*index.indices(length))
    chosen = torch.as_tensor(index, device="cpu")
    if chosen.numel() == 0 and chosen.dtype != torch.bool:
        return torch.zeros(0, dtype=torch.int64)
    if chosen.dtype == torch.bool:
        if chosen.shape != (length,):
            raise IndexError(
                f"a mask of shape {tuple(chosen.shape)} cannot select from {length} detections"
            )
        return chosen.nonzero().flatten()
    if chosen.is_floating_point() or chosen.ndim > 1:
        raise TypeError(f"cannot select detections by {index!r}")
    chosen = chosen.to(torch.int64).reshape(-1)
    if ((chosen < -length) | (chosen >= length)).any():
        raise IndexError(f"index {index} is out of range for {length} detections")
    return torch.where(chosen < 0, chosen + length, chosen)
