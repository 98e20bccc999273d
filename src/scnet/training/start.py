"""A training that goes on from a trained detector: its weights, and the settings that are theirs.

A trained RPN speaks of its anchors, and a backbone reads images as they were normalised for it. So
these settings come with the weights unless somebody sets them otherwise, and both are said.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import timm

from scnet.config import BackboneConfig, Config, Norm, to_dict
from scnet.model.backbone import for_each_band
from scnet.model.detector import Detector
from scnet.settings import ConfigError, merge, nested
from scnet.weights.checkpoint import CheckpointError
from scnet.weights.load import read
from scnet.weights.parts import ANCHORS, as_weights
from scnet.weights.transfer import transfer
from scnet.weights.transfer_report import report

_OF_TRAINING = ("weights", "frozen_stages", "frozen_norm", "sync_norm", "bands")
_NETWORK = ("name", "widths")  # of a backbone, without which no weight fits
_NORMALISATION = ("mean", "std")
# Without which a pyramid or head starts anew, and what reads it too.
_DEPTHS = ("model.rpn.convs", "model.box.convs", "model.box.layers")
_WIDTHS = ("model.channels", "model.box.hidden")
_NORMS = ("model.norm", "model.box.norm", "model.mask.norm")
# Settings that come with weights, by dotted path.
THEIRS = (
    *(
        f"model.backbone.{f.name}"
        for f in fields(BackboneConfig)
        if f.name not in (*_OF_TRAINING, *_NETWORK)
    ),
    *(f"model.rpn.{name}" for name in ANCHORS),
    *_DEPTHS,
    *_WIDTHS,
    *_NORMS,
    "model.pyramid",  # whole: its kinds have other settings
    "model.roi_align",
    "data.range",
    "data.bands",
)


class Start(NamedTuple):
    """A detector to go on from."""

    name: str  # path, absolute; name of published weights; or hub id
    detector: Detector

    @property
    def config(self) -> Config:
        """Return the config of the weights."""
        return self.detector.config

    def settings(self, own: Config) -> dict[str, Any]:
        """Return, nested, the settings of the weights that a config has otherwise."""
        found: dict[str, Any] = {}
        for path in THEIRS:
            if self._differs(own, path):
                theirs = _meant(self.config, path)
                plain = to_dict(theirs) if is_dataclass(theirs) else theirs
                found = merge(found, nested(path, plain))
        return found

    def require_same_backbone(self, config: Config) -> None:
        """Refuse another network.

        Raises:
            ConfigError: names both, and the setting that makes the weights fit.
        """
        own, theirs = config.model.backbone, self.config.model.backbone
        if _architecture(own.name) != _architecture(theirs.name):
            raise ConfigError(
                f"model.backbone.name: {own.name}, but the weights of {self.name} are of "
                f"{theirs.name}; set --model.backbone.name {theirs.name}, take a recipe with that "
                "backbone, or leave out --from"
            )
        if own.widths != theirs.widths:
            raise ConfigError(
                f"model.backbone.widths: {_plain(own.widths)}, but the weights of {self.name} have "
                f"{_plain(theirs.widths)}; set --model.backbone.widths '{_plain(theirs.widths)}', "
                "or leave out --from"
            )

    def require_same_bands(self, config: Config) -> None:
        """Refuse images of another number of bands.

        Raises:
            CheckpointError: names both numbers.
        """
        own, theirs = config.model.backbone.bands, self.config.model.backbone.bands
        if own != theirs:
            raise CheckpointError(
                f"{self.name}: its weights take images of {_bands(theirs)}, but those of "
                f"{config.data.path} have {own}; choose {theirs} with --data.bands, or leave out "
                "--from"
            )

    def remarks(self, recipe: Config, config: Config) -> list[str]:
        """Return which settings came with the weights, and where a config has others than those."""
        lines = []
        for path in THEIRS:
            before, now, theirs = (_meant(c, path) for c in (recipe, config, self.config))
            if self._differs(config, path):
                lines.append(
                    f"warning: {path} {_plain(now)}, but the weights were trained with "
                    f"{_plain(theirs)}; left out, it is theirs"
                )
            elif self._differs(recipe, path):
                as_they = (
                    "as the weights have it"
                    if now == theirs
                    else f"which takes the weights of {_plain(theirs)} as they are"
                )
                lines.append(f"{path} {_plain(now)}, {as_they} (the recipe: {_plain(before)})")
        return lines

    def _differs(self, config: Config, path: str) -> bool:
        """Return whether a setting is another than the weights': their norm, where none is set."""
        usual = self.config.model.norm
        own, theirs = (_as_weights(_meant(c, path), path, usual) for c in (config, self.config))
        return bool(own != theirs)

    def fill(self, detector: Detector) -> list[str]:
        """Give a new detector all that fits of the weights; return the lines that say what.

        Raises:
            CheckpointError: nothing fits.
        """
        given, config = self.detector.state_dict(), detector.config
        try:
            done = transfer(detector.state_dict(), config, given, self.config)
        except CheckpointError as error:
            raise CheckpointError(f"{self.name}: {error}") from error
        detector.load_state_dict(done.state)
        return report(done, self.name, config, self.config)


def find_start(
    start: str | os.PathLike[str] | None,
    base: Mapping[str, Any],
    *,
    finetune: bool = False,
    quiet: bool,
) -> Start | None:
    """Return what a training goes on from: what is given, else what a file of settings names.

    Raises:
        CheckpointError, ZooError: there is nothing of that name, or it is no detector.
        ConfigError: there is no name, but weights that are to be fine-tuned.
    """
    given = start if start is not None else base.get("start")
    if not given and finetune:
        raise ConfigError(
            "--finetune: has no effect, as no trained detector is named to go on from; name one "
            "(--from WEIGHTS), or leave it out"
        )
    if not given:
        return None
    place = Path(given).expanduser()
    name = os.path.abspath(place) if place.exists() else str(given)
    first = os.environ.get("RANK", "0") == "0"  # of torchrun's processes, one speaks
    return Start(name, read(name, quiet=quiet or not first))


def unused(base: Mapping[str, Any], config: Config) -> Sequence[str]:
    """Return the note on weights that a file of settings names beside those that are given."""
    named = base.get("start")
    if named in (None, "", config.start):
        return ()
    return (f"note: start {named}: not used, as other weights are named",)


def _meant(config: Config, path: str) -> Any:
    """Return a setting; the normalisation of images as numbers even where nobody set any."""
    value: Any = config
    for name in path.split("."):
        value = getattr(value, name)
    name = path.rpartition(".")[2]
    if not path.startswith("model.backbone.") or name not in _NORMALISATION:
        return value
    backbone = config.model.backbone
    usual = timm.get_pretrained_cfg(backbone.name)
    given = value or (usual and getattr(usual, name))
    # A value for each band, where they are not those of RGB repeated.
    return given and for_each_band(given, max(3, len(given)))


def _as_weights(value: Any, path: str, usual: Norm) -> Any:
    """Return one value for all that have the same weights, as the kinds of batch norm have."""
    if path in _NORMS:
        return as_weights(value or usual)
    if path == "model.pyramid":
        return replace(value, norm=as_weights(value.norm or usual))
    return value


def _architecture(name: str) -> str:
    """Return the network of a backbone; behind the dot stands what it was trained on."""
    return name.partition(".")[0]


def _bands(number: int) -> str:
    return f"{number} band{'s' if number > 1 else ''}"


def _plain(value: Any) -> Any:
    """Return a value as it is given on the command line."""
    if value is None:
        return "null"
    if is_dataclass(value):
        return to_dict(value)
    return str(list(value)).replace(" ", "") if isinstance(value, tuple) else value
