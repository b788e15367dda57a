import json
from pathlib import Path
from typing import Any

import pytest

from servesat import CatalogueError
from servesat.catalogue.huggingface import model_fields
from servesat.catalogue.load import load_model
from servesat.cost_model.memory import counted_parameters, kv_cache_bytes
from tests.catalogue.configs import CHUNKS, LLAMA, LOCAL, read, small


def test_a_llama_config_is_the_catalogue_model(tmp_path: Path) -> None:
    model, known = read(tmp_path, LLAMA), load_model("llama-3-8b")
    assert counted_parameters(model) == counted_parameters(known)
    assert kv_cache_bytes(model, 8192, 4096) == kv_cache_bytes(known, 8192, 4096)
    assert model.head_dim == 128


def without(*fields: str, **changes: Any) -> dict[str, Any]:
    return {key: value for key, value in {**LLAMA, **changes}.items() if key not in fields}


def test_what_a_config_leaves_out_has_the_meaning_of_its_type(tmp_path: Path) -> None:
    bare = without("num_key_value_heads", "tie_word_embeddings")
    assert read(tmp_path, bare).kv_heads == 32
    assert read(tmp_path, bare).tied_embeddings is False
    gemma = without("tie_word_embeddings", model_type="gemma", head_dim=256)
    assert read(tmp_path, gemma).tied_embeddings is True
    assert read(tmp_path, gemma).head_dim == 256


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({}, 4096),
        ({"rope_scaling": None}, 4096),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, 8192),
        ({"rope_scaling": {"type": "dynamic", "factor": 2}}, 8192),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 4096),
        ({"rope_scaling": {"rope_type": "longrope"}}, 4096),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}}, 8192),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}}, 2048),
        ({"rope_scaling": {"rope_type": "default"}}, 4096),
        ({"max_position_embeddings": None}, None),
    ],
)
def test_how_far_positions_reach(tmp_path: Path, fields: dict[str, Any], tokens: int | None) -> None:
    model = read(tmp_path, {**LLAMA, "max_position_embeddings": 4096, **fields})
    assert model.max_context_tokens == tokens


def test_a_sliding_window_counts_only_where_it_is_used(tmp_path: Path) -> None:
    mistral = LLAMA | {"model_type": "mistral", "sliding_window": 4096}
    assert (read(tmp_path, mistral).window_tokens, read(tmp_path, mistral).window_layers) == (4096, 32)
    assert read(tmp_path, mistral | {"sliding_window": None}).window_layers == 0
    assert read(tmp_path, LLAMA | {"sliding_window": 4096}).window_layers == 0  # llama has no window
    qwen = LLAMA | {"model_type": "qwen2", "sliding_window": 4096, "max_window_layers": 28}
    assert read(tmp_path, qwen).window_layers == 0
    assert read(tmp_path, qwen | {"use_sliding_window": False}).window_layers == 0
    assert read(tmp_path, qwen | {"use_sliding_window": True}).window_layers == 4
    assert read(tmp_path, qwen | {"use_sliding_window": True, "max_window_layers": 32}).window_layers == 0


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({key: value for key, value in LLAMA.items() if key != "intermediate_size"}, "intermediate_size is missing"),
        (LLAMA | {"model_type": "mixtrall"}, "model_type = 'mixtrall' is not understood; did you mean 'mixtral'"),
        (LLAMA | {"model_type": "plamo2"}, "(`servesat models new` writes a model file to fill in)"),
        ({"hidden_size": 3}, "model_type is missing"),
        ([1], "expected a JSON object"),
        (LLAMA | {"hidden_size": 4095}, "hidden_size = 4095 is not a multiple of num_attention_heads = 32"),
        (LLAMA | {"num_hidden_layers": -2}, "num_hidden_layers = -2: expected a whole number of at least 1"),
        (LLAMA | {"num_hidden_layers": "32"}, "num_hidden_layers = '32': expected a whole number"),
        (LLAMA | {"head_dim": 0}, "head_dim = 0: expected a whole number of at least 1"),
        (LLAMA | {"model_type": "mistral"}, "sliding_window is missing; expected in a mistral config.json"),
        (LLAMA | {"model_type": "qwen3"}, "head_dim is missing; expected in a qwen3 config.json"),
        (
            LLAMA | {"model_type": "qwen2", "sliding_window": 4096, "use_sliding_window": True},
            "max_window_layers is missing; expected beside use_sliding_window",
        ),
        (
            LLAMA
            | {"model_type": "qwen2", "sliding_window": 4096, "use_sliding_window": True, "max_window_layers": "28"},
            "max_window_layers = '28': expected a whole number",
        ),
        (LLAMA | {"tie_word_embeddings": "no"}, "tie_word_embeddings = 'no': expected true or false"),
        (LLAMA | {"num_key_value_heads": 5}, "query_heads = 32 is not a multiple of kv_heads = 5"),
        (LLAMA | {"vocab_size": "many"}, "vocab_size = 'many': expected a whole number"),
        (
            LLAMA | {"max_position_embeddings": 4096, "rope_scaling": {"factor": 40}},
            "rope_scaling.rope_type = None: expected one of llama3, longrope",
        ),
        (
            LLAMA | {"max_position_embeddings": 4096, "rope_scaling": {"type": "32", "factor": 2}},
            "rope_scaling.type = '32': expected one of llama3",
        ),
        (
            LLAMA | {"max_position_embeddings": 4096, "rope_scaling": {"type": "yarn"}},
            "rope_scaling.factor = None: expected a number above 0",
        ),
    ],
)
def test_a_config_that_cannot_be_used_is_named(tmp_path: Path, config: Any, complaint: str) -> None:
    with pytest.raises(CatalogueError, match=r"config\.json") as error:
        read(tmp_path, config)
    assert complaint in str(error.value)


def test_a_wrapper_holds_the_model_in_its_text_config(tmp_path: Path) -> None:
    inner = small("llama4_text", **LOCAL, **CHUNKS, interleave_moe_layer_step=1)
    wrapper = {"model_type": "llama4", "text_config": inner, "vocab_size": 7, "vision_config": {"hidden_size": 9}}
    plain = model_fields(inner, "")
    sources = {"vision_parameters": "the encoder 'llama4' is not counted, as its kind or one of its sizes is not known"}
    assert model_fields(wrapper, "") == plain | {"name": "llama4", "sources": sources}
    gemma = {"model_type": "gemma3", "text_config": small("gemma3_text", "model_type", sliding_window=99)}
    assert read(tmp_path, gemma).window_layers == 7
    # What a wrapper says of the whole holds for the text, unless that says it itself; but of embeddings it decides.
    said = wrapper | {
        "_name_or_path": "a/b",
        "tie_word_embeddings": True,
        "quantization_config": {"quant_method": "fp8"},
    }
    whole = {"name": "a/b", "tied_embeddings": True, "native": {"dtype": "fp8"}, "sources": sources}
    assert model_fields(said, "") == plain | whole
    own = said | {"text_config": inner | {"tie_word_embeddings": False, "_name_or_path": ""}}
    assert model_fields(own, "") == plain | whole
    del own["tie_word_embeddings"]
    assert model_fields(own, "") == plain | whole | {"tied_embeddings": False}


def test_a_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CatalogueError, match=r"config\.json: malformed JSON"):
        load_model("config.json", tmp_path)


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        ("/opt/models/Llama-3.1-70B-Instruct/", "Llama-3.1-70B-Instruct"),
        ("./checkpoints/mine", "mine"),
        ("C:\\models\\mine", "mine"),
        ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("", "llama"),
    ],
)
def test_a_publishers_local_path_is_no_name(stated: str, name: str) -> None:
    assert model_fields({**LLAMA, "_name_or_path": stated}, "")["name"] == name


def test_a_configuration_may_be_large_and_hold_infinity(tmp_path: Path) -> None:
    text = json.dumps({**LLAMA, "time_step_limit": [0.0, float("inf")], "ignored": ["x" * 1000] * 3000})
    (tmp_path / "config.json").write_text(text)
    assert load_model(str(tmp_path)).layers == 32


def test_what_stands_beside_the_text_model_is_counted_apart(tmp_path: Path) -> None:
    """Gemma 3 states 417M for its encoder; DeepSeek-V3 some 14B for its prediction layer with the tables it shares."""
    siglip = {
        "model_type": "siglip_vision_model",
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "patch_size": 14,
    }
    text = small("gemma3_text", sliding_window=8)
    seeing = read(tmp_path, {"model_type": "gemma3", "text_config": text, "vision_config": siglip})
    assert seeing.vision_parameters == pytest.approx(417e6, rel=0.02)
    assert read(tmp_path, {"model_type": "gemma3", "text_config": text, "vision_config": {}}).vision_parameters == 0
    deepseek = json.loads((Path(__file__).parent / "deepseek-v3.json").read_text())
    model = read(tmp_path, deepseek)
    tables = 2 * model.d_model * model.vocab_size
    assert model.mtp_parameters + tables == pytest.approx(14e9, rel=0.05)
    assert counted_parameters(model) == pytest.approx(671e9, rel=0.001)
