"""What is wrong with the image files of an annotation file, each read once."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from scnet.config import DataConfig
from scnet.data.check_pixels import Look, look_at, rows
from scnet.data.faults import image_name, is_crowd, size_of
from scnet.data.images import DataError
from scnet.data.report import Summary
from scnet.data.resizing import size_action
from scnet.data.semantic import find_stuff_maps
from scnet.data.wording import counted, of_all

Entry = Mapping[str, Any]
Progress = Callable[[int, int], None]  # images done, images in all
# how grave, where, what, what to do
Said = tuple[Literal["error", "warning", "note"], str, str, str]
Chosen = tuple[Path, tuple[Entry, ...], Mapping[int, str]]  # image, objects, names of classes

CHOSEN = 6  # images to draw


def read_images(
    images: Mapping[int, Entry],
    root: Path,
    looks: dict[Path, Look],
    config: DataConfig,
    summary: Summary,
    progress: Progress | None,
) -> Iterator[Said]:
    """Read every image that `looks` has not, and yield what is wrong with each."""
    paths = {i: root / entry["file_name"] for i, entry in images.items()}
    new = [path for path in dict.fromkeys(paths.values()) if path not in looks]
    start = time.perf_counter()
    with ThreadPoolExecutor(8) as pool:
        for done, look in enumerate(pool.map(functools.partial(look_at, data=config), new), 1):
            looks[new[done - 1]] = look
            if progress:
                progress(done, len(new))
    summary.read, summary.seconds = len(new), time.perf_counter() - start
    for row in rows([(image_name(entry), looks[paths[i]]) for i, entry in images.items()]):
        yield row.severity, "", row.reason, row.action
    for i, entry in images.items():
        outcome = looks[paths[i]].outcome
        if isinstance(outcome, str):
            action = "restore or replace the file, or remove the entry"
            yield "error", image_name(entry), outcome, action
        elif outcome != size_of(entry):
            said = f"the annotations say {entry['width']} x {entry['height']}"
            reason = f"file is {outcome[1]} x {outcome[0]}, {said}"
            yield "error", image_name(entry), reason, size_action(outcome, size_of(entry))


def choose(
    images: Mapping[int, Entry],
    names: Mapping[int, str],
    sound: Mapping[int, list[Entry]],
    root: Path,
    looks: Mapping[Path, Look],
) -> list[Chosen]:
    """Return images to draw, evenly from all that are sound and have objects."""
    usable: list[Chosen] = []
    for i, entry in images.items():
        path = root / entry["file_name"]
        objects = tuple(e for e in sound[i] if not is_crowd(e))
        if objects and looks[path].outcome == size_of(entry):
            usable.append((path, objects, names))
    return usable[:: max(1, len(usable) // CHOSEN)][:CHOSEN]


def stuff_maps(images: Mapping[int, Entry], root: Path, summary: Summary) -> Iterator[Said]:
    """Write what is known about semantic maps into the summary; yield what is wrong with them."""
    try:
        stuff = find_stuff_maps("auto", root, summary.file)
    except DataError as error:
        yield "error", "", str(error), "correct the maps or use --data.stuff-maps none"
        return
    if stuff:
        have = sum(stuff.path(entry["file_name"]) is not None for entry in images.values())
        summary.stuff = (
            f"semantic maps of {counted(stuff.num_classes, 'class')} for "
            f"{of_all(have, len(images), 'image')}: "
            f"{stuff.folder}"
        )
