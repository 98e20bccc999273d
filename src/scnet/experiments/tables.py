"""Tables 1 to 5 of the paper: their rows as recipes, and the figures that were published.

Rows that mean the same model have the same recipe, so that tables share trainings: the baseline is
`table2_none` everywhere, SCNet with its own loss weight is `scnet`.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from importlib import resources

from scnet.experiments.plan import Size

MASKS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
ALL_COLUMNS = (*MASKS, "box AP")


@dataclass(frozen=True)
class Row:
    """A row that is measured."""

    label: str
    recipe: str  # at paper size
    baseline: str | None = None  # recipe that it is compared with
    backbone: str = ""  # in Table 1


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the paper."""

    name: str
    title: str
    about: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str = ""  # beside the published figures

    def measured(self, size: Size) -> tuple[Row, ...]:
        """Return the rows that are measured at a size, under labels that tell them apart."""
        rows = [row for row in self.rows if not row.backbone or row.backbone in size.backbones]
        several = len(size.backbones) > 1
        return tuple(replace(row, label=full_label(row)) if several else row for row in rows)


@dataclass(frozen=True)
class PaperRow:
    """A row as the paper has it."""

    label: str
    figures: dict[str, float]  # in per cent, and images a second; what the paper lacks is missing


def published(table: str) -> tuple[PaperRow, ...]:
    """Return the published rows of a table."""
    text = resources.files("scnet.experiments").joinpath("published.csv").read_text("utf-8")
    rows = [row for row in csv.DictReader(text.splitlines()) if row.pop("table") == table]
    return tuple(
        PaperRow(row.pop("label"), {name: float(value) for name, value in row.items() if value})
        for row in rows
    )


def full_label(row: Row) -> str:
    """Return the label of a row as the published figures have it."""
    return f"{row.label}, {row.backbone}" if row.backbone else row.label


def _of_backbone(backbone: str, suffix: str) -> tuple[Row, ...]:
    cascade = f"cascade_mask_rcnn_semantic{suffix}" if suffix else "table2_none"
    return (
        Row("Cascade Mask R-CNN", cascade, None, backbone),
        Row("HTC", f"htc{suffix}", cascade, backbone),
        Row("SCNet", f"scnet{suffix}", cascade, backbone),
    )


TABLE1 = Table(
    name="table1",
    title="Table 1: methods beside each other",
    about="Cascade Mask R-CNN has the semantic branch, as in the paper.",
    columns=ALL_COLUMNS,
    rows=(
        Row("Mask R-CNN", "mask_rcnn", "table2_none", "ResNet-50"),
        *_of_backbone("ResNet-50", ""),
        *_of_backbone("ResNet-101", "_r101"),
        *_of_backbone("ResNeXt-101", "_x101"),
    ),
    note="On COCO test-dev, one V100. PANet, LevelSet R-CNN, BlendMask, BMask R-CNN and D2Det are "
    "quoted by the paper and not measured here.",
)

TABLE2 = Table(
    name="table2",
    title="Table 2: the parts of SCNet",
    about="The baseline is Cascade Mask R-CNN with the semantic branch. Each row adds parts of "
    "SCNet and changes nothing else.",
    columns=("AP", "AP50", "AP75", "box AP"),
    rows=(
        Row("Cascade Mask R-CNN", "table2_none"),
        Row("+ sample consistency", "table2_consistency", "table2_none"),
        Row("+ feature relay", "table2_relay", "table2_none"),
        Row("+ global context", "table2_context", "table2_none"),
        Row("+ sample consistency + feature relay", "table2_consistency_relay", "table2_none"),
        Row("+ all three", "table2_all", "table2_none"),
    ),
    note="On COCO val, ResNet-50, one V100.",
)

TABLE3 = Table(
    name="table3",
    title="Table 3: naive and effective sample consistency",
    about="Naive: the three mask branches all follow the last box stage. Effective: one deep mask "
    "branch follows it.",
    columns=("AP", "box AP"),
    rows=(
        Row("Cascade Mask R-CNN", "table2_none"),
        Row("+ naive sample consistency", "naive_sample_consistency", "table2_none"),
        Row("+ effective sample consistency", "table2_consistency", "table2_none"),
    ),
    note="On COCO val, ResNet-50, one V100.",
)

TABLE4 = Table(
    name="table4",
    title="Table 4: feature relay",
    about="Each row with the relay is compared with the same model without it.",
    columns=("AP", "box AP"),
    rows=(
        Row("Mask R-CNN", "mask_rcnn"),
        Row("Mask R-CNN + feature relay", "mask_rcnn_relay", "mask_rcnn"),
        Row("Cascade Mask R-CNN", "table2_none"),
        Row("Cascade Mask R-CNN + feature relay", "table2_relay", "table2_none"),
    ),
    note="On COCO val, ResNet-50, one V100. Of mask AP the text says + 0.6 points in both.",
)

TABLE5 = Table(
    name="table5",
    title="Table 5: loss weight of the global context",
    about="SCNet without the global context branch, and with it at several weights of its loss.",
    columns=ALL_COLUMNS,
    rows=(
        Row("without the branch", "scnet_without_context"),
        *(
            Row(f"weight {weight}", recipe, "scnet_without_context")
            for weight, recipe in (
                (0, "scnet_context_0"),
                (1, "scnet_context_1"),
                (2, "scnet_context_2"),
                (3, "scnet"),
                (5, "scnet_context_5"),
            )
        ),
    ),
    note="On COCO val, ResNet-50.",
)

TABLES = {table.name: table for table in (TABLE1, TABLE2, TABLE3, TABLE4, TABLE5)}
