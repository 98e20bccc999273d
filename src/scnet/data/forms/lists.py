"""Lists of entries that a file keeps as objects: id to entry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from scnet.data.forms.notes import Notes, RefusedError
from scnet.data.forms.values import column, entries, types, whole


def take_lists(content: dict[str, Any], notes: Notes) -> None:
    """Turn objects in the place of the three lists into lists, as LIVECell has them."""
    for key, noun in (("images", "image"), ("annotations", "annotation")):
        if isinstance(table := content.get(key), dict) and table:
            found = list(_of_images(table) if _is_grouped(table, key) else _entries(table))
            if found:
                content[key] = found
                notes.add(
                    noun, f"{key} is an object, taken as the list of what it holds", len(found)
                )
    if isinstance(table := content.get("categories"), dict) and table:
        found = list(_categories(table))
        if len(found) == len(table):
            content["categories"] = found
            notes.add("category", "categories is an object, taken as a list", len(found))
    names = content.get("categories")
    if isinstance(names, list) and types(names) == {str}:
        _name(content, names, notes)


def _name(content: dict[str, Any], names: list[str], notes: Notes) -> None:
    """Turn names alone into categories, where annotations give the name and no number."""
    if not types(column(entries(content, "annotations"), "category_id")) <= {str}:
        raise RefusedError(
            "categories are names alone, so that it cannot be known which number is whose; "
            'write each as {"id": 1, "name": "..."}'
        )
    content["categories"] = [{"id": n, "name": name} for n, name in enumerate(names, start=1)]
    notes.add("category", "categories are names alone, numbered from 1", len(names))


def _is_grouped(table: dict[str, Any], key: str) -> bool:
    """Return whether annotations are given as a list for each image."""
    return key == "annotations" and all(isinstance(value, list) for value in table.values())


def _entries(table: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield entries; each has its key for an id if it has none. None if one is no object."""
    if all(isinstance(entry, dict) for entry in table.values()):
        for key, entry in table.items():
            yield entry if "id" in entry else {"id": key, **entry}


def _of_images(table: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the annotations of all images; each has its key for an image id if it has none."""
    if all(isinstance(entry, dict) for found in table.values() for entry in found):
        for key, found in table.items():
            for entry in found:
                yield entry if "image_id" in entry else {"image_id": key, **entry}


def _categories(table: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield categories of {id: category}, {id: name} or {name: id}."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield value if "id" in value else {"id": key, **value}
        elif isinstance(value, str) and whole(key) is not None:
            yield {"id": key, "name": value}
        elif type(value) is int:
            yield {"id": value, "name": key}
