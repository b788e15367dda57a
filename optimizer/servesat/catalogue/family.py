"""What a `model_type` means: which fields of its configuration are needed, and what its defaults are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from servesat.catalogue.config_json import ConfigJson
from servesat.catalogue.layer_patterns import WhichLayers


@dataclass(frozen=True)
class Family:
    """Defaults and required fields of a model type's `config.json`.

    A field whose default in the type's configuration class is a number, rather than derived from other fields, is
    required, because a wrong guess would go unnoticed. The exceptions: which layers have a window, if all models of the
    type share it, and `defaults`, which published models of the type omit.
    """

    required: tuple[str, ...] = ()
    tied_embeddings: bool = False
    gated_mlp: bool = True
    latent: bool = False
    sparse: bool = False
    sinks: bool = False  # beside the tokens that heads attend to
    d_ff: str = "intermediate_size"
    experts: WhichLayers | None = None
    may_be_dense: bool = False  # where the number of experts is 0
    expert_d_ff: str = "moe_intermediate_size"
    shared: str = ""  # field with the width of the shared experts, or their number (n_shared_experts)
    window: WhichLayers | None = None  # used where there is no `layer_types`
    window_tokens: str = "sliding_window"
    window_switch: str = ""
    defaults: Mapping[str, int] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)  # usual name of a field, and the one of this type
    derived: Callable[[ConfigJson], Mapping[str, Any]] | None = None  # usual fields that follow from those of this type
    hybrid: Callable[[ConfigJson, dict[str, Any]], dict[str, Any]] | None = None  # fields of a model that mixes layers

    def with_usual_fields(self, config: ConfigJson) -> ConfigJson:
        """The fields under their usual names, those that are derived and the defaults of the type among them."""
        found = {usual: config.get(own) for usual, own in self.renamed.items() if config.get(usual) is None}
        stated = {name: value for name, value in found.items() if value is not None}
        names = {usual: config.named(self.renamed[usual]) for usual in found}
        config = replace(config, fields={**self.defaults, **config.fields, **stated}, names={**config.names, **names})
        return config if self.derived is None else config.changed(self.derived(config))
