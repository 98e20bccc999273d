"""A folder that shows how good a model is: `index.html`, `report.json` and pictures.

`report.json` holds what `scnet eval --json` writes, and

    about        model and recipe, or results; data, split, annotations
    counts       as `summary.SUMMARY` says
    thresholds   counts of all classes at the score thresholds 0, 0.01, ..., 1
    per_image    image_id, file_name and counts of each image
    worst        misses, false_finds and images; `picture` is the file beside it. `near` is, of a
                 miss, the find, and of a false find the object that make it its kind; or null
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scnet.data.coco import CocoDataset
from scnet.evaluation import counts
from scnet.evaluation.page import render
from scnet.evaluation.summary import Judged, Summary
from scnet.evaluation.worst import Gallery
from scnet.pictures.score_curves import Lines, score_curves
from scnet.runtime.files import refuse_taken, whole_folder

PICTURES = 12  # of the worst misses, and of the worst false finds
SUFFIXES = (".html", ".json", ".jpg", ".svg")  # of what is in its folder
WHOLE_IMAGES = 6  # most images that are shown whole


def refuse_other(folder: Path) -> None:
    """Let a report replace nothing but a report.

    Raises:
        FileExistsError: there is a folder that holds something else, or a file.
    """
    if folder.is_dir() and (folder / "report.json").is_file():
        others = [p.name for p in folder.iterdir() if p.suffix not in SUFFIXES or p.is_dir()]
        if others:
            raise FileExistsError(
                f"{folder}: holds {others[0]}, which is no part of a report; give another folder"
            )
    else:
        refuse_taken(folder)


def write(
    folder: Path,
    judged: Judged,
    summary: Summary,
    result: dict[str, Any],
    dataset: CocoDataset,
    about: dict[str, Any],
    pictures: int = PICTURES,
) -> Path:
    """Write the report and return its page; a folder that is there is replaced.

    `result` is what `evaluate` returns, `about` what to say of where the figures come from. Shown
    are so many `pictures` of misses, and as many of false finds.
    """
    gallery = Gallery(judged, dataset)
    found = counts.by_image(judged.matches, judged.score)
    curve = counts.curve(judged.matches)
    content = {
        **result,
        "about": about,
        "counts": summary,
        "thresholds": [{"score": n / 100, **curve.at(n / 100).figures()} for n in range(101)],
        "per_image": [gallery.image(i, found) for i in range(len(judged.matches.images))],
        "worst": {
            "misses": gallery.misses(pictures),
            "false_finds": gallery.false_finds(pictures),
            "images": gallery.images(min(pictures, WHOLE_IMAGES)),
        },
    }
    lines = Lines(curve.scores, curve.precision, curve.recall, curve.f1)
    with whole_folder(folder) as new:
        gallery.draw(new)
        score_curves(lines, judged.score, summary["overall"]["best_score"], new)
        text = json.dumps(content, indent=1, allow_nan=False)
        (new / "report.json").write_text(text + "\n", encoding="utf-8")
        page = render(content, has_crowds=bool(len(judged.matches.regions.place)))
        (new / "index.html").write_text(page, encoding="utf-8")
    return folder / "index.html"
