"""Files that mean COCO annotations and write them in another form, brought into COCO's.

Labelling tools and home-made converters write ids as text, polygons as flat lists, lists as objects
and so on. What can mean only one thing is taken, and said in a sentence with its number; what can
mean two things is refused in one sentence. A file in plain form is only looked at, kind by kind,
and stays as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scnet.data.forms.fields import take_fields
from scnet.data.forms.ids import ORIGINAL, take_ids
from scnet.data.forms.lists import take_lists
from scnet.data.forms.names import name_categories, take_names
from scnet.data.forms.nearby import measure, name_files
from scnet.data.forms.notes import Notes, RefusedError
from scnet.data.forms.survey import Survey
from scnet.data.forms.values import entries

__all__ = ["ORIGINAL", "RefusedError", "normalise", "normalise_images"]


def normalise(content: Any, file: Path) -> list[str]:
    """Bring the content of an annotation file into COCO's form; return what was taken for what.

    Changes nothing but what has another form. Image files near the file say what it leaves out.

    Raises:
        RefusedError: a form that may mean several things; says what, how often, and what to do.
    """
    notes = Notes()
    if not isinstance(content, dict):
        return []
    take_lists(content, notes)
    images, annotations, categories = (
        entries(content, key) for key in ("images", "annotations", "categories")
    )
    seen = Survey.of(annotations)
    name_files(images, file, notes)
    name_categories(categories, notes)
    take_names(images, annotations, categories, seen, notes)
    take_ids(images, annotations, categories, seen, notes)
    take_fields(images, annotations, seen, notes)
    measure(images, file, notes)
    return notes.sentences()


def normalise_images(content: Any, file: Path) -> list[str]:
    """Do the same for images and categories alone: those to predict on need nothing else.

    Annotations are taken out, sizes may be missing. An image or category whose id was text keeps it
    under the key `ORIGINAL`.

    Raises:
        RefusedError: as `normalise`.
    """
    notes = Notes()
    if not isinstance(content, dict):
        return []
    content["annotations"] = []
    take_lists(content, notes)
    images, categories = entries(content, "images"), entries(content, "categories")
    name_files(images, file, notes)
    name_categories(categories, notes)
    written = [(entry, entry.get("id")) for entry in (*images, *categories)]
    take_ids(images, [], categories, Survey.of([]), Notes())  # nobody sees the numbers
    for entry, old in written:
        if type(old) is str:
            entry[ORIGINAL] = old
    return notes.sentences()
