"""Whether an exported file finds what its model finds.

Detections are paired by class, box and score. Two that score alike may come in either order, and
what scores as the threshold, or as the last of the most that are kept, may fall on either side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from scnet.data.synthetic.scene import scene
from scnet.data.transforms import resize_image
from scnet.export.onnx_file import Form
from scnet.export.session import Arrays, Session
from scnet.inference.model import Model
from scnet.inference.sources import Source, to_pixels
from scnet.types import Batch, ImageInfo, Size, View

BOX, SCORE, MASK = 0.01, 1e-4, 1e-3  # most that a box (px), a score, a mask value may differ
APART = 1.0  # px; boxes further apart are no pair
# Of the images that are made up: one is upright, one has odd sides, one is small.
SIZES: tuple[Size, ...] = ((480, 640), (640, 480), (333, 517), (96, 160))


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How the file differs from the model in an image."""

    name: str
    size: Size  # of the image as the network reads it
    model: int  # detections of the model
    file: int  # of the file
    alone: int  # that only one of the two has, and not for a score at the edge
    edge: int  # that only one of the two has for a score at the edge
    box: float  # largest differences of the pairs
    score: float  # of boxes, or of the IoUs that are foretold of masks
    mask: float

    @property
    def holds(self) -> bool:
        """Whether the two are the same, but for rounding."""
        within = self.box <= BOX and self.score <= SCORE and self.mask <= MASK
        return within and not self.alone

    def __str__(self) -> str:
        edge = f", {self.edge} at the edge" if self.edge else ""
        text = (
            f"{self.name} ({self.size[1]} x {self.size[0]}): model {self.model}, file {self.file}"
            f"{edge}; boxes {self.box:.1e} px, scores {self.score:.1e}, masks {self.mask:.1e}"
        )
        return text if self.holds else f"{text}, {self.alone} without a partner: differs"


def compare(
    model: Model, session: Session, sources: Sequence[Source], form: Form
) -> list[Difference]:
    """Return the differences in images, or in some that are made up where none are given."""
    named = [(str(source), source) for source in sources] or made_up(model, form)
    return [_difference(model, session, name, source, form) for name, source in named]


def made_up(model: Model, form: Form) -> list[tuple[str, Source]]:
    """Return images with objects that no model was trained on, of several shapes."""
    bands = len(model.detector.mean)
    images: list[tuple[str, Source]] = []
    for number, size in enumerate([form.size] if form.size else SIZES):
        pixels, _ = scene(np.random.default_rng(number), size)
        copies = np.concatenate([pixels] * -(-bands // pixels.shape[2]), axis=2)[..., :bands]
        images.append((f"image {number + 1}", np.ascontiguousarray(copies)))
    return images


def _difference(
    model: Model, session: Session, name: str, source: Source, form: Form
) -> Difference:
    read = _as_read(model, source, form.size)
    height, width = read.sizes[0].tolist()
    found = model.detect(read)
    values = (found.boxes, found.scores, found.labels, found.masks, found.mask_ious)
    ours = Arrays(*(None if x is None else x.numpy() for x in values))  # type: ignore[arg-type]
    image = read.images[:, :, :height, :width].numpy()
    theirs = session.run(np.repeat(image, form.batch, axis=0))[-1]
    return difference(ours, theirs, name, (height, width), _edges(model, (ours, theirs)))


def _as_read(model: Model, source: Source, size: Size | None) -> Batch:
    """Return an image as the network reads it; stretched to the one size that a file takes."""
    if size is None:
        return model.read([source])[1]
    pixels = to_pixels(source, model.config)
    info = ImageInfo(0, "", View.whole(pixels.shape[:2], size))
    return Batch.of([resize_image(pixels.values, size)], [info])


def _edges(model: Model, found: Sequence[Arrays]) -> list[float]:
    """Return the scores at which a detection may be there or not."""
    box = model.config.model.box
    last = [float(f.scores[-1]) for f in found if 0 < len(f.scores) == box.max_detections]
    return [box.score_threshold, *last]


def difference(
    ours: Arrays, theirs: Arrays, name: str, size: Size, edges: Sequence[float]
) -> Difference:
    """Pair the detections of a model and of its file, and return how they differ."""
    apart = np.abs(ours.boxes[:, None] - theirs.boxes[None]).max(2)
    scores = np.abs(ours.scores[:, None] - theirs.scores[None])
    other = ours.labels[:, None] != theirs.labels[None]
    cost = np.where(other, 1e6, np.minimum(apart, 1e3) + np.minimum(100 * scores, 1e3))
    rows, columns = linear_sum_assignment(np.nan_to_num(cost, nan=1e6))
    real = (apart[rows, columns] < APART) & ~other[rows, columns]
    rows, columns = rows[real], columns[real]
    alone = [*np.delete(ours.scores, rows), *np.delete(theirs.scores, columns)]
    edge = sum(any(abs(score - at) <= SCORE for at in edges) for score in alone)

    def most(values: np.ndarray) -> float:
        return float(values.max(initial=0)) if np.isfinite(values).all() else math.inf

    ious = 0.0
    if (ours.mask_ious is None) != (theirs.mask_ious is None):
        ious = math.inf
    elif ours.mask_ious is not None and theirs.mask_ious is not None:
        ious = most(np.abs(ours.mask_ious[rows] - theirs.mask_ious[columns]))
    return Difference(
        name=name,
        size=size,
        model=len(ours.scores),
        file=len(theirs.scores),
        alone=len(alone) - edge,
        edge=edge,
        box=most(apart[rows, columns]),
        score=max(most(scores[rows, columns]), ious),
        mask=most(np.abs(ours.masks[rows] - theirs.masks[columns])),
    )
