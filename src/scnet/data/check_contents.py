"""What an annotation file holds, counted over what is sound in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal

from scnet.data.categories import CROWD_ACTION, ROOT, crowd_message, mostly_crowd
from scnet.data.faults import image_name, is_crowd
from scnet.data.report import Summary
from scnet.data.wording import counted, of_all

Entry = Mapping[str, Any]
Said = tuple[Literal["error", "warning", "note"], str, str]  # how grave, what, what to do


def contents_of(
    summary: Summary,
    crowd: str,
    images: Mapping[int, Entry],
    names: Mapping[int, str],
    sound: Mapping[int, list[Entry]],
    roots: Collection[str],
) -> Iterator[Said]:
    """Write the numbers into the summary; yield what looks wrong about them.

    Args:
        crowd: the setting of that name.
        images: entries by id.
        names: of the classes.
        sound: the sound annotations of each image.
        roots: classes without objects that a training leaves out.
    """
    objects = {i: [e for e in entries if not is_crowd(e)] for i, entries in sound.items()}
    summary.images = len(images)
    summary.per_image = Counter({i: len(entries) for i, entries in objects.items()})
    counts = Counter(dict.fromkeys(names.values(), 0))
    counts.update(names[e["category_id"]] for entries in objects.values() for e in entries)
    summary.per_class = counts
    crowds = Counter(names[e["category_id"]] for es in sound.values() for e in es if is_crowd(e))
    yield from _of_crowds(crowds, counts, crowd)
    if roots:
        left_out = f"{counted(len(roots), 'class')} left out ({ROOT}): {', '.join(sorted(roots))}"
        yield "note", left_out, "nothing to do"
    without = [
        name + " (crowd regions alone)" * (name in crowds)
        for name, count in counts.items()
        if not count
        and name not in roots
        and not (crowd == "auto" and mostly_crowd(crowds[name], count))
    ]
    if without:
        listed = ", ".join(without[:10]) + (", ..." if len(without) > 10 else "")
        has = f"{of_all(len(without), len(counts) - len(roots), 'class', 'has')}"
        reason = f"{has} no object: {listed}"
        yield "warning", reason, "remove them from the categories, or add examples"
    empty = [image_name(images[i]) for i, entries in objects.items() if not entries]
    if empty:
        action = "that may be meant; --data.keep-empty false leaves them out of training"
        has = f"{counted(len(empty), 'image', 'has')}"
        yield "note", f"{has} no object, such as {empty[0]}", action


def _of_crowds(crowds: Counter[str], counts: Counter[str], crowd: str) -> Iterator[Said]:
    for name, number in crowds.items():
        if crowd == "auto" and mostly_crowd(number, counts[name]):
            yield "error", crowd_message(name, number, counts[name]), CROWD_ACTION
    total, of = sum(crowds.values()), sum(counts.values())
    if total:
        reason = f"{of_all(total, total + of, 'annotation', 'is a crowd region')} (iscrowd 1)"
        yield "note", reason, "nothing is learnt from them"
