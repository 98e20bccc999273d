"""COCO results of one image, and a picture of them."""

from __future__ import annotations

import json
from pathlib import Path

from scnet.inference.detections import Detections


def write(found: Detections, folder: Path, image_id: int = 1) -> tuple[Path, Path]:
    """Write the overlay picture and the COCO results of one image; return both files.

    They are named after the image; a number tells images of the same name apart. `image_id` is
    that of the results, so that those of several images can be put together.
    """
    stem, number = Path(found.path).stem or "image", 1
    while (folder / f"{stem}_masks.png").exists():
        number += 1
        stem = f"{Path(found.path).stem}-{number}"
    picture, results = folder / f"{stem}_masks.png", folder / f"{stem}.json"
    found.plot().save(picture)
    results.write_text(json.dumps(found.to_coco(image_id=image_id)) + "\n")
    return picture, results
