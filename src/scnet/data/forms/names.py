"""Names of categories and images, and annotations that give the name instead of the id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from scnet.data.classes import seen_name
from scnet.data.forms.notes import Notes, RefusedError
from scnet.data.forms.survey import Survey
from scnet.data.forms.values import Entry, whole


def name_categories(categories: Sequence[Entry], notes: Notes) -> None:
    """Take names without the blanks around them, and numbers as text."""
    for category in categories:
        name = category.get("name")
        if type(name) is int:
            category["name"] = str(name)
            notes.add("category", "the name is a number, taken as text")
        elif isinstance(name, str) and (plain := seen_name(name)) and name != plain:
            category["name"] = plain
            notes.add(
                "category", "the name has blanks around it or signs that are not seen, left out"
            )


def take_names(
    images: Sequence[Entry],
    annotations: Sequence[Entry],
    categories: Sequence[Entry],
    seen: Survey,
    notes: Notes,
) -> None:
    """Replace names by ids where annotations refer to categories and images by their names.

    Raises:
        RefusedError: a name is the id of another.
    """
    for found, name, reference, noun in (
        (categories, "name", "category_id", "category"),
        (images, "file_name", "image_id", "image"),
    ):
        if str in seen.kinds[reference]:
            if found and not any("id" in entry for entry in found):
                for number, entry in enumerate(found, start=1):
                    entry["id"] = number
                notes.add(noun, "the id is missing, numbered from 1", len(found))
            _ids_of_names(found, name, annotations, reference, notes)


def _ids_of_names(
    found: Sequence[Entry],
    field: str,
    annotations: Sequence[Entry],
    reference: str,
    notes: Notes,
) -> None:
    """Replace a name by the id where it belongs to one entry and is no id itself."""
    ids = {str(entry.get("id")): entry for entry in found}
    names = Counter(str(entry.get(field)) for entry in found)
    table = {
        name: entry["id"]
        for entry in found
        if isinstance(name := entry.get(field), str) and names[name] == 1 and "id" in entry
    }
    for annotation in annotations:
        text = annotation.get(reference)
        name = text.strip() if isinstance(text, str) else ""
        if name not in table:
            continue
        if name in ids and ids[name].get(field) != name:
            raise RefusedError(
                f'{reference} "{name:.40}" is the id of one and the {field} of another; '
                "write ids as whole numbers"
            )
        if name not in ids and whole(name) is None:  # a number that is no id is rather a wrong one
            annotation[reference] = table[name]
            notes.add("annotation", f"{reference} is a {field}, taken as the id that it belongs to")
