"""Numbers with their nouns and verbs, as messages say them."""

from __future__ import annotations

# What is said of one thing, and of several.
SEVERAL = {
    "is": "are",
    "is a crowd region": "are crowd regions",
    "is a training image": "are training images",
    "has": "have",
}


def counted(number: int, noun: str, verb: str = "") -> str:
    """Return a number with its noun, and with a verb that is given for one.

    >>> counted(1200, "category"), counted(1, "box"), counted(2, "box"), counted(0, "image file")
    ('1,200 categories', '1 box', '2 boxes', '0 image files')
    >>> counted(1, "image", "has"), counted(2, "image", "has")
    ('1 image has', '2 images have')
    """
    return f"{number:,} {noun if number == 1 else plural(noun)}{_verb(number, verb)}"


def of_all(number: int, total: int, noun: str, verb: str = "") -> str:
    """Return how many of all there are, and a verb.

    >>> of_all(1, 4, "image", "is"), of_all(2, 4, "image", "is"), of_all(1, 1, "image")
    ('1 of 4 images is', '2 of 4 images are', '1 of 1 image')
    """
    return f"{number:,} of {counted(total, noun)}{_verb(number, verb)}"


def plural(noun: str) -> str:
    """Return a noun for several.

    >>> plural("class"), plural("entry"), plural("array")
    ('classes', 'entries', 'arrays')
    """
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return noun + ("es" if noun.endswith(("s", "x")) else "s")


def _verb(number: int, verb: str) -> str:
    return f" {verb if number == 1 else SEVERAL[verb]}" if verb else ""
