"""What `scnet check-data` does: report, samples, mended copies, a command that suits the data."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scnet.cli.errors import UsageError

if TYPE_CHECKING:
    from scnet.config import DataConfig
    from scnet.data.report import LabelledImage, Report


def check_data(options: argparse.Namespace) -> int:
    """Report all that is wrong with a data set; 1 where something stops a training."""
    from scnet.runtime.files import free_file

    config = _data_config(options.settings)
    report = _checked(options, config)
    _show(report, options.list)
    samples = report.samples()
    if samples:
        file = Path(options.picture) if options.picture else free_file(Path("check-data.png"))
        _draw(samples, file)
        print(f"wrote {file}: samples with their masks; look at it")
    elif options.picture:
        print(f"error: --picture {options.picture}: no image to draw", file=sys.stderr)
    if options.fix:
        _fix(Path(options.path), options.fix, config)
    if report.ok:
        _recommend(options.path, options.settings)
    return 0 if report.ok and (samples or not options.picture) else 1


def _draw(samples: list[LabelledImage], file: Path) -> None:
    from PIL import Image

    from scnet.pictures.overlay import samples_picture
    from scnet.runtime.files import whole_file

    with whole_file(file) as new:
        samples_picture(samples).save(new, Image.registered_extensions()[file.suffix.lower()])


def _show(report: Report, listed: str | None) -> None:
    from rich.console import Console

    from scnet.runtime.files import whole_file

    for summary in report.summaries:
        print("\n".join(summary.lines()), end="\n\n")
    if report.problems:
        console = Console()
        console.width = max(console.width, 110)  # narrow columns would break every word
        console.print(report.table())
    print(report.counts)
    if listed:
        lines = [str(problem) for problem in report.problems]
        with whole_file(Path(listed)) as new:
            new.write_text("\n".join(lines) + "\n" * bool(lines), encoding="utf-8")
        said = f"all {len(lines)} of them, one a line" if lines else "empty, as there are none"
        print(f"wrote {listed}: {said}")


def _data_config(settings: dict[str, Any]) -> DataConfig:
    from scnet.config import Config, override

    if other := [name for name in settings if name != "data"]:
        raise UsageError(f"--{other[0]}: check-data takes settings of data alone, as --data.crowd")
    config = override(Config(), settings).data
    if config.path:
        raise UsageError("--data.path: has no effect, as the data set is PATH; leave it out")
    return config


def _checked(options: argparse.Namespace, config: DataConfig) -> Report:
    from rich.console import Console
    from rich.progress import Progress

    from scnet.data.check import check

    with Progress(console=Console(stderr=True), disable=options.quiet, transient=True) as bar:
        task = bar.add_task("reading images", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        return check(options.path, progress, config)


def _fix(path: Path, output: str, config: DataConfig) -> None:
    from scnet.data.repair import repair
    from scnet.runtime.files import refuse_taken

    folder = Path(output)
    refuse_taken(folder)
    copies, place = repair(path, folder, config)
    for copy, done in copies:
        print(f"wrote {copy}: {'; '.join(done) or 'nothing to mend'}")
    if not copies:
        print(f"nothing to mend: {path} has no annotations")
        return
    print(f"copy what is in {folder} into {place} to train on it")


def _recommend(path: str, settings: dict[str, Any]) -> None:
    """Say how to train on the data, and what of them speaks for it."""
    from scnet.data.images import DataError
    from scnet.training.auto import AUTO, command, recommend

    try:
        _, found = recommend(path, settings)
    except DataError as error:
        print(f"\nnothing to recommend for a training: {error}")
        return
    print("\nrecommended:")
    for advice in found:
        print(f"  {advice}")
    given = [(f"data.{name}", value) for name, value in settings.get("data", {}).items()]
    advised = [(advice.setting, advice.value) for advice in found[1:]]
    print(f"next: {command(found[0].value, path, [*advised, *given])}")
    print(f"which is: {command(AUTO, path, given)}")
