"""From what the network found to detections in the pixels of the original images."""

from __future__ import annotations

import itertools

import torch

from scnet.inference.detections import Detections
from scnet.ops.boxes import seen_back
from scnet.ops.placing import run_lengths_in
from scnet.types import Batch, Found


def place(
    found: Found, batch: Batch, classes: tuple[str, ...], category_ids: tuple[int, ...]
) -> list[Detections]:
    """Turn what was found in a batch into detections in the pixels of the original images.

    Boxes without width or height are left out: they hold no pixel, and so show nothing.
    """
    inverse = batch.inverse
    if inverse.device.type == "mps":  # has no float64, which placing needs
        found, inverse = Found(*(x.cpu() for x in found)), inverse.cpu()
    back = inverse[found.image]
    placed = seen_back(found.boxes, back)
    # One copy to the host instead of four; float64 holds all of them exactly.
    columns = (placed, found.scores[:, None], found.labels[:, None], found.image[:, None])
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
    return [
        Detections(
            boxes=of_image[:, :4].float(),
            scores=of_image[:, 4].float(),
            labels=of_image[:, 5].long(),
            rle=tuple(rles[start : start + len(of_image)]),
            size=info.view.original,
            classes=classes,
            category_ids=category_ids,
            path=info.path,
        )
        for of_image, start, info in rows
    ]
