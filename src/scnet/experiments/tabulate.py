"""Tables 1 to 5: train every row, compare with the baseline seed by seed, measure the speed."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scnet import bench
from scnet.data.coco import load_dataset
from scnet.experiments import page, plots
from scnet.experiments.compare import Compared, as_json, by_seed, compare, verdict
from scnet.experiments.page import Page, markdown, number, with_spread
from scnet.experiments.plan import Plan, name_of
from scnet.experiments.runs import Outcome, finish
from scnet.experiments.tables import Table, full_label, published
from scnet.types import Size

ROUNDS = 5  # of the speed beside the accuracy
IMAGES = 20  # of the val split that the speed is measured with
TITLES = {"AP": "mask AP", "box AP": "box AP"}  # of the two figures that sentences speak of

Say = Callable[[str], None]
Speed = Mapping[str, Any]  # of one model, as `bench` records it


def run(plan: Plan, table: Table, say: Say) -> Path:
    """Carry out a table and return its page."""
    rows = table.measured(plan.size)
    names = list(dict.fromkeys(row.recipe for row in rows))
    body: list[str] = []
    outcomes: list[Outcome] = []
    results: list[Any] = []
    for data in plan.data:
        found = finish(plan.runs(names, data), say=say, quiet=plan.quiet)
        outcomes += found
        by_recipe = {
            name: [o for o in found if o.recipe == name + plan.size.suffix] for name in names
        }
        compared = compare(rows, by_recipe, table.columns)
        record = _speed(plan, names, data, say) if plan.speed else None
        speeds = dict(zip(names, record["models"], strict=True)) if record else {}
        body += _section(plan, table, data, compared, speeds)
        results.append(
            {"data": name_of(data), "rows": [as_json(c) for c in compared], "speed": record}
        )
    return page.write(plan, _page(table, body, outcomes, results))


def machines(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """Return the devices and versions that trainings ran with, each once."""
    return tuple(dict.fromkeys(f"{o.device}; {o.versions}" for o in outcomes))


def _page(
    table: Table, body: Sequence[str], outcomes: Sequence[Outcome], results: list[Any]
) -> Page:
    return Page(
        title=table.title,
        about=f"{table.about} Mean ± sample standard deviation over seeds. Differences are paired "
        "by seed; one that a t-test at 5 % does not tell from zero is not decided.",
        body=(*body, _published(table)),
        results={"table": table.name, "data": results},
        machines=machines(outcomes),
        commands=tuple(o.command for o in outcomes),
        seconds=sum(o.seconds for o in outcomes),
    )


def _section(
    plan: Plan,
    table: Table,
    data: Path,
    compared: Sequence[Compared],
    speeds: Mapping[str, Speed],
) -> list[str]:
    """Return the blocks of one data set."""
    picture = f"{table.name}_{name_of(data)}.png"
    plan.folder.mkdir(parents=True, exist_ok=True)
    plots.dot_plot(
        [dots(c, tuple(TITLES)) for c in compared], list(TITLES.values()), plan.folder / picture
    )
    return [
        f"## {name_of(data)}",
        "Mask figures, and AP of boxes, in per cent:",
        figures(table.columns, compared),
        f"![A dot for each seed, a line at the mean]({picture})",
        "Differences to the row that each is compared with:",
        gains(table.columns, compared),
        verdicts(tuple(TITLES), compared),
        "What each costs" + (", speed with the weights of seed 0:" if speeds else ":"),
        costs(compared, speeds),
    ]


def figures(columns: Sequence[str], compared: Sequence[Compared]) -> str:
    """Return the table of all figures."""
    rows = [[c.row.label, *map(with_spread, c.figures.values())] for c in compared]
    return markdown(["", *columns], rows)


def gains(columns: Sequence[str], compared: Sequence[Compared]) -> str:
    """Return the table of the differences to the rows that others are compared with."""
    rows = [
        [c.row.label, *(with_spread(gain, 2, "+") for gain in c.gains.values())]
        for c in compared
        if c.gains
    ]
    return markdown(["", *columns], rows)


def verdicts(columns: Sequence[str], compared: Sequence[Compared]) -> str:
    """Return a sentence for each difference of these figures."""
    labels = {c.row.recipe: c.row.label for c in compared}
    return "\n".join(
        f"- {verdict(c, labels[c.row.baseline], column)}"
        for c in compared
        if c.row.baseline
        for column in columns
    )


def dots(compared: Compared, columns: Sequence[str]) -> plots.Dots:
    """Return a row of a dot plot, a panel for each of these figures."""
    values = (by_seed(compared.outcomes, column).values() for column in columns)
    return plots.Dots(
        compared.row.label, tuple(tuple(v for v in vs if v is not None) for vs in values)
    )


def costs(compared: Sequence[Compared], speeds: Mapping[str, Speed]) -> str:
    """Return the table of what each row costs, with the speeds where there are any."""
    header = ["", "M parameters", "training GB", "training s"]
    if speeds:
        header += ["images/s", "GFLOP", "inference GB", "objects"]
    rows = []
    for c in compared:
        seconds = statistics.fmean(o.seconds for o in c.outcomes)
        row = [c.row.label, number(c.outcomes[0].parameters / 1e6, 2)]
        row += [number(max(o.memory_gb for o in c.outcomes), 2), number(seconds, 0)]
        rows.append([*row, *(_speed_cells(speeds[c.row.recipe]) if speeds else ())])
    return markdown(header, rows)


def _speed_cells(entry: Speed) -> list[str]:
    return [
        number(1 / statistics.median(entry["seconds"]), 2),
        number(entry["flops"] / 1e9, 1),
        number(entry["gb"], 2),
        number(statistics.fmean(entry["detections"]), 0),
    ]


def _speed(plan: Plan, names: Sequence[str], data: Path, say: Say) -> dict[str, Any]:
    """Measure the trained models of seed 0 beside each other, on val images."""
    runs = [plan.run(name, data, seed=0) for name in names]
    setting = bench.Setting(
        models=tuple(str(run.folder / "last") for run in runs),
        images=val_images(data, runs[0].config.data.size),
        size=runs[0].config.data.size,
        rounds=ROUNDS,
    )
    return bench.bench(setting, say)


def val_images(data: Path, size: Size) -> tuple[Path, ...]:
    """Return the first images of a val split."""
    from scnet.config import DataConfig

    dataset = load_dataset(data, "val", DataConfig(size=size), train=False)
    return tuple(dataset.image_root / record.file_name for record in dataset.images[:IMAGES])


def _published(table: Table) -> str:
    columns = [*table.columns, "images/s"]
    rows = [
        [row.label, *(number(row.figures.get(column)) for column in columns)]
        for row in published(table.name)
    ]
    named = {full_label(row) for row in table.rows}
    quoted = [row.label for row in published(table.name) if row.label not in named]
    note = table.note + (f" Published figures alone: {', '.join(quoted)}." if quoted else "")
    return "\n\n".join(
        [
            "## Published",
            "The paper's figures: other data, longer trainings, another machine, one training "
            f"each. {note}",
            markdown(["", *columns], rows),
        ]
    )
