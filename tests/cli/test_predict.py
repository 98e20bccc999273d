"""`scnet predict` as users meet it: images, lists of them, and what becomes of each."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle_mask
from tests.export_cases import sound
from tests.export_cases import write as write_data
from tests.model_cases import make_detector
from torch import nn

from scnet.cli.main import main
from scnet.data.coco import load_dataset
from scnet.evaluation.run import detect_dataset
from scnet.evaluation.scoring import KINDS, score
from scnet.inference.model import Model
from scnet.model.detector import Detector
from scnet.weights import checkpoint

Json = dict[str, Any]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "model"
    checkpoint.save(folder, make_detector("scnet_lite", model__box__score_threshold=0.0))
    return folder


def noise(file: Path, size: tuple[int, int] = (90, 60)) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise(size, 50).save(file)
    return file


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return noise(tmp_path / "photo.png")


@pytest.fixture
def listed(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a list of images, with the images in test/."""

    def write(names: Json, **more: Any) -> Path:
        images = [
            {"id": number, "file_name": name, "width": 90, "height": 60}
            for number, name in names.items()
        ]
        file = tmp_path / "data" / "annotations" / "image_info_test2017.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({"images": images, **more}))
        for name in names.values():
            for split in ("train2017", "test2017"):
                noise(tmp_path / "data" / split / name)
        return file

    return write


def predict(weights: Path, *arguments: object, most: int = 3) -> int:
    return main(["predict", str(weights), *map(str, arguments), "--max-detections", str(most)])


def read(file: Path) -> Any:
    return json.loads(file.read_text())


def test_predict_writes_a_picture_and_coco_results(
    weights: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["predict", str(weights), str(photo), "-o", str(out), "--score", "0"]) == 0
    assert {p.name for p in out.iterdir()} == {"photo_masks.png", "photo.json"}
    found = json.loads((out / "photo.json").read_text())
    assert 0 < len(found) <= 100
    keys = {"image_id", "category_id", "bbox", "score", "segmentation", "file_name"}
    assert set(found[0]) == keys
    assert found[0]["file_name"] == str(photo)
    assert found[0]["segmentation"]["size"] == [60, 90]
    assert str(out) in capsys.readouterr().out


def test_images_of_a_run_have_results_of_different_ids(
    weights: Path, photo: Path, tmp_path: Path
) -> None:
    other = tmp_path / "zebra.png"
    other.write_bytes(photo.read_bytes())
    out = tmp_path / "out"
    arguments = ["predict", str(weights), str(photo), str(other), "-o", str(out), "--score", "0"]
    assert main(arguments) == 0
    ids = [
        {one["image_id"] for one in json.loads((out / f"{name}.json").read_text())}
        for name in ("photo", "zebra")
    ]
    assert ids == [{1}, {2}]


def test_max_detections_caps_and_widens(weights: Path, photo: Path, tmp_path: Path) -> None:
    def count(most: int) -> int:
        out = tmp_path / f"out{most}"
        arguments = ["predict", str(weights), str(photo), "-o", str(out), "--score", "0"]
        assert main([*arguments, "--max-detections", str(most)]) == 0
        return len(json.loads((out / "photo.json").read_text()))

    assert count(5) == 5
    assert count(150) > 100


def test_predict_refuses_to_overwrite(weights: Path, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("precious")
    assert main(["predict", str(weights), str(photo), "-o", str(tmp_path / "out")]) == 1
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_an_unreadable_image_is_named_and_the_others_are_done(
    weights: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, out = tmp_path / "broken.jpg", tmp_path / "out"
    broken.write_bytes(b"not an image")
    assert main(["predict", str(weights), str(broken), str(photo), "-o", str(out)]) == 1
    assert "broken.jpg" in capsys.readouterr().err
    assert {p.name for p in out.iterdir()} == {"photo_masks.png", "photo.json"}


def test_images_of_a_batch_are_each_written_and_broken_ones_left_out(
    weights: Path, photo: Path, tmp_path: Path
) -> None:
    folder, out, one = tmp_path / "photos", tmp_path / "out", tmp_path / "one"
    folder.mkdir()
    for name in ("a.png", "c.png", "d.png"):
        Image.open(photo).resize((90 if name == "c.png" else 60, 60)).save(folder / name)
    for name in ("b.png", "e.png"):
        (folder / name).write_bytes(b"not an image")
    command = ["predict", str(weights), str(folder), "--score", "0", "--max-detections", "5"]
    assert main([*command, "-o", str(out), "--batch", "2"]) == 1
    assert main([*command, "-o", str(one), "--proposals", "20", "--precision", "bf16"]) == 1
    assert {p.stem for p in out.glob("*.json")} == {"a", "c", "d"}
    sizes = [json.loads((out / f"{n}.json").read_text())[0]["segmentation"]["size"] for n in "acd"]
    assert sizes == [[60, 60], [60, 90], [60, 60]]
    assert len(json.loads((one / "a.json").read_text())) == 5


def test_no_proposals_are_refused(
    weights: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["predict", str(weights), str(photo), "--proposals", "0"])
    assert "at least 1" in capsys.readouterr().err


def test_images_are_seen_larger_or_smaller_on_demand(
    weights: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", str(weights), str(photo), "--score", "0", "--max-detections", "5"]
    found = {}
    for name, words in {
        "usual": [],
        "larger": ["--scale-factor", "3"],
        "fitted": ["--image-size", "96x144"],
    }.items():
        assert main([*command, "-o", str(tmp_path / name), *words]) == 0
        found[name] = json.loads((tmp_path / name / "photo.json").read_text())
        assert found[name][0]["segmentation"]["size"] == [60, 90]
    assert found["usual"] != found["larger"] != found["fitted"]
    assert main([*command, "--scale-factor", "3", "--image-size", "96x144"]) == 2
    assert "image_size and scale_factor both" in capsys.readouterr().err


def test_a_list_without_annotations_gives_one_file_with_its_ids(
    weights: Path, listed: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    categories = [{"id": 70, "name": "class 2"}, {"id": 5, "name": "class 0"}]
    data = listed({900: "b.png", 17: "a.png"}, categories=categories)
    (tmp_path / "data" / "train2017" / "a.png").unlink()
    out = tmp_path / "new" / "results.json"
    assert predict(weights, "--data", data, "-o", out, most=60) == 0
    found = read(out)
    assert [entry["image_id"] for entry in found] == sorted(
        (entry["image_id"] for entry in found), reverse=True
    )
    assert {entry["image_id"] for entry in found} == {900, 17}
    assert {entry["category_id"] for entry in found} <= {70, 5, 71}
    assert {(entry["image_id"], entry["file_name"]) for entry in found} == {
        (900, "b.png"),
        (17, "a.png"),
    }
    said = capsys.readouterr()
    assert "1 class of the model not in it, with ids of their own: class 1 = 71" in said.err
    assert str(tmp_path / "data" / "test2017") in said.err
    assert said.out.splitlines()[-1].startswith(f"wrote {len(found)} objects")
    assert [p.name for p in out.parent.iterdir()] == ["results.json"]


def test_results_of_a_list_are_those_of_an_evaluation(
    weights: Path, listed: Callable[..., Path], tmp_path: Path
) -> None:
    categories = [{"id": 70, "name": "class 2"}, {"id": 5, "name": "class 0"}]
    data = listed({900: "b.png", 17: "a.png"}, categories=categories, annotations=[])
    assert predict(weights, "--data", data, "-o", tmp_path / "out.json", most=50) == 0
    model = Model(checkpoint.load(weights))
    settings = model.config.data
    dataset = load_dataset(data, "test", settings, train=False, classes=model.classes)
    evaluated = detect_dataset(model, dataset, max_detections=50)
    expected = [e for i, one in zip((900, 17), evaluated, strict=True) for e in one.to_coco(i)]
    found = read(tmp_path / "out.json")
    keys = ("image_id", "category_id", "segmentation")
    assert [[e[k] for k in keys] for e in found] == [[e[k] for k in keys] for e in expected]
    assert [e["score"] for e in found] == pytest.approx([e["score"] for e in expected])


def test_scores_of_masks_go_from_a_model_through_files_to_the_figures(tmp_path: Path) -> None:
    """What is written, loaded, predicted and evaluated by the command line agrees."""
    detector = make_detector("mask_scoring_rcnn", model__box__score_threshold=0.0)
    assert detector.roi_heads.masks.scoring is not None
    nn.init.constant_(detector.roi_heads.masks.scoring.iou.bias, 0.5)
    bias = detector.roi_heads.masks.heads[0].classifier.bias
    assert bias is not None
    nn.init.constant_(bias, 5.0)  # masks fill their boxes
    config = replace(detector.config, classes=("cell", "debris", "bead"))
    named = Detector(replace(config, category_ids=(1, 2, 3)))
    named.load_state_dict(detector.state_dict())
    checkpoint.save(tmp_path / "model", named)
    write_data(files := sound(tmp_path / "data"), tmp_path / "data")
    for content in files.values():
        content["categories"].append({"id": 3, "name": "bead"})
    write_data(files, tmp_path / "data")
    weights, data = str(tmp_path / "model"), str(tmp_path / "data")
    results = tmp_path / "results.json"
    listed = f"{data}/annotations/instances_val.json"
    assert main(["predict", weights, "--data", listed, "-o", str(results), "--quiet"]) == 0
    entries = json.loads(results.read_text())
    assert all(0 < entry["mask_score"] < entry["score"] for entry in entries)
    # Every other find is taken for an object, so that the order of scores decides.
    objects = [as_object(i, e) for i, e in enumerate(entries, 1) if i % 2 and area(e)]
    assert len(objects) > 20
    files["val"]["annotations"] = objects
    write_data(files, tmp_path / "data")
    found = {}
    for source, name in ((weights, "model"), (str(results), "file")):
        out = ["--json", str(tmp_path / f"{name}.json"), "--score", "best", "--quiet"]
        assert main(["eval", source, "--data", data, *out]) == 0
        found[name] = json.loads((tmp_path / f"{name}.json").read_text())
    for kind in KINDS:
        assert found["model"][kind] == found["file"][kind]
    assert found["model"]["counts"] == found["file"]["counts"]
    assert found["model"]["counts"]["score_name"] == "mask_score"
    as_masks = [{**entry, "score": entry["mask_score"]} for entry in entries]
    without = [{k: v for k, v in entry.items() if k != "mask_score"} for entry in entries]
    of_boxes = score(files["val"], without)
    assert found["model"]["segm"] == score(files["val"], as_masks)["segm"] != of_boxes["segm"]
    assert found["model"]["bbox"] == of_boxes["bbox"]


def area(entry: Json) -> int:
    return int(rle_mask.area(entry["segmentation"]))


def as_object(number: int, entry: Json) -> Json:
    """Return a find as an annotation, with the box of its mask."""
    keys = ("image_id", "category_id", "segmentation")
    box = rle_mask.toBbox(entry["segmentation"]).tolist()
    kept = {key: entry[key] for key in keys}
    return {**kept, "id": number, "bbox": box, "area": area(entry), "iscrowd": 0}


def test_category_ids_are_matched_by_name(
    weights: Path, listed: Callable[..., Path], tmp_path: Path
) -> None:
    names = ("class 2", "class 1", "class 0")
    data = listed({1: "a.png"}, categories=[{"id": 7 - i, "name": n} for i, n in enumerate(names)])
    plain = tmp_path / "plain.json"
    plain.write_text(json.dumps({"images": read(data)["images"]}))
    results = []
    for number, file in enumerate((data, plain)):
        out = tmp_path / f"{number}.json"
        if file == plain:
            noise(tmp_path / "a.png").write_bytes((data.parents[1] / "test2017/a.png").read_bytes())
        assert predict(weights, "--data", file, "-o", out) == 0
        results.append([entry["category_id"] for entry in read(out)])
    assert [{1: 5, 2: 6, 3: 7}[number] for number in results[1]] == results[0]


def test_a_list_of_other_categories_is_refused(
    weights: Path, listed: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = listed({1: "a.png"}, categories=[{"id": 1, "name": "cell"}])
    assert predict(weights, "--data", data, "-o", tmp_path / "out.json") == 1
    assert "none of its categories (cell) is a class of the model" in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


def test_ids_that_are_text_stay_what_they_are(
    weights: Path, listed: Callable[..., Path], tmp_path: Path
) -> None:
    categories = [{"id": f"c{i}", "name": f"class {i}"} for i in range(3)]
    data = listed({"x-1": "a.png", "0042": "b.png"}, categories=categories)
    assert predict(weights, "--data", data, "-o", tmp_path / "out.json") == 0
    found = read(tmp_path / "out.json")
    assert {entry["image_id"] for entry in found} == {"x-1", "0042"}
    assert {entry["category_id"] for entry in found} <= {"c0", "c1", "c2"}


def test_images_of_a_list_that_are_missing_or_broken_are_named_and_the_rest_is_written(
    weights: Path, listed: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = listed({1: "a.png", 2: "b.png", 3: "c.png", 4: "../a.png"})
    images = tmp_path / "data" / "test2017"
    (images / "a.png").unlink()
    (images / "b.png").write_bytes(b"not an image")
    assert predict(weights, "--data", data, "-o", tmp_path / "out.json") == 1
    said = capsys.readouterr().err
    assert f"error: image 1: a.png is not in {images}" in said
    assert f"{images / 'b.png'}: cannot be read" in said
    assert "image 4: file_name ../a.png leaves the image folder" in said
    assert "3 of 4 images could not be used" in said
    assert {entry["image_id"] for entry in read(tmp_path / "out.json")} == {3}


def test_an_image_of_another_size_than_its_list_says_is_said(
    weights: Path, listed: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = listed({1: "a.png"})
    noise(tmp_path / "data" / "test2017" / "a.png", (60, 90))
    assert predict(weights, "--data", data, "-o", tmp_path / "out.json") == 0
    assert "a.png (60 x 90, not 90 x 60)" in capsys.readouterr().err


def test_a_split_of_a_folder_is_predicted_into_a_folder_with_its_ids(
    weights: Path, listed: Callable[..., Path], tmp_path: Path
) -> None:
    listed({40: "one/a.png", 41: "two/a.png"})
    out = tmp_path / "out"
    data = ("--data", tmp_path / "data", "--split", "test")
    assert predict(weights, *data, "-o", out, "--score", "0") == 0
    files = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    assert files == {f"{d}/a{end}" for d in ("one", "two") for end in (".json", "_masks.png")}
    entry = read(out / "two" / "a.json")[0]
    assert (entry["image_id"], entry["file_name"]) == (41, "two/a.png")


def test_images_without_a_list_get_one_beside_the_results(
    weights: Path, photo: Path, tmp_path: Path
) -> None:
    from pycocotools.coco import COCO

    other, out = noise(tmp_path / "sub" / "photo.png", (50, 40)), tmp_path / "results.json"
    assert predict(weights, photo, other, "-o", out) == 0
    images = read(tmp_path / "results_images.json")["images"]
    assert [(i["id"], i["file_name"]) for i in images] == [(1, str(photo)), (2, str(other))]
    assert [images[1]["width"], images[1]["height"]] == [50, 40]
    assert {(e["image_id"], e["file_name"]) for e in read(out)} == {
        (image["id"], image["file_name"]) for image in images
    }
    loaded = COCO(str(tmp_path / "results_images.json")).loadRes(str(out))
    assert sorted(loaded.getImgIds()) == [1, 2]
    assert len(loaded.getAnnIds()) == 6


def test_results_appear_after_the_list_of_their_images(
    weights: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("scnet.formats.coco.write_images", killed)
    assert predict(weights, photo, "-o", tmp_path / "out.json") == 130
    assert [path.name for path in tmp_path.glob("out*")] == ["out.partial.json"]


def test_a_file_holds_all_that_the_model_keeps_and_pictures_what_is_likely(
    weights: Path, photo: Path, tmp_path: Path
) -> None:
    everything = Model(checkpoint.load(weights)).predict(photo, score=0.0, max_detections=40)
    middle = str(float(everything.scores.median()))
    file, some, folder = tmp_path / "a.json", tmp_path / "b.json", tmp_path / "folder"
    assert predict(weights, photo, "-o", file, most=40) == 0
    assert predict(weights, photo, "-o", some, "--score", middle, most=40) == 0
    assert predict(weights, photo, "-o", folder, most=40) == 0
    assert len(read(file)) == len(everything)
    assert 0 < len(read(some)) < len(everything)
    assert len(read(folder / "photo.json")) == int((everything.scores >= 0.5).sum())


@pytest.mark.parametrize("taken", ["out.json", "out_images.json", "out.partial.json"])
def test_no_file_is_written_over(
    taken: str, weights: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / taken).write_text("precious")
    assert predict(weights, photo, "-o", tmp_path / "out.json") == 1
    assert taken in capsys.readouterr().err
    assert (tmp_path / taken).read_text() == "precious"
    assert [p.name for p in tmp_path.glob("out*")] == [taken]


def test_what_is_done_when_a_run_is_interrupted_stays(
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in "abc":
        noise(tmp_path / "photos" / f"{name}.png")
    right, calls = Model.predict, []

    def stop_at_the_third(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) % 3 == 0:
            raise KeyboardInterrupt
        return right(*arguments, **options)

    monkeypatch.setattr(Model, "predict", stop_at_the_third)
    assert predict(weights, tmp_path / "photos", "-o", tmp_path / "out.json") == 130
    partial = tmp_path / "out.partial.json"
    assert f"interrupted: 2 of 3 images are done, in {partial}" in capsys.readouterr().err
    assert {entry["image_id"] for entry in read(partial)} == {1, 2}
    assert not (tmp_path / "out.json").exists()
    assert predict(weights, tmp_path / "photos", "-o", tmp_path / "out") == 130
    assert "interrupted: 2 of 3 images are done" in capsys.readouterr().err
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_pictures_can_be_left_out(weights: Path, photo: Path, tmp_path: Path) -> None:
    assert predict(weights, photo, "--no-pictures", "-o", tmp_path / "out") == 0
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["photo.json"]


def test_images_of_one_name_do_not_share_files(
    weights: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = noise(tmp_path / "sub" / "photo.png")
    for pictures in ([], ["--no-pictures"]):
        out = tmp_path / f"out{len(pictures)}"
        assert predict(weights, photo, other, photo, "-o", out, "--score", "0", *pictures) == 0
        assert f"predicted on once: {photo}" in capsys.readouterr().err
        assert {p.name for p in out.glob("*.json")} == {"photo.json", "photo-2.json"}
        assert read(out / "photo-2.json")[0]["file_name"] == str(other)


def test_sub_folders_are_left_out_and_counted_or_taken_with_their_places(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    for name in ("a.png", "sub/a.png"):
        noise(photos / name)
    assert predict(weights, photos, "-o", tmp_path / "flat") == 0
    assert "1 file left out: sub-folder sub (1; --recursive takes it)" in capsys.readouterr().err
    assert predict(weights, photos, "--recursive", "-o", tmp_path / "deep") == 0
    assert "left out" not in capsys.readouterr().err
    assert (tmp_path / "deep" / "sub" / "a_masks.png").is_file()


def test_images_may_stand_behind_options(weights: Path, photo: Path, tmp_path: Path) -> None:
    other = noise(tmp_path / "zebra.png")
    assert predict(weights, "-o", tmp_path / "out", photo, "--score", "0", other) == 0
    assert len(list((tmp_path / "out").glob("*.json"))) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give either images"),
        (["photo.png", "--data", "x.json"], "give either images"),
        (["photo.png", "--split", "val"], "--split"),
        (["photo.png", "--recursive"], "no SOURCE is a folder"),
        (["--data", "x.json", "--recursive"], "--recursive"),
        (["photo.png", "--no-pictures", "-o", "out.json"], "--no-pictures"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    arguments: list[str],
    said: str,
    weights: Path,
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(photo.parent)
    assert predict(weights, *arguments) == 2
    assert said in capsys.readouterr().err
    assert [p.name for p in photo.parent.iterdir()] == ["photo.png"]


def test_a_device_that_is_not_there_is_refused_in_one_line(
    weights: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for device in ("cuda:77", "toaster"):
        assert predict(weights, photo, "-o", tmp_path / "out", "--device", device) == 1
        text = capsys.readouterr().err
        assert text.startswith(f"error: device {device}: cannot be used; take auto or cpu")
        assert text.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_warning_is_a_line_like_all_others_on_the_command_line(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def show(*warning: Any) -> None:
        sys.stderr.write(warnings.formatwarning(*warning[:4]))

    low = tmp_path / "low.png"
    values = np.random.default_rng(0).integers(1000, 1100, (60, 90), dtype=np.uint16)
    Image.fromarray(values).save(low)
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # here they are errors, and pytest keeps them
        warnings.showwarning = show
        assert predict(weights, low, "-o", tmp_path / "out") == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "contrast" in line]
    assert len(said) == 1
    assert said[0].startswith("warning: an image loses something")
    model = Model(make_detector("scnet_lite"))
    with pytest.warns(UserWarning, match="contrast"):
        model.predict(str(low))
