"""What a shell completes: ids of the catalogue, keys of a spec, and files; none of it needs the solver."""

from collections.abc import Iterable
from glob import escape, glob
from os.path import isdir
from typing import get_args


def _starting(words: Iterable[str], incomplete: str) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]


def complete_model(incomplete: str) -> list[str]:
    """The models whose ids start so; where none does, files, as a model may be one."""
    from servesat.catalogue.load import model_ids

    return _starting(model_ids(), incomplete) or _files(incomplete, (".toml", ".json"))


def complete_chip(incomplete: str) -> list[str]:
    """The chips whose ids start so; where none does, files."""
    from servesat.catalogue.load import chip_ids

    return _starting(chip_ids(), incomplete) or _files(incomplete, (".toml",))


def complete_chip_price(incomplete: str) -> list[str]:
    """The chips whose ids start so, each with the `=` before its price."""
    from servesat.catalogue.load import chip_ids

    return [f"{chip}=" for chip in _starting(chip_ids(), incomplete)]


def complete_engine(incomplete: str) -> list[str]:
    """The engines whose ids start so; where none does, files."""
    from servesat.catalogue.load import engine_ids

    return _starting(engine_ids(), incomplete) or _files(incomplete, (".toml",))


def complete_engines(incomplete: str) -> list[str]:
    """The last of several engines, `vllm,sgl`: a program or an id; alone also `any` and `none`."""
    from servesat.catalogue.engine import Program
    from servesat.catalogue.load import engine_ids

    before, comma, last = incomplete.rpartition(",")
    words = [*get_args(Program), *engine_ids(), *(() if comma else ("any", "none"))]
    return [f"{before}{comma}{word}" for word in _starting(words, last)]


def complete_book(incomplete: str) -> list[str]:
    """The price books whose ids start so, or `all`; where none does, files."""
    from servesat.catalogue.load import EVERY_OFFER, price_book_ids

    return _starting([*price_book_ids(), EVERY_OFFER], incomplete) or _files(incomplete, (".toml",))


def complete_key(incomplete: str) -> list[str]:
    """The keys of a spec that start so, `slo.tpot_ms`, and the prices of chips, `price.h100-sxm`."""
    from servesat.catalogue.load import chip_ids
    from servesat.spec.checks import KEYED_BY_CHIP
    from servesat.spec.market import Power
    from servesat.spec.search_space import Search
    from servesat.spec.slo import Slo
    from servesat.spec.spec import Spec
    from servesat.spec.workload import Workload

    parts = {
        "workload": Workload.model_fields,
        "slo": Slo.model_fields,
        "search": Search.model_fields,
        "power": Power.model_fields,
    }
    below = [f"{name}.{key}" for name, keys in parts.items() for key in keys]
    alone = [name for name in Spec.model_fields if name not in {*parts, *KEYED_BY_CHIP}]
    return _starting([*below, *alone, *(f"price.{chip}" for chip in chip_ids())], incomplete)


def complete_setting(incomplete: str) -> list[str]:
    """The keys of a spec that start so, each with the `=` before its value."""
    return [f"{key}=" for key in complete_key(incomplete)]


def complete_dtype(incomplete: str) -> list[str]:
    """The dtypes that start so."""
    from servesat.core.validation import Dtype

    return _starting(get_args(Dtype), incomplete)


def complete_group(incomplete: str) -> list[str]:
    """The groups of the scaling book's figures that start so, each as one word."""
    from servesat.scaling_book.printed import groups, one_word

    return _starting(map(one_word, groups()), incomplete)


def complete_document(incomplete: str) -> list[str]:
    """The documents of the scaling book's figures that start so."""
    from servesat.scaling_book.printed import documents

    return _starting(documents(), incomplete)


def complete_spec(incomplete: str) -> list[str]:
    """The YAML files whose paths start so, folders, and those in them."""
    return _files(incomplete, (".yaml", ".yml"))


def complete_spec_or_result(incomplete: str) -> list[str]:
    """The YAML and JSON files whose paths start so, folders, and those in them."""
    return _files(incomplete, (".yaml", ".yml", ".json"))


def _files(incomplete: str, endings: tuple[str, ...]) -> list[str]:
    """Files with one of some endings, and folders, each with what is in it: after a folder alone the word would end."""
    paths = [f"{path}/" if isdir(path) else path for path in glob(f"{escape(incomplete)}*")]
    within = [inner for path in paths if path.endswith("/") for inner in glob(f"{escape(path)}*")]
    return sorted(path for path in [*paths, *within] if path.endswith(("/", *endings)))
