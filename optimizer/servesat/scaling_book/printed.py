"""The printed figures of the documents, as they stand in claims.csv; reading them needs no solver."""

import csv
from functools import cache
from pathlib import Path


@cache
def printed_rows() -> tuple[dict[str, str], ...]:
    """A row for each figure, in the order of the chapter."""
    with (Path(__file__).parent / "claims.csv").open(newline="") as file:
        return tuple(csv.DictReader(file))


def groups() -> list[str]:
    """The groups of figures."""
    return list(dict.fromkeys(row["group"] for row in printed_rows()))


def documents() -> list[str]:
    """The documents that print them."""
    return list(dict.fromkeys(name for row in printed_rows() for name in row["documents"].split("+")))


def one_word(group: str) -> str:
    """A group's name as it is typed without quotes: `kv-cache`."""
    return group.lower().replace(" ", "-")
