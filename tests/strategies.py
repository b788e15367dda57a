"""Random specs: inline models and chips with round numbers, so that ties and exact edges are common."""

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

MORE = float(os.environ.get("SERVESAT_EXAMPLES", "0.3"))
"""How many times as many examples to draw: the gate draws a third, `benchmarks/soak.py` many times as many."""


def examples(count: int) -> settings:
    """Settings of a property test that draws this many examples, or MORE times as many."""
    return settings(max_examples=max(2, round(count * MORE)), deadline=None, suppress_health_check=list(HealthCheck))


SOME = examples(60)
DTYPES = ("bf16", "fp8", "int8", "int4", "mxfp4", "nvfp4")


def models():
    """Dense models, and others with experts, a latent cache, an indexer or weights of their own."""
    mixed = dense_models().flatmap(with_experts).flatmap(with_latent).flatmap(with_checkpoint)
    return dense_models() | (mixed | dense_models()).flatmap(with_other_layers)


def with_experts(model):
    """A model with experts in some of its layers or in all."""
    layers = model["layers"]
    moe = st.fixed_dictionaries(
        {
            "layers": st.sampled_from(sorted({1, layers, max(1, layers - 1), (layers + 1) // 2})),
            "experts": st.sampled_from([4, 2, 6, 8, 64]),
            "experts_per_token": st.sampled_from([1, 2]),
            "d_ff": st.sampled_from([256, 768, 2048]),
        },
        optional={"shared_d_ff": st.sampled_from([0, 256, 1024]), "d_model": st.sampled_from([64, 512])},
    )

    def joined(moe, every):
        if (moe["layers"] - 1) * every < layers:
            moe = {**moe, "every": every}
        shape = {key: value for key, value in model.items() if key != "nominal_parameters"}
        if moe["layers"] == layers:
            del shape["d_ff"]
        return {**shape, "moe": moe}

    return st.builds(joined, moe, st.sampled_from([1, 2]))


def with_other_layers(model):
    """The model as it is, or with layers of other heads or a state, and MLPs in some layers or beside experts."""
    room = model["layers"] - model.get("window_layers", 0)
    if not room:
        return st.just(model)
    cached = st.fixed_dictionaries(
        {"kv_heads": st.sampled_from([1, 2, 4]), "head_dim": st.sampled_from([32, 256])},
        optional={
            "v_head_dim": st.sampled_from([64, 0]),
            "window_tokens": st.sampled_from([64, 1024]),
            "entry_tokens": st.sampled_from([4, 128]),
            "selected_tokens": st.sampled_from([32, 512]),
            "index_bytes": st.just(132),
            "index_flops": st.just(2048),
        },
    )
    state = st.fixed_dictionaries(
        {"state_bytes": st.sampled_from([4096, 10**6])}, optional={"state_flops": st.just(10**6)}
    )
    other = st.builds(
        lambda layers, beside, mixing: {
            "layers": layers, "parameters": 10**6, "heads": 8, **({"beside": True} if beside else {}), **mixing
        },
        st.sampled_from(sorted({1, max(1, room // 2)})), st.booleans(), cached | state,
    )  # fmt: skip

    def joined(others, mlp_layers, other_mlps):
        apart = sum(one["layers"] for one in others if "beside" not in one)
        model_ = {**model, "other_layers": others} if apart <= room else model
        if "sparse" in model_ and apart == model_["layers"]:  # its layer with an indexer is among the others
            model_ = model
        if mlp_layers and "d_ff" in model:
            return {**model_, "mlp_layers": mlp_layers}
        dense = model["layers"] - model.get("moe", {}).get("layers", 0)
        return {**model_, "other_mlps": other_mlps} if other_mlps and dense > 1 else model_

    narrow = st.just([{"layers": 1, "d_ff": 512}])
    some_mlps = st.sampled_from(sorted({1, model["layers"]})) if "moe" in model else st.none()
    return st.just(model) | st.builds(
        joined, st.lists(other, min_size=1, max_size=2), st.none() | some_mlps, st.none() | narrow
    )


def with_checkpoint(model):
    """The model in bf16, or published in a dtype, with scales, padding, and some weights left wider."""
    moe = model["moe"]
    groups = ["attention", "experts", *(["mlp"] if "d_ff" in model else [])]
    groups += ["shared_experts"] if moe.get("shared_d_ff") else []
    left = st.fixed_dictionaries({}, optional={"share": st.sampled_from([0.25, 0.5, 1.0]), "dtype": st.just("bf16")})
    native = st.fixed_dictionaries(
        {"dtype": st.sampled_from(["mxfp4", "int8", "fp8", "int4"])},
        optional={
            "group": st.sampled_from([32, 128]),
            "group_bits": st.sampled_from([0.25, 20.0]),
            "pad": st.sampled_from([256, 1000]),
            "tables": st.sampled_from([["head"], ["embedding", "head"]]),
            "wider": st.dictionaries(st.sampled_from(groups), left),
        },
    )
    return st.just(model) | native.map(lambda native: {**model, "native": native})


def with_latent(model):
    """The model as it is, or with latent attention, with or without an indexer."""
    latent = st.fixed_dictionaries(
        {
            "kv_lora_rank": st.sampled_from([64, 512]),
            "nope_head_dim": st.sampled_from([32, 128]),
            "rope_head_dim": st.just(64),
            "v_head_dim": st.sampled_from([32, 128]),
        },
        optional={"q_lora_rank": st.sampled_from([128, 1536])},
    )
    sparse = st.fixed_dictionaries(
        {
            "tokens": st.sampled_from([64, 2048]),
            "index_heads": st.just(8),
            "index_head_dim": st.sampled_from([32, 128]),
        },
        optional={"layers": st.just(1)},
    )

    def joined(mla, sparse):
        dropped = {"kv_heads", "head_dim", "window_tokens", "window_layers"}
        shape = {key: value for key, value in model.items() if key not in dropped}
        return {**shape, "mla": mla, **({"sparse": sparse} if sparse else {})}

    return st.just(model) | st.builds(joined, latent, st.none() | sparse)


def dense_models():
    return (
        st.builds(
            lambda kv_heads, group, **rest: {
                "name": "random",
                "mtp_parameters": 10**6,
                "kv_heads": kv_heads,
                "query_heads": kv_heads * group,
                **rest,
            },
            kv_heads=st.sampled_from([8, 1, 2, 3, 4]),
            group=st.sampled_from([1, 2, 4, 8]),
            layers=st.integers(1, 40),
            d_model=st.sampled_from([256, 512, 1000, 4096]),
            d_ff=st.sampled_from([256, 1024, 1536, 8192, 28672]),
            head_dim=st.sampled_from([64, 128]),
            vocab_size=st.sampled_from([1000, 32000]),
        )
        .flatmap(
            lambda model: st.fixed_dictionaries(
                {key: st.just(value) for key, value in model.items()},
                optional={
                    "gated_mlp": st.booleans(),
                    "tied_embeddings": st.booleans(),
                    "max_context_tokens": st.sampled_from([200_000, 4096, 100_000]),
                    "vision_parameters": st.sampled_from([10**6, 4 * 10**8]),
                    "nominal_parameters": st.sampled_from([7e9, 1e6, 1e8, 7e10]),
                },
            )
        )
        .flatmap(
            lambda model: (
                st.just(model)
                | st.builds(
                    lambda tokens, layers: {**model, "window_tokens": tokens, "window_layers": layers},
                    st.sampled_from([128, 1024]),
                    st.integers(1, model["layers"]),
                )
            )
        )
    )


def chips(name):
    sizes = st.sampled_from([2, 4, 1, 8, 3])
    bandwidth = st.sampled_from([9e10, 4.5e11, 5e12, 1e9])
    torus = st.sampled_from([{}, {}, {"wraps_every": 4}])

    def with_axes(count):
        return st.fixed_dictionaries(
            {
                "name": st.just(name),
                "vendor": st.just("random"),
                "hbm_bytes": st.sampled_from([16e9, 2e9, 80e9, 1e13]),
                "hbm_bytes_per_s": st.sampled_from([3e11, 8.2e11, 8e11, 3.35e12]),
                "flop_per_s": st.dictionaries(
                    st.sampled_from(DTYPES), st.sampled_from([1e13, 2e14, 1e15]), min_size=1
                ).map(lambda peaks: {"bf16": 1e14, **peaks}),
                "axes": st.one_of(
                    st.lists(st.tuples(bandwidth, torus), min_size=count, max_size=count),
                    st.tuples(bandwidth, st.just({"wraps_every": 4})).map(lambda link: [link] * count),
                    st.tuples(bandwidth, st.just({"wraps_every": 4}), bandwidth).map(
                        lambda link: [(link[2], {}), *[link[:2]] * (count - 1)]
                    ),
                ).map(
                    lambda links: [
                        {"name": f"axis{i}", "bytes_per_s": width, **link} for i, (width, link) in enumerate(links)
                    ]
                ),
                "topologies": st.lists(
                    st.lists(sizes, min_size=count, max_size=count).map(lambda s: "x".join(map(str, s))),
                    min_size=1,
                    max_size=3,
                    unique=True,
                ),
                "usd_per_chip_hour": st.sampled_from([0.5, 1.0, 1.2, 2.0, 10.8]),
            }
        )

    return st.sampled_from([1, 2, 3, 4]).flatmap(with_axes)


DRAFTS = st.sampled_from([(1, 1.6), (3, 1.0), (3, 3.25)]).map(
    lambda one: {"draft": "mtp", "tokens": [one[0]], "accepted": one[1]}
)

LORA = st.fixed_dictionaries(
    {"adapters": st.sampled_from([1, 40]), "rank": st.sampled_from([8, 512])},
    optional={"modules": st.sampled_from(["all", "attention"])},
)

STAGES = [[1, 2], [1, 2, 3, 4], [1, 8]]

KV_LAYOUTS = [["heads", "batch", "sequence", "copies"], ["heads", "copies"], ["heads", "sequence"], ["heads"]]


def engines(chips):
    """One or two engines, each of which runs some dtypes on some of the chips."""
    computes = st.sampled_from([["bf16", "int8"], ["bf16"], ["int8"]])
    weights = st.builds(
        lambda compute, lacks: {dtype: {"compute": compute} for dtype in DTYPES if dtype not in lacks},
        computes, st.sampled_from([(), ("int8",), ("fp8", "int4")]),
    )  # fmt: skip
    caches = st.sampled_from([(), ("int8",), ("fp8", "int4")]).map(
        lambda lacks: {dtype: dtype for dtype in DTYPES if dtype not in lacks}
    )
    layouts = st.sampled_from(KV_LAYOUTS)
    activations = st.fixed_dictionaries(
        {
            "width_factors": st.sampled_from([[4.25, 3.0], [0.0, 0.0], [40.0, 8.0]]),
            "logits_factor": st.sampled_from([3.74, 0]),
        }
    )
    memory = st.fixed_dictionaries(
        {
            "utilisation": st.sampled_from([0.9, 1.0, 0.5]),
            "runtime_bytes": st.sampled_from([0, 3e8]),
            "collectives_bytes": st.sampled_from([0, 2e9]),
            "graphs_bytes": st.sampled_from([0, 1e9]),
        },
        optional={"activations": activations},
    )

    def engine(name):
        def support(of):
            return st.fixed_dictionaries(
                {
                    "chips": st.just(of),
                    "weights": weights,
                    "kv_cache": caches,
                    "latent_kv_cache": caches,
                    "sparse_kv_cache": caches | st.just({}),
                }
            )

        apart = st.tuples(*(support([chip]) for chip in chips)).map(list)
        runs = st.tuples(support(chips)).map(list) | st.tuples(support(chips[:1])).map(list) | apart
        moved = st.fixed_dictionaries(
            {"connector": st.just("wire"), "kv_layouts": layouts, "latent_kv_layouts": layouts}
        )
        return st.fixed_dictionaries(
            {
                "name": st.just(name),
                "program": st.just("vllm"),
                "version": st.just("1"),
                "image": st.just("image"),
                "memory": memory,
                "runs": runs,
                "modes": st.sampled_from([["decode_only", "interleaved", "chunked", "disaggregated"], ["chunked"]]),
                "kv_layouts": layouts,
                "latent_kv_layouts": layouts,
                "split_kv_cache": st.sampled_from([["bf16"], ["bf16", "int8"]]),
                "experts": st.sampled_from(["any", "data_parallel", "none"]),
                "nodes": st.sampled_from(["several", "one"]),
                "chunk_unit": st.sampled_from([1, 64]),
                "window_pool_slack": st.sampled_from([None, 0, 40]),
                "whole_windows": st.sampled_from([[], ["random"]]),
                "pipelines": st.sampled_from(["any", "tensor_parallel", "none"]),
                "drafts": st.sampled_from([["mtp"], []]) if name == "second" else st.just(["mtp"]),
                "drafts_beside_chunks": st.booleans(),
                "adapters": st.booleans() if name == "second" else st.just(True),
                "host_cache": st.booleans() if name == "second" else st.just(True),
                "disaggregation": moved,
            },
        )

    return engine("first").map(lambda one: [one]) | st.tuples(engine("second"), engine("first")).map(list)


def under_engines(spec):
    """The spec with engines, and with all that they would choose by default stated."""
    search = {"compute": ["bf16"], "kv_layouts": ["heads", "batch", "sequence", "copies"], **spec["search"]}
    names = [chip["name"] for chip in search["chips"]]

    def joined(engine, mixed, node_chips, usable):
        chips = [
            {**chip, "node_chips": node_chips, "usable_hbm_bytes": usable * chip["hbm_bytes"]}
            for chip in search["chips"]
        ]
        return {**spec, "search": {**search, "chips": chips}, "engine": engine, "mixed_pools": mixed}

    pools = st.sampled_from(["allow", "forbid"])
    return st.builds(joined, engines(names), pools, st.sampled_from([1, 4, 8]), st.sampled_from([1.0, 0.95, 1.06]))


def calibrated(spec):
    """The spec under constants of its own, of some of its chips and engines, and a margin."""
    share = st.sampled_from([0.5, 1.0, 0.8])

    def of_chip(rows):
        return st.fixed_dictionaries(
            {
                "weights": share, "kv_cache": share, "flops": share, "link": share, "rows": st.just(rows),
                "launch_s": st.sampled_from([0.0, 5e-6, 1e-4]), "collective_s": st.sampled_from([0.0, 1e-5]),
            }
        )  # fmt: skip

    def stack(program, version):
        return st.fixed_dictionaries(
            {
                "program": st.just(program), "version": st.just(version), "rows": st.just(1),
                "step_s": st.sampled_from([0.0, 1e-3, 2e-2]), "sequence_s": st.sampled_from([0.0, 2e-5]),
                "request_s": st.sampled_from([0.0, 0.05]), "prompts_first": st.sampled_from([0.3, 0.0, 1.0]),
                "prompt_s": st.sampled_from([0.0, 0.004]), "host_launch_s": st.sampled_from([0.0, 2e-6, 4e-5]),
            }
        )  # fmt: skip

    constants = st.fixed_dictionaries(
        {
            "id": st.just("mine"), "name": st.just("mine"), "checked": st.just("2026-11-28"),
            "sources": st.just({"default": "drawn"}), "chips": st.fixed_dictionaries({"chip0": of_chip(1)}),
            "stacks": st.tuples(stack("vllm", "1")).map(list) | st.just([]), "default_chip": of_chip(0),
            "default_stack": stack("vllm", ""),
        },
        optional={"dtypes": st.just({"int8": 0.75}), "draft_s": st.just(2e-3), "experts": st.just(0.25)},
    )  # fmt: skip
    slo = st.sampled_from([0.0, 0.25]).map(
        lambda margin: {**spec.get("slo", {}), "margin": margin, "percentile": "mean"}
    )
    kept = {key: value for key, value in spec.items() if key not in {"ici", "prefill_mfu"}}
    kept = {"engine": "none", "buy": "share", "utilisation": 1.0, **kept}
    if "speculative" not in kept and "lora" in kept:
        kept["lora"] = {**kept["lora"], "step_factor": 1.5}
    kept["model"] = with_room_for_tables(spec["model"])
    return st.builds(lambda constants, slo: {**kept, "cost_model": constants, "slo": slo}, constants, slo)


def with_or_without_engines(spec):
    """The spec as it is, or under engines."""
    return st.just(spec) | under_engines(spec)


def some_dtypes():
    return st.lists(st.sampled_from(DTYPES), min_size=1, max_size=2, unique=True)


def specs():
    """Whole specs; a large `max_batch` comes with one chip and one dtype, to keep the enumeration short."""

    def search(large):
        count = 1 if large else 2
        return st.fixed_dictionaries(
            {
                "chips": st.tuples(*(chips(f"chip{i}") for i in range(count))).map(list),
                "max_batch": st.sampled_from([600, 1500]) if large else st.sampled_from([1, 6, 17, 40]),
                "weights": st.sampled_from([["bf16"], ["int8"], ["int4"]]) if large else some_dtypes(),
                "kv_cache": st.sampled_from([["bf16"], ["int8"]]) if large else some_dtypes(),
            },
            optional={
                "kv_layouts": st.sampled_from(KV_LAYOUTS),
                "pp": st.sampled_from(STAGES),
                "compute": st.sampled_from([["bf16"], ["bf16", "int8"], ["int8", "bf16"]]),
                "max_chips": st.sampled_from([1, 4, 9]),
                "max_usd_per_hour": st.sampled_from([1.0, 4.8, 20.0]),
            },
        )

    workload = st.builds(
        lambda tokens, written: {"context_tokens": tokens, **written},
        st.sampled_from([1, 128, 1000, 8192, 100_000]),
        st.sampled_from([{}, {"output_tokens": 1}]),
    )
    split = st.builds(
        lambda prompt, output: {"prompt_tokens": prompt, "output_tokens": output},
        st.sampled_from([100, 4096]),
        st.sampled_from([28, 512]),
    )
    slo = st.fixed_dictionaries(
        {},
        optional={
            "tpot_ms": st.sampled_from([0.5, 2, 10.0, 50, 400]),
            "min_tokens_per_s": st.sampled_from([20, 1e3, 1e5]),
        },
    )
    return st.booleans().flatmap(
        lambda large: (
            st.fixed_dictionaries(
                {
                    "cost_model": st.just("ideal"),
                    "model": models(),
                    "workload": workload | split,
                    "search": search(large),
                },
                optional={
                    "slo": slo,
                    "ici": st.sampled_from(["forbid", "pay"]),
                    "headroom": st.sampled_from([0.0, 0.1, 0.2, 0.5]),
                    "wraparound": st.sampled_from(["assumed", "exact"]),
                    "int4_group": st.sampled_from([32, 128]),
                    "speculative": DRAFTS,
                    "lora": LORA,
                },
            )
            .map(decoding_only)
            .map(drafting)
        )
    )


def with_room_for_tables(model):
    """A model without fewer nominal parameters than embedding and head have, where these are counted apart."""
    return {**model, "nominal_parameters": 7e9} if model.get("nominal_parameters", 1e9) < 1e9 else model


def drafting(spec):
    """A spec whose draft, if it has one, counts embedding and head apart."""
    return {**spec, "model": with_room_for_tables(spec["model"])} if "speculative" in spec else spec


def decoding_only(spec):
    """A spec whose prompts are left out; the oracle of whole requests is another."""
    if "prompt_tokens" not in spec["workload"]:
        return spec
    return {**spec, "search": {**spec["search"], "modes": ["decode_only"]}}


def tight():
    """Specs with limits that are often too much to ask, and few priced chips to widen the search to."""
    limits = st.fixed_dictionaries(
        {}, optional={"tpot_ms": st.sampled_from([0.01, 0.5, 5.0]), "min_tokens_per_s": st.sampled_from([1e4, 1e6])}
    )
    few = {"price_book": "scaling-book-2025-02"}
    return st.builds(lambda spec, slo: {**spec, **few, "slo": {**spec.get("slo", {}), **slo}}, specs(), limits)
