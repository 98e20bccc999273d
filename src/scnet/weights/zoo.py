"""Weights by name: those that come with the package, and COCO's of other libraries.

`shipped.csv` lists those in the package, which are ours, were measured here and need no network.

`zoo.csv` lists those of MMDetection, detectron2 and torchvision. They are fetched, checked by their
hash and converted once. The files lie in PyTorch's own cache, where other tools and people put them
too: the file as it was published, and beside it the converted `.safetensors`.

Addresses, hashes and AP are those that the publishers state (MMDetection in the metafile.yml beside
its configs). The files of detectron2 and of torchvision, and those of MMDetection with caffe's
backbones, deformable convolutions, group norm and RegNetX, were not at hand here: their form was
taken from the code, and a file of another form is refused.
"""

from __future__ import annotations

import csv
import hashlib
import http.client
import os
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, cast

from scnet.runtime.files import whole_file
from scnet.settings import suggest

# The publisher, then the mirror of MMDetection's maintained fork (onedl-mmdetection). Whoever
# answers, the hash decides.
SERVERS = (
    "https://download.openmmlab.com/mmdetection/v2.0",
    "https://pub-ed9ed750ddcc469da251e2d1a2cea382.r2.dev/mmdetection/v2.0",
)
DETECTRON2_SERVERS = ("https://dl.fbaipublicfiles.com/detectron2",)
TORCHVISION_SERVERS = ("https://download.pytorch.org/models",)
SERVER_VARIABLE = "SCNET_ZOO_URL"  # environment variable: another address to ask instead
TIMEOUT = 30.0  # seconds to wait for a connection, and for each part of the answer
CHUNK = 1 << 18  # bytes read at once
CAFFE = "caffe"  # how the backbone of such a row ends
# Of the configs by which MMDetection's models of that style were trained, where no file says it.
_CAFFE: Mapping[str, Any] = {
    "model": {"backbone": {"style": "caffe"}},
    "img_norm_cfg": {"mean": [103.53, 116.28, 123.675], "std": [1.0, 1.0, 1.0], "to_rgb": False},
}
_HERE = "scnet.weights"
_DISTRIBUTIONS = {_HERE: "scnet-seg"}  # what is installed, where it is not named as it is imported
_NORM_EPS = {"tv_mask_rcnn_r50": 0.0}  # of torchvision's weights, where it is not PyTorch's own


Form = Literal["ours", "mmdet", "detectron2", "torchvision"]
_SERVERS: dict[str, tuple[str, ...]] = {
    "detectron2": DETECTRON2_SERVERS,
    "torchvision": TORCHVISION_SERVERS,
}


class ZooError(ValueError):
    """Published weights that are unknown, cannot be had or are damaged; says what to do."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """Weights that have a name; the figures are those of who published them."""

    name: str  # architecture, backbone, length of training: scnet_r50_20e; or what it finds
    architecture: str  # as people write it: SCNet
    backbone: str
    figures: Mapping[str, float]  # in per cent, by what they are: box AP, mask AP
    path: str  # on a server, or inside the package
    finds: str = "COCO's 80 classes"
    measured_on: str = "COCO val2017"  # images of the figures
    epochs: int | None = None  # None = the training was not counted in epochs
    form: Form = "mmdet"  # who wrote the file
    package: str = ""  # installed package that carries the file; "" = it lies on a server
    licence: str = "Apache-2.0"

    @property
    def file(self) -> str:
        """Name of the published file."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def hash(self) -> tuple[str, str]:
        """Kind of hash, and its first hex digits, with which the name of the file ends."""
        stem = Path(self.file).stem
        return ("MD5", stem[-6:]) if self.form == "detectron2" else ("SHA-256", stem[-8:])

    @property
    def place(self) -> Path:
        """Where the published file lies on this machine, if it does."""
        if self.package:
            return Path(str(resources.files(self.package).joinpath(self.path)))
        return folder() / self.file

    @property
    def ready(self) -> Path:
        """Where the file that can be loaded lies, if it does: a file of ours needs no other."""
        return (
            self.place if self.form == "ours" else folder() / f"{Path(self.file).stem}.safetensors"
        )

    @property
    def urls(self) -> list[str]:
        """Where the file can be had, best first."""
        own = os.environ.get(SERVER_VARIABLE)
        usual = _SERVERS.get(self.form, SERVERS)
        return [f"{server.rstrip('/')}/{self.path}" for server in ((own,) if own else usual)]


def _read_list() -> dict[str, Published]:
    """Return all weights that have a name, those in the package first."""
    listed = [*map(_shipped, _rows("shipped.csv")), *map(_of_coco, _rows("zoo.csv"))]
    return {published.name: published for published in listed}


def _rows(file: str) -> Iterator[dict[str, str]]:
    text = resources.files(_HERE).joinpath(file).read_text(encoding="utf-8")
    return csv.DictReader(text.splitlines())


def _shipped(row: Mapping[str, str]) -> Published:
    """Return the weights of a row; its figures stand as `what: number` with `;` between."""
    pairs = (figure.rsplit(":", 1) for figure in row["figures"].split(";"))
    return Published(
        name=row["name"],
        architecture=row["architecture"],
        backbone=row["backbone"],
        figures={what.strip(): float(number) for what, number in pairs},
        path=row["path"],
        finds=row["finds"],
        measured_on=row["measured_on"],
        form="ours",
        package=_HERE,
        licence=row["licence"],
    )


def _of_coco(row: Mapping[str, str]) -> Published:
    return Published(
        name=row["name"],
        architecture=row["architecture"],
        backbone=row["backbone"],
        figures={"box AP": float(row["box_ap"]), "mask AP": float(row["mask_ap"])},
        path=row["path"],
        epochs=int(row["epochs"]),
        form=cast(Form, row["form"]),
        licence=row["licence"],
    )


PUBLISHED = _read_list()


def find(name: str) -> Published:
    """Return the published weights of that name.

    Raises:
        ZooError: there are none; the text names near ones.
    """
    if name not in PUBLISHED:
        raise ZooError(
            f'no published weights are named "{name}"{suggest(name, PUBLISHED)} '
            "(`scnet zoo` lists all)"
        )
    return PUBLISHED[name]


def folder() -> Path:
    """Return the folder that keeps the files, PyTorch's own; the variable TORCH_HOME moves it."""
    if "torch" in sys.modules:  # which may have been told another
        import torch

        return Path(torch.hub.get_dir()) / "checkpoints"
    # As torch.hub has it: the list of weights need not wait for the import of PyTorch.
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))
    return Path(home).expanduser() / "hub" / "checkpoints"


def state(name: str) -> Literal["converted", "downloaded", "no"]:
    """Return what of these weights is on this machine; those in the package need no conversion."""
    published = find(name)
    if published.ready.is_file():
        return "converted"
    return "downloaded" if published.place.is_file() else "no"


def fetch(name: str, *, timeout: float = TIMEOUT, quiet: bool = False) -> Path:
    """Return the converted weights of that name; download them if they are not on this machine.

    Args:
        timeout: seconds to wait for a connection, and for each part of the answer.
        quiet: show no progress, nor what is assumed of a file that is converted.

    Raises:
        ZooError: unknown name, no server gives the file, or a file whose hash is wrong.
        CheckpointError: the file cannot be converted.

    Example:
        >>> fetch("scnet_r50_20e")  # doctest: +SKIP
    """
    published = find(name)
    original, converted = published.place, published.ready
    if converted.is_file():
        return converted
    if published.package:
        package = _DISTRIBUTIONS.get(published.package, published.package)
        packed = resources.files(published.package).joinpath(published.path).is_file()
        why = "lies in an archive, where it cannot be read" if packed else "not there"
        raise ZooError(f"{original}: {why}; install the package {package} anew")
    if not original.is_file():
        _download(published, original, timeout, quiet)
    elif fault := _wrong_hash(original, published):
        raise ZooError(f"{original}: {fault}. Remove it, then it is downloaded anew")
    if published.form == "ours":
        return original
    from scnet.data.classes import coco_classes
    from scnet.weights.foreign.conversion import Known
    from scnet.weights.foreign.convert import convert_known
    from scnet.weights.foreign.detectron2 import baselines

    known = Known(coco_classes())
    if published.form == "detectron2":
        config = published.path.split("/")[1]
        known = known._replace(settings=baselines.settings(published.backbone, config))
    elif published.backbone.endswith(CAFFE):
        known = known._replace(settings=_CAFFE)
    elif published.form == "torchvision":
        # As its functions build it with these weights; only the first runs with eps 0.
        known = known._replace(settings={}, norm_eps=_NORM_EPS.get(name))
    # Another process may have been faster: its file is the same, so it may be replaced.
    conversion = convert_known(original, converted, known)
    for line in () if quiet else conversion.remarks():
        print(line, file=sys.stderr)
    return converted


def _download(published: Published, target: Path, timeout: float, quiet: bool) -> None:
    """Fetch a file from the first server that has it; it appears whole and checked or not at all.

    torch.hub.download_url_to_file does not serve: it waits for ever for a server that hangs.
    """
    causes = []
    for url in published.urls:
        fault = _attempt(published, url, target, timeout, quiet)
        if fault is None:
            return
        causes.append(f"{url}: {fault}")
    raise ZooError(
        f"{published.name} cannot be downloaded:\n  " + "\n  ".join(causes) + "\n"
        f"Fetch {published.urls[0]} another way and put it at {target}"
    )


def _attempt(
    published: Published, url: str, target: Path, timeout: float, quiet: bool
) -> str | None:
    """Fetch a file from one address; return what went wrong, if anything."""
    try:
        with whole_file(target) as part:
            _receive(url, part, timeout, quiet)
            if fault := _wrong_hash(part, published):
                raise ValueError(fault)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return str(error) or type(error).__name__
    return None


def _receive(url: str, file: Path, timeout: float, quiet: bool) -> None:
    """Write what a server sends to a file.

    Raises:
        OSError, HTTPException: no answer, no such file, or the answer is cut off.
        ValueError: not an address.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    request = urllib.request.Request(url, headers={"User-Agent": "scnet"})
    with (
        urllib.request.urlopen(request, timeout=timeout) as answer,
        Progress(*columns, console=Console(stderr=True), disable=quiet, transient=True) as bar,
        file.open("wb") as opened,
    ):
        length = answer.headers.get("Content-Length")
        size = int(length) if length else None
        task = bar.add_task(url.rsplit("/", 1)[-1], total=size)
        while part := answer.read(CHUNK):
            opened.write(part)
            bar.advance(task, len(part))
        received = opened.tell()
    if size is not None and received != size:
        raise ConnectionError(f"cut off after {received} of {size} bytes")


def _wrong_hash(file: Path, published: Published) -> str | None:
    """Return what is wrong with a file's hash, if anything."""
    kind, expected = published.hash
    digest = hashlib.new(kind.replace("-", "").lower(), usedforsecurity=False)
    with file.open("rb") as opened:
        while part := opened.read(CHUNK):
            digest.update(part)
    begin = digest.hexdigest()[: len(expected)]
    if begin == expected:
        return None
    return f"{kind} begins with {begin}, not {expected}: damaged, or not that file"
