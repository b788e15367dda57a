"""The chips and models of measured rows, by the names that benchmarks give them."""

import re
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import TypeVar

from servesat.catalogue.chip import Chip
from servesat.catalogue.load import chip_ids, load_chip, load_model, model_ids
from servesat.catalogue.model import ModelSpec
from servesat.core.errors import CatalogueError
from servesat.core.validation import nearest

_Loaded = TypeVar("_Loaded", Chip, ModelSpec)

UNNAMED = {"h100": "h100-sxm", "a100": "a100-80gb"}
"""Names that leave open which of several boards is meant, and the usual one."""


FIRST_GENERATIONS = {"llama-7b": "llama-2-7b", "llama-70b": "llama-2-70b", "mistral-7b": "mistral-7b-v0.1"}
"""Names of before a model had successors, and the model of that shape."""


_SUFFIX = re.compile(
    r"-(quantized\.\w+|fp8(-dynamic|-block)?|awq|gptq[\w.-]*|nvfp4|fp4|int4|mxfp4|instruct|chat|it|hf|\d{4})$"
)

_STORED_IN = {
    "int8": "int8|w8a8|w8a16", "int4": "int4|w4a16|awq|gptq", "mxfp4": "mxfp4", "nvfp4": "nvfp4|fp4", "fp8": "fp8",
}  # fmt: skip
"""Words in the names of repositories that say what their weights are stored in; the first that is found."""


class RowError(Exception):
    """Why a row cannot be predicted."""


_FILES = (".toml", ".json")
"""How names end that are paths of files of one's own, from the folder of the table."""


def chip_named(name: str, folder: Path = Path()) -> Chip:
    """The chip of a name: an id, however it is spelled; `TPU v6e-4` is four of a chip; or a file. Raises RowError."""
    if name.endswith(_FILES):
        return _of_file(load_chip, name, folder)
    plain = {plain_name(chip): chip for chip in chip_ids()}
    spelled = re.sub(r"^(google|nvidia|amd)[ -]", "", name.strip(), flags=re.IGNORECASE)
    spelled = UNNAMED.get(plain_name(spelled), spelled)
    found = plain.get(plain_name(spelled)) or plain.get(plain_name(re.sub(r"-\d+$", "", spelled)))
    if found is None:
        raise RowError(f"chip = {name}: no chip of the catalogue{_hint(name.lower(), chip_ids())}")
    return load_chip(found)


def _hint(name: str, known: Iterable[str]) -> str:
    """The known names near a name, if there are some: a row has no room for all."""
    hint = nearest(name, known)
    return f"; {hint}" if hint.startswith("did") else ""


def plain_name(name: str) -> str:
    """A name in lower case, letters and digits alone."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _of_file(load: Callable[[str, Path], _Loaded], name: str, folder: Path) -> _Loaded:
    try:
        return load(name, folder)
    except CatalogueError as fault:
        raise RowError(str(fault)) from None


def model_named(name: str, folder: Path = Path()) -> ModelSpec:
    """The model of a catalogue id, of a repository with its weights in any dtype, or of a file. Raises RowError."""
    if name.endswith(_FILES):
        return _of_file(load_model, name, folder)
    known = _models()
    shape = shape_of(name)
    for key in (name.lower(), shape, FIRST_GENERATIONS.get(shape, shape)):
        if key in known:
            return load_model(known[key])
    raise RowError(f"model = {name}: no model of the catalogue{_hint(shape_of(name), known.values())}")


@cache
def _models() -> dict[str, str]:
    """Catalogue ids by their checkpoints, and by what the names of checkpoints and ids say of the shape.

    Where models share checkpoints, the one that counts its parameters stands for them, not the scaling book's.
    """
    found: dict[str, str] = {}
    for model in sorted(model_ids(), key=lambda one: load_model(one).nominal_parameters is not None):
        for repository in load_model(model).checkpoints.values():
            found.setdefault(repository.lower(), model)
            found.setdefault(shape_of(repository), model)
    return found | {shape_of(model): model for model in model_ids()} | {model: model for model in model_ids()}


def dtype_of(name: str) -> str | None:
    """What the weights of a repository are stored in, as far as its name says."""
    plain = name.rpartition("/")[2].lower()
    return next(
        (dtype for dtype, words in _STORED_IN.items() if re.search(rf"(?:^|[-_.])(?:{words})(?:$|[-_.])", plain)), None
    )


def shape_of(name: str) -> str:
    """A name without its owner, and without what says nothing of the shape: `llama-3.1-8b`."""
    plain = re.sub(r"\(.*?\)", "", name.rpartition("/")[2]).strip().lower().replace(" ", "-").removeprefix("meta-")
    while _SUFFIX.search(plain):
        plain = _SUFFIX.sub("", plain)
    return plain
