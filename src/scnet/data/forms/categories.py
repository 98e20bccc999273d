"""The names of categories, and annotations that give the name instead of the id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from scnet.data.forms.notes import Notes
from scnet.data.forms.values import Entry, kinds


def name_categories(
    categories: Sequence[Entry], annotations: Sequence[Entry], notes: Notes
) -> None:
    """Take names without the blanks around them, and names in the place of ids."""
    for category in categories:
        name = category.get("name")
        if type(name) is int:
            category["name"] = str(name)
            notes.add("category", "the name is a number, taken as text")
        elif isinstance(name, str) and name.strip() and name != name.strip():
            category["name"] = name.strip()
            notes.add("category", "the name has blanks around it, left out")
    if str in kinds(annotations, "category_id"):
        _ids_of_names(categories, annotations, notes)


def _ids_of_names(categories: Sequence[Entry], annotations: Sequence[Entry], notes: Notes) -> None:
    """Replace names of categories by ids, where a name is no id and belongs to one category."""
    ids = {str(category.get("id")) for category in categories}
    names = Counter(str(category.get("name")) for category in categories)
    table = {
        category["name"]: category["id"]
        for category in categories
        if isinstance(name := category.get("name"), str) and names[name] == 1 and "id" in category
    }
    for annotation in annotations:
        name = annotation.get("category_id")
        if not isinstance(name, str) or name in ids:
            continue
        if (name := name.strip()) in table and number_free(name):
            annotation["category_id"] = table[name]
            notes.add("annotation", "category_id is the name of a category, taken as its id")


def number_free(name: str) -> bool:
    """Return whether a name is not the text of a number, which would rather be an id."""
    return not name.lstrip("+-").replace(".", "", 1).isdigit()
