"""From what the network found to detections in the pixels of the original images."""

from __future__ import annotations

import torch

from scnet.inference.detections import Detections
from scnet.ops.boxes import seen_back
from scnet.ops.placing import run_lengths
from scnet.types import Batch, Found


def place(
    found: Found, batch: Batch, classes: tuple[str, ...], category_ids: tuple[int, ...]
) -> list[Detections]:
    """Turn what was found in a batch into detections in the pixels of the original images."""
    inverse = batch.inverse
    if inverse.device.type == "mps":  # has no float64, which placing needs
        found, inverse = Found(*(x.cpu() for x in found)), inverse.cpu()
    placed = seen_back(found.boxes, inverse[found.image])
    counts = found.image.bincount(minlength=len(batch.info)).tolist()
    # Run lengths are made where the masks are: only they travel from a GPU, not pixels.
    masks = zip(
        torch.split(found.masks, counts), torch.split(placed, counts), batch.info, strict=True
    )
    rles = [run_lengths(mask, boxes, info.size) for mask, boxes, info in masks]
    columns = (torch.split(x.cpu(), counts) for x in (placed, found.scores, found.labels))
    return [
        Detections(
            boxes=boxes,
            scores=scores,
            labels=labels,
            rle=tuple(rle),
            size=info.size,
            classes=classes,
            category_ids=category_ids,
            path=info.path,
        )
        for boxes, scores, labels, rle, info in zip(*columns, rles, batch.info, strict=True)
    ]
