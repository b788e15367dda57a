"""Which layers of a model have experts or a window, as the configuration of its type says it."""

from collections.abc import Callable, Collection
from functools import partial

from servesat.catalogue.config_json import ConfigJson

WhichLayers = Callable[[ConfigJson, int], Collection[int]]
"""Which layers of a model have a property, by number from 0: of all its layers, those with experts or with a window."""


def every(config: ConfigJson, layers: int) -> Collection[int]:
    """All layers."""
    return range(layers)


def experts_after_first(config: ConfigJson, layers: int) -> Collection[int]:
    """DeepSeek and GLM: the layers from the first_k_dense_replace-th whose number moe_layer_freq divides."""
    first = config.count("first_k_dense_replace", minimum=0)
    if first > layers:
        raise config.wrong("first_k_dense_replace", f"at most {layers}, the number of layers")
    step = 1 if config.get("moe_layer_freq") is None else config.count("moe_layer_freq")
    return range(-(-first // step) * step, layers, step)


def experts_by_step(config: ConfigJson, layers: int) -> Collection[int]:
    """Qwen: every decoder_sparse_step-th layer, except mlp_only_layers."""
    step = config.count("decoder_sparse_step")
    return set(range(step - 1, layers, step)) - config.layer_numbers("mlp_only_layers", layers)


def experts_but_listed(config: ConfigJson, layers: int) -> Collection[int]:
    """Qwen 3.5: every layer, except mlp_only_layers."""
    return set(range(layers)) - config.layer_numbers("mlp_only_layers", layers)


def experts_interleaved(config: ConfigJson, layers: int) -> Collection[int]:
    """Llama 4: moe_layers, or every interleave_moe_layer_step-th layer."""
    if config.get("moe_layers") is not None:
        return config.layer_numbers("moe_layers", layers)
    step = config.count("interleave_moe_layer_step")
    return range(step - 1, layers, step)


def experts_between(config: ConfigJson, layers: int) -> Collection[int]:
    """ERNIE 4.5: every moe_layer_interval-th layer from moe_layer_start_index to moe_layer_end_index."""
    first = config.count("moe_layer_start_index", minimum=0)
    end = config.get("moe_layer_end_index")
    last = layers - 1 if end in (None, -1) else config.count("moe_layer_end_index", minimum=0)
    if last < first:
        raise config.wrong("moe_layer_start_index", f"at most moe_layer_end_index, {last}")
    step = 1 if config.get("moe_layer_interval") is None else config.count("moe_layer_interval")
    return [layer for layer in range(first, min(last + 1, layers)) if (layer + 1) % step == 0]


def experts_enumerated(config: ConfigJson, layers: int) -> Collection[int]:
    """Step 3: the layers of `moe_layers_enum`, a text such as 4,5,6, or those from first_k_dense_replace on."""
    listed = config.get("moe_layers_enum")
    if listed is None:
        return experts_after_first(config, layers)
    numbers = [text.strip() for text in listed.split(",")] if isinstance(listed, str) else []
    if not numbers or not all(text.isdecimal() and len(text) < 6 and int(text) < layers for text in numbers):
        raise config.wrong("moe_layers_enum", f"layers, from 0 to {layers - 1}, with commas between them")
    return {int(text) for text in numbers}


def window_above(config: ConfigJson, layers: int) -> Collection[int]:
    """Qwen: the layers above max_window_layers."""
    if config.get("max_window_layers") is None:
        raise config.missing("max_window_layers", expected="beside use_sliding_window")
    return range(config.count("max_window_layers", minimum=0), layers)


def window_listed(config: ConfigJson, layers: int) -> Collection[int]:
    """Qwen with experts: releases of transformers disagree on the layers, so the list is required."""
    raise config.missing("layer_types")


def window_but_nth(config: ConfigJson, layers: int, nth: int, field: str = "") -> Collection[int]:
    """All layers except every nth, which has full attention."""
    step = config.count(field) if field and config.get(field) is not None else nth
    return set(range(layers)) - set(range(step - 1, layers, step))


window_alternating = partial(window_but_nth, nth=2)


def window_rotary(config: ConfigJson, layers: int) -> Collection[int]:
    """Llama 4: the layers with rotary positions, 1 in no_rope_layers; without the list, all but every fourth."""
    if config.get("no_rope_layers"):
        rotary = config.entry_per_layer("no_rope_layers", layers, (0, 1))
        return [layer for layer, is_rotary in enumerate(rotary) if is_rotary]
    return window_but_nth(config, layers, 4, "no_rope_layer_interval")


def window_unrotated(config: ConfigJson, layers: int) -> Collection[int]:
    """SmolLM 3: the layers without rotary positions, 0 in no_rope_layers; without the list, every fourth."""
    return set(range(layers)) - set(window_rotary(config, layers))


def window_by_letters(config: ConfigJson, layers: int) -> Collection[int]:
    """EXAONE 4: `LLLG`, three layers with a window and one without, or the number of layers to one without."""
    pattern = config.get("sliding_window_pattern")
    if isinstance(pattern, str) and pattern and set(pattern) <= {"L", "G"}:
        return [layer for layer in range(layers) if pattern[layer % len(pattern)] == "L"]
    return window_but_nth(config, layers, 4, "sliding_window_pattern")
