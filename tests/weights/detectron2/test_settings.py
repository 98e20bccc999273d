"""Every setting of a config of detectron2 is read, harmless, refused, or told as not read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from tests.weights.detectron2.files import CLASSES, State, cell_anchors, config, save, state

from scnet import recipes
from scnet.cli.main import main
from scnet.data.classes import coco_classes
from scnet.settings import ConfigError
from scnet.weights.checkpoint import CheckpointError
from scnet.weights.foreign import convert
from scnet.weights.foreign.applying import Applied, within
from scnet.weights.foreign.conversion import Conversion
from scnet.weights.foreign.detectron2 import baselines, config_file, rules, settings
from scnet.weights.foreign.detectron2.style import CAFFE2, Style


@pytest.fixture(scope="module")
def weights() -> State:
    return state()


def read(
    folder: Path, weights: State, text: str, leave: tuple[str, ...] = (), name: str = "c.yaml"
) -> Conversion:
    file = save(folder / "a.pth", weights)
    return convert.read(file, config=config(folder / name, text), leave=leave)


# Settings that are read: lines of a config, and what becomes of them.
READ: dict[str, tuple[str, dict[str, object]]] = {
    "sizes of images": (
        "INPUT.MIN_SIZE_TEST 640\nINPUT.MAX_SIZE_TEST 1024",
        {"data.size": (640, 1024)},
    ),
    "numbers": (
        "MODEL.RPN.PRE_NMS_TOPK_TEST 6000\nMODEL.RPN.POST_NMS_TOPK_TEST 2000\n"
        "MODEL.RPN.NMS_THRESH 0.6\nTEST.DETECTIONS_PER_IMAGE 300\n"
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST 0.3\nMODEL.ROI_HEADS.NMS_THRESH_TEST 0.4",
        {
            "model.rpn.before_nms": 6000,
            "model.rpn.after_nms": 2000,
            "model.rpn.nms_iou": 0.6,
            "model.box.max_detections": 300,
            "model.box.score_threshold": 0.3,
            "model.box.nms_iou": 0.4,
        },
    ),
    "smaller anchors": (
        "MODEL.ANCHOR_GENERATOR.SIZES [[16], [32], [64], [128], [256]]",
        {"model.rpn.anchor_scale": 4.0, "model.rpn.anchor_sizes": None},
    ),
    "anchors as numbers": (
        "MODEL.ANCHOR_GENERATOR.SIZES [32, 64, 128, 256, 512]",
        {"model.rpn.anchor_scale": 8.0, "model.rpn.anchor_sizes": None},
    ),
    "anchors out of proportion": (
        "MODEL.ANCHOR_GENERATOR.SIZES [[4], [9], [17], [31], [64]]",
        {"model.rpn.anchor_sizes": ((4.0,), (9.0,), (17.0,), (31.0,), (64.0,))},
    ),
    "shapes of anchors": (
        "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS [[0.3, 1.0, 3.0]]",
        {"model.rpn.anchor_ratios": (0.3, 1.0, 3.0)},
    ),
    "images": (
        "INPUT.FORMAT BGR\nMODEL.PIXEL_MEAN [0.0, 51.0, 255.0]\n"
        "MODEL.PIXEL_STD [51.0, 102.0, 255.0]\n"
        "MODEL.RESNETS.STRIDE_IN_1X1 False",
        {
            "model.backbone.mean": (1.0, 0.2, 0.0),
            "model.backbone.std": (1.0, 0.4, 0.2),
            "model.backbone.stride_in": "3x3",
        },
    ),
    "tuples written as texts": (
        "INPUT.MIN_SIZE_TEST '(600)'\nINPUT.MAX_SIZE_TEST 1333\n"
        "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS '(20, 20, 10., 10)'",
        {"data.size": (600, 1333)},
    ),
}


def applied(folder: Path, text: str, leave: tuple[str, ...] = ()) -> Applied:
    """Return what is made of a config, without a file of weights."""
    given = config_file.read(config(folder / "c.yaml", text))
    style = Style(CAFFE2, "as usual")
    seen = settings.images(given, {}, style, leave)
    return settings.apply(recipes.mask_rcnn(6), given, {}, seen, leave)


LEGACY = "\n".join(
    f"MODEL.ROI_{head}_HEAD.POOLER_{line}"
    for head in ("BOX", "MASK")
    for line in ("TYPE ROIAlign", "SAMPLING_RATIO 2")
)


def at(value: object, path: str) -> object:
    for name in path.split("."):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize("case", READ)
def test_settings_that_no_weight_shows_are_read(weights: State, tmp_path: Path, case: str) -> None:
    text, expected = READ[case]
    found = read(tmp_path, weights, text)
    assert {path: at(found.detector.config, path) for path in expected} == expected
    assert found.unread == ()
    assert not any(line.startswith(tuple(expected)) for line in found.assumed)


def test_the_first_roi_align_is_read(tmp_path: Path) -> None:
    found = applied(tmp_path, LEGACY)
    assert found.config.model.roi_align == "legacy"
    assert "model.roi_align legacy" in found.changed
    assert not any("RoIAlign" in line for line in found.assumed)
    now = LEGACY.replace("ROIAlign", "ROIAlignV2").replace("RATIO 2", "RATIO 0")
    assert applied(tmp_path, now).config.model.roi_align == "aligned"


@pytest.mark.parametrize(
    ("changed", "path", "told", "align"),
    [
        (
            ("MASK_HEAD.POOLER_SAMPLING_RATIO 2", ""),
            "MASK_HEAD.POOLER_SAMPLING_RATIO",
            "= 0, as it says no other, but scnet has 2 with ROIAlign",
            "legacy",
        ),
        (
            ("BOX_HEAD.POOLER_SAMPLING_RATIO 2", "BOX_HEAD.POOLER_SAMPLING_RATIO 0"),
            "BOX_HEAD.POOLER_SAMPLING_RATIO",
            "= 0, but scnet has 2 with ROIAlign",
            "legacy",
        ),
        (
            ("MASK_HEAD.POOLER_TYPE ROIAlign\nMODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO 2", ""),
            "MASK_HEAD.POOLER_TYPE",
            "= ROIAlignV2, but ROIAlign for boxes",
            "legacy",
        ),
        (
            ("BOX_HEAD.POOLER_TYPE ROIAlign\nMODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO 2", ""),
            "MASK_HEAD.POOLER_TYPE",
            "= ROIAlign, but ROIAlignV2 for boxes",
            "aligned",
        ),
    ],
)
def test_half_of_the_first_roi_align_is_refused(
    tmp_path: Path, changed: tuple[str, str], path: str, told: str, align: str
) -> None:
    text = LEGACY.replace(f"MODEL.ROI_{changed[0]}", changed[1] and f"MODEL.ROI_{changed[1]}")
    text = "\n".join(line for line in text.splitlines() if line)
    whole = f"MODEL.ROI_{path}"
    with pytest.raises(CheckpointError, match=f"{whole} {told}.*--leave {whole}"):
        applied(tmp_path, text)
    assert applied(tmp_path, text, leave=(whole,)).config.model.roi_align == align


def test_weights_of_box_deltas_become_scales(tmp_path: Path) -> None:
    text = "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS [20.0, 20.0, 10.0, 10.0]"
    [stage] = applied(tmp_path, text).config.model.box.stages
    assert stage.delta_std == (0.05, 0.05, 0.1, 0.1)


def test_several_sizes_on_all_levels(weights: State, tmp_path: Path) -> None:
    six = {
        name: x.repeat(2, *[1] * (x.ndim - 1))
        for name, x in weights.items()
        if "objectness" in name or "anchor_deltas" in name
    }
    text = "MODEL.ANCHOR_GENERATOR.SIZES [[16, 32]]"
    found = read(tmp_path, weights | six, text)
    assert found.detector.config.model.rpn.anchor_sizes == ((16.0, 32.0),) * 5
    with pytest.raises(CheckpointError, match=r"3 anchors .* config has 6"):
        read(tmp_path, weights, text)
    with pytest.raises(CheckpointError, match=r"6 anchors .*no config.*config\.yaml"):
        convert.read(save(tmp_path / "a.pth", weights | six))


# A line of a config, and words of the answer.
REFUSED = {
    "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE True": "no softmax",
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE ROIPool": "beside ROIAlignV2 and ROIAlign",
    "MODEL.ROI_MASK_HEAD.POOLER_TYPE ROIAlignRotated": "beside ROIAlignV2 and ROIAlign",
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO 2": "scnet has 0 with ROIAlignV2",
    "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO 2": "scnet has 0 with ROIAlignV2",
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION 28": "scnet has 14",
    "MODEL.ANCHOR_GENERATOR.OFFSET 0.5": "scnet has 0",
    "MODEL.ANCHOR_GENERATOR.NAME RotatedAnchorGenerator": "DefaultAnchorGenerator",
    "MODEL.PROPOSAL_GENERATOR.NAME RRPN": "rotated boxes",
    "MODEL.PROPOSAL_GENERATOR.MIN_SIZE 4": "scnet has 0",
    "MODEL.FPN.FUSE_TYPE avg": "another sum",
    "MODEL.KEYPOINT_ON True": "scnet has False",
    "MODEL.META_ARCHITECTURE RetinaNet": "GeneralizedRCNN",
    "MODEL.RESNETS.RES5_DILATION 2": "scnet has 1",
    "MODEL.ROI_HEADS.NAME Res5ROIHeads": "StandardROIHeads",
    "MODEL.ROI_MASK_HEAD.NAME PointRendMaskHead": "MaskRCNNConvUpsampleHead",
    "MODEL.RPN.IN_FEATURES [p3, p4, p5, p6, p7]": "p2",
    "INPUT.FORMAT L": "scnet has 'BGR'",
    "TEST.AUG.ENABLED True": "several sizes",
    "TEST.DETECTIONS_PER_IMAGE -1": "all boxes",
}


@pytest.mark.parametrize("line", REFUSED)
def test_settings_that_change_answers_are_refused_or_left(tmp_path: Path, line: str) -> None:
    path = line.split()[0]
    with pytest.raises(CheckpointError, match=f"{path} = .*{REFUSED[line]}.*--leave {path}"):
        applied(tmp_path, line)
    found = applied(tmp_path, line, leave=(path,))
    assert any(path in told and "left, as --leave says" in told for told in found.unread)


def test_only_what_is_refused_can_be_left(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"--leave MODEL\.MASK_ON: not refused"):
        applied(tmp_path, "MODEL.MASK_ON True", leave=("MODEL.MASK_ON",))


WRONG = {
    "INPUT.MIN_SIZE_TEST 0": "needs two sizes",
    "MODEL.PIXEL_MEAN [1.0, 2.0]": "3 colours",
    "MODEL.PIXEL_STD [a, b, c]": "3 colours",
    "MODEL.RPN.NMS_THRESH high": r"model\.rpn\.nms_iou",
    "MODEL.ANCHOR_GENERATOR.SIZES [[32], [64]]": "expected one list, or one for each of 5",
    "MODEL.ANCHOR_GENERATOR.SIZES []": "expected one list",
    "MODEL.ANCHOR_GENERATOR.SIZES [[a]]": "expected one list",
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS [10.0, 10.0]": "4 numbers a stage",
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS [[1.0], [2.0], [1.0], [1.0], [1.0]]": "all levels",
}


@pytest.mark.parametrize("line", WRONG)
def test_values_of_the_wrong_kind_are_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises((CheckpointError, ConfigError), match=WRONG[line]):
        applied(tmp_path, line)


def test_what_is_not_known_is_told(weights: State, tmp_path: Path) -> None:
    text = "MODEL.ROI_HEADS.NEW_THING 3\nMODEL.ROI_HEADS.NUM_CLASSES 80"
    told = read(tmp_path, weights, text).remarks()
    assert "not read: MODEL.ROI_HEADS.NEW_THING = 3" in told
    assert "not read: MODEL.ROI_HEADS.NUM_CLASSES = 80; the weights have 6" in told


def test_every_setting_of_a_whole_config_is_known(reference_dir: Path) -> None:
    for file in (reference_dir / "detectron2").glob("*/config.yaml"):
        given = config_file.read(file)
        assert len(given.values) > 150
        for path in given.values:
            known = within(rules.HANDLED + rules.HARMLESS, path) or path in rules.MUST_BE
            assert known, path


def test_a_config_beside_a_file_is_read_and_named(weights: State, tmp_path: Path) -> None:
    config(tmp_path / "config.yaml", "INPUT.MIN_SIZE_TEST 640\nMODEL.MASK_ON True")
    found = convert.read(save(tmp_path / "a.pth", weights))
    assert found.detector.config.data.size == (640, 1333)
    assert f"with {tmp_path / 'config.yaml'}" in found.source
    (tmp_path / "config.yaml").write_text("name: of another program\n")
    assert "with" not in convert.read(tmp_path / "a.pth").source


def test_a_config_by_hand_builds_on_others(weights: State, tmp_path: Path) -> None:
    config(tmp_path / "base.yaml", "INPUT.MIN_SIZE_TEST 640\nINPUT.MAX_SIZE_TEST 900")
    own = tmp_path / "own.yaml"
    own.write_text("_BASE_: base.yaml\nINPUT: {MAX_SIZE_TEST: 1000}\n")
    file = save(tmp_path / "a.pth", weights)
    assert convert.read(file, config=own).detector.config.data.size == (640, 1000)
    own.write_text("_BASE_: ../Base-RCNN-FPN.yaml\nINPUT: {MAX_SIZE_TEST: 1000}\n")
    assert "not read: _BASE_ ../Base-RCNN-FPN.yaml" in str(convert.read(file, config=own))


NO_CONFIG = {
    "model: {_target_: detectron2.modeling.GeneralizedRCNN}\n": "a LazyConfig",
    "a: b\n": "holds no settings of detectron2",
    "- 1\n": "holds no settings of detectron2",
    "MODEL: !!python/object/apply:os.system ['touch ran']\n": "cannot be read as YAML",
    "MODEL: [\n": "cannot be read as YAML",
    "MODEL: &a {b: *a}\n": "nested too deep",
    "MODEL: &a {x: &b {p: [1], q: [2]}, y: *b}\nTEST: {z: *a}\n": None,
}


@pytest.mark.parametrize("text", NO_CONFIG)
def test_other_files_are_no_config(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    told = NO_CONFIG[text]
    if told is None:
        assert len(config_file.read(tmp_path / "c.yaml").values) == 8
        return
    with pytest.raises(CheckpointError, match=rf"--config .*c\.yaml: .*{told}"):
        config_file.read(tmp_path / "c.yaml")


def test_many_aliases_have_an_end(tmp_path: Path) -> None:
    lines = ["A0: &a0 {b: 1, c: 2}"]
    lines += [f"A{i}: &a{i} {{b: *a{i - 1}, c: *a{i - 1}}}" for i in range(1, 19)]
    (tmp_path / "c.yaml").write_text("\n".join(lines))
    with pytest.raises(CheckpointError, match="more than 10000 settings"):
        config_file.read(tmp_path / "c.yaml")


def test_a_config_of_the_other_library_is_refused(weights: State, tmp_path: Path) -> None:
    (tmp_path / "c.py").write_text("model = dict()")
    with pytest.raises(CheckpointError, match="a model of detectron2, whose config is the"):
        convert.read(save(tmp_path / "a.pth", weights), config=tmp_path / "c.py")


def test_a_config_that_contradicts_its_file_is_refused(weights: State, tmp_path: Path) -> None:
    held = cell_anchors() | {"pixel_mean": torch.tensor([103.53, 116.28, 123.675]).view(3, 1, 1)}
    text = "MODEL.ANCHOR_GENERATOR.SIZES [[16], [32], [64], [128], [256]]"
    with pytest.raises(CheckpointError, match="other anchors than the file itself"):
        read(tmp_path, weights | held, text)
    left = read(tmp_path, weights | held, text, leave=("MODEL.ANCHOR_GENERATOR.SIZES",))
    assert left.detector.config.model.rpn.anchor_scale == 4
    with pytest.raises(CheckpointError, match=r"MODEL\.PIXEL_MEAN = .*but the file itself"):
        read(tmp_path, weights | held, "MODEL.PIXEL_MEAN [1.0, 2.0, 3.0]")
    read(tmp_path, weights | held, "MODEL.PIXEL_MEAN [103.53, 116.28, 123.675]")


def test_coco_names_come_with_its_data_set(tmp_path: Path) -> None:
    text = yaml.safe_dump({"DATASETS": {"TRAIN": ["coco_2017_train"]}, "MODEL": {"MASK_ON": True}})
    (tmp_path / "config.yaml").write_text(text)
    found = convert.read(save(tmp_path / "a.pth", state(80)))
    assert found.detector.classes == tuple(coco_classes())
    assert "COCO's, the data set of its config" in str(found)
    few = convert.read(save(tmp_path / "a.pth", state(6)))
    assert not few.named


def test_a_baseline_assumes_nothing(weights: State, tmp_path: Path) -> None:
    for backbone, name, in_1x1 in (
        ("ResNet-50", "mask_rcnn_R_50_FPN_100ep_LSJ", True),
        ("ResNet-50 GN", "mask_rcnn_R_50_FPN_3x_gn", False),
        ("ResNet-50", "mask_rcnn_R_50_FPN_3x_syncbn", False),
        ("ResNet-50", "mask_rcnn_R_50_FPN_noaug_1x", True),
        ("ResNet-50 DCN", "mask_rcnn_R_50_FPN_3x_dconv_c3-c5", True),
        ("ResNeXt-101 32x8d", "", False),
    ):
        values = baselines.settings(backbone, name)
        assert values["MODEL.RESNETS.STRIDE_IN_1X1"] == in_1x1
        nested: dict[str, dict[str, object]] = {}
        for path, value in values.items():
            *groups, last = path.split(".")
            group = nested
            for name in groups:
                group = group.setdefault(name, {})  # type: ignore[assignment]
            group[last] = value  # type: ignore[assignment]
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(nested))
        found = convert.read(
            save(tmp_path / "a.pth", weights), config=tmp_path / "c.yaml", classes=CLASSES
        )
        assert found.assumed == ()
        legacy = found.detector.config.model.roi_align == "legacy"
        assert legacy == ("MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO" in values)


def test_the_command_takes_a_config(
    weights: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = save(tmp_path / "a.pth", weights)
    text = config(tmp_path / "c.yaml", "MODEL.FPN.FUSE_TYPE avg\nINPUT.MIN_SIZE_TEST 640")
    command = ["convert", str(file), "--dry-run", "--config", str(text)]
    assert main(command) == 1
    assert "--leave MODEL.FPN.FUSE_TYPE" in capsys.readouterr().err
    assert main([*command, "--leave", "MODEL.FPN.FUSE_TYPE"]) == 0
    assert "short side 640" in capsys.readouterr().out
