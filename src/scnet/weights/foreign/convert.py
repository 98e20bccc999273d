"""Checkpoints of MMDetection, detectron2 and torchvision, turned into ours.

>>> from scnet.weights.foreign import convert
>>> convert.convert("scnet_r50.pth", "scnet_r50.safetensors")  # doctest: +SKIP
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scnet.runtime.files import refuse_existing
from scnet.settings import ConfigError
from scnet.weights.checkpoint import CheckpointError, write_weights
from scnet.weights.foreign import strangers, unwrap
from scnet.weights.foreign.conversion import Conversion, Known
from scnet.weights.foreign.detectron2 import convert as detectron2
from scnet.weights.foreign.mmdet import convert as mmdet
from scnet.weights.foreign.reading import read_file
from scnet.weights.foreign.torchvision import convert as torchvision

__all__ = ["Conversion", "convert", "convert_known", "read", "read_known", "require_free"]


def convert(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    classes: Sequence[str] = (),
    config: str | os.PathLike[str] | None = None,
    prefix: str | None = None,
    leave: Sequence[str] = (),
    norm_eps: float | None = None,
    overwrite: bool = False,
) -> Conversion:
    """Convert a file of MMDetection, detectron2 or torchvision to a `.safetensors` file.

    Args:
        path: checkpoint of Mask R-CNN, Cascade Mask R-CNN, HTC or SCNet.
        output: file to write, whole or not at all; it carries config and class names.
        classes: class names; they win over those in the file.
        config: the model's config, which wins over the file's own: a Python file of MMDetection,
            the `config.yaml` of detectron2.
        prefix: what the names of the model begin with, where the file holds several models.
        leave: settings and steps of the test pipeline that would be refused and are left out.
        norm_eps: eps of frozen batch norm in a model of torchvision, which no file of it holds; 0
            where it is not given.
        overwrite: whether `output` may exist.

    Raises:
        CheckpointError: the file is missing, damaged, unsafe, or does not become a whole model.
        FileExistsError: `output` exists, or is a folder.
        NotADirectoryError: it would lie below a file.
    """
    output = require_free(output, overwrite=overwrite)
    known = Known(
        tuple(classes), config, prefix, tuple(leave), Path(path).parent, norm_eps=norm_eps
    )
    return convert_known(Path(path), output, known)


def convert_known(file: Path, output: Path, known: Known) -> Conversion:
    """Convert a file of which more may be known than a command line can say."""
    conversion = read_known(file, known)
    write_weights(output, conversion.detector)
    return conversion


def require_free(
    output: str | os.PathLike[str], *, overwrite: bool, or_else: str = "pass overwrite=True"
) -> Path:
    """Return the path of a file that may be written; errors are those of `convert`.

    Args:
        or_else: what there is to do beside giving another file.
    """
    output = Path(output)
    if output.suffix != ".safetensors":
        raise CheckpointError(f"{output}: the name must end in .safetensors")
    refuse_existing(output, or_else, overwrite=overwrite)
    return output


def read(
    path: str | os.PathLike[str],
    *,
    classes: Sequence[str] = (),
    config: str | os.PathLike[str] | None = None,
    prefix: str | None = None,
    leave: Sequence[str] = (),
    norm_eps: float | None = None,
) -> Conversion:
    """Read a file of another library into memory; arguments and errors are those of `convert`."""
    known = Known(
        tuple(classes), config, prefix, tuple(leave), Path(path).parent, norm_eps=norm_eps
    )
    return read_known(Path(path), known)


def read_known(file: Path, known: Known) -> Conversion:
    """Read a file of which more may be known than a command line can say."""
    try:
        content = read_file(file)
    except CheckpointError as error:
        told = strangers.of_file(file) if file.is_file() else None
        if told is None:
            raise
        raise CheckpointError(f"{file}: {told}") from error
    entries = list(unwrap.entries(content))
    try:
        return _build(content, entries, known)
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f"{file}: {error}") from error


def _build(content: Mapping[str, Any], entries: list[unwrap.Entry], known: Known) -> Conversion:
    """Return the model of the library that its names tell; MMDetection's says what it is no model.

    Raises:
        CheckpointError: no whole model, or something is given that means nothing for it.
    """
    if unwrap.has(entries, torchvision.PARTS):
        return torchvision.build(content, entries, known)
    if known.norm_eps is not None:
        raise CheckpointError(
            "--norm-eps: has no effect, as this is no model of torchvision; leave it out"
        )
    if unwrap.has(entries, detectron2.PARTS):
        return detectron2.build(content, entries, known)
    return mmdet.build(content, entries, known)
