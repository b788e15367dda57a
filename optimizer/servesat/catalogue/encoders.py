"""Vision encoders beside a text model, as their configurations say what they are made of."""

from collections.abc import Mapping

from servesat.catalogue.config_json import ConfigJson

_ENCODERS = {
    "clip_vision_model": 2, "gemma4_vision": 3, "llama4_vision_model": 2, "pixtral": 3, "siglip_vision_model": 2,
}  # fmt: skip
"""Vision encoders by type, and the matrices of their MLPs."""

_QWEN_ENCODERS = {
    "qwen2_5_vl": 3, "qwen3_vl": 2, "qwen3_vl_moe": 2, "qwen3_5": 2, "qwen3_5_moe": 2,
}  # fmt: skip
"""The same of Qwen's encoders, which merge patches before and beside their projector."""

PROJECTOR_SIZES = {
    "mistral3": ("spatial_merge_size",),
    "aya_vision": ("downsample_factor", "alignment_intermediate_size"),
}
"""Sizes of a projector that the wrapper states, by its type."""

_MOONVIT_MERGES = 4
"""Patches that Kimi's encoder merges, 2 by 2."""


def encoder_parameters(config: ConfigJson, text_width: int) -> int:
    """Parameters of a vision encoder and its projector; 0 where its kind or a size is not known.

    It has 4·D² + 2·D·F a layer, or 3·D·F if its MLPs are gated, a patch embedding of 3·p²·D (twice for video),
    positions of a table each (two of Gemma 4), and a projector, or mergers of m² patches, m²·D·(m²·D + D_text) each.
    """
    kind, name = str(config.get("vision_config.model_type") or config.get("model_type")), "vision_config"
    if kind.removesuffix("_vision") in (*_QWEN_ENCODERS, "kimi_k25"):  # as transformers 5 saves it
        kind = kind.removesuffix("_vision")
    if config.get(name) is not None and not isinstance(config.get(name), Mapping):
        raise config.wrong(name, "a JSON object")

    def known(*fields: str) -> list[int] | None:
        """Some fields of the encoder; None where one is missing."""
        names = [f"{name}.{field}" for field in fields]
        return None if any(config.get(one) is None for one in names) else [config.count(one) for one in names]

    if kind in _QWEN_ENCODERS:
        sizes = known("hidden_size", "intermediate_size", "depth", "patch_size", "spatial_merge_size")
        if sizes is None:
            return 0
        width, inner, layers, patch, merge = sizes
        deepstack = f"{name}.deepstack_visual_indexes"
        beside = [] if config.get(deepstack) is None else config.get(deepstack)
        if not isinstance(beside, list):
            raise config.wrong(deepstack, "a list of layers")
        merged = (1 + len(beside)) * _merger(width * merge**2, text_width)
        return _blocks(layers, width, inner, _QWEN_ENCODERS[kind]) + 6 * patch**2 * width + merged
    if kind == "kimi_k25":
        sizes = known("vt_hidden_size", "vt_intermediate_size", "vt_num_hidden_layers", "patch_size",
                      "init_pos_emb_height", "init_pos_emb_width")  # fmt: skip
        if sizes is None:
            return 0
        width, inner, layers, patch, high, wide = sizes
        tables = (3 * patch**2 + high * wide) * width
        return _blocks(layers, width, inner, 2) + tables + _merger(_MOONVIT_MERGES * width, text_width)
    of_blocks = ("hidden_size", "intermediate_size", "num_hidden_layers", "patch_size")
    sizes = known(*of_blocks) if kind in _ENCODERS else None
    if sizes is None or any(config.get(one) is None for one in PROJECTOR_SIZES.get(str(config.get("model_type")), ())):
        return 0
    width, inner, layers, patch = sizes
    positions = known("position_embedding_size") or [0]
    tables = (3 * patch**2 + 2 * positions[0]) * width
    return _blocks(layers, width, inner, _ENCODERS[kind]) + tables + _projector(config, width, text_width)


def _projector(config: ConfigJson, width: int, text_width: int) -> int:
    """Parameters between an encoder and the text model, by the type of the wrapper; of others D·D_text."""
    match config.get("model_type"):
        case "llava" | "llava_next" | "llava_onevision":
            return (width + text_width) * text_width
        case "mistral3":
            merged = config.count("spatial_merge_size") ** 2 * width**2
            return merged + (width + text_width) * text_width
        case "aya_vision":
            inner = config.count("alignment_intermediate_size")
            return config.count("downsample_factor") ** 2 * width * inner + inner // 2 * text_width
        case _:
            return width * text_width


def _blocks(layers: int, width: int, inner: int, matrices_of_mlp: int) -> int:
    return layers * (4 * width**2 + matrices_of_mlp * width * inner)


def _merger(merged: int, text_width: int) -> int:
    return merged * (merged + text_width)
