"""What a training was asked for, settled into one config; contradictions with the data stop it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from scnet import idle, recipes
from scnet.config import Config, override, replace_at
from scnet.data.advice import Advice
from scnet.data.layout import NoSplitError, find_split
from scnet.idle import Facts
from scnet.settings import ConfigError, leaves, merge, nested
from scnet.training import finetune
from scnet.training.auto import AUTO, recommend
from scnet.training.start import Start, unused

Settings = Mapping[str, Any]  # nested, as `scnet.config.override` takes them

# Settings that name a file or folder, unless they are one of these words.
_PLACES = {
    "data.path": ("",),
    "data.stuff_maps": ("auto", "none"),
    "model.backbone.weights": ("imagenet", "none"),
}


class Asked(NamedTuple):
    """A config, and where its settings come from."""

    config: Config
    recipe: Config  # before any setting
    base: Settings  # of a file, which may hold some without effect
    given: Settings  # one by one; each has an effect
    chosen: list[Advice]  # by the data
    came: Sequence[str] = ()  # what to say of settings that come with weights

    def refuse_idle(self, facts: Facts) -> None:
        """Stop where a setting that was given has no effect.

        Raises:
            ConfigError: says which, why, and what to do.
        """
        idle.refuse(self.given, facts)

    def fine_tuned(self, theirs: Config, images: int) -> Asked:
        """Return the same with the settings of a fine-tuning, where nobody gave others.

        Args:
            theirs: config of the weights that the training goes on from.
            images: that are seen in an epoch.

        Raises:
            ConfigError: all of them were given.
        """
        config = self.config
        given = merge(self.base, self.given)
        for path, value in finetune.changes(config, theirs, given, images).items():
            config = override(config, nested(path, value))
        came = (*self.came, f"fine-tuning: {finetune.changed(self.config, config)}")
        return self._replace(config=config, came=came)

    def remarks(self, facts: Facts) -> list[str]:
        """Return what to say of settings that have no effect and need not stop anything."""
        place = dict(leaves(self.base)).get("data.path")
        return [
            *(f"warning: {text}" for text in idle.warnings(self.given, self.config)),
            *(f"note: {text}" for text in idle.remarks(self.base, self.recipe, facts)),
            *unused(self.base, self.config),
            *self.came,
            *[f"note: data.path {place}: not used, as other data are named"]
            * (place not in (None, "", self.config.data.path)),
        ]


def ask(
    recipe: str | Config,
    data: str | os.PathLike[str],
    *,
    base: Settings | None = None,
    settings: Settings | None = None,
    epochs: int | None = None,
    start: Start | None = None,
) -> Asked:
    """Return the config of a training; the arguments are those of `scnet.train`.

    Args:
        start: what it goes on from, whose settings lie under those that somebody gave.

    Raises:
        ConfigError: a setting that does not exist or fit, or that has no effect.
        DataError: the data were to choose the recipe, and something is wrong with them.
    """
    given = _with_epochs(settings or {}, epochs)
    base = base or {}
    wanted = merge(_without(base, "data.path"), given)
    chosen: list[Advice] = []
    if recipe == AUTO:
        own, chosen = recommend(data, wanted, start.settings if start else None)
    else:
        own = recipes.find(recipe) if isinstance(recipe, str) else recipe
    below = start.settings(own) if start else {}
    named = wanted.get("recipe", own.recipe)
    if named != own.recipe:
        raise ConfigError(f"recipe: {named}, but {own.recipe} is trained; say one of them")
    named_beside = {"data": {"path": str(data)}, "start": start.name if start else ""}
    # Laid together: settings that come with weights may need one that is given beside them.
    config = override(override(own, merge(below, wanted)), named_beside)
    asked = Asked(with_absolute_places(config), own, base, given, chosen)
    asked.refuse_idle(Facts(asked.config))
    if start is not None:
        start.require_same_backbone(config)
        before = recipes.find(own.recipe) if recipe == AUTO else own
        asked = asked._replace(came=start.remarks(before, config))
    return asked


def with_absolute_places(config: Config) -> Config:
    """Return the config with paths that mean the same from any working folder."""
    for setting, words in _PLACES.items():
        value: Any = config
        for name in setting.split("."):
            value = getattr(value, name)
        if value not in words:
            config = replace_at(config, setting, os.path.abspath(os.path.expanduser(value)))
    return config


def evaluates(config: Config) -> bool:
    """Return whether the data set has images to evaluate on."""
    try:
        find_split(config.data.path, "val")
    except NoSplitError:
        return False
    return True


def require_classes_of_data(asked: Asked, fitted: Config) -> None:
    """Refuse classes, or a number of them or of bands, where the data have others.

    Raises:
        ConfigError: says what was asked for and what there is.
    """
    wanted = dict(leaves(merge(asked.base, asked.given)))
    counts = {
        "model.backbone.bands": fitted.model.backbone.bands,
        "model.num_classes": fitted.model.num_classes,
        "model.semantic.num_classes": fitted.model.semantic_classes,
    }
    for path, there in counts.items():
        if wanted.get(path) not in (None, there):
            raise ConfigError(
                f"{path}: {wanted[path]}, but {fitted.data.path} has {there}; leave the setting "
                "out, as it is taken from the data"
            )
    for key in ("classes", "category_ids"):
        names, there_are = wanted.get(key), getattr(fitted, key)
        if names is not None and tuple(names) != there_are:
            raise ConfigError(
                f"{key}: {', '.join(map(str, names))}, but {fitted.data.path} has "
                f"{', '.join(map(str, there_are))}; choose and order classes with data.classes"
            )


def _with_epochs(settings: Settings, epochs: int | None) -> Settings:
    if epochs is None:
        return settings
    said = dict(leaves(settings)).get("optim.epochs", epochs)
    if said != epochs:
        raise ConfigError(f"epochs: {epochs}, but settings have optim.epochs {said}; give one")
    return merge(settings, nested("optim.epochs", epochs))


def _without(settings: Settings, path: str) -> Settings:
    """Return nested settings without the one at a dotted path."""
    name, _, rest = path.partition(".")
    if name not in settings:
        return settings
    others = {key: value for key, value in settings.items() if key != name}
    if rest and isinstance(settings[name], Mapping):
        others[name] = _without(settings[name], rest)
    return others
