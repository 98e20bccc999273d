"""Write a model as one ONNX file of standard operators, from the pixels of an image to masks.

The graph is captured by `torch.export` for images of any size that is a multiple of 32, translated
by PyTorch's exporter, and given a beginning that pads an image of any size. What the file needs to
be known besides, such as names of classes and the size that images are resized to, is in its
metadata.
"""

from __future__ import annotations

import json
import logging
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from scnet.config import to_dict
from scnet.export.errors import ExportError
from scnet.export.graph import Graph
from scnet.model.deformable import DeformConv2d
from scnet.model.detector import Detector
from scnet.types import DIVISOR, Size
from scnet.version import __version__

OPSET = 18
OPSET_DEFORMABLE = 19  # the first with deformable convolution
METADATA = "scnet"  # key of what the file says of itself, as JSON
LARGEST = 512  # times 32: the longest side of an image
TRACED = (160, 224)  # size of the image that the graph is captured with; neither side is special
INSTALL = "pip install 'scnet-seg[export]'"


@dataclass(frozen=True, kw_only=True)
class Form:
    """What the file takes."""

    batch: int = 1  # images at a time
    size: Size | None = None  # height and width of every image; None takes any

    @property
    def padded(self) -> bool:
        """Whether results have as many places as there may be detections, and a count."""
        return self.batch > 1 or self.size is not None


def write(detector: Detector, file: Path, form: Form | None = None) -> None:
    """Write a detector for inference as ONNX.

    Args:
        detector: without batch norms where that is to be fast (`Model.fast`).
        file: is replaced.
        form: a single image of any size, where not given.

    Raises:
        ExportError: onnx or onnxscript is missing, or the model has a part without a counterpart.
    """
    form = form or Form()
    require_packages()
    if detector.config.model.box.soft_nms is not None:
        raise ExportError(
            "model.box.soft_nms: soft-NMS takes one box after the other, for which ONNX has no "
            "operator; for plain NMS set model.box.soft_nms to null in the config.yaml or "
            "config.json of the weights"
        )
    import onnx

    core = _translated(detector, form)
    model = onnx.compose.merge_models(
        _beginning(len(detector.mean), form, core.ir_version, core.opset_import),
        core,
        io_map=[("padded", "images"), ("sizes", "sizes")],
    )
    del model.opset_import[1:]  # both parts bring the same one
    onnx.helper.set_model_props(model, {METADATA: json.dumps(description(detector, form))})
    model.producer_name, model.producer_version = "scnet", __version__
    onnx.save(model, file)


def description(detector: Detector, form: Form) -> dict[str, Any]:
    """Return what a file says of itself: its classes, its form and the whole config."""
    config = to_dict(detector.config)
    config["data"]["path"] = ""  # of the training data; nobody's business
    return {
        "version": __version__,
        "recipe": detector.config.recipe,
        "classes": list(detector.classes),
        "category_ids": list(detector.category_ids),
        "mean": detector.mean.flatten().tolist(),
        "std": detector.std.flatten().tolist(),
        "batch": form.batch,
        "size": form.size,
        "padded": form.padded,
        "config": config,
    }


def output_names(detector: Detector, form: Form) -> list[str]:
    """Return the names of what the file gives."""
    scored = ["mask_ious"] if detector.config.model.mask.scoring else []
    return ["boxes", "scores", "labels", "masks", *scored, *["count"] * form.padded]


def require_packages() -> None:
    """Stop where what writes and runs ONNX is missing.

    Raises:
        ExportError: says how to install it.
    """
    for name in ("onnx", "onnxruntime", "onnxscript"):
        if find_spec(name) is None:
            raise ExportError(f"export needs the package {name}: {INSTALL}")


def _translated(detector: Detector, form: Form) -> Any:
    """Return the graph behind the padding, as an ONNX model."""
    from scnet.export.translation import TABLE

    program = captured(detector, form)
    deformable = any(isinstance(module, DeformConv2d) for module in detector.modules())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about its own parts
        translated = torch.onnx.export(
            program,
            dynamo=True,
            input_names=["images", "sizes"],
            output_names=output_names(detector, form),
            opset_version=OPSET_DEFORMABLE if deformable else OPSET,
            custom_translation_table=TABLE,
            verbose=False,
        )
    assert translated is not None
    return translated.model_proto


def captured(detector: Detector, form: Form) -> torch.export.ExportedProgram:
    """Return the graph, from images (B, D, H, W) of 8 bits and their sizes (B, 2) on.

    H and W are multiples of 32.
    """
    graph = Graph(detector, padded=form.padded).eval()
    height, width = (-(-side // DIVISOR) * DIVISOR for side in form.size or TRACED)
    images = torch.zeros(form.batch, len(detector.mean), height, width, dtype=torch.uint8)
    sizes = torch.tensor([form.size or TRACED] * form.batch)
    shapes: Any = None
    if form.size is None:
        rows, columns = (torch.export.Dim(name, min=1, max=LARGEST) for name in ("rows", "columns"))
        shapes = ({2: DIVISOR * rows, 3: DIVISOR * columns}, None)
    logging.getLogger("torch.export").setLevel(logging.ERROR)
    with torch.no_grad():
        return torch.export.export(graph, (images, sizes), dynamic_shapes=shapes, strict=False)


def _beginning(bands: int, form: Form, ir_version: int, opsets: Any) -> Any:
    """Return a model that pads images to multiples of 32 and says how large they were."""
    from onnx import parser

    height, width = form.size or ("height", "width")
    return parser.parse_model(
        f"""
        <ir_version: {ir_version}, opset_import: ["" : {opsets[0].version}]>
        pad (uint8[{form.batch},{bands},{height},{width}] image)
            => (uint8[{form.batch},{bands},rows,columns] padded, int64[{form.batch},2] sizes) {{
            pad_shape = Shape <start = 2, end = 4> (image)
            pad_divisor = Constant <value = int64[2] {{{DIVISOR}, {DIVISOR}}}> ()
            pad_negative = Neg (pad_shape)
            pad_missing = Mod (pad_negative, pad_divisor)
            pad_none = Constant <value = int64[6] {{0, 0, 0, 0, 0, 0}}> ()
            pad_amounts = Concat <axis = 0> (pad_none, pad_missing)
            padded = Pad (image, pad_amounts)
            pad_number = Constant <value = int64[2] {{{form.batch}, 2}}> ()
            sizes = Expand (pad_shape, pad_number)
        }}
        """
    )
