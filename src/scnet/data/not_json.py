"""What a file is that should be JSON and is not."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections import Counter
from typing import Any

LISTS = ("images", "annotations", "categories")
_KEYS = [(b'"%s"' % key, re.compile(rb'"%s"\s*:' % key)) for key in map(str.encode, LISTS)]
AGAIN = "write or download it again"
_COMMENT = re.compile(r"\s*(//|/\*|#)")
_HIGH = re.compile(rb"[\x80-\xff]+")

# What a file begins with, what it is, and what to do.
_STARTS: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "it is a Git LFS pointer", "fetch the file with git lfs pull"),
    (
        b"<!doctype html",
        "it is a web page, not the file",
        "download it again, logged in if need be",
    ),
    (b"<html", "it is a web page, not the file", "download it again, logged in if need be"),
    (b"<?xml", "it is XML", "export the data as COCO"),
    (b"<annotation", "it is XML", "export the data as COCO"),
    (b"pk\x03\x04", "it is a ZIP archive", "unpack it"),
    (b"7z\xbc\xaf", "it is a 7z archive", "unpack it"),
    (b"rar!", "it is a RAR archive", "unpack it"),
    (b"\x89png", "it is an image", "give the annotation file"),
    (b"\xff\xd8\xff", "it is an image", "give the annotation file"),
    (b"\x89hdf", "it is an HDF5 file", "export the annotations as COCO JSON"),
    (b"par1", "it is a Parquet file", "export the annotations as COCO JSON"),
)
# Encodings that files of other systems have, likeliest first where several fit.
_ENCODINGS = (
    ("gb18030", "GBK, of Chinese Windows"),
    ("shift_jis", "Shift JIS, of Japanese Windows"),
    ("big5", "Big5, of Chinese Windows (traditional)"),
    ("cp949", "CP949, of Korean Windows"),
)
_WESTERN = ("cp1252", "CP1252, of Western Windows")


def unpacked(data: bytes) -> bytes:
    """Return what a file holds, without gzip's packing; ValueError if that is broken."""
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"its gzip data are broken ({error}); {AGAIN}") from None


def stop_at_doubles(data: bytes) -> None:
    """Raise ValueError if a list of the file is there twice, of which readers take the last."""
    # Counting plain text takes a tenth of the time of the expressions.
    if any(data.count(key) > 1 and len(full.findall(data)) > 1 for key, full in _KEYS):
        doubles: list[str] = []

        def take(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            found = Counter(key for key, _ in pairs)
            doubles[:] = [key for key in LISTS if found[key] > 1]  # the outermost comes last
            return {}

        json.loads(data, object_pairs_hook=take)
        if doubles:
            raise ValueError(f"it has {doubles[0]} twice; join the two, or make a file of each")


def explain(data: bytes, error: Exception) -> str:
    """Return what is wrong with a file that could not be read as JSON, and what to do."""
    start = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    for begin, what, action in _STARTS:
        if start[: len(begin)].lower() == begin:
            return f"{what}; {_of_xml(start) if what == 'it is XML' else action}"
    if not start:
        return f"it is empty; {AGAIN}"
    if not start.strip(b"\0"):
        return f"it holds zeros alone, as after a copy that failed; {AGAIN}"
    if isinstance(error, UnicodeDecodeError):
        return _encoding(data)
    if isinstance(error, json.JSONDecodeError):
        return _syntax(error)
    return str(error) if "; " in str(error) else f"{error}; {AGAIN}"


def _of_xml(start: bytes) -> str:
    root = re.search(rb"<([A-Za-z]\w*)", start.partition(b"?>")[2] or start)
    by_root = {
        b"annotation": "VOC has a file an image and no masks in it: convert the data to COCO",
        b"annotations": 'it is CVAT\'s own form: export the task as "COCO 1.0"',
    }
    return by_root.get(root[1] if root else b"", "export the data as COCO")


def _encoding(data: bytes) -> str:
    """Return which encoding a file may have that is not in UTF-8."""
    found = []
    # Of two bytes a character, nearly all runs are even; letters with accents stand alone.
    runs = [len(run) for run in _HIGH.findall(data)]
    wide = sum(length % 2 == 0 for length in runs) > len(runs) / 2
    for name, what in _ENCODINGS if wide else (_WESTERN,):
        try:
            data.decode(name)
        except UnicodeDecodeError:
            continue
        found.append((name, what))
    likely = (
        f"looks like {' or '.join(what for _, what in found[:2])}" if found else "or is damaged"
    )
    name = found[0][0].upper() if found else "ENCODING"
    return (
        f"it is not in UTF-8, and {likely}; "
        f"save it as UTF-8: iconv -f {name} -t UTF-8 OLD.json > NEW.json"
    )


def _syntax(error: json.JSONDecodeError) -> str:
    """Return what is wrong where reading stopped."""
    rest, place = error.doc[error.pos :], f"line {error.lineno:,}, column {error.colno:,}"
    before = error.doc[: error.pos].rstrip()
    if error.msg == "Extra data":
        return _extra(error.doc, rest)
    if not rest.strip() or error.msg.startswith("Unterminated string"):
        return f"it ends in the middle, at {place}; {AGAIN}"
    if _COMMENT.match(rest):
        return f"there is a comment at {place}, which JSON does not have; remove it"
    if (before.endswith(",") and rest.lstrip()[:1] in ("]", "}")) or rest.startswith(","):
        return f"there is a comma too many at {place}; remove it"
    if rest.startswith(("'", "None", "True", "False")):
        return f"Python wrote it with print at {place}; write it with json.dump"
    return f"{error}; {AGAIN}"


def _extra(text: str, rest: str) -> str:
    lines = text.strip().splitlines()
    if (
        len(lines) > 1
        and all(line.strip()[:1] == "{" for line in lines[:2])
        and lines[0].strip()[-1] == "}"
    ):
        return "it is JSON Lines, an object a line; export the data as one COCO file"
    if rest.strip()[:1] in ("{", "["):
        return "it holds two JSON documents, one behind the other; make a file of each"
    if _COMMENT.match(rest):
        return "a comment stands behind the content, which JSON does not have; remove it"
    return f"something stands behind its end: {rest.strip()[:20]!r}; {AGAIN}"
