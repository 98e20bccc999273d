"""Published weights: downloads against a server on this machine."""

from __future__ import annotations

import hashlib
import re
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from tests import mmdet_files
from tests.model_cases import make_detector
from tests.weights.detectron2 import files as detectron2_files
from tests.weights.torchvision import files as torchvision_files
from torchvision.models.detection import (
    MaskRCNN_ResNet50_FPN_V2_Weights,
    MaskRCNN_ResNet50_FPN_Weights,
)

from scnet.cli.main import main
from scnet.config import ScoringConfig
from scnet.data.classes import coco_classes
from scnet.inference.model import load
from scnet.training.start import find_start
from scnet.weights import checkpoint, zoo
from scnet.weights.checkpoint import CheckpointError
from scnet.weights.zoo import Published, ZooError

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


class Server(ThreadingHTTPServer):
    """Answers every request in the way that a test sets."""

    daemon_threads = True

    def __init__(self, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.body = body
        self.answer: Answer = send
        self.asked: list[str] = []
        self.released = threading.Event()  # ends the wait of answers that hang

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.answer(self, self.server.body)

    def log_message(self, *_: Any) -> None: ...


def send(request: Any, body: bytes) -> None:
    begin(request, body)
    request.wfile.write(body)


def begin(request: Any, body: bytes) -> None:
    request.send_response(200)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()


def not_found(request: Any, body: bytes) -> None:
    request.send_error(404)


def cut_off(request: Any, body: bytes) -> None:
    begin(request, body)
    request.wfile.write(body[: len(body) // 2])


def another_file(request: Any, body: bytes) -> None:
    send(request, b"<html>please log in</html>")


def hang(request: Any, body: bytes) -> None:
    request.server.released.wait(20)


def hang_halfway(request: Any, body: bytes) -> None:
    cut_off(request, body)
    request.wfile.flush()
    request.server.released.wait(20)


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("made") / "tiny.pth"
    return mmdet_files.write(file, mmdet_files.mask_rcnn()).read_bytes()


@pytest.fixture
def server(body: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server(body) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("SCNET_ZOO_URL", server.url + "/v2.0/")
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def tiny(body: bytes, monkeypatch: pytest.MonkeyPatch) -> Published:
    return publish(monkeypatch, body)


def publish(monkeypatch: pytest.MonkeyPatch, content: bytes) -> Published:
    """Add a file to the list, as the weights "tiny"."""
    file = f"tiny_coco-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    published = Published(
        name="tiny",
        architecture="Mask R-CNN",
        backbone="ResNet-50",
        figures={"box AP": 1.5, "mask AP": 1.25},
        epochs=1,
        path=f"mask_rcnn/tiny_coco/{file}",
    )
    monkeypatch.setitem(zoo.PUBLISHED, "tiny", published)
    return published


def names(folder: Path) -> set[str]:
    """Names of all that lies in a folder, hidden files too."""
    return {p.name for p in folder.iterdir()} if folder.exists() else set()


def test_weights_are_downloaded_checked_and_converted_once(
    server: Server, cache: Path, tiny: Published
) -> None:
    assert zoo.state("tiny") == "no"
    file = zoo.fetch("tiny", quiet=True)
    assert zoo.state("tiny") == "converted"
    assert names(cache) == {tiny.file, tiny.file.replace(".pth", ".safetensors")}
    assert server.asked == [f"/v2.0/{tiny.path}"]
    assert zoo.fetch("tiny") == file
    assert len(server.asked) == 1

    detector = checkpoint.load(file)
    for name, value in mmdet_files.mask_rcnn().state_dict().items():
        assert torch.equal(detector.state_dict()[name], value), name
    assert detector.classes == tuple(coco_classes())
    assert detector.category_ids[-1] == 90


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (not_found, "404"),
        (cut_off, r"cut off after \d+ of \d+ bytes"),
        (another_file, "SHA-256 begins with"),
        (hang, "timed out"),
        (hang_halfway, "timed out"),
    ],
)
def test_a_failed_download_says_what_to_do_and_leaves_nothing(
    answer: Answer, cause: str, server: Server, cache: Path, tiny: Published
) -> None:
    server.answer = answer
    with pytest.raises(ZooError, match=cause) as failed:
        zoo.fetch("tiny", timeout=0.3, quiet=True)
    assert f"Fetch {server.url}/v2.0/{tiny.path}" in str(failed.value)
    assert f"put it at {cache / tiny.file}" in str(failed.value)
    assert names(cache) == set()
    server.answer = send
    assert zoo.fetch("tiny", quiet=True).is_file()


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "no address"])
def test_without_a_network_it_says_what_to_do(
    address: str, cache: Path, tiny: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCNET_ZOO_URL", address)
    with pytest.raises(ZooError, match=re.escape(f"Fetch {address}/{tiny.path} another way")):
        zoo.fetch("tiny", quiet=True)
    assert names(cache) == set()


def test_an_interruption_leaves_nothing(
    server: Server, cache: Path, tiny: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rich.progress.Progress.advance", interrupt)
    with pytest.raises(KeyboardInterrupt):
        zoo.fetch("tiny", quiet=True)
    assert names(cache) == set()


def test_a_second_server_is_asked_and_the_hash_decides(
    server: Server, cache: Path, tiny: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SCNET_ZOO_URL")
    monkeypatch.setattr(zoo, "SERVERS", (f"{server.url}/first", f"{server.url}/second"))
    server.answer = lambda request, body: (
        another_file if request.path.startswith("/first") else send
    )(request, body)
    assert zoo.fetch("tiny", quiet=True).is_file()
    assert server.asked == [f"/first/{tiny.path}", f"/second/{tiny.path}"]


def test_a_file_that_was_put_there_is_taken(cache: Path, tiny: Published, body: bytes) -> None:
    cache.mkdir(parents=True)
    (cache / tiny.file).write_bytes(body)
    assert zoo.state("tiny") == "downloaded"
    assert zoo.fetch("tiny").suffix == ".safetensors"


def test_a_damaged_file_that_was_put_there_is_named_and_kept(
    server: Server, cache: Path, tiny: Published, body: bytes
) -> None:
    cache.mkdir(parents=True)
    (cache / tiny.file).write_bytes(body[:-1])
    with pytest.raises(ZooError, match=re.escape(f"{cache / tiny.file}: SHA-256 begins with")):
        zoo.fetch("tiny")
    assert names(cache) == {tiny.file}
    assert not server.asked


def test_a_file_that_cannot_be_converted_leaves_no_weights(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.body = b"not a checkpoint"
    published = publish(monkeypatch, server.body)
    with pytest.raises(CheckpointError, match=re.escape(published.file)):
        zoo.fetch("tiny", quiet=True)
    assert names(cache) == {published.file}


def test_the_command_downloads_and_says_what_to_do_next(
    server: Server, cache: Path, tiny: Published, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["zoo", "tiny"]) == 0
    file = cache / tiny.file.replace(".pth", ".safetensors")
    expected = f"tiny is at {file}; next: scnet predict tiny IMAGE\n"
    said = capsys.readouterr()
    assert said.out == expected
    assert "assumed, as no config says it" in said.err
    assert "images RGB, mean and std those of ImageNet" in said.err
    file.unlink()
    assert main(["zoo", "tiny", "--quiet"]) == 0
    assert tuple(capsys.readouterr()) == (expected, "")


def test_the_command_has_help_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["zoo", "--help"])
    assert "Example: scnet zoo" in capsys.readouterr().out


def test_the_list_shows_every_name_and_where_files_lie(
    cache: Path, tiny: Published, body: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    cache.mkdir(parents=True)
    (cache / tiny.file).write_bytes(body)
    assert main(["zoo"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[:-3])) <= 80
    rows = {line.split()[0]: line for line in lines if re.match(r"  \S", line)}
    assert list(rows) == list(zoo.PUBLISHED)
    assert rows["tiny"].split()[1:] == ["ResNet-50", "1.5", "1.25", "downloaded"]
    assert rows["scnet_r50_20e"].split()[1:] == ["ResNet-50", "44.5", "40.0", "no"]
    assert "as published and not measured here" in lines[-3]
    assert lines[-2] == (
        "Licence: Apache-2.0 (MMDetection), CC BY-SA 3.0 (detectron2), none stated (torchvision). "
        f"Files: {cache}"
    )
    assert lines[-1].startswith("next: scnet predict NAME IMAGE")


# How names of MMDetection's configs become ours, and in which of its folders files lie, by a part
# of that name.
SHORTENED = {
    r"_fpn|_mstrain(-poly)?|_400_1400|_16x1|_c3-c5|-all|_coco": "",
    "ms_rcnn": "mask_scoring_rcnn",
    "mdconv": "dcnv2",
    "dconv": "dcn",
    "x101_64x4d": "x101",
}
FOLDERS = {
    "scnet": "scnet",
    "htc": "htc",
    "regnetx-": "regnet",
    "fp16": "fp16",
    "dconv": "dcn",
    "_gn-all": "gn",
    "cascade_mask": "cascade_rcnn",
    "mask_rcnn": "mask_rcnn",
    "ms_rcnn": "ms_rcnn",
}


def shortened(config: str) -> str:
    for theirs, ours in SHORTENED.items():
        config = re.sub(theirs, ours, config)
    size = re.search(r"regnetx-([\d.]+)([MG])F", config)
    if size is None:
        return config
    number = round(float(size[1]) * {"G": 10, "M": 0.01}[size[2]])
    return config.replace(size[0], f"regnetx_{number:03}")


def aps(p: Published) -> tuple[float, float]:
    """Box and mask AP on COCO."""
    assert p.measured_on == "COCO val2017"
    return p.figures["box AP"], p.figures["mask AP"]


def test_every_published_file_has_a_hash_and_a_regular_place() -> None:
    assert sum(not p.package for p in zoo.PUBLISHED.values()) == 93
    assert sum(p.form == "detectron2" for p in zoo.PUBLISHED.values()) == 17
    for p in (p for p in zoo.PUBLISHED.values() if p.form == "mmdet"):
        folder, config, file = p.path.split("/")
        assert p.name == shortened(config)
        assert folder == next(own for word, own in FOLDERS.items() if word in config)
        # Some names of files end at the dot of "1.6GF".
        assert file.startswith(config.split(".")[0])
        assert re.fullmatch(r"[\w.-]+-[0-9a-f]{8}\.pth", file)
        assert p.epochs == {"1x": 12, "20e": 20, "2x": 24, "3x": 36}[p.name.rsplit("_", 1)[1]]
        box, mask = aps(p)
        assert 30 < mask < box < 51
        for kind in ("dcn", "caffe", "gn", "regnetx"):
            assert (kind in p.name) == (kind in p.backbone.lower()), p.name
    assert zoo.find("scnet_r50_1x").hash == ("SHA-256", "c3f09857")
    assert zoo.find("mask_rcnn_x101_32x4d_2x").urls[0] == (
        "https://download.openmmlab.com/mmdetection/v2.0/mask_rcnn/mask_rcnn_x101_32x4d_fpn_2x_coco/"
        "mask_rcnn_x101_32x4d_fpn_2x_coco_bbox_mAP-0.422__segm_mAP-0.378_20200506_004702-faef898c.pth"
    )


def test_an_unknown_name_gives_near_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZooError, match='did you mean "scnet_r50_20e"'):
        zoo.fetch("scnet_r50_20")
    assert main(["zoo", "scnet_r50_20"]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_load_takes_a_name_and_an_existing_path_wins(
    server: Server, cache: Path, tiny: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = load("tiny", device="cpu", quiet=True)
    assert model.classes[0] == "person"
    checkpoint.save(tmp_path / "tiny", mmdet_files.mask_rcnn(num_classes=3))
    assert len(load("tiny", device="cpu").classes) == 3


def test_load_reads_a_file_of_mmdetection(tmp_path: Path) -> None:
    file = mmdet_files.write(tmp_path / "mine.pth", mmdet_files.mask_rcnn(num_classes=3))
    assert len(load(file, device="cpu").classes) == 3
    assert names(tmp_path) == {"mine.pth"}


def test_load_of_a_name_that_is_nothing_gives_near_names() -> None:
    with pytest.raises(CheckpointError, match=r'no such file.*did you mean "htc_r50_20e"'):
        load("htc_r50_20")
    with pytest.raises(CheckpointError, match=r"nowhere: no such file or folder.*`scnet zoo`"):
        load("nowhere")


def test_load_of_an_unknown_name_lists_what_comes_along(boxed: Published) -> None:
    with pytest.raises(CheckpointError, match=r"`scnet zoo` lists them \(.*boxed and others\)"):
        load("nowhere")
    with pytest.raises(CheckpointError, match='did you mean "boxed"'):
        load("boxes")


def test_a_folder_that_hides_published_weights_is_named(
    boxed: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "boxed").mkdir()
    for name in ("boxed", "boxed/", tmp_path / "boxed"):
        with pytest.raises(CheckpointError, match=r"boxed: holds no model.*rename this folder"):
            load(name)
    with pytest.raises(CheckpointError, match=r"boxed: holds no model.*rename this folder"):
        find_start("boxed", {}, quiet=True)
    (tmp_path / "other").mkdir()
    with pytest.raises(CheckpointError) as told:
        load("other")
    assert "rename" not in str(told.value)


@pytest.fixture
def boxed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Published:
    """Weights of a package that is installed, without their file."""
    package = tmp_path / "carries_weights"
    monkeypatch.delitem(sys.modules, package.name, raising=False)  # of another test
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    published = Published(
        name="boxed",
        architecture="SCNet",
        backbone="ResNet-18",
        figures={"AP of boxes": 12.5, "AP of lids": 7.0},
        finds="boxes and lids",
        measured_on="ten shelves",
        path="boxed.safetensors",
        form="ours",
        package="carries_weights",
    )
    monkeypatch.setitem(zoo.PUBLISHED, "boxed", published)
    return published


def test_weights_that_a_package_carries_are_loaded_where_they_lie(
    boxed: Published, cache: Path
) -> None:
    assert zoo.state("boxed") == "no"
    with pytest.raises(ZooError, match="not there; install the package carries_weights anew"):
        zoo.fetch("boxed")
    checkpoint.write_weights(boxed.ready, make_detector("scnet"))
    assert zoo.state("boxed") == "converted"
    assert zoo.fetch("boxed") == boxed.ready
    assert boxed.ready.parent.name == "carries_weights"
    assert load("boxed", device="cpu").config.recipe == "scnet"
    assert not names(cache)


def test_weights_in_an_archive_are_not_said_to_be_missing(
    boxed: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "packed.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("carries_packed/__init__.py", "")
        packed.writestr("carries_packed/boxed.safetensors", "")
    monkeypatch.syspath_prepend(archive)
    monkeypatch.setitem(zoo.PUBLISHED, "boxed", replace(boxed, package="carries_packed"))
    with pytest.raises(ZooError, match=r"lies in an archive.*install the package carries_packed"):
        zoo.fetch("boxed")


def test_the_list_says_of_what_comes_along_what_it_finds_and_on_what_it_was_measured(
    boxed: Published, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["zoo"]) == 0
    before, others = capsys.readouterr().out.split("Published by others")
    about = before[before.index("  boxed ") :].splitlines()
    assert about[0].split(maxsplit=1)[1] == "SCNet, ResNet-18, but its file is not there"
    assert [line.split(maxsplit=1)[1] for line in about[1:5]] == [
        "boxes and lids",
        "per cent   AP of boxes 12.5, AP of lids 7",
        "ten shelves",
        "Apache-2.0",
    ]
    assert "boxed" not in others
    checkpoint.write_weights(boxed.ready, make_detector("scnet"))
    assert main(["zoo"]) == 0
    assert "SCNet, ResNet-18\n" in capsys.readouterr().out


def test_a_published_file_of_ours_is_downloaded_and_needs_no_conversion(
    server: Server, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.write_weights(tmp_path / "own.safetensors", make_detector("scnet"))
    server.body = (tmp_path / "own.safetensors").read_bytes()
    file = f"own-{hashlib.sha256(server.body).hexdigest()[:8]}.safetensors"
    published = replace(zoo.find("scnet_r50_1x"), name="own", path=f"x/{file}", form="ours")
    monkeypatch.setitem(zoo.PUBLISHED, "own", published)
    assert zoo.fetch("own", quiet=True) == cache / file
    assert names(cache) == {file}
    assert load("own", device="cpu").config.recipe == "scnet"


def test_files_of_detectron2_are_checked_by_md5_and_converted(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = detectron2_files.save_zoo(tmp_path / "a.pkl", detectron2_files.state(80)).read_bytes()
    digest = hashlib.md5(made, usedforsecurity=False).hexdigest()
    published = replace(
        zoo.find("d2_mask_rcnn_r50_1x"), name="d2", path=f"a/1/model_final_{digest[:6]}.pkl"
    )
    monkeypatch.setitem(zoo.PUBLISHED, "d2", published)
    assert published.urls == [f"https://dl.fbaipublicfiles.com/detectron2/{published.path}"]
    cache.mkdir(parents=True)
    (cache / published.file).write_bytes(made[:-1])
    with pytest.raises(ZooError, match=f"MD5 begins with .*, not {digest[:6]}"):
        zoo.fetch("d2")
    (cache / published.file).write_bytes(made)
    detector = checkpoint.load(zoo.fetch("d2"))
    assert detector.classes == coco_classes()
    assert detector.config.model.backbone.stride_in == "1x1"
    assert detector.config.assumed == ()


def test_the_list_of_detectron2_is_regular() -> None:
    for p in zoo.PUBLISHED.values():
        if p.form != "detectron2":
            continue
        number, of_name = (
            (r"\d{8}", "LSJ")
            if "lsj" in p.name
            else (r"\d{9}", r"(noaug_)?\dx(_gn|_syncbn|_dconv_c3-c5)?")
        )
        name = rf"\w+_FPN_(\d+ep_)?{of_name}"
        assert re.fullmatch(rf"[\w-]+/{name}/{number}/model_final_[0-9a-f]{{6}}\.pkl", p.path)
        assert p.licence == "CC BY-SA 3.0"
        usual = {"1x": 12, "3x": 37, "100e": 100, "200e": 200, "400e": 400}
        (length,) = set(p.name.split("_")) & usual.keys()
        assert p.epochs == usual[length]
        assert f"_{length}" in p.path
        box, mask = aps(p)
        assert 34 < mask < box < 49


@pytest.mark.parametrize("says_so", [False, True])
def test_files_of_caffe_style_are_read_as_they_were_trained(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says_so: bool
) -> None:
    """Those that hold no config say nothing of it; where one is there, it counts."""
    source = mmdet_files.mask_rcnn(80, model__mask__scoring=ScoringConfig(hidden=8))
    file = mmdet_files.write(tmp_path / "a.pth", source)
    if says_so:
        content = torch.load(file, weights_only=True)
        content["meta"]["config"] = "model = dict(backbone=dict(style='pytorch'))"
        torch.save(content, file)
    published = publish(monkeypatch, file.read_bytes())
    published = replace(published, backbone="ResNet-50 caffe")
    monkeypatch.setitem(zoo.PUBLISHED, "tiny", published)
    cache.mkdir(parents=True)
    (cache / published.file).write_bytes(file.read_bytes())
    detector = checkpoint.load(zoo.fetch("tiny"))
    backbone, own = detector.config.model.backbone, source.backbone.net.conv1.weight
    assert detector.config.recipe == "mask_scoring_rcnn"
    if says_so:
        assert (backbone.stride_in, backbone.std) == ("3x3", None)
        return
    assert (backbone.stride_in, backbone.mean) == ("1x1", None)
    assert backbone.std == pytest.approx((1 / 255,) * 3)
    assert torch.equal(detector.backbone.net.conv1.weight, own.flip(1))
    assert not any("RGB" in line or "style" in line for line in detector.config.assumed)


def test_files_of_torchvision_are_converted_as_its_functions_run_them(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = torchvision_files.old_names(torchvision_files.state(90))
    torch.save(weights, tmp_path / "a.pth")
    made = (tmp_path / "a.pth").read_bytes()
    digest = hashlib.sha256(made).hexdigest()
    published = replace(zoo.find("tv_mask_rcnn_r50"), path=f"maskrcnn-{digest[:8]}.pth")
    monkeypatch.setitem(zoo.PUBLISHED, "tv_mask_rcnn_r50", published)
    assert published.urls == [f"https://download.pytorch.org/models/{published.path}"]
    cache.mkdir(parents=True)
    (cache / published.file).write_bytes(made)
    detector = checkpoint.load(zoo.fetch("tv_mask_rcnn_r50"))
    assert detector.classes == coco_classes()
    assert detector.category_ids[-1] == 90
    assert detector.config.assumed == ()
    before = weights[f"{torchvision_files.NORM}.weight"]
    assert torch.equal(detector.backbone.net.bn1.weight, before * (1 + 1e-5) ** 0.5)


def test_the_list_of_torchvision_is_that_of_torchvision() -> None:
    of = {p.name: p for p in zoo.PUBLISHED.values() if p.form == "torchvision"}
    weights = {
        "tv_mask_rcnn_r50": MaskRCNN_ResNet50_FPN_Weights.COCO_V1,
        "tv_mask_rcnn_r50_v2": MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
    }
    assert of.keys() == weights.keys()
    for name, theirs in weights.items():
        assert of[name].urls == [theirs.url]
        metrics = theirs.meta["_metrics"]["COCO-val2017"]
        assert aps(of[name]) == (metrics["box_map"], metrics["mask_map"])
        assert of[name].licence == "none stated"
