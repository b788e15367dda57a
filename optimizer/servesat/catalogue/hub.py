"""Import of models: a Hugging Face configuration becomes a model file."""

from os.path import exists, isdir
from pathlib import Path
from typing import Any

from servesat.catalogue.load import load_model, name_of_file
from servesat.catalogue.model import ModelSpec
from servesat.core.errors import CatalogueError

CONFIG = "config.json"


def import_model(source: str) -> ModelSpec:
    """Read a model from a `config.json`, the folder of a `config.json`, or a repository on the Hub by its id.

    Raises CatalogueError for a missing or malformed configuration, or an unsupported architecture.
    """
    path = Path(source)
    if isdir(path):
        path /= CONFIG
        if not exists(path):
            raise CatalogueError(f"{source}: has no {CONFIG}")
    if exists(path):
        if path.suffix != ".json":
            raise CatalogueError(f"{source}: expected a {CONFIG}, its folder, or an id such as owner/name")
        model = load_model(str(path))
        return _renamed(model, model.name if "/" in model.name else name_of_file(path))
    if source.endswith(".json") or source.count("/") != 1 or source.startswith((".", "/")):
        raise CatalogueError(f"{source}: no such file or folder, nor the id of a model on the Hub, such as owner/name")
    return _renamed(load_model(str(_fetched(source))), source)


def _renamed(model: ModelSpec, name: str) -> ModelSpec:
    """The model under a new name, the id of its repository or its folder, which is also its source."""
    short = name.rpartition("/")[2]
    source = {**model.sources, "default": f"Hugging Face {CONFIG} of {name}"}
    return model.model_copy(update={"id": short.lower(), "name": short, "sources": source})


def _fetched(repository: str) -> Path:
    """Fetch a repository's configuration. Raises CatalogueError without the extra `hub`, or the network."""
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError:
        raise CatalogueError(
            f"{repository}: no such file or folder; to fetch it from the Hub, pip install '.[hub]', "
            f"or download its {CONFIG} and give its path"
        ) from None
    try:
        return Path(hf_hub_download(repository, CONFIG))
    except (HfHubHTTPError, OSError, ValueError) as fault:
        reason = (str(fault).strip() or type(fault).__name__).splitlines()[0]
        raise CatalogueError(f"{repository}: cannot be fetched from the Hub: {reason}") from None


def toml_text(model: ModelSpec) -> str:
    """The text of a model file."""
    import tomli_w

    return tomli_w.dumps(_file_fields(model))


def _file_fields(model: ModelSpec) -> dict[str, Any]:
    """The fields of a model file: those that differ from their defaults."""
    fields = model.model_dump(mode="json", exclude_none=True, exclude_defaults=True, exclude={"id"})
    if model.mla is not None:
        fields = {key: value for key, value in fields.items() if key not in {"kv_heads", "head_dim"}}
    return {"name": model.name, **fields}
