"""The calibrated cost model once more, in plain numbers: written from docs/cost-model.md, "Calibrated".

Takes machines of the raw spec, whose `cost_model` is a mapping, and imports nothing from servesat.
"""

from typing import Any


def calibration(spec: dict[str, Any]):
    """The constants that a raw spec states; None under the ideal cost model."""
    stated = spec.get("cost_model", "ideal")
    return None if stated == "ideal" else stated


class Measured:
    """What a machine of a spec takes, as its chip and engine were measured."""

    def __init__(self, machine, cached, new, read):
        self.machine, self.new, self.read = machine, new, read
        known = machine.spec["cost_model"]
        self.of_chip = known["chips"].get(machine.chip["name"], known["default_chip"])
        self.host = known["default_stack"]
        if machine.engine is not None:
            same = [stack for stack in known["stacks"] if stack["program"] == machine.engine["program"]]
            exact = [stack for stack in same if stack["version"] == machine.engine["version"]]
            self.host = (exact or same or [self.host])[0]
        self.longer = machine.spec["lora"].get("step_factor", 1.2) if "lora" in machine.spec else 1.0
        self.reach = self.of_chip["flops"] * known.get("dtypes", {}).get(machine.compute, 1.0)

    def sent_s(self, tokens):
        """All-reduces of each layer, and exchanges of experts."""
        machine, total = self.machine, 0.0
        if machine.tp > 1:
            ring = 2 * (machine.tp - 1) / machine.tp
            total += 2 * machine.model["layers"] * ring * machine.gather_s(tokens / machine.ep)
        if machine.moe and machine.ep > 1:
            copies = min(machine.moe["experts_per_token"], machine.ep) * machine.narrow / machine.model["d_model"]
            total += 2 * machine.with_experts * machine.exchange_s(tokens * copies)
        total *= machine.fullest / machine.pp
        return (total + tokens * machine.hop_s()) / self.of_chip["link"]

    def launched_s(self):
        machine = self.machine
        collectives = 2 * machine.model["layers"] * (machine.tp > 1)
        collectives += 2 * machine.with_experts * (machine.ep > 1)
        launches = 8 * machine.model["layers"] * machine.fullest * self.of_chip["launch_s"]
        hops = machine.pp if machine.pp > 1 else 0
        return launches + (collectives * machine.fullest + hops) * self.of_chip["collective_s"]

    @property
    def table(self):
        return self.machine.model["d_model"] * self.machine.model["vocab_size"]

    def looked_up(self):
        """Parameters and bytes of the tables, and bytes of the one that is the head."""
        tied = self.machine.model.get("tied_embeddings", False)
        names = ["embedding"] if tied else ["embedding", "head"]
        machine, each = self.machine, [self.table * self.machine.weight_bytes(name) for name in names]
        return self.table * len(names), machine.pp * max(each) if machine.pp > 1 else sum(each), each[-1]

    def load_s(self, tokens):
        machine = self.machine
        resident = machine.other_bytes - self.looked_up()[1]
        loaded = resident / machine.tp + machine.expert_bytes * machine.touched(tokens) / machine.stage
        return loaded / (machine.hbm * self.of_chip["weights"])

    def flop(self, tokens):
        """Those of experts count for more, as their matmuls reach less."""
        machine, met = self.machine, 0
        if machine.moe:
            matrices = 3 if machine.model.get("gated_mlp", True) else 2
            each = machine.with_experts * matrices * machine.narrow * machine.moe["d_ff"]
            met = machine.moe["experts_per_token"] * each
        slower = met * (1 / machine.spec["cost_model"].get("experts", 1.0) - 1)
        return 2 * (machine.active - self.looked_up()[0] + slower) * tokens

    def issued_s(self, drafting=0):
        """What the host launches of a step, and of the draft's layers."""
        machine = self.machine
        launches = 8 * machine.model["layers"] + 12 * machine.with_experts
        return (machine.fullest * launches + 8 * drafting) * self.host.get("host_launch_s", 0.0)

    def step_s(self, batch):
        machine = self.machine
        peak = machine.y * machine.peak * self.reach
        verified = batch * (machine.ahead + 1)
        layers = max(self.load_s(verified / machine.pp), machine.fullest * self.flop(verified) / peak)
        bf16 = machine.stage * machine.chip["flop_per_s"]["bf16"] * self.reach
        read = self.looked_up()[2] / (machine.tp * machine.hbm * self.of_chip["weights"])
        head = machine.pp * max(read, 2 * self.table * verified / machine.pp / bf16)
        read_s = machine.kv_read_s(batch, self.read) - batch * machine.exchanged_s()
        kv, exchanged = read_s / self.of_chip["kv_cache"], verified * machine.exchanged_s()
        host = machine.pp * self.host["step_s"] + self.host["sequence_s"] * batch / machine.ep
        moved = kv + exchanged / self.of_chip["link"] + self.sent_s(verified)
        return self.longer * max(
            self.issued_s(machine.ahead), layers + head + moved + self.launched_s() + host + self.drafted_s(batch)
        )

    def drafted_s(self, batch):
        machine, of_chip = self.machine, self.of_chip
        if not machine.ahead:
            return 0.0
        shared = 2 if machine.tp > 1 or (machine.moe and machine.ep > 1) else 0
        of_layer = 8 * of_chip["launch_s"] + shared * of_chip["collective_s"]
        of_host = machine.ahead * (of_layer + machine.spec["cost_model"].get("draft_s", 0.0))
        return of_host + machine.drafting_s(batch, self.read, of_chip["weights"], self.reach, of_chip["kv_cache"])

    def prompt(self, attention_flop):
        """One prompt alone, and the part that others wait for in a stage."""
        pp, flop = self.machine.pp, self.machine.fullest * (self.flop(self.new) + attention_flop / 0.7)
        computed, sent = flop / (self.machine.y * self.machine.peak * self.reach), self.sent_s(self.new)
        alone = pp * (self.host["step_s"] + sent) + self.launched_s() + max(self.load_s(self.new), pp * computed)
        in_engine = self.host.get("prompt_s", 0.0)
        whole = max(alone, self.issued_s()) + pp * in_engine
        return self.longer * whole, self.longer * (in_engine + computed + sent)

    def queue_s(self, work, step, batch, output):
        others = (batch - 1) * work
        return min(others, self.host["prompts_first"] * others + work / 2 * others / (output * step))
