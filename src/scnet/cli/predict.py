"""What `scnet predict` can be told, and what it does: pictures and results, or one result file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from scnet.cli.commands import load_model, say
from scnet.cli.errors import UsageError
from scnet.data.wording import counted

if TYPE_CHECKING:
    from scnet.data.image_list import ImageList
    from scnet.inference.detections import Detections
    from scnet.inference.model import Model
    from scnet.inference.tasks import Item, Task
    from scnet.types import Size

SCORE = 0.5  # from which objects are shown
SHOWN = 5  # images that are named


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what is the command's own to its parser."""
    text = (
        "image, folder of images, pattern such as 'a/*.jpg', or text file (.txt) with a path on "
        "each line, relative to the file's folder or else to this one"
    )
    parser.add_argument("source", metavar="SOURCE", nargs="*", default=[], help=text)
    text = "COCO file that lists the images, annotated or not, or a folder in a usual COCO layout"
    parser.add_argument("--data", metavar="PATH", help=text)
    text = "part of the data (default: val, or the only one)"
    parser.add_argument("--split", choices=("train", "val", "test"), help=text)
    text = (
        "folder for pictures and results (default: predictions), or FILE.json for one file of COCO "
        "results"
    )
    parser.add_argument("-o", "--output", metavar="DIR|FILE.json", help=text)
    text = "look into folders within folders, too"
    parser.add_argument("--recursive", action="store_true", help=text)
    text = "write results alone"
    parser.add_argument("--no-pictures", dest="pictures", action="store_false", help=text)


def run(options: argparse.Namespace) -> int:
    """Predict on images; 1 where some of them cannot be used."""
    from scnet.runtime.files import refuse_taken

    _check(options)
    file = _one_file(options)
    if file:
        _require_new(file, options)
    elif options.output:
        refuse_taken(Path(options.output))
    images, task = _images(options)
    for note in task.notes:
        say(options, f"note: {note}")
    model = load_model(options)
    work = Work(options, model, task, _category_ids(options, model, images))
    for fault in task.faults:
        work.refuse(fault)
    if options.score is not None and options.score < work.lowest:
        say(options, f"note: the model itself keeps nothing below score {work.lowest:g}")
    return _to_file(work, file) if file else _to_folder(work)


@dataclass
class Work:
    """A model at work on the images of a command line, and what comes of it."""

    options: argparse.Namespace
    model: Model
    task: Task
    category_ids: tuple[int | str, ...]  # of the model's classes
    done: int = 0  # images
    objects: int = 0
    refused: int = 0  # images that cannot be used
    resized: list[str] = field(default_factory=list)  # images of another size than their list says

    @property
    def images(self) -> int:
        return len(self.task.items) + len(self.task.faults)

    @property
    def lowest(self) -> float:
        """Return the score from which the model keeps objects, whatever is asked for."""
        return self.model.config.model.box.score_threshold

    def refuse(self, fault: str) -> None:
        """Say why an image cannot be used, and count it."""
        self.refused += 1
        print(f"error: {fault}", file=sys.stderr)

    def found(self, score: float) -> Iterator[tuple[Item, Detections]]:
        """Yield what is found in each image that can be used."""
        from dataclasses import replace

        from scnet.inference.tasks import read_batches

        options, items = self.options, self.task.items
        for batch, pixels in read_batches(items, self.model.config, options.batch, self.refuse):
            found = self.model.predict(
                list(pixels),
                score=score,
                max_detections=options.max_detections,
                batch_size=options.batch,
            )
            for item, one in zip(batch, found, strict=True):
                self._compare(item, one.size)
                yield item, replace(one, path=str(item.path), category_ids=self.category_ids)
                self.done, self.objects = self.done + 1, self.objects + len(one)

    def _compare(self, item: Item, size: Size) -> None:
        if item.size and item.size != size:
            (h, w), (height, width) = size, item.size
            self.resized.append(f"{item.name} ({w} x {h}, not {width} x {height})")


def _check(options: argparse.Namespace) -> None:
    """Refuse what does not go together."""
    if bool(options.source) == bool(options.data):
        raise UsageError("give either images (SOURCE) or --data PATH; see scnet predict --help")
    if options.split and not options.data:
        raise UsageError("--split is a part of --data, and that is not given")
    if options.recursive and options.data:
        raise UsageError("--recursive is for folders of images; --data says itself where they are")
    if not options.pictures and _one_file(options):
        raise UsageError(f"--no-pictures: there are none with -o {options.output}; leave it out")


def _one_file(options: argparse.Namespace) -> Path | None:
    """Return the one file of all results, if such is wanted."""
    output = Path(options.output) if options.output else None
    return output if output and output.suffix.lower() == ".json" else None


def _require_new(file: Path, options: argparse.Namespace) -> None:
    """Refuse to write over what is there, before anything is computed."""
    from scnet.runtime.files import require_new

    require_new(file)
    if not options.data:
        require_new(_images_file(file))


def _images_file(file: Path) -> Path:
    """Return where the images of a result file are listed, if they are from no list."""
    return file.with_name(f"{file.stem}_images.json")


def _images(options: argparse.Namespace) -> tuple[ImageList | None, Task]:
    from scnet.data.image_list import read_image_list
    from scnet.inference import tasks
    from scnet.inference.gather import gather

    if options.data:
        images = read_image_list(options.data, options.split)
        number = counted(len(images.images), "image")
        say(options, f"{number} listed in {images.file}, from {images.root}")
        return images, tasks.of_list(images)
    found = gather(options.source, recursive=options.recursive)
    if options.recursive and not found.folders:
        raise UsageError("--recursive: no SOURCE is a folder; leave it out")
    return None, tasks.of_files(found)


def _category_ids(
    options: argparse.Namespace, model: Model, images: ImageList | None
) -> tuple[int | str, ...]:
    """Return the category ids of the model's classes in the list, or else the model's own."""
    own = model.detector.category_ids
    if images is None:
        return own
    found = images.category_ids(model.classes, own)
    for note in found.notes:
        say(options, f"note: {images.file}: {note}")
    return found.ids


def _to_folder(work: Work) -> int:
    """Write the results of each image and, unless they are not wanted, its picture."""
    from scnet.formats.coco import write, write_results
    from scnet.runtime.files import new_folder

    options = work.options
    score = SCORE if options.score is None else options.score
    say(options, f"{work.model}; {counted(work.images, 'image')}, score from {score:g}")
    folder = new_folder(options.output, "predictions", root=".")
    with _keeping(work, str(folder)):
        for item, found in work.found(score):
            place = folder / item.folder
            place.mkdir(parents=True, exist_ok=True)
            if options.pictures:
                file, _ = write(found, place, item.id, item.name)
            else:
                file = write_results(found, place, item.id, item.name)
            say(options, f"{item.name}: {counted(len(found), 'object')} -> {file}")
        if not work.done and options.output is None:
            folder.rmdir()
        _require_some(work)
    if options.pictures:
        pictures = f"{counted(work.done, 'picture')} (*_masks.png)"
        return _end(work, f"{pictures} and COCO results (*.json) to {folder}")
    return _end(work, f"COCO results of {counted(work.done, 'image')} (*.json) to {folder}")


def _to_file(work: Work, file: Path) -> int:
    """Write one list of COCO results, and beside it the images if they are from no list."""
    from scnet.formats.coco import entries, one_list, write_images
    from scnet.runtime.files import partial

    options, listed = work.options, work.options.data is not None
    score = work.lowest if options.score is None else options.score
    own = " (the model's own)" if options.score is None else ""
    say(options, f"{work.model}; {counted(work.images, 'image')}, score from {score:g}{own}")
    seen, beside = [], _images_file(file)
    with _keeping(work, str(partial(file))), one_list(file) as add:
        for item, found in _tracked(work, score):
            add(entries(found, item.id, item.name))
            seen.append((item.id, item.name, found.size))
        _require_some(work)
        if not listed:  # results without their images would be of no use
            write_images(beside, seen, work.model.classes, work.category_ids)
    if listed:
        return _end(work, f"{work.objects:,} objects (COCO results, ids of the list) to {file}")
    return _end(
        work,
        f"{work.objects:,} objects (COCO results) to {file}, and ids and names of the "
        f"{counted(work.done, 'image')} to {beside}",
    )


def _tracked(work: Work, score: float) -> Iterable[tuple[Item, Detections]]:
    """Return what is found in each image, and show in a terminal how far that is."""
    from rich.console import Console
    from rich.progress import track

    return track(
        work.found(score),
        "predicting",
        len(work.task.items),
        console=Console(stderr=True),
        transient=True,
        disable=work.options.quiet or not sys.stderr.isatty(),
    )


@contextmanager
def _keeping(work: Work, kept: str) -> Iterator[None]:
    """Say what is left of a run that ends early."""

    def done() -> str:
        kept_in = f", in {kept}" if work.done else ""
        return f"{work.done:,} of {counted(work.images, 'image')} are done{kept_in}"

    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted: {done()}") from None
    except Exception:
        if work.done:
            print(f"stopped: {done()}", file=sys.stderr)
        raise


def _require_some(work: Work) -> None:
    from scnet.data.errors import DataError

    if not work.done:
        raise DataError(f"none of the {counted(work.images, 'image')} can be used")


def _end(work: Work, written: str) -> int:
    """Say what was written and what was not; return the exit status."""
    if work.resized:
        shown = ", ".join(work.resized[:SHOWN]) + ", ..." * (len(work.resized) > SHOWN)
        print(
            f"warning: {counted(len(work.resized), 'image')} of another size than the list says, "
            f"in whose pixels the results are: {shown}",
            file=sys.stderr,
        )
    if work.refused:
        lost = f"{work.refused:,} of {counted(work.images, 'image')}"
        print(f"error: {lost} could not be used, as named above", file=sys.stderr)
    print(f"wrote {written}")
    return 1 if work.refused else 0
