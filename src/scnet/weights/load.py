"""From a name to a detector: a file, a folder, published weights, a hub id; or a config."""

from __future__ import annotations

import difflib
import os
import sys
from pathlib import Path

from scnet.config import Config
from scnet.model.detector import Detector
from scnet.settings import suggest
from scnet.weights import checkpoint, hub, zoo
from scnet.weights.checkpoint import CheckpointError
from scnet.weights.pretrained import load_backbone_weights


def read(weights: str | os.PathLike[str], *, quiet: bool = False) -> Detector:
    """Return the detector that a path, or else the name of published weights or a hub id, means.

    Raises:
        CheckpointError: missing, damaged, or of another architecture.
        ZooError: published weights cannot be had.
    """
    path, name = Path(weights), str(weights)
    if path.is_file() and path.suffix in (".pth", ".pt", ".ckpt", ".pkl"):
        from scnet.weights.foreign import convert

        conversion = convert.read(path)
        for line in () if quiet else conversion.remarks():
            print(line, file=sys.stderr)
        return conversion.detector
    if path.exists():
        return _load_path(path)
    if name in zoo.PUBLISHED:
        return checkpoint.load(zoo.fetch(name, quiet=quiet))
    # A slip in "runs/cells" should not wait for a server to say that it knows no owner "runs".
    if hub.is_id(name) and not path.parent.exists():
        return checkpoint.load(hub.download(name))
    near = difflib.get_close_matches(name, zoo.PUBLISHED, n=3)
    carried = [p.name for p in zoo.PUBLISHED.values() if p.package]
    others = f" ({', '.join(carried)} and others)" if carried else ""
    hint = suggest(name, near) if near else f"; `scnet zoo` lists them{others}"
    if hub.is_id(name):
        hint += f"; as there is a folder {path.parent} the hub was not asked, "
        hint += "Model.from_pretrained would"
    raise CheckpointError(
        f"{name}: no such file or folder, and no published weights of that name{hint}"
    )


def _load_path(path: Path) -> Detector:
    """Load from a path, which goes before a name; where it holds nothing, say what it hides."""
    try:
        return checkpoint.load(path)
    except CheckpointError as error:
        # A training names what it goes on from by its whole path.
        whole = path.absolute()
        if whole.parent != Path.cwd() or (name := whole.name) not in zoo.PUBLISHED:
            raise
        raise CheckpointError(
            f"{error}. The weights {name} of `scnet zoo` are read where nothing has that name: "
            f"rename this {'folder' if path.is_dir() else 'file'}, or work in another one"
        ) from error


def build(config: Config, *, pretrained: bool = True) -> Detector:
    """Return a config's bare detector, backbone weights as `config.model.backbone.weights` says.

    Args:
        pretrained: False leaves the backbone at random numbers, even if the config names weights.

    Raises:
        FileNotFoundError: backbone weights cannot be had; the text says what to do.

    Example:
        >>> from scnet import recipes
        >>> detector = build(recipes.scnet(num_classes=3), pretrained=False)  # doctest: +SKIP
    """
    detector = Detector(config)
    if pretrained:
        load_backbone_weights(detector.backbone, config.model.backbone)
    return detector
