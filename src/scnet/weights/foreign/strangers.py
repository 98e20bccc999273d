"""Tell what a file is that is no checkpoint of a model known here, and what to do with it.

The first entry of the table that fits the names in a file counts. Of a file that cannot be loaded
safely only the texts in it are read; nothing runs.
"""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeGuard

_MOST = 100_000  # texts of a file that are looked at
_PROGRAM = "code/"  # the folder of a program in an archive
TRAIN = "train a recipe of scnet on your data instead (`scnet recipes` lists them)"
_NOT_YET = f"scnet does not read it yet; {TRAIN}"
OURS = (
    "scnet reads Mask R-CNN, Cascade Mask R-CNN, HTC and SCNet with FPN on ResNet, ResNeXt or "
    "RegNet"
)
OTHER = f"{OURS}; {TRAIN}"
_NORMED = f"it has norms behind its stages, which timm's has not; {OTHER}"
_BACKBONE = (
    "it finds no objects by itself; to begin a training with a ResNet of torchvision or timm: "
    "scnet train RECIPE --model.backbone.weights FILE"
)


class Stranger(NamedTuple):
    """A kind of file."""

    what: str
    has: tuple[str, ...]  # patterns that names must hold, each of them one at least
    todo: str
    lacks: str = "$^"  # pattern that no name may hold


# Kinds of whole files, by their names from the top of the file.
_FILES = (
    Stranger(
        "a checkpoint of AdelaiDet (built on detectron2)",
        (r"proposal_generator\.fcos_head|basis_module",),
        _NOT_YET,
    ),
    Stranger(
        "a Mask2Former or MaskFormer of detectron2", (r"sem_seg_head\.(predictor|pixel)",), OTHER
    ),
    Stranger(
        "a RetinaNet of detectron2",
        (r"backbone\.(bottom_up|fpn_lateral)", r"(^|\.)head\.(cls_subnet|bbox_subnet)\."),
        OTHER,
    ),
    Stranger(
        "a checkpoint of detectron2 without RPN or RoI heads",
        (r"backbone\.(bottom_up|fpn_lateral)|proposal_generator\.|roi_heads\.box_predictor\.cls_",),
        OTHER,
        r"backbone\.body\.",
    ),
    Stranger(
        "an ImageNet backbone of detectron2",
        (r"(^|\.)stem\.conv1\.(weight|norm)", r"(^|\.)res[2-5]\.0\.conv1"),
        f"{_BACKBONE} (its names are others: take torchvision's file)",
    ),
    Stranger(
        "a file of the first Detectron (Caffe2)",
        (r"(^|\.)(res2_0_branch2a|res_conv1_bn_s$)",),
        "its layers and classes are in another order; take the model of that name of detectron2's "
        "zoo (`scnet zoo` lists some)",
    ),
    Stranger(
        "a checkpoint of maskrcnn-benchmark",
        (r"roi_heads\.box\.feature_extractor|backbone\.body\.stem",),
        _NOT_YET,
    ),
    Stranger("a RetinaNet of torchvision", (r"head\.classification_head\.",), OTHER),
    Stranger(
        "a whole model of torchvision, saved with torch.save(model, ...)",
        (r"^torchvision\.models\.detection\.",),
        "take its weights in the environment that wrote it: torch.save(model.state_dict(), "
        "'weights.pth'); or call scnet.from_torchvision(model) there, which reads its settings too",
    ),
    Stranger(
        "a part of a Mask R-CNN of torchvision",
        (r"backbone\.body\.", r"roi_heads\.mask_"),
        f"scnet reads whole ones; {TRAIN}",
        r"roi_heads\.mask_predictor\.",
    ),
    Stranger(
        "a Keypoint R-CNN of torchvision",
        (r"roi_heads\.keypoint_",),
        OTHER,
        r"roi_heads\.mask_",
    ),
    Stranger(
        "a Faster R-CNN or other detector of torchvision",
        (r"backbone\.body\.|roi_heads\.box_head\.fc6",),
        OTHER,
        r"roi_heads\.mask_",
    ),
    Stranger(
        "a checkpoint of Ultralytics (YOLO)",
        (r"^ultralytics\.|(^|\.)model\.\d+\.(conv|cv1|cv2|m)\.|(^|\.)\d+\.dfl\.",),
        OTHER,
    ),
    Stranger("a checkpoint of YOLOv5 or YOLOv7", (r"^models\.(yolo|common)",), OTHER),
    Stranger(
        "a Segment Anything model (SAM)",
        (r"mask_decoder\.", r"prompt_encoder\.|sam_"),
        "it makes masks from prompts and knows no classes; " + OTHER,
    ),
    Stranger(
        "a DETR or other transformer detector",
        (r"transformer\.(encoder|decoder)|(^|\.)(encoder|decoder)\.layers\.|query_embed",),
        OTHER,
        r"rpn_head\.|patch_embed",
    ),
    Stranger("a YOLACT", (r"(^|\.)proto_net\.", r"prediction_layers\."), OTHER),
    Stranger("a model of MMSegmentation", (r"(^|\.)decode_head\.",), OTHER),
    Stranger(
        "weights of scnet without their config",
        (r"(^|\.)roi_heads\.stages\.0\.", r"(^|\.)backbone\.net\."),
        "give the run folder or the .safetensors file of the training",
    ),
    Stranger(
        "a Faster R-CNN or other detector of MMDetection 1.x without masks",
        (r"(^|\.)rpn_head\.", r"(^|\.)bbox_head\.(\d\.)?(shared_fcs|fc_cls|shared_convs)"),
        OTHER,
        r"roi_head\.|mask_head\.",
    ),
    Stranger(
        "a one-stage detector of MMDetection",
        (r"(^|\.)(bbox_head|mask_head|mask_feat_head|panoptic_head|segm_head)\.",),
        OTHER,
        r"roi_heads?\.|rpn_head\.",
    ),
    Stranger(
        "a Faster R-CNN or other detector of MMDetection without masks",
        (r"(^|\.)rpn_head\.",),
        OTHER,
        r"mask_head\.",
    ),
    Stranger(
        "a backbone with a classifier (MMPretrain)",
        (r"(^|\.)backbone\.", r"(^|\.)head\.(fc|layers)\."),
        _BACKBONE,
        r"rpn_head\.|neck\.",
    ),
    Stranger(
        "a bare ResNet backbone (ImageNet)",
        (r"(^|\.)conv1\.weight", r"(^|\.)layer[1-4]\.0\.conv1\.weight"),
        _BACKBONE,
        r"rpn|roi_head|neck\.|bbox_head",
    ),
    Stranger(
        "a bare backbone (Swin, ViT, ConvNeXt or the like)",
        (r"patch_embed\.|(^|\.)cls_token|downsample_layers\.0|(^|\.)stem\.0\.weight",),
        f"it finds no objects by itself; {OURS}",
        r"rpn|roi_head|neck\.|bbox_head",
    ),
    Stranger(
        "the state of an optimizer alone",
        (r"(^|\.)(param_groups|exp_avg|momentum_buffer)(\.|$)",),
        "the weights are in another file of that training",
        r"weight$|bias$",
    ),
)

# What may be changed in a two-stage model of MMDetection 2.x or 3.x.
_CHANGES = (
    Stranger("a Swin Transformer as backbone", (r"^backbone\.patch_embed\.",), _NORMED),
    Stranger(
        "a ConvNeXt as backbone",
        (r"^backbone\.(downsample_layers|stages\.\d\.\d\.)",),
        _NORMED,
    ),
    Stranger(
        "a Res2Net as backbone",
        (r"^backbone\.layer1\.0\.convs\.0\.",),
        "its first block pools nothing where that of timm's does, so its answers would be others; "
        + OTHER,
    ),
    Stranger(
        "RoI heads on a stage of its backbone (C4, shared_head)",
        (r"^roi_head\.shared_head\.",),
        f"it has no pyramid; {OTHER}",
    ),
    Stranger(
        "weight standardisation (WS)",
        (r"\.weight_(gamma|beta)$",),
        f"{OURS}; without ConvAWS in the config it would convert",
    ),
    Stranger(
        "norms where scnet has none",
        (
            r"^roi_head\.(semantic_head\.(lateral_convs|conv_embedding)|mask_head\.\d\.conv_res)"
            r".*\.[gb]n\.",
        ),
        f"{OURS}, with norms in pyramid, box heads and mask heads",
    ),
    Stranger("PointRend", (r"^roi_head\.point_head\.",), OTHER),
    Stranger(
        "convolutions or layers of classes and of boxes apart in its box heads",
        (r"^roi_head\.bbox_head\..*(cls|reg)_(convs|fcs)\.",),
        f"{OURS}, whose box heads share all but the last layers",
    ),
    Stranger("a deep stem (ResNetV1d)", (r"^backbone\.stem\.",), OTHER),
    Stranger(
        "added blocks in its backbone", (r"^backbone\..*(context_block|gen_attention)",), OTHER
    ),
    Stranger("another pyramid than FPN or PAFPN", (r"^neck\.\d\.",), OTHER),
    Stranger("another RPN", (r"^rpn_head\.(stages|conv_loc|conv_shape)",), OTHER),
    Stranger(
        "box heads without a mask head",
        (r"^roi_head\.bbox_head\.",),
        "scnet outlines objects, so it needs masks; train MMDetection's model of the same name "
        "with masks, or a recipe of scnet",
        r"^roi_head\.mask_head\.",
    ),
)


def name(names: Collection[str]) -> str | None:
    """Return what a file with these names is, and what to do; None where it is not known.

    >>> name(["model.backbone.bottom_up.res2.0.conv1.weight"])[:32]
    'this is a checkpoint of detectro'
    """
    found = first(_FILES, names)
    return None if found is None else f"this is {found}"


def change(names: Collection[str]) -> str | None:
    """Return what was changed in a model of MMDetection, by its own names; None if not known."""
    found = first(_CHANGES, names)
    return None if found is None else f"this is a model of MMDetection with {found}"


def of_file(file: Path) -> str | None:
    """Return what a file is that cannot be loaded safely, from the texts in it alone."""
    with file.open("rb") as opened:
        begin = opened.read(200)
    if begin.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        return "this is a web page, not a checkpoint; the download went wrong, fetch it again"
    if begin.startswith(b"version https://git-lfs"):
        return "this is a pointer of Git LFS, not the file itself; fetch it with `git lfs pull`"
    try:
        texts = set(_texts(file))
        if _PROGRAM in texts:
            return f"this is a TorchScript program, whose weights are built in; {TRAIN}"
        return name(texts)
    except (zipfile.BadZipFile, OSError, NotImplementedError):
        return None


def first(table: tuple[Stranger, ...], names: Collection[str]) -> str | None:
    """Return what the first kind of a table is that fits these names, and what to do."""
    for kind in table:
        if any(re.search(kind.lacks, name) for name in names):
            continue
        examples = [
            next((name for name in names if re.search(pattern, name)), None) for pattern in kind.has
        ]
        if None not in examples:
            told = ", ".join(str(x) for x in examples)
            return f"{kind.what} (it has {told}): {kind.todo}"
    return None


def _texts(file: Path) -> Iterator[str]:
    """Yield the short texts in the pickles of a file."""
    if not zipfile.is_zipfile(file):
        with file.open("rb") as opened:
            yield from _strings(opened)
        return
    with zipfile.ZipFile(file) as archive:
        for inside in archive.namelist():
            if "/code/" in inside:
                yield _PROGRAM
            if inside.endswith("data.pkl"):
                yield from _strings(io.BytesIO(archive.read(inside)))


def _strings(opened: io.BufferedReader | io.BytesIO) -> Iterator[str]:
    """Yield the texts of whole pickles behind one another, up to what is none."""
    seen = 0
    while seen < _MOST:
        try:
            found = [x for _, x, _ in islice(pickletools.genops(opened), _MOST) if _is_short(x)]
        except Exception:  # at the end, or in what is damaged, one of a dozen kinds
            return
        seen += len(found) + 1
        # A class stands there as its module and its name.
        yield from (x.replace(" ", ".") if x.count(" ") == 1 else x for x in found)


def _is_short(argument: object) -> TypeGuard[str]:
    return isinstance(argument, str) and len(argument) <= 200
