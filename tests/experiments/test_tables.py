"""Tables: published figures, rows, differences paired by seed, and what a page says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from scnet.experiments.compare import compare, verdict
from scnet.experiments.plan import PAPER, SIZES, SMALL
from scnet.experiments.runs import Outcome
from scnet.experiments.tables import TABLE1, TABLE2, TABLES, Row, Table, full_label, published
from scnet.recipes import RECIPES


def outcome(recipe: str, seed: int, mask_ap: float, box_ap: float = 0.5) -> Outcome:
    return Outcome(
        recipe=recipe,
        data="cells",
        seed=seed,
        command="scnet train",
        box={"AP": box_ap},
        mask={"AP": mask_ap, "APl": -1.0},
        parameters=1_000_000,
        memory_gb=1.0,
        seconds=10.0,
        device="a machine",
        versions="a version",
    )


@pytest.mark.parametrize(
    ("table", "label", "column", "value"),
    [
        ("table1", "SCNet, ResNet-50", "AP", 40.2),
        ("table1", "SCNet, ResNet-50", "box AP", 45.0),
        ("table1", "SCNet, ResNet-50", "images/s", 6.2),
        ("table1", "HTC, ResNet-101", "APl", 53.0),
        ("table1", "SCNet, ResNeXt-101", "AP75", 46.4),
        ("table1", "D2Det, ResNet-101", "box AP", 45.4),
        ("table2", "Cascade Mask R-CNN", "AP", 37.4),
        ("table2", "+ all three", "AP", 39.8),
        ("table2", "+ global context", "box AP", 44.5),
        ("table3", "+ naive sample consistency", "images/s", 4.5),
        ("table4", "Mask R-CNN + feature relay", "box AP", 38.3),
        ("table5", "weight 3", "APs", 22.1),
        ("table5", "without the branch", "AP75", 42.0),
    ],
)
def test_published_figures_are_those_of_the_paper(
    table: str, label: str, column: str, value: float
) -> None:
    figures = next(row.figures for row in published(table) if row.label == label)
    assert figures[column] == value


def test_what_the_paper_lacks_is_missing() -> None:
    table4 = {row.label: row.figures for row in published("table4")}
    assert all("AP" not in figures for figures in table4.values())
    table1 = {row.label: row.figures for row in published("table1")}
    assert table1["LevelSet R-CNN, ResNet-50"] == {"AP": 36.4}


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_every_row_is_a_recipe_and_has_published_figures(table: Table) -> None:
    labels = {row.label for row in published(table.name)}
    for size in SIZES.values():
        for row in table.measured(size):
            assert row.recipe + size.suffix in RECIPES
            measured = {other.recipe for other in table.measured(size)}
            assert row.baseline is None or row.baseline in measured
    assert {full_label(row) for row in table.rows} <= labels


def test_table1_has_every_backbone_at_paper_size_alone() -> None:
    assert len(TABLE1.measured(PAPER)) == 10
    assert [row.label for row in TABLE1.measured(SMALL)] == [
        "Mask R-CNN",
        "Cascade Mask R-CNN",
        "HTC",
        "SCNet",
    ]
    labels = [row.label for row in TABLE1.measured(PAPER)]
    assert len(set(labels)) == 10


def test_rows_of_table2_differ_from_the_baseline() -> None:
    assert [row.baseline for row in TABLE2.rows] == [None, *["table2_none"] * 5]


ROWS = (Row("base", "table2_none"), Row("more", "scnet", "table2_none"))


def test_differences_are_paired_by_seed() -> None:
    base = [outcome("table2_none", seed, ap) for seed, ap in ((0, 0.10), (1, 0.30), (2, 0.50))]
    more = [outcome("scnet", seed, ap) for seed, ap in ((2, 0.52), (0, 0.115), (1, 0.325))]
    row = compare(ROWS, {"table2_none": base, "scnet": more}, ("AP", "box AP", "APl"))[1]
    gain = row.gains["AP"]
    assert gain is not None
    assert gain.mean == pytest.approx(2.0)
    assert gain.sd == pytest.approx(0.5)
    assert "+2.00 ± 0.50 over 3 seeds, higher by more than its spread" in verdict(row, "base", "AP")
    assert "not decided" in verdict(row, "base", "box AP")
    assert row.gains["APl"] is None
    assert "undefined" in verdict(row, "base", "APl")


def test_a_difference_smaller_than_its_spread_is_not_decided() -> None:
    base = [outcome("table2_none", seed, 0.4) for seed in range(3)]
    more = [outcome("scnet", seed, ap) for seed, ap in enumerate((0.39, 0.41, 0.42))]
    row = compare(ROWS, {"table2_none": base, "scnet": more}, ("AP",))[1]
    assert verdict(row, "base", "AP").endswith("not decided.")


def test_one_seed_decides_nothing() -> None:
    found = {"table2_none": [outcome("a", 0, 0.1)], "scnet": [outcome("b", 0, 0.9)]}
    row = compare(ROWS, found, ("AP",))[1]
    assert "not decided by a single seed" in verdict(row, "base", "AP")


def test_published_ships_with_the_package() -> None:
    from importlib import resources

    file = resources.files("scnet.experiments") / "published.csv"
    assert Path(str(file)).is_file()
