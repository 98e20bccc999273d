"""A detector takes from another what fits, says what it does not take, and changes nothing else."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.model_cases import small
from torch import Tensor

from scnet.config import BoxStageConfig, override, to_dict
from scnet.model.detector import Detector
from scnet.settings import nested
from scnet.weights.checkpoint import CheckpointError
from scnet.weights.class_rows import common
from scnet.weights.parts import part_of
from scnet.weights.transfer import ABSENT, ANEW, CLASSES, Transfer, transfer
from scnet.weights.transfer_report import report

FAMILIES = ("mask_rcnn", "cascade_mask_rcnn", "htc", "scnet", "naive_sample_consistency")
EACH_TO_EACH = list(itertools.product(FAMILIES, FAMILIES))
CLASSES_OF = ("cat", "dog", "cell")
STAGE, MASK = "roi_heads.stages.", "roi_heads.masks.heads."

State = dict[str, Tensor]


def detector(recipe: str, classes: tuple[str, ...] = CLASSES_OF, **settings: Any) -> Detector:
    """A small detector in which every number is another; `__` stands for a dot."""
    config = small(recipe)
    for path, value in {"model__num_classes": max(len(classes), 1), **settings}.items():
        config = override(config, nested(path.replace("__", "."), value))
    made = Detector(replace(config, classes=classes))
    with torch.no_grad():
        for tensor in made.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) + 0.5)
    return made


def taken(to: Detector, of: Detector) -> Transfer:
    before = {key: value.clone() for key, value in to.state_dict().items()}
    done = transfer(to.state_dict(), to.config, of.state_dict(), of.config)
    for key, value in to.state_dict().items():  # it is pure
        assert torch.equal(value, before[key])
    to.load_state_dict(done.state)
    return done


def reasons(done: Transfer) -> dict[str, str]:
    return {o.layer: o.why for o in done.outcomes if o.why is not None}


def lines(done: Transfer, to: Detector, of: Detector) -> list[str]:
    return report(done, "runs/a", to.config, of.config)


@pytest.mark.parametrize(("of", "to"), EACH_TO_EACH)
def test_every_layer_is_that_of_the_weights_or_said_to_start_anew(of: str, to: str) -> None:
    torch.manual_seed(0)
    source, target = detector(of), detector(to)
    given, own = source.state_dict(), {k: v.clone() for k, v in target.state_dict().items()}
    done = taken(target, source)
    assert done.state.keys() == own.keys()
    outcome = {o.layer: o for o in done.outcomes}
    for name, value in done.state.items():
        layer, _, key = name.rpartition(".")
        why, place = outcome[layer].why, f"{outcome[layer].source}.{key}"
        if why is not None:
            assert torch.equal(value, own[name]), name
        elif layer.endswith(".reg") and value.shape != given[place].shape:
            assert torch.equal(value, given[place].repeat(3, *[1] * (value.ndim - 1))), name
        else:
            assert torch.equal(value, given[place]), name
    used = {o.source for o in done.outcomes if o.why is None}
    assert set(done.left) == {key for key in given if key.rpartition(".")[0] not in used}
    if of == to:
        assert not reasons(done)
        assert not done.left


@pytest.mark.parametrize(("of", "to"), EACH_TO_EACH)
def test_the_report_names_every_part_that_starts_anew_or_is_left(of: str, to: str) -> None:
    source, target = detector(of), detector(to)
    done = taken(target, source)
    first, anew, left, _ = lines(done, target, source)
    for outcome in done.outcomes:
        part = part_of(outcome.layer)[0]
        assert part in (first if outcome.why is None else anew)
    for key in done.left:
        assert part_of(key.rpartition(".")[0])[0] in left
    assert sum(map(int, re.findall(r"(\d+) tensors?", left))) == len(done.left)
    assert ("100.0 %" in first) == (not reasons(done)) == (anew == "starts anew: nothing")


def test_mask_rcnn_gives_scnet_all_but_its_mask_branch_and_what_it_lacks() -> None:
    source, target = detector("mask_rcnn"), detector("scnet")
    done = taken(target, source)
    why = reasons(done)
    assert {part_of(layer)[0] for layer, reason in why.items() if reason == ABSENT} == {
        "semantic branch",
        "global context",
        "feature relay 1",
    }
    given, state = source.state_dict(), done.state
    for stage in range(3):
        assert torch.equal(state[f"{STAGE}{stage}.fc2.weight"], given[f"{STAGE}0.fc2.weight"])
    assert why[f"{STAGE}0.reg"] == "one box for all classes instead of one for each"
    assert why[f"{STAGE}1.reg"] == "its deltas have another scale"
    assert why[f"{MASK}0.upsample"] == "convolutions: 12 with skips instead of 4 plain"
    _, anew, left, _ = lines(done, target, source)
    assert "semantic branch, global context, feature relay 1 (not in the weights)" in anew
    assert "box stage 2, box stage 3: reg (its deltas have another scale)" in anew
    assert left == "left of the weights: box stage 1 (2 tensors), mask branch 1 (12 tensors)"


def test_a_single_mask_branch_goes_on_from_that_of_its_stage() -> None:
    source = detector("cascade_mask_rcnn")
    for stage in range(3):
        target = detector("cascade_mask_rcnn", model__mask={"fed_by": [stage], "loss_weights": [1]})
        state = taken(target, source).state
        key = "convs.0.conv.weight"
        assert torch.equal(state[f"{MASK}0.{key}"], source.state_dict()[f"{MASK}{stage}.{key}"])


def test_rows_of_known_classes_are_kept_in_any_order_and_new_ones_start_as_they_were() -> None:
    source, target = detector("mask_rcnn"), detector("mask_rcnn", ("cell", "new", "cat"))
    given, own = source.state_dict(), {k: v.clone() for k, v in target.state_dict().items()}
    state = taken(target, source).state
    for name, each in ((f"{STAGE}0.cls.weight", 1), (f"{STAGE}0.reg.bias", 4)):
        blocks, theirs, before = (
            x[name].view(-1, each, *x[name].shape[1:]) for x in (state, given, own)
        )
        assert torch.equal(blocks[0], theirs[2])
        assert torch.equal(blocks[1], before[1])
        assert torch.equal(blocks[2], theirs[0])
    assert torch.equal(
        state[f"{STAGE}0.cls.bias"][-1], given[f"{STAGE}0.cls.bias"][-1]
    )  # background
    mask = f"{MASK}0.classifier.weight"
    assert torch.equal(state[mask][[0, 2]], given[mask][[2, 0]])
    assert torch.equal(state[mask][1], own[mask][1])


def test_semantic_and_context_rows_follow_the_classes() -> None:
    source, target = detector("scnet"), detector("scnet", ("cell",))
    state, given = taken(target, source).state, source.state_dict()
    semantic, context = "branches.semantic.classifier.weight", "branches.context.classifier.weight"
    assert torch.equal(state[semantic], given[semantic][[2, 3]])
    assert torch.equal(state[context], given[context][[2]])


def test_without_a_common_class_the_last_layers_start_anew() -> None:
    source, target = detector("scnet"), detector("scnet", ("nut", "Cats"))
    done = taken(target, source)
    ends = {layer for layer, why in reasons(done).items() if why == CLASSES}
    assert ends == {
        *(f"{STAGE}{i}.cls" for i in range(3)),
        f"{MASK}0.classifier",
        "branches.semantic.classifier",
        "branches.context.classifier",
    }
    assert set(reasons(done)) == ends
    *_, classes = lines(done, target, source)
    assert classes == (
        "classes: none of nut, Cats is among the 3 classes of the weights "
        "(did you mean cat for Cats?)"
    )


def test_the_classes_are_said() -> None:
    source, target = detector("mask_rcnn"), detector("mask_rcnn", ("nut", "cat", "dogs"))
    *_, classes = lines(taken(target, source), target, source)
    assert classes == (
        "classes: 1 of 3 known to the weights: cat; new: nut, dogs (did you mean dog for dogs?); "
        "2 of the weights left"
    )


def test_classes_that_are_spelt_otherwise_are_the_same_and_that_is_said() -> None:
    source = detector("scnet", ("dining table", "cell", "e\u0301te\u0301", "nut"))
    target = detector("scnet", ("\u00e9t\u00e9", "Dining-Table", "fig", "cell"))
    done = taken(target, source)
    name = f"{STAGE}0.cls.bias"
    given = source.state_dict()[name]
    assert torch.equal(done.state[name][[0, 1, 3, 4]], given[[2, 0, 1, 4]])
    assert torch.equal(done.state[name][2], target.state_dict()[name][2])
    *_, classes = lines(done, target, source)
    assert classes == (
        "classes: 3 of 4 known to the weights: \u00e9t\u00e9, Dining-Table, cell; spelt otherwise: "
        "\u00e9t\u00e9 is e\u0301te\u0301 there, Dining-Table is dining table there; new: fig; "
        "1 of the weights left"
    )


@pytest.mark.parametrize(
    ("own", "theirs", "known"),
    [
        (("cat", "Cat"), ("cat",), {"cat": "cat"}),  # the same name first
        (("Cat", "cat"), ("CAT",), {}),  # one of two
        (("CAT",), ("cat", "Cat"), {}),
        (("Cat", "DOG"), ("dog", "cat"), {"Cat": "cat", "DOG": "dog"}),
        (("-",), ("_",), {}),  # nothing is left of them
        (("grade 1-2", "-1"), ("grade 12", "1"), {}),  # other numbers
        (
            ("Grade_1_2", "Cell 1"),
            ("grade 1-2", "cell1"),
            {"Grade_1_2": "grade 1-2", "Cell 1": "cell1"},
        ),
        (("0",), (), {}),  # a class without a name
    ],
)
def test_names_are_one_class_only_where_no_other_is_spelt_like_them(
    own: tuple[str, ...], theirs: tuple[str, ...], known: dict[str, str]
) -> None:
    to, of = (replace(small("mask_rcnn"), classes=names) for names in (own, theirs))
    assert common(to, of) == known


def test_weights_without_names_share_no_class() -> None:
    source, target = detector("mask_rcnn", ()), detector("mask_rcnn", ("cat",))
    done = taken(target, source)
    assert reasons(done)[f"{STAGE}0.cls"] == CLASSES
    assert "do not name their 1 class," in lines(done, target, source)[3]


def test_one_class_is_no_box_for_all_classes() -> None:
    """Both have four rows, but a box for each of several classes is none for all."""
    source = detector("mask_rcnn")
    target = detector("mask_rcnn", ("cat",), model__box__class_agnostic=True)
    assert f"{STAGE}0.reg" in reasons(taken(target, source))
    alone = detector("mask_rcnn", ("cat",))
    target = detector("mask_rcnn", ("nut",), model__box__class_agnostic=True)
    assert f"{STAGE}0.reg" not in reasons(taken(target, alone))


def test_one_box_for_all_classes_begins_that_of_each() -> None:
    source, target = detector("cascade_mask_rcnn"), detector("mask_rcnn", ("nut", "fig"))
    state, given = taken(target, source).state, source.state_dict()
    key = f"{STAGE}0.reg.weight"
    assert torch.equal(state[key], given[key].repeat(2, 1))


@pytest.mark.parametrize(
    ("settings", "layer", "why"),
    [
        ({"model__rpn__anchor_scale": 4.0}, "rpn.cls", "other anchors: model.rpn.anchor_scale"),
        (
            {"model__rpn__anchor_ratios": [1, 2, 3]},
            "rpn.reg",
            "other anchors: model.rpn.anchor_ratios",
        ),
        ({"model__norm": "group"}, "fpn.lateral.0", "norm group instead of none"),
        ({"model__norm": "batch"}, f"{MASK}0.convs.0.norm.norm", "norm batch instead of none"),
        ({"model__norm": "group"}, "rpn.conv", ANEW),
        ({"model__rpn__convs": 2}, "rpn.conv", "convolutions: 2 instead of 1"),
        ({"model__rpn__convs": 2}, "rpn.cls", "convolutions: 2 instead of 1"),
        ({"model__box__convs": 4}, f"{STAGE}0.fc1", "convolutions: 4 instead of 0"),
        (
            {"model__box__layers": 1},
            f"{STAGE}0.cls",
            "fully connected layers: 1 instead of 2",
        ),
        ({"model__box__hidden": 64}, f"{STAGE}0.fc2", ANEW),
        (
            {"model__box__hidden": 64},
            f"{STAGE}0.fc1",
            "shape (64, 16, 7, 7) instead of (32, 16, 7, 7)",
        ),
        (
            {"model__mask__convs": 6},
            f"{MASK}0.upsample",
            "convolutions: 6 plain instead of 4 plain",
        ),
        ({"model__mask__convs": 6}, f"{MASK}0.convs.5.conv", ABSENT),
        ({"model__mask__relay": True}, "roi_heads.masks.relays.0.fc", ABSENT),
    ],
)
def test_what_does_not_fit_is_said_with_the_reason(
    settings: dict[str, Any], layer: str, why: str
) -> None:
    source, target = detector("mask_rcnn"), detector("mask_rcnn", **settings)
    assert reasons(taken(target, source))[layer] == why


def test_a_pyramid_with_relu_is_none_without() -> None:
    source = detector("mask_rcnn", model__pyramid={"kind": "pafpn", "relu": True})
    assert not reasons(
        taken(detector("mask_rcnn", model__pyramid=to_dict(source.config.model.pyramid)), source)
    )
    target = detector("mask_rcnn", model__pyramid="pafpn")
    anew = reasons(taken(target, source))
    assert anew["fpn.lateral.0"] == "relu behind its convolutions in one of them alone"
    assert anew["rpn.conv"] == ANEW


@pytest.mark.parametrize("modulated", [False, True])
def test_only_the_offsets_of_new_deformable_convolutions_start_anew(modulated: bool) -> None:
    net = {"model__backbone__name": "resnet50"}
    source = detector("mask_rcnn", **net)
    target = detector("mask_rcnn", **net, model__backbone__deformable={"modulated": modulated})
    done = taken(target, source)
    anew, given = reasons(done), source.state_dict()
    assert anew
    assert all(layer.endswith(".conv_offset") for layer in anew)
    for name, value in done.state.items():
        if ".conv_offset." not in name:
            assert torch.equal(value, given[name]), name
    taken_line, anew_line, left, _ = lines(done, target, source)
    assert "backbone (conv1, " in taken_line
    assert anew_line.startswith("starts anew: backbone: conv_offset (not in the weights: begins")
    assert ("half of each plain convolution" in anew_line) is modulated
    assert left == "left of the weights: nothing"


def test_the_scores_of_masks_are_taken_where_both_have_them() -> None:
    source = detector("mask_scoring_rcnn", model__mask__scoring={"hidden": 8})
    same = detector("htc", model__mask__scoring={"hidden": 8})
    assert not any(".scoring." in layer for layer in reasons(taken(same, source)))
    given, own = source.state_dict(), same.state_dict()
    assert all(torch.equal(own[k], given[k]) for k in given if ".scoring." in k)
    done = taken(detector("mask_rcnn"), source)
    assert {key.split(".")[2] for key in done.left} == {"scoring"}
    anew = reasons(taken(detector("mask_scoring_rcnn"), detector("mask_rcnn")))
    assert set(anew.values()) == {ABSENT}
    assert all(part_of(layer)[0] == "mask scoring" for layer in anew)
    deeper = detector("mask_rcnn", model__mask__scoring={"hidden": 8, "convs": 2})
    why = reasons(taken(deeper, source))
    assert why["roi_heads.masks.scoring.convs.0"] == "convolutions: 2 instead of 4"
    layers = detector("mask_rcnn", model__mask__scoring={"hidden": 8, "layers": 1})
    why = reasons(taken(layers, source))
    assert why["roi_heads.masks.scoring.iou"] == "fully connected layers: 1 instead of 2"


def test_the_scores_of_masks_are_matched_by_class() -> None:
    source = detector("mask_scoring_rcnn", model__mask__scoring={"hidden": 8})
    target = detector("mask_scoring_rcnn", ("cell", "mug"), model__mask__scoring={"hidden": 8})
    before = target.roi_heads.masks.scoring.iou.weight.clone()  # type: ignore[union-attr]
    taken(target, source)
    ours, theirs = (d.roi_heads.masks.scoring.iou.weight for d in (target, source))  # type: ignore[union-attr]
    assert torch.equal(ours[0], theirs[CLASSES_OF.index("cell")])
    assert torch.equal(ours[1], before[1])


def test_a_relay_needs_the_box_stage_that_it_reads() -> None:
    stages = (BoxStageConfig(side=14),)
    source = detector("mask_rcnn_relay")
    config = replace(source.config.model.box, stages=stages)
    target = detector("mask_rcnn_relay")
    changed = replace(target.config, model=replace(target.config.model, box=config))
    done = taken(Detector(changed), source)
    assert reasons(done)["roi_heads.masks.relays.0.fc"] == ANEW


def test_deeper_convolutions_of_one_kind_begin_with_those_there_are() -> None:
    source, target = detector("mask_rcnn"), detector("mask_rcnn", model__mask__convs=6)
    state = taken(target, source).state
    key = f"{MASK}0.convs.3.conv.weight"
    assert torch.equal(state[key], source.state_dict()[key])


@pytest.mark.parametrize(
    ("own", "theirs", "starts_anew", "assumed"),
    [(7, 7, False, True), (7, 9, True, False), (7, None, True, False), (None, 4, True, False)],
)
def test_classes_of_stuff_maps_are_taken_for_the_same_where_they_are_as_many(
    own: int | None, theirs: int | None, starts_anew: bool, assumed: bool
) -> None:
    def with_maps(number: int | None) -> Detector:
        return detector("htc", model__semantic={"num_classes": number})

    source, target = with_maps(theirs), with_maps(own)
    done = taken(target, source)
    assert ("branches.semantic.classifier" in reasons(done)) is starts_anew
    assert any(line.startswith("assumed: ") for line in lines(done, target, source)) is assumed


def test_another_backbone_is_refused() -> None:
    source = detector("mask_rcnn")
    target = detector("mask_rcnn", model__backbone__widths=[8, 16, 32, 128])
    with pytest.raises(CheckpointError, match=r"backbone is another network: .* layers do not fit"):
        taken(target, source)


def test_semantic_blocks_of_another_kind_start_anew_with_what_reads_them() -> None:
    source, target = detector("htc"), detector("scnet")
    anew = reasons(taken(target, source))
    own = {layer.partition("semantic.")[2] for layer in anew if "semantic" in layer}
    assert {name.partition(".")[0] for name in own} == {"convs", "embedding", "classifier"}
