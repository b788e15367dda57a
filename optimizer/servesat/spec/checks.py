"""What the keys of a spec may not say together, or of what there is."""

from servesat.catalogue.chip import Chip, offered_topology
from servesat.catalogue.load import chip_ids, model_ids
from servesat.core.errors import CatalogueError
from servesat.core.plan import Mode
from servesat.core.validation import nearest, shorten
from servesat.cost_model.memory import expert_parameters
from servesat.spec.searched import Searched
from servesat.spec.slo import LIMITS
from servesat.spec.speculation import NO_DRAFTING

KEYED_BY_CHIP = ("price", "chip", "owned")
"""Keys of a spec that map chip ids to values, for chips that are searched and others."""


def check(spec: Searched) -> None:
    """Raise ValueError, naming the key, where the search of a spec is not possible."""
    if spec.search.max_instances is not None and spec.buy != "instances":
        raise ValueError("search.max_instances: counts whole instances, and needs buy: instances")
    _check_chips(spec)
    _check_modes(spec)
    _check_cost_model(spec)
    if spec.speculative is not None:
        _check_drafts(spec)
    _check_nominal(spec)
    if spec.lora is not None:
        _check_lora(spec)
    _check_percentiles(spec)
    _check_trace(spec)
    _check_constraints(spec)
    if not any(dtype in chip.flop_per_s.by_dtype() for chip in spec.chips for dtype in spec.compute):
        peaks = "; ".join(f"{chip.id}: {', '.join(chip.flop_per_s.by_dtype())}" for chip in spec.chips)
        raise ValueError(
            f"search.compute = {list(spec.compute)}: no chip searched has a peak for these dtypes ({peaks})"
        )


def _check_chips(spec: Searched) -> None:
    known = [*(chip.id for chip in spec.chips), *(chip.id for chip in spec.search.chips or ())]
    known = list(dict.fromkeys(known))
    for key in KEYED_BY_CHIP:
        for chip_id in getattr(spec, key):
            if chip_id not in known and chip_id not in chip_ids():
                raise ValueError(f"{key}.{chip_id}: no such chip; {nearest(chip_id, [*known, *chip_ids()])}")
    for chip_id in spec.search.topologies:
        if chip_id not in known:
            raise ValueError(f"search.topologies.{chip_id}: is not among the chips searched: {', '.join(known)}")
    for chip_id in spec.search.quota:
        if chip_id not in known and chip_id not in chip_ids():
            raise ValueError(f"search.quota.{chip_id}: no such chip; {nearest(chip_id, [*known, *chip_ids()])}")
    offered = {chip.id for chip in spec.chips}
    for chip in (*spec.chips, *(chip for chip in spec.search.chips or () if chip.id not in offered)):
        _check_topologies(spec, chip)


def _check_topologies(spec: Searched, chip: Chip) -> None:
    named: dict[str, str] = {}
    for topology in spec.search.topologies.get(chip.id, ()):
        offered = offered_topology(chip, topology)
        if offered is None:
            raise ValueError(
                f"search.topologies.{chip.id}: {topology!r} is not offered; offered: {', '.join(chip.topologies)}"
            )
        if offered in named:
            raise ValueError(f"search.topologies.{chip.id}: {named[offered]!r} and {topology!r} are the same slice")
        named[offered] = topology


def _check_modes(spec: Searched) -> None:
    with_prompts = [mode for mode in spec.modes if mode is not Mode.DECODE_ONLY]
    if with_prompts and spec.workload.prompt_tokens is None:
        raise ValueError(f"search.modes: {with_prompts[0]} needs workload.prompt_tokens and workload.output_tokens")
    if Mode.DECODE_ONLY in spec.modes and len(spec.modes) > 1:
        raise ValueError("search.modes: decode_only leaves the prompts out, so it does not compare with the others")
    if Mode.DISAGGREGATED in spec.modes and spec.workload.host_cache is not None:
        raise ValueError("search.modes: disaggregated is planned without workload.host_cache; leave out one of them")
    if spec.workload.host_cache is not None and spec.engine and not any(engine.host_cache for engine in spec.engine):
        names = ", ".join(engine.name for engine in spec.engine)
        raise ValueError(f"workload.host_cache: none is planned under {names}")
    if spec.modes == (Mode.DISAGGREGATED,) and not spec.has_network:
        names = ", ".join(chip.id for chip in spec.chips)
        raise ValueError(
            f"search.modes: disaggregated moves KV caches over the network, and no network_bytes_per_s is known of "
            f"{names}; give it, as in chip.{spec.chips[0].id}.network_bytes_per_s"
        )
    for key in ("ttft_ms", "e2e_ms"):
        if not with_prompts and getattr(spec.slo, key) is not None:
            raise ValueError(
                f"slo.{key}: decode_only has no first token; give workload.prompt_tokens and output_tokens, and "
                "leave out search.modes"
            )
    if spec.workload.requests_per_s is not None and spec.slo.min_tokens_per_s is not None:
        raise ValueError("slo.min_tokens_per_s: workload.requests_per_s already says how much is served; give one")
    if spec.search.min_batch is not None and spec.search.min_batch > spec.search.max_batch:
        raise ValueError(
            f"search.min_batch = {spec.search.min_batch} is more than search.max_batch = {spec.search.max_batch}"
        )


def _check_drafts(spec: Searched) -> None:
    try:
        chosen = spec.drafts
    except CatalogueError as fault:
        stated = "" if spec.speculative is None else str(spec.speculative.draft)
        if "/" in stated or stated.endswith(".toml"):
            raise ValueError(f"speculative.draft: {fault}") from None
        known = ("mtp", "eagle3", NO_DRAFTING, *model_ids())
        raise ValueError(
            f"speculative.draft = {stated}: expected mtp, eagle3, none or a smaller model; {nearest(stated, known)}"
        ) from None
    able = {kind for engine in spec.engine for kind in engine.drafts}
    lacking = [one.draft for one in chosen if spec.engine and one.kind not in able]
    if lacking and len(lacking) == len(chosen):
        raise ValueError(f"speculative.draft = {lacking[0]}: no engine of the spec drafts with it")


def _check_lora(spec: Searched) -> None:
    if spec.engine and not any(engine.serves_adapters(spec.model) for engine in spec.engine):
        names = ", ".join(engine.name for engine in spec.engine)
        raise ValueError(f"lora: no adapters are planned beside {spec.model.id} under {names}")
    if spec.lora is not None and spec.calibration is None and spec.lora.step_factor is not None:
        raise ValueError("lora.step_factor: is of the calibrated cost model; under the ideal one adapters take memory")
    by_model = [one.draft for one in spec.drafts if one.kind == "model"]
    if by_model:
        raise ValueError(f"speculative.draft = {by_model[0]}: expected mtp, eagle3 or none beside lora")


def _check_trace(spec: Searched) -> None:
    """Raise ValueError for a request of a trace that is longer than the model's context: no server takes it."""
    trace, most = spec.workload.arrivals.recorded, spec.model.max_context_tokens
    if trace is None or most is None:
        return
    tokens = trace.prompt_tokens + trace.output_tokens
    if tokens.max() > most:
        first = int((tokens > most).argmax())
        raise ValueError(
            f"workload.arrivals.trace: request {first + 1} of {trace.name} has {tokens[first]:,} tokens: expected at "
            f"most {most:,}, the context of {spec.model.id}; leave it out"
        )


def _check_percentiles(spec: Searched) -> None:
    slo = spec.slo
    stated = {"percentile": slo.percentile, "percentiles": slo.percentiles, "goodput": slo.goodput}
    for name, value in stated.items():
        key, shown = next(iter(slo.percentiles.items()), (name, value)) if name == "percentiles" else (name, value)
        if value and value != "mean" and spec.workload.requests_per_s is None:
            raise ValueError(
                f"slo.{key} = {shorten(shown)}: holds of requests that arrive: give workload.requests_per_s"
            )
        if value and name != "percentile" and slo.percentile == "mean":
            raise ValueError(f"slo.{key} = {shorten(shown)}: has no meaning beside slo.percentile: mean")
    if slo.goodput is not None and all(getattr(slo, key) is None for key in LIMITS):
        raise ValueError(
            f"slo.goodput: is the share of requests within limits, and none of {', '.join(LIMITS)} is given"
        )


def _check_cost_model(spec: Searched) -> None:
    for key in ("ici", "prefill_mfu"):
        if spec.calibration is not None and getattr(spec, key) is not None:
            raise ValueError(f"{key}: is of `cost_model: ideal`; the calibrated one has what was measured")


def _check_nominal(spec: Searched) -> None:
    """Refuse fewer nominal parameters than what is counted apart from them: the rest would be less than none."""
    model, nominal = spec.model, spec.model.nominal_parameters
    apart = model.d_model * model.vocab_size * (1 if model.tied_embeddings else 2) + expert_parameters(model)
    calibrated = spec.calibration is not None
    if nominal is None or nominal >= apart or not (calibrated or any(one.draft == "mtp" for one in spec.drafts)):
        return
    counts = "the calibrated cost model" if calibrated else "a draft by mtp"
    raise ValueError(
        f"model.nominal_parameters = {nominal:g}: fewer than the {apart:,.0f} of embedding, head and experts, which "
        f"{counts} counts apart"
    )


def _check_constraints(spec: Searched) -> None:
    for position, expression in enumerate(spec.expressions):
        try:
            for key in expression.keys:
                spec.number_at(key)
            for key in expression.divisors:
                if spec.number_at(key) == 0:
                    raise ValueError(f"divides by {key}, which is 0")
        except ValueError as fault:
            raise ValueError(f"constraints.{position} = {shorten(expression.text)}: {fault}") from None
