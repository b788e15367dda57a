"""How a checkpoint says its weights are quantised, read as the `native` weights of a model."""

from collections.abc import Collection, Mapping
from typing import Any

from servesat.catalogue.config_json import ConfigJson
from servesat.catalogue.model import BITS, ModelSpec, TensorGroup
from servesat.catalogue.tensors import matrices
from servesat.catalogue.unquantised import shares_by_dtype, shares_left_out
from servesat.core.errors import CatalogueError
from servesat.core.validation import shorten

QUANTISATIONS = ("quantization_config", "compression_config", "quantization")
"""Where a configuration says how its weights are quantised: today's key, compressed-tensors' first, and MLX's."""

QUANTISATION_FILE = "hf_quant_config.json"
"""Where ModelOpt writes it, if not into the configuration."""

GPTQ_FILE = "quantize_config.json"
"""Where AutoGPTQ wrote it at first."""

_BITS = {4: "int4", 8: "int8"}
_ALGORITHMS = {
    "NVFP4": "nvfp4", "W4A16_NVFP4": "nvfp4", "NVFP4_AWQ": "nvfp4", "FP8": "fp8", "FP8_PB_WO": "fp8",
    "FP8_PER_CHANNEL_PER_TOKEN": "fp8", "W4A16_AWQ": "int4", "W4A8_AWQ": "int4", "W8A16": "int8",
}  # fmt: skip
_TORCHAO = {
    "int4_weight_only": "int4", "Int4WeightOnlyConfig": "int4",
    "int8_weight_only": "int8", "Int8WeightOnlyConfig": "int8",
    "int8_dynamic_activation_int8_weight": "int8", "Int8DynamicActivationInt8WeightConfig": "int8",
    "float8_weight_only": "fp8", "Float8WeightOnlyConfig": "fp8",
    "float8_dynamic_activation_float8_weight": "fp8", "Float8DynamicActivationFloat8WeightConfig": "fp8",
}  # fmt: skip
_METHODS: dict[str, tuple[str, dict[Any, str]]] = {
    "auto-round": ("bits", _BITS),
    "awq": ("bits", _BITS),
    "compressed-tensors": ("config_groups", {"int4": "int4", "int8": "int8", "float8": "fp8"}),
    "fbgemm_fp8": ("quant_method", {"fbgemm_fp8": "fp8"}),
    "fp8": ("quant_method", {"fp8": "fp8"}),
    "gptq": ("bits", _BITS),
    "gptq_marlin": ("bits", _BITS),
    "intel/auto-round": ("bits", _BITS),
    "mlx": ("bits", _BITS),
    "modelopt": ("quant_algo", _ALGORITHMS),
    "modelopt_fp4": ("quant_algo", _ALGORITHMS),
    "mxfp4": ("quant_method", {"mxfp4": "mxfp4"}),
    "torchao": ("quant_type", _TORCHAO),
}
_FORMATS = {"nvfp4-pack-quantized": "nvfp4", "mxfp4-pack-quantized": "mxfp4"}
_INTEGER_FORMATS = ("dense", "pack-quantized", "int-quantized", "float-quantized", "naive-quantized")
"""Formats of compressed-tensors: of four-bit floats, and those that say nothing of the size."""

_MODES = {"affine": None, "mxfp4": "mxfp4", "nvfp4": "nvfp4"}
_DATA_TYPES = {"int": None, "nv_fp": "nvfp4", "nv_fp4": "nvfp4", "mx_fp": "mxfp4", "mx_fp4": "mxfp4"}
"""What MLX's mode and AutoRound's data_type say beside the bits."""

_WITH_ZERO_POINTS = {"auto-round", "intel/auto-round", "awq", "gptq", "gptq_marlin"}
"""Methods that store a zero point beside the scale of each group, symmetric or not."""

_GROUPED = {"awq", "gptq", "gptq_marlin"}
"""Methods that always say how many weights share a scale."""

_BESIDE_EXPERTS = {TensorGroup.ATTENTION, TensorGroup.MLP, TensorGroup.SHARED_EXPERTS}

_TORCHAO_GROUP = 128
"""Weights that share a scale in torchao's int4, unless it says otherwise."""

_FP8_BLOCK = 128
"""ModelOpt's blocks of fp8 weights."""

_MXFP4_PAD = 256
"""What engines pad the width of an MXFP4 expert to: gpt-oss-120b's 2,880 take 3,072 (vllm#33155, as measured)."""


def native_weights(config: ConfigJson, shape: ModelSpec, with_experts: Collection[int]) -> dict[str, Any]:
    """The field `native` of a model of this shape, unless its weights are bf16.

    `with_experts` are the layers with experts, from 0. Raises CatalogueError for a quantisation that is not known.
    """
    written = [key for key in QUANTISATIONS if config.get(key) is not None]
    if not written:
        return {}
    key = written[0]
    scheme = config.get(key)
    if not isinstance(scheme, Mapping):
        raise config.wrong(key, "a JSON object")
    method = _method(scheme)
    if method is None:
        raise config.missing(f"{key}.quant_method")
    scheme = {**scheme, "quant_method": method}
    if method == "torchao":
        scheme |= _torchao_type(config, key)
    config = config.changed({key: scheme})
    source, dtypes = config.choice(f"{key}.quant_method", _METHODS)
    _refuse_sparsity(config, key)
    if config.get("expert_dtype") is not None or scheme.get("moe_quant_algo") is not None:
        return {"native": _narrow_experts(config, key)}
    if scheme.get("quant_algo") == "MIXED_PRECISION":
        return {"native": _by_module(config, key, shape, with_experts)}
    if source == "config_groups":
        dtype = _dtype_of_groups(config, key, dtypes)
    else:
        named = "w_bit" if source == "bits" and "bits" not in scheme and "w_bit" in scheme else source  # of llm-awq
        dtype = config.choice(f"{key}.{named}", dtypes)
        for name, meanings in (("mode", _MODES), ("data_type", _DATA_TYPES)):
            if source == "bits" and scheme.get(name) is not None:
                dtype = config.choice(f"{key}.{name}", meanings) or dtype

    native: dict[str, Any] = {"dtype": dtype, **_scales(config, key, method, dtype)}
    if tables := _quantised_tables(scheme, method):
        native["tables"] = tables
    shares = shares_left_out(config, key, shape, with_experts)
    if method == "mxfp4":  # of gpt-oss, in which engines and transformers read experts alone as narrow
        native["pad"] = _MXFP4_PAD
        shares |= dict.fromkeys({matrix.group for matrix in matrices(shape)} & _BESIDE_EXPERTS, 1.0)
    wider = {group.value: {} if share == 1 else {"share": share} for group, share in shares.items()}
    return {"native": native | ({"wider": wider} if wider else {})}


def _quantised_tables(scheme: Mapping[str, Any], method: str) -> list[str]:
    """Which of the embedding and the head are quantised, too: in MLX both, unless it says otherwise; else as stated."""
    if method == "mlx":
        named_apart = {"embedding": "model.embed_tokens", "head": "lm_head"}
        return [table for table, module in named_apart.items() if scheme.get(module) is not False]
    if scheme.get("include_input_output_embeddings") is True:  # of torchao
        return ["embedding", "head"]
    return ["head"] if scheme.get("lm_head") is True else []


def _narrow_experts(config: ConfigJson, key: str) -> dict[str, Any]:
    """DeepSeek-V4: routed experts in fp4, in blocks of MXFP4, or as `moe_quant_algo` says, and all others in fp8."""
    experts = {"fp4": "mxfp4", "NVFP4": "nvfp4"}
    if config.get(f"{key}.moe_quant_algo") is not None:
        dtype = config.choice(f"{key}.moe_quant_algo", experts)
    else:
        dtype = config.choice("expert_dtype", experts)
    if config.get(f"{key}.quant_method") != "fp8":
        raise config.wrong(f"{key}.quant_method", "fp8 beside experts of four bits")
    left = {"dtype": "fp8"}
    return {"dtype": dtype, "wider": {"attention": left, "shared_experts": left}}


def _by_module(config: ConfigJson, key: str, shape: ModelSpec, with_experts: Collection[int]) -> dict[str, Any]:
    """ModelOpt's MIXED_PRECISION: a dtype for each module listed, and bf16 for the rest.

    Each group of tensors may have the narrowest dtype and one other. MXFP8 counts as fp8, which leaves out its scales,
    a quarter bit. Raises CatalogueError for a group of three dtypes.
    """
    listed = config.get(f"{key}.quantized_layers")
    if (
        not listed
        or not isinstance(listed, Mapping)
        or not all(isinstance(entry, Mapping) for entry in listed.values())
    ):
        raise config.wrong(f"{key}.quantized_layers", "the quant_algo of each module, beside MIXED_PRECISION")
    modules: dict[str, list[str]] = {}
    for name, entry in listed.items():
        dtype = {**_ALGORITHMS, "MXFP8": "fp8"}.get(str(entry.get("quant_algo")))
        if dtype is None or dtype not in ("nvfp4", "fp8"):
            raise config.fault(f"{key}.quantized_layers: {shorten(name)} has {shorten(entry)}, expected NVFP4 or FP8")
        modules.setdefault(dtype, []).append(str(name))
    narrow = min(modules, key=lambda dtype: BITS[dtype])
    shares = shares_by_dtype(config, key, shape, with_experts, modules)
    wider: dict[str, Any] = {}
    for group in shares[narrow]:
        quantised = {dtype: shares[dtype][group] for dtype in modules}
        beside = {dtype: share for dtype, share in quantised.items() if share > 1e-9 and dtype != narrow}
        rest = 1 - sum(quantised.values())
        if rest > 1e-9:
            beside["bf16"] = rest
        if len(beside) > 1:
            raise config.fault(f"{key}.quantized_layers: {group.value} has weights of three dtypes: not supported")
        for dtype, share in beside.items():
            wider[group.value] = {"dtype": dtype, "share": min(1.0, share)}
    tables = ["head"] if "lm_head" in modules[narrow] else []
    return {"dtype": narrow, "wider": wider} | ({"tables": tables} if tables else {})


def with_modelopt(config: object, beside: object, where: str) -> object:
    """A configuration with the quantisation of the `hf_quant_config.json` beside it, unless it states its own.

    Raises CatalogueError for a file without one.
    """
    quantisation = beside.get("quantization") if isinstance(beside, Mapping) else None
    if not isinstance(quantisation, Mapping):
        raise CatalogueError(f"{where}: quantization is missing; expected what ModelOpt writes")
    if not isinstance(config, Mapping) or any(config.get(key) is not None for key in QUANTISATIONS):
        return config
    if quantisation.get("quant_algo") is None:  # of the KV cache alone
        return config
    return {**config, "quantization_config": {"quant_method": "modelopt", **quantisation}}


def with_gptq(config: object, beside: object) -> object:
    """A configuration with the quantisation of the `quantize_config.json` that AutoGPTQ wrote beside it in 2023."""
    if not isinstance(config, Mapping) or not isinstance(beside, Mapping):
        return config
    if any(config.get(key) is not None for key in QUANTISATIONS):
        return config
    return {**config, "quantization_config": {"quant_method": "gptq", **beside}}


def _method(scheme: Mapping[str, Any]) -> Any:
    """The method of a quantisation; ModelOpt and MLX may leave it out."""
    if scheme.get("quant_method") is not None:
        return scheme["quant_method"]
    implied = {"quant_algo": "modelopt", "config_groups": "compressed-tensors", "bits": "mlx"}
    return next((method for key, method in implied.items() if scheme.get(key) is not None), None)


def _torchao_type(config: ConfigJson, key: str) -> dict[str, Any]:
    """What torchao does to the weights, by name, and its group: of `quant_type.default`, or of the names before."""
    kind, options = config.get(f"{key}.quant_type"), config.get(f"{key}.quant_type_kwargs")
    if isinstance(kind, Mapping):
        kind, options = config.get(f"{key}.quant_type.default._type"), config.get(f"{key}.quant_type.default._data")
    size = options.get("group_size") if isinstance(options, Mapping) else None
    if size is None and kind in ("int4_weight_only", "Int4WeightOnlyConfig"):
        size = _TORCHAO_GROUP
    return {"quant_type": kind, "group_size": size}


def _dtype_of_groups(config: ConfigJson, key: str, dtypes: Mapping[Any, str]) -> str:
    """The dtype shared by all groups of compressed-tensors. Raises CatalogueError if they differ."""
    groups, form = config.get(f"{key}.config_groups"), config.get(f"{key}.format")
    if not isinstance(groups, Mapping) or not all(isinstance(group, Mapping) for group in groups.values()):
        raise config.wrong(f"{key}.config_groups", f"weights of one dtype, of {', '.join(dtypes)}")
    kinds = {f"{weights.get('type')}{weights.get('num_bits')}" for weights in _weights_of_groups(config, key)}
    if kinds == {"float4"} and form in _FORMATS:
        return _FORMATS[form]
    if len(kinds) != 1 or not kinds <= dtypes.keys():
        raise config.wrong(f"{key}.config_groups", f"weights of one dtype, of {', '.join(dtypes)}")
    return dtypes[kinds.pop()]


def _refuse_sparsity(config: ConfigJson, key: str) -> None:
    """Refuse weights of which only those that are not 0 are stored, and formats that are not known."""
    sparsity, form = config.get(f"{key}.sparsity_config.format"), config.get(f"{key}.format")
    if sparsity not in (None, "dense"):
        raise config.wrong(f"{key}.sparsity_config.format", "dense: sparse weights are not supported")
    if config.get(f"{key}.config_groups") is not None and form not in (None, *_INTEGER_FORMATS, *_FORMATS):
        raise config.wrong(f"{key}.format", f"one of {', '.join((*_INTEGER_FORMATS, *_FORMATS))}")


def _weights_of_groups(config: ConfigJson, key: str) -> list[Mapping[str, Any]]:
    """The weights of each group of compressed-tensors, nothing for one without."""
    groups = config.get(f"{key}.config_groups")
    found = [config.get(f"{key}.config_groups.{group}.weights") for group in groups] if groups else []
    return [weights if isinstance(weights, Mapping) else {} for weights in found]


def _scales(config: ConfigJson, key: str, method: str, dtype: str) -> dict[str, Any]:
    """The group of weights that share a scale, and what it holds; nothing where a whole row does, or the format says.

    A zero point is as wide as a weight. MLX stores a scale and a bias of 16 bits, as torchao does for int4; fp8 a scale
    of 32 bits for a block.
    """
    if dtype in _FORMATS.values():
        return {}
    scheme = config.get(key)
    block = _block(config, key, method)
    if block is not None:
        rows, columns = block
        return {"group": columns, "group_bits": 32 / rows}
    if method == "compressed-tensors":
        weights = next(iter(_weights_of_groups(config, key)), {})
        size, has_zero_point = weights.get("group_size"), weights.get("symmetric") is False
        where = f"{key}.config_groups.*.weights.group_size"
    else:
        name = "group_size" if scheme.get("q_group_size") is None else "q_group_size"
        size, has_zero_point, where = scheme.get(name), method in _WITH_ZERO_POINTS, f"{key}.{name}"
    is_grouped = method in _GROUPED or (method == "compressed-tensors" and weights.get("strategy") == "group")
    if size is None and is_grouped:
        raise config.missing(where)
    if size is None or size == -1:
        return {}
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= 10**6:
        raise config.fault(f"{where} = {size!r}: expected a whole number of at least 1, or -1")
    bits = next(bits for bits, name in _BITS.items() if name == dtype) if dtype in _BITS.values() else 0
    if method == "mlx" or (method == "torchao" and dtype == "int4"):
        return {"group": size, "group_bits": 32.0}
    return {"group": size, "group_bits": 16.0 + (bits if has_zero_point else 0)}


def _block(config: ConfigJson, key: str, method: str) -> tuple[int, int] | None:
    """Rows and columns of the blocks of weights that share a scale; none where it is not blocks that do."""
    scheme = config.get(key)
    if method == "compressed-tensors":
        weights = next(iter(_weights_of_groups(config, key)), {})
        field, block = f"{key}.config_groups.*.weights.block_structure", weights.get("block_structure")
    elif scheme.get("quant_algo") == "FP8_PB_WO":
        return _FP8_BLOCK, _FP8_BLOCK
    else:
        field, block = f"{key}.weight_block_size", scheme.get("weight_block_size")
    if block is None:
        return None
    if isinstance(block, str) and len(block) < 20:  # "128x128"
        block = [int(side) for side in block.split("x") if side.isdigit()]
    if not isinstance(block, list) or len(block) != 2 or not all(type(side) is int and side > 0 for side in block):
        raise config.fault(f"{field} = {block!r}: expected two whole numbers, such as [128, 128]")
    return block[0], block[1]
