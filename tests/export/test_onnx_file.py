"""Exported files against their models, in images of many sizes, with and without objects."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch

from scnet import recipes
from scnet.cli.main import main
from scnet.config import override
from scnet.export import onnx_file, parity
from scnet.export.errors import ExportError
from scnet.export.onnx_file import Form
from scnet.export.session import Session
from scnet.inference.model import Model
from scnet.model.detector import Detector
from scnet.weights.checkpoint import write_weights

onnx = pytest.importorskip("onnx", reason="the extra `export` is not installed")

SMALL: dict[str, Any] = {
    "model": {
        "backbone": {"name": "resnet18"},
        "channels": 16,
        "num_classes": 3,
        "box": {"hidden": 32, "score_threshold": 0.3, "max_detections": 40},
        "rpn": {"before_nms": 100, "after_nms": 60},
    },
    "data": {"size": [96, 160]},
}
ODD = [(93, 157), (157, 93), (40, 200), (64, 64), (31, 47)]


def small_model(name: str, *changes: dict[str, Any]) -> Model:
    """A model that was not trained, but is sure of what it says."""
    torch.manual_seed(0)
    config = recipes.find(name)
    for change in (SMALL, *changes):
        config = override(config, change)
    detector = Detector(config)
    with torch.no_grad():
        for name, weight in detector.named_parameters():
            if name.endswith(("cls.weight", "reg.weight", "masks.heads.0.classifier.weight")):
                weight.mul_(20)
    return Model(detector, "cpu")


def write(model: Detector, file: Path, form: Form | None = None) -> None:
    """Write a file; while a graph is captured its sides are symbols, and no `int`."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        onnx_file.write(model, file, form)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def images(*sizes: tuple[int, int]) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Path]:
    model, file = small_model("scnet"), tmp_path_factory.mktemp("onnx") / "scnet.onnx"
    write(model.fast, file)
    return model, file


def test_a_file_finds_what_its_model_finds_in_images_of_any_size(
    exported: tuple[Model, Path],
) -> None:
    model, file = exported
    found = parity.compare(model, Session(file), images(*ODD), Form())
    assert all(one.holds for one in found), "\n".join(map(str, found))
    assert sum(one.model for one in found) > 20
    assert len({one.size for one in found}) == len(ODD)


def test_made_up_images_hold_something_to_compare(exported: tuple[Model, Path]) -> None:
    model, file = exported
    found = parity.compare(model, Session(file), [], Form())
    assert len(found) == len(parity.SIZES)
    assert all(one.holds and one.model for one in found)


def test_a_file_has_standard_operators_alone_and_says_what_it_is(
    exported: tuple[Model, Path],
) -> None:
    model, path = exported
    file = onnx.load(path)
    onnx.checker.check_model(file)
    assert {node.domain for node in file.graph.node} == {""}
    assert not file.functions
    assert [(o.domain, o.version) for o in file.opset_import] == [("", onnx_file.OPSET)]
    assert [i.name for i in file.graph.input] == ["image"]
    assert [o.name for o in file.graph.output] == ["boxes", "scores", "labels", "masks"]
    said = json.loads({p.key: p.value for p in file.metadata_props}[onnx_file.METADATA])
    assert said["classes"] == list(model.classes)
    assert said["config"]["data"]["size"] == [96, 160]
    assert not said["config"]["data"]["path"]


def test_images_without_objects_give_no_rows(tmp_path: Path) -> None:
    model = small_model("mask_rcnn", {"model": {"box": {"score_threshold": 1.0}}})
    write(model.fast, tmp_path / "none.onnx")
    session = Session(tmp_path / "none.onnx")
    for image in images(*ODD):
        (found,) = session.run(image.transpose(2, 0, 1)[None])
        assert [len(values) for values in found[:4]] == [0, 0, 0, 0]
        assert found.masks.shape == (0, 28, 28)


def test_batches_of_one_size_give_places_and_counts(tmp_path: Path) -> None:
    model, form = small_model("mask_rcnn", {"model": {"mask": {"scoring": {}}}}), Form(batch=3)
    write(model.fast, tmp_path / "three.onnx", form)
    session = Session(tmp_path / "three.onnx")
    found = parity.compare(model, session, images(*ODD), form)
    assert all(one.holds for one in found), "\n".join(map(str, found))
    three = np.stack([image.transpose(2, 0, 1) for image in images((93, 157)) * 3])
    three[1] = 0
    together = session.run(three)
    assert len(together) == 3
    assert np.array_equal(together[0].boxes, together[2].boxes)
    assert session.names == ["boxes", "scores", "labels", "masks", "mask_ious", "count"]
    assert together[0].mask_ious is not None


def test_a_file_for_one_size_has_no_shape_that_hangs_on_values(tmp_path: Path) -> None:
    model, form = small_model("cascade_mask_rcnn"), Form(size=(93, 157))
    write(model.fast, tmp_path / "fixed.onnx", form)
    found = parity.compare(model, Session(tmp_path / "fixed.onnx"), images(*ODD), form)
    assert all(one.holds for one in found), "\n".join(map(str, found))
    assert {one.size for one in found} == {(93, 157)}
    graph = onnx.load(tmp_path / "fixed.onnx").graph
    assert "NonZero" not in {node.op_type for node in graph.node}
    shapes = [[d.dim_value for d in o.type.tensor_type.shape.dim] for o in graph.output]
    assert shapes == [[1, 40, 4], [1, 40], [1, 40], [1, 40, 28, 28], [1]]


def test_soft_nms_is_refused(tmp_path: Path) -> None:
    model = small_model("mask_rcnn", {"model": {"box": {"soft_nms": {"method": "linear"}}}})
    with pytest.raises(ExportError, match="soft_nms to null"):
        write(model.fast, tmp_path / "soft.onnx")
    assert not list(tmp_path.iterdir())


def test_the_command_writes_what_equals_its_weights_and_nothing_else(
    exported: tuple[Model, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, file = exported
    monkeypatch.setattr(onnx_file, "write", lambda detector, new, form: shutil.copy(file, new))
    write_weights(tmp_path / "same.safetensors", model.detector)
    with torch.no_grad():
        for weight in model.detector.roi_heads.stages[-1].reg.parameters():
            weight.add_(0.05)
    write_weights(tmp_path / "other.safetensors", model.detector)
    out = tmp_path / "new.onnx"

    assert main(["export", str(tmp_path / "other.safetensors"), "-o", str(out)]) == 1
    said = capsys.readouterr()
    assert "differs" in said.out
    assert "was not written" in said.err
    assert not out.exists()
    assert main(["export", str(tmp_path / "same.safetensors"), "-o", str(out)]) == 0
    assert f"wrote {out}" in capsys.readouterr().out
    assert out.read_bytes() == file.read_bytes()

    words = ["export", str(tmp_path / "other.safetensors"), "-o", str(out)]
    assert main(words) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 1
    assert out.read_bytes() == file.read_bytes()  # what was there stays
    assert main([*words, "--overwrite", "--keep"]) == 1
    assert "differs from the model" in capsys.readouterr().out
    assert not list(tmp_path.glob(".*"))


def test_a_file_of_another_kind_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "nuclei", "-o", "cells.pb"]) == 2
    assert "must end in .onnx" in capsys.readouterr().err


def test_a_comparison_without_a_detection_is_said_to_prove_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = {"alone": 0, "edge": 0, "box": 0.0, "score": 0.0, "mask": 0.0}
    monkeypatch.setattr(onnx_file, "write", lambda detector, new, form: new.write_bytes(b""))
    monkeypatch.setattr("scnet.export.session.Session", lambda file: None)
    for count, said in ((0, True), (2, False)):
        one = parity.Difference(name="a", size=(9, 9), model=count, file=count, **numbers)
        monkeypatch.setattr(parity, "compare", lambda *given, one=one: [one])
        assert main(["export", "nuclei", "-o", str(tmp_path / f"{count}.onnx")]) == 0
        assert ("nothing is found" in capsys.readouterr().err) is said
