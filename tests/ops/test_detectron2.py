"""Operations beside what detectron2's give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from scnet.config import RPNConfig
from scnet.data.transforms import network_size, view_image
from scnet.model.rpn import anchor_shapes, make_anchors
from scnet.ops.boxes import MAX_LOG_RATIO, decode, encode
from scnet.ops.placing import paste
from scnet.ops.pooling import FINEST_SIDE, CanvasPooler, SparsePooler, pyramid_level
from scnet.types import RoIs, View


@pytest.fixture(scope="module")
def theirs(reference_dir: Path) -> dict[str, Any]:
    tensors: dict[str, Any] = torch.load(reference_dir / "detectron2" / "ops.pt", weights_only=True)
    return tensors


def std(case: dict[str, Any]) -> Tensor:
    return 1 / torch.tensor(case["weights"])


def test_boxes_are_moved_alike_unless_they_shrink_to_less_than_a_sixtieth(
    theirs: dict[str, Any],
) -> None:
    per_class = theirs["decode_per_class"]
    split = {name: per_class[name].unflatten(1, (-1, 4)) for name in ("deltas", "out")}
    boxes = per_class["boxes"][:, None].expand_as(split["out"])
    for case in (*theirs["decode"], {**per_class, **split, "boxes": boxes}):
        moved = decode(case["boxes"], case["deltas"], std(case))
        # Ours have a limit on that side too, as MMDetection's.
        shrunk = ((case["deltas"] * std(case))[..., 2:] < -MAX_LOG_RATIO).any(-1)
        assert not shrunk.all()
        torch.testing.assert_close(moved[~shrunk], case["out"][~shrunk], rtol=1e-5, atol=1e-3)
        assert ((moved[shrunk] - case["out"][shrunk]).abs() < 3).all()


def test_deltas_between_boxes_are_alike(theirs: dict[str, Any]) -> None:
    for case in theirs["encode"]:
        deltas = encode(case["boxes"], case["goals"], std(case))
        torch.testing.assert_close(deltas, case["out"], rtol=1e-5, atol=1e-4)


def test_boxes_lie_on_the_same_level_unless_rounding_decides(theirs: dict[str, Any]) -> None:
    boxes, level = theirs["levels"]["boxes"].double(), theirs["levels"]["level"]
    ours = pyramid_level(theirs["levels"]["boxes"], 4)
    octaves = ((boxes[:, 2:] - boxes[:, :2]).prod(1).sqrt() / FINEST_SIDE).log2()
    clear = (octaves - octaves.round()).abs() > 2e-6
    assert clear.sum() > 50
    assert torch.equal(ours[clear], (level - level.min())[clear])


def test_anchors_of_the_same_sizes_are_the_same_in_the_same_order(theirs: dict[str, Any]) -> None:
    tried = 0
    for case in theirs["anchors"]:
        # Other centres and ratios of each level cannot be set, and are refused.
        if case["OFFSET"] or len(case["ASPECT_RATIOS"]) > 1:
            continue
        sizes = case["SIZES"] * (5 if len(case["SIZES"]) == 1 else 1)
        config = RPNConfig(
            anchor_sizes=tuple(tuple(map(float, x)) for x in sizes),
            anchor_ratios=tuple(case["ASPECT_RATIOS"][0]),
        )
        ours = make_anchors([tuple(x) for x in case["grids"]], anchor_shapes(config))
        torch.testing.assert_close(ours, torch.cat(case["out"]), rtol=0, atol=1e-4)
        tried += 1
    assert tried == 4


def test_images_have_the_same_size_for_the_network(theirs: dict[str, Any]) -> None:
    for *original, short, long, height, width in theirs["network_size"].tolist():
        assert network_size((original[0], original[1]), (short, long)) == (height, width)


def test_images_are_resized_alike_but_for_rounding(theirs: dict[str, Any]) -> None:
    for case in theirs["resize"]:
        (height, width, _), goal = case["image"].shape, case["out"]
        view = View.whole((height, width), (goal.shape[0], goal.shape[1]))
        off = (view_image(case["image"].numpy(), view).permute(1, 2, 0).int() - goal.int()).abs()
        assert off.max() <= 1
        assert (off > 0).double().mean() < 0.01


def test_masks_are_pasted_alike(theirs: dict[str, Any]) -> None:
    case = theirs["paste"]
    ours = paste(case["masks"], case["boxes"], tuple(case["size"]))
    assert (ours != case["out"]).double().mean() <= 1e-5
    empty = (case["boxes"][:, 2:] <= case["boxes"][:, :2]).any(1)
    assert empty.any()
    assert not ours[empty].any()


@pytest.mark.parametrize("align", ["aligned", "legacy"])
@pytest.mark.parametrize("pooler", [SparsePooler, CanvasPooler])
def test_features_are_pooled_alike(theirs: dict[str, Any], pooler: Any, align: str) -> None:
    case = theirs["roi_align"]
    rois = RoIs(case["rois"][:, 1:], case["rois"][:, 0].long())
    pooled = pooler([case["features"]], [round(1 / case["scale"])], align).pool(rois, 7)
    goals = {"aligned": "ROIAlignV2, ratio 0", "legacy": "ROIAlign, ratio 2"}
    torch.testing.assert_close(pooled, case["out"][goals[align]], rtol=1e-4, atol=1e-4)
    # Those of other samples are refused, as their answers are others.
    for name, goal in case["out"].items():
        assert name == goals[align] or (pooled - goal).abs().max() > 0.1
