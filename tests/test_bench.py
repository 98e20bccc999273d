"""What `scnet bench` measures: the same work, from the same files."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console

from scnet.bench import PEER, Ours, Setting, _random, bench, contender, prepare, usual_size
from scnet.bench.peer import Peer
from scnet.bench.report import above_floor, ratios, show
from scnet.bench.stopwatch import Stopwatch
from scnet.cli.main import main
from scnet.data.synthetic.scene import generate
from scnet.inference.model import Model, from_torchvision
from scnet.runtime import memory
from scnet.settings import nested

SMALL = Setting(("mask_rcnn_lite", PEER), size=(96, 160), rounds=2, warmup=0, memory=False)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    data = generate(tmp_path_factory.mktemp("bench") / "data", train=2, val=1, size=(120, 160))
    return tuple(sorted((data / "train").iterdir()))


def test_stopwatch_gives_each_part_its_own_time() -> None:
    now = [0.0]

    class Work:
        def inner(self) -> None:
            now[0] += 2

        def outer(self) -> None:
            now[0] += 1
            self.inner()
            now[0] += 4

    work = Work()
    with Stopwatch(lambda: now[0]) as watch:
        watch.watch(work, "inner", "inner")
        watch.watch(work, "outer", "outer")
        work.outer()
    assert dict(watch.seconds) == {"inner": 2, "outer": 5}
    work.outer()  # no longer timed
    assert dict(watch.seconds) == {"inner": 2, "outer": 5}


def test_models_find_as_many_objects_as_asked(photos: tuple[Path, ...]) -> None:
    record = bench(Setting(**{**vars(SMALL), "images": photos, "detections": 20}))
    ours, peer = record["models"]
    assert ours["detections"] == peer["detections"] == [20, 20]
    assert len(ours["seconds"]) == len(ours["floor"]) == 2
    assert 0 < ours["flops"] < peer["flops"]
    assert above_floor(ours) > 0
    assert ratios(ours, peer) > 0
    assert {"backbone", "RPN", "mask branch", "run lengths"} <= set(ours["shares"])
    json.dumps(record)


def test_measuring_leaves_the_process_as_it_was(photos: tuple[Path, ...]) -> None:
    threads = torch.get_num_threads()
    setting = {**vars(SMALL), "models": ("mask_rcnn_lite",), "images": photos, "rounds": 1}
    bench(Setting(**{**setting, "threads": threads + 1}))
    assert torch.get_num_threads() == threads
    assert not memory._whole_process
    random = torch.get_rng_state()
    _random("mask_rcnn_lite", {})
    assert torch.equal(torch.get_rng_state(), random)


def test_images_are_cut_to_the_shape_of_the_network(
    photos: tuple[Path, ...], tmp_path: Path
) -> None:
    setting = Setting((), photos, size=(50, 100))
    for file in prepare(setting, tmp_path):
        with Image.open(file) as image:
            assert image.size == (160, 80)


def test_torchvision_has_our_weights(photos: tuple[Path, ...]) -> None:
    """Its pooling is another (two samples a bin, half a pixel aside); the rest is the same."""
    ours = _random("mask_rcnn", {"data": {"size": [120, 160]}}).eval()
    model = Peer(ours, torch.device("cpu"), "fp32").model
    batch = Model(ours, "cpu").read([photos[0]])[1]
    rois, maps = torch.randn(5, 256, 7, 7), torch.randn(5, 256, 14, 14)
    stage, mask = ours.roi_heads.stages[0], ours.roi_heads.masks.heads[0]
    with torch.no_grad():
        own = ours.fpn(ours.backbone(ours.normalise(batch.images, batch.sizes)))
        images, _ = model.transform([batch.images[0, :, :120, :160] / 255])
        for a, b in zip(own, model.backbone(images.tensors).values(), strict=True):
            assert torch.allclose(a, b, atol=1e-4)
        out = stage(rois)
        logits, boxes = model.roi_heads.box_predictor(model.roi_heads.box_head(rois))
        assert torch.allclose(out.logits, logits.roll(-1, 1), atol=1e-4)
        assert torch.allclose(out.deltas, boxes.view(5, -1, 4)[:, 1:], atol=1e-4)
        theirs = model.roi_heads.mask_predictor(model.roi_heads.mask_head(maps))
        assert torch.allclose(mask.logits(mask(maps, None).own), theirs[:, 1:], atol=1e-4)


def test_the_command_line_writes_figures_and_a_picture(
    photos: tuple[Path, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, picture = tmp_path / "bench.json", tmp_path / "bench.png"
    command = ["bench", "mask_rcnn_lite", "--size", "96x160", "--rounds", "1", "--no-memory"]
    command += ["--images", *map(str, photos), "--json", str(file), "--plot", str(picture)]
    for old in (file, picture):
        old.write_text("old")
    assert main([*command, "--quiet", "--overwrite"]) == 0
    assert json.loads(file.read_text())["models"][0]["model"] == "mask_rcnn_lite"
    with Image.open(picture) as drawn:
        assert drawn.width > 500
    assert "where the time goes" in capsys.readouterr().out


def test_an_unknown_model_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "mask_rcn", "--no-memory", "--quiet"]) == 1
    assert "mask_rcn" in capsys.readouterr().err


def test_weights_are_measured_too(photos: tuple[Path, ...], tmp_path: Path) -> None:
    from tests.model_cases import make_detector

    from scnet.weights import checkpoint

    checkpoint.save(tmp_path / "last", make_detector("scnet"))
    name = str(tmp_path / "last")
    run = contender(name, Setting((name,)), torch.device("cpu"), photos)
    assert len(run(photos[:1])) == 1


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model.box.soft_nms", {"method": "linear"}),
        ("model.box.nms_across_classes", True),
        ("model.mask.relay", True),
        ("model.rpn.anchor_scale", 4.0),
        ("data.keep_ratio", False),
        ("data.range", "minmax"),
    ],
)
def test_torchvision_refuses_what_it_cannot_be_set_to(path: str, value: object) -> None:
    detector = _random("mask_rcnn", nested(path, value))
    with pytest.raises(ValueError, match=f"{path}.*torchvision's Mask R-CNN cannot be set to"):
        Peer(detector, torch.device("cpu"), "fp32")


def test_torchvision_may_be_compared_with_its_own_settings() -> None:
    own = {"roi_align": "legacy", "rpn": {"anchor_grid": "torchvision", "box_loss_beta": 1 / 9}}
    ours = _random("mask_rcnn", {"model": own}).eval()
    peer = Peer(ours, torch.device("cpu"), "fp32")
    back = from_torchvision(peer.model, classes=ours.classes, device="cpu").detector
    assert back.config.model.roi_align == "legacy"
    for name, x in ours.state_dict().items():
        assert torch.equal(back.state_dict()[name], x), name


def test_torchvision_takes_what_it_can_be_set_to(photos: tuple[Path, ...]) -> None:
    setting = Setting((PEER,), photos, size=(96, 160), proposals=7)
    peer = contender(PEER, setting, torch.device("cpu"), photos)
    assert isinstance(peer, Peer)
    assert peer.model.rpn._post_nms_top_n["testing"] == 7
    other = _random("mask_rcnn", {"model": {"rpn": {"nms_iou": 0.6}, "box": {"nms_iou": 0.3}}})
    model = Peer(other, torch.device("cpu"), "fp32").model
    assert (model.rpn.nms_thresh, model.roi_heads.nms_thresh) == (0.6, 0.3)


def test_weights_are_measured_at_the_size_that_is_asked_for(
    photos: tuple[Path, ...], tmp_path: Path
) -> None:
    from tests.model_cases import make_detector

    from scnet.weights import checkpoint

    checkpoint.save(tmp_path / "last", make_detector("scnet_lite", data__size=(64, 96)))
    name = str(tmp_path / "last")
    assert usual_size([name]) == (64, 96)
    assert usual_size([name, "scnet"]) == usual_size([PEER]) == (800, 1333)
    run = contender(name, Setting((name,), size=(32, 64)), torch.device("cpu"), photos)
    assert isinstance(run, Ours)
    assert run.model.config.data.size == (32, 64)


def test_images_that_no_round_takes_are_counted(photos: tuple[Path, ...]) -> None:
    said: list[str] = []
    setting = replace(SMALL, models=("mask_rcnn_lite",), images=photos, rounds=1)
    assert len(photos) == 2
    assert bench(setting, said.append)["setting"]["images"] == 1
    assert "the first 1 of 2 images do for all rounds" in said


def test_the_table_says_that_torchvision_is_not_compiled() -> None:
    entry = {"seconds": [1.0], "floor": [1.0], "flops": 1.0, "detections": [1], "gb": 0.0}
    models = [entry | {"model": "mask_rcnn", "shares": {"other": 1.0}}]
    models.append(entry | {"model": PEER, "shares": {}})
    rates = {"convolution": [1.0], "matrix product": [1.0]}
    setting = {**vars(SMALL), "compile": True}
    record = {"device": "a", "versions": "b", "setting": setting, "rates": rates, "models": models}
    console = Console(width=160, record=True, file=io.StringIO())
    show(record, console)
    assert "torchvision (not compiled)" in console.export_text()
