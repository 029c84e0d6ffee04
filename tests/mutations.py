"""Files with something wrong: torn, of another kind, with values of another type or size."""

import copy
import gzip
import json
import random
import shutil
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from pins.errors import PinsError

HUGE, DEEP = "9" * 5000, "[" * 20_000 + "]" * 20_000  # Python reads neither
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 0.5, 2**70, 1e308, float("nan")),
    *("", "x", "a\0b", "\ud800", "HUGE", "DEEP"),
    *([], {}, [[]], ["x"]),
)
WHOLE = {
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "a number": b"3",
    "a huge integer": HUGE.encode(),
    "deep brackets": DEEP.encode(),
    "NUL": b"\0" * 9,
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "Latin-1": b"caf\xe9\n",
}
SECONDS = 10  # for one reading, far beyond what any takes


def contents(raw: bytes, seed: int, number: int) -> Iterator[tuple[str, bytes]]:
    """What may stand in a file in place of `raw`, by the name of what is wrong."""
    yield from WHOLE.items()
    yield "gzip", gzip.compress(raw, mtime=0)
    yield "a NUL in it", raw[: len(raw) // 2] + b"\0" + raw[len(raw) // 2 :]
    yield "UTF-16", raw.decode("utf-8", "replace").encode("utf-16")
    for each in range(seed, seed + number):
        chance = random.Random(each)
        yield f"cut off ({each})", raw[: chance.randrange(len(raw))]
        changed = bytearray(raw)
        for _ in range(chance.randint(1, 8)):
            changed[chance.randrange(len(raw))] = chance.randrange(256)
        yield f"other bytes ({each})", bytes(changed)
        if (other := _another_value(raw, chance)) is not None:
            yield f"another value ({each})", other


def _another_value(raw: bytes, chance: random.Random) -> bytes | None:
    """A JSON file, or a safetensors file, with a value of its JSON replaced or left out."""
    try:
        return _swapped(json.loads(raw), chance)
    except ValueError:
        pass
    size = int.from_bytes(raw[:8], "little")
    if size > len(raw):
        return None
    header = json.loads(raw[8 : 8 + size])
    metadata = header.get("__metadata__", {})
    inner = chance.choice([None, *(key for key in metadata if metadata[key][:1] in "[{")])
    if inner is not None:  # JSON in the metadata
        metadata[inner] = _swapped(json.loads(metadata[inner]), chance).decode()
        text = json.dumps(header).encode()
    else:
        text = _swapped(header, chance)
    return struct.pack("<Q", len(text)) + text + raw[8 + size :]


def _swapped(value: Any, chance: random.Random) -> bytes:
    whole = [copy.deepcopy(value)]
    places: list[tuple[Any, Any]] = []

    def visit(container: Any) -> None:
        for key in list(container) if isinstance(container, dict) else range(len(container)):
            places.append((container, key))
            if isinstance(container[key], dict | list):
                visit(container[key])

    visit(whole)
    container, key = chance.choice(places)
    if isinstance(container, dict) and not chance.randrange(4):
        del container[key]
    else:
        container[key] = copy.deepcopy(chance.choice(VALUES))
    text = json.dumps(whole[0], ensure_ascii=True)
    return text.replace('"HUGE"', HUGE).replace('"DEEP"', DEEP).encode()


def leaks(
    read: Callable[[], object], files: Iterable[Path], *, seed: int = 0, number: int = 20
) -> list[str]:
    """How readings of changed files end otherwise than with a value or with one line of PINS.

    Each of the files is changed in turn, and is then as it was.
    """
    found = []

    def attempt(what: str) -> None:
        start = time.monotonic()
        try:
            read()
        except PinsError as error:
            if "\n" in str(error) or not str(error).isprintable() or len(str(error)) > 1500:
                found.append(f"{what}: not one short line: {str(error)[:3000]!r}")
        except Exception as error:
            found.append(f"{what}: {type(error).__name__}: {str(error)[:200]}")
        if time.monotonic() - start > SECONDS:
            found.append(f"{what}: took {time.monotonic() - start:.0f} s")

    for file in files:
        raw = file.read_bytes()
        for what, changed in contents(raw, seed, number):
            file.write_bytes(changed)
            attempt(f"{file.name}, {what}")
        places: dict[str, Callable[[Path], None]] = {
            "missing": lambda _: None,
            "a folder": Path.mkdir,
            "a dangling link": lambda place: place.symlink_to("nowhere"),
        }
        for what, put in places.items():
            file.unlink()
            put(file)
            attempt(f"{file.name}, {what}")
            if file.is_dir():
                shutil.rmtree(file)
            else:
                file.unlink(missing_ok=True)
            file.write_bytes(raw)
    return found
