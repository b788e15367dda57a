"""The parameters of column generation, of its master problem and of the rounding heuristic."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MasterOptions:
    """Parameters of the master problem."""

    relative_precision: float = 1e-4
    """Relative optimality tolerance of PDLP: duals are only trial prices, whose dual bound is computed exactly."""

    absolute_precision: float = 1e-4
    """The same for values near zero, in the units of the rows: blocks, chips, and the average cost of a block."""

    threads: int = 2
    """Threads of PDLP."""

    max_simplex_covers: int = 2000
    """Covers below which a simplex method solves the master problem instead of PDLP."""

    quota_headroom: float = 2.0
    """Upper bound on a quota's right-hand side, as a multiple of the chips that covers can take of it.

    The factor 2 allows for rented chips and as many reserved for a peak. PDLP's error is relative to the norm of all
    right-hand sides: with quotas that are far from tight, an empty mixture would count as accurate.
    """

    min_missing_share: float = 1e-3
    """Share of a block that must be missing to count as unserved; less is solver error."""

    min_mixture_share: float = 1e-3
    """Share of a block from which a cover counts as part of the mixture."""

    promising_covers: int = 200_000
    """Approximate number of covers of small reduced cost that are passed to rounding, in addition to the mixture."""

    min_promising_per_block: int = 2
    """Minimum number of these covers in each block."""

    initial_penalty: float = 2.0
    """First penalty for not serving a block, as a multiple of its cheapest cover: it keeps duals from oscillating."""

    penalty_growth: float = 1.5
    """Factor by which the penalty grows if a block is not served, which itself grows by this factor each time."""


@dataclass(frozen=True)
class RoundingOptions:
    """Parameters of the rounding heuristic."""

    selection_gap: float = 3e-4
    """Relative gap to which the selection of covers in a period is optimised."""

    selection_time_share: float = 0.8
    """Share of the rounding's time that goes into this selection; the rest is for repair."""

    most_starts: int = 8
    """Choices of covers of a period that swaps start from: the mixture, then random ones while limits are exceeded."""

    least_program_s: float = 0.4
    """Seconds below which no program selects covers: it would find none, and repair has the time instead."""

    overuse_penalty: float = 10.0
    """Penalty for a chip beyond a quota or reservation, as a multiple of the most expensive chip: repair removes it."""

    repair_batch: int = 25
    """Workloads that are re-planned together while all others stay as they are."""

    repair_time_s: float = 2.0
    """Maximum seconds for re-planning one batch."""

    repair_gap: float = 2e-2
    """Relative gap to which a batch is re-planned because a quota is exceeded; improvement comes later."""

    improvement_gap: float = 1e-3
    """Relative gap to which a batch is re-planned in order to reduce the bill."""

    max_rounding_loss: float = 2e-3
    """Relative excess of a period's cost over the mixture's above which a batch of its workloads is re-planned."""


@dataclass(frozen=True)
class ImprovementOptions:
    """Parameters of the search for a cheaper plan in the time that is left."""

    variables: int = 10_000
    """Replica variables of the workloads that are planned anew at first; more of them where that takes little time."""

    time_s: float = 4.0
    """Maximum seconds for planning some workloads anew."""

    min_time_s: float = 0.5
    """Seconds below which none are planned anew."""

    gap: float = 1e-4
    """Relative gap to which they are planned."""

    target_gap: float = 5e-4
    """Relative gap of the whole plan at which the search ends."""

    min_gain: float = 1e-7
    """Relative gain that counts as one."""

    failures: int = 12
    """Choices of workloads without a gain, one after the other, after which the search ends."""


@dataclass(frozen=True)
class ColumnGenerationOptions:
    """Parameters of column generation, with those of its parts."""

    min_variables: int = 20_000
    """Replica variables from which a fleet is decomposed; below, the compact model closes the gap faster."""

    min_variables_with_region_shares: int = 100_000
    """The same if some demand must survive the loss of a region, which makes the pricing problems integer programs."""

    min_variables_with_sizes: int = 9_000
    """The same if requests come in several sizes, counting the variables for the time of each size."""

    target_gap: float = 1e-3
    """Relative gap between the mixture and the dual bound at which the search ends; rounding loses about as much."""

    grid_cells: tuple[int, ...] = (4000, 32_000)
    """Cells of a demand in the pricing problem; the second grid is used where the first leaves a gap."""

    stall_gap: float = 1e-3
    """Reduction of the gap over `stall_rounds` below which the search ends."""

    stall_rounds: int = 8
    """Number of rounds over which stalling is measured."""

    initial_step: float = 0.5
    """First step from the best dual prices towards the master's duals, which oscillate; 1 is the full step."""

    max_step: float = 1.0
    """Largest step."""

    min_step: float = 0.03
    """Smallest step."""

    step_growth: float = 1.5
    """Factor on the step after a round that improves the dual bound."""

    step_shrink: float = 0.5
    """Factor on the step after a round that does not."""

    perturbation_std_range: tuple[float, float] = (0.1, 0.4)
    """Range of the relative standard deviation of the random prices that near-optimal covers are generated with.

    At one price all blocks want the same chips, while a mixture within the quotas needs second-best covers for many of
    them. The worse the prices are, the farther away are the covers that the mixture needs.
    """

    perturbation_per_gap: float = 2.0
    """The standard deviation as a multiple of the gap, within that range."""

    min_perturbed_price_share: float = 0.05
    """Smallest price of a replica in these covers, as a share of its price in the first round.

    The dual price of idle reserved chips is 0, at which any number of them would be optimal.
    """

    near_covers_first_round: int = 7
    """Near-optimal covers generated for each block in the first round."""

    near_covers_later_rounds: int = 1
    """Near-optimal covers generated for each block in each later round."""

    near_cover_time_share: float = 0.4
    """Share of the time left for covers after which a round generates no more of these."""

    sample_workloads: int = 100
    """Workloads in the sample from which a larger fleet gets its initial prices."""

    sample_target_gap: float = 2e-3
    """Relative gap at which the search on the sample ends."""

    sample_time_share: float = 0.2
    """Maximum share of the time that goes into the sample."""

    cover_time_share: float = 0.75
    """Share of the time that goes into generating covers, the sample included; the rest is for rounding."""

    master: MasterOptions = MasterOptions()
    """Parameters of the master problem."""

    rounding: RoundingOptions = RoundingOptions()
    """Parameters of the rounding heuristic."""

    improvement: ImprovementOptions = ImprovementOptions()
    """Parameters of the search after it."""


DEFAULT_OPTIONS = ColumnGenerationOptions()
