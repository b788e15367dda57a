"""A replica replayed token by token, in plain loops: what `servesat.replay.scheduler` must agree with to the step.

Takes plain numbers and imports nothing from servesat.
"""

from typing import Any


def step_s(times: dict[str, float], decoding: list[int], chunks: list[tuple[int, int]], ends: int) -> float:
    """The time of a step: contexts of the sequences that decode, and prompts' chunks as (tokens before, tokens)."""
    new = sum(tokens for _, tokens in chunks)
    met = sum(sum(before + position + 0.5 for position in range(tokens)) for before, tokens in chunks)
    visited = 1 - times["not_visited"] ** (len(decoding) + new)
    load = times["resident_s"] + times["experts_s"] * visited
    compute = len(decoding) * times["token_s"] + new * times["prompt_token_s"] + met * times["attention_s"]
    total = times["fixed_s"] + max(load, compute)
    total += max(times["head_s"], (len(decoding) + ends) * times["head_token_s"])
    total += len(decoding) * times["sequence_s"] + (len(decoding) + new) * times["sent_s"]
    return max(times["least_s"], total + sum(decoding) * times["kv_token_s"]) + ends * times["prompt_end_s"]


def replay(requests: list[tuple[float, int, int, int]], times: dict[str, float], limits: dict[str, Any]):
    """First and last token of each request (arrival, prompt, answer, cached), and how many made way."""
    state = [
        {"id": n, "arrival": a, "prompt": p, "answer": g, "cached": c, "held": 0, "made": 0, "at": 0}
        for n, (a, p, g, c) in enumerate(requests)
    ]
    if limits["with_cache"]:
        for one in state:
            one["cached"], one["made"] = one["prompt"], 1
    first, last = [None] * len(state), [None] * len(state)
    waiting, prompts, decoding, admitted, preempted = [], [], [], [], 0
    coming = list(state)
    now = seen = 0.0

    def held():
        return sum(one["held"] for one in prompts + decoding)

    while coming or waiting or prompts or decoding:
        while coming and coming[0]["arrival"] <= seen:
            waiting.append(coming.pop(0))
        idle = not (waiting or prompts or decoding)
        if idle:
            now = max(now, coming[0]["arrival"])
        if idle or not limits["lag"]:
            seen = now
        while coming and coming[0]["arrival"] <= seen:
            waiting.append(coming.pop(0))
        beside = [] if limits["prompts_alone"] else decoding
        budget = limits["step_tokens"] - len(beside)
        free = limits["kv_tokens"] - held() - len(decoding)
        chunks = []
        for one in prompts:
            taken = min(one["goal"] - one["held"], budget)
            if budget > 0:
                chunks.append((one, taken))
                budget, free = budget - taken, free - (one["goal"] - one["held"])
        full = budget <= 0 and bool(prompts) and len(chunks) < len(prompts)
        running = len(prompts) + len(decoding)
        while waiting and running < limits["sequences"] and (budget > 0 or limits["with_cache"]) and not full:
            one = waiting[0]
            whole = one["prompt"] + (one["made"] if one["cached"] == 0 else 0)
            missing = whole - one["cached"]
            taken = min(missing, budget)
            wanted = whole
            if limits["prompts_alone"]:
                answers = sum(other["answer"] for other in decoding)
                wanted = one["prompt"] + 0.4 * (one["answer"] + answers / 2)
                if chunks and taken < missing:
                    break
            if free < wanted and running:
                break
            waiting.pop(0)
            admitted.append(one)
            one["held"], one["goal"] = one["cached"], whole
            if missing == 0:
                if one["made"] >= one["answer"]:
                    last[one["id"]] = now
                else:
                    decoding.append(one)
                    running += 1
                    free -= one["cached"] + 1
                continue
            running += 1
            prompts.append(one)
            chunks.append((one, taken))
            budget, free = budget - taken, free - whole
        began = now
        if chunks:
            beside = [] if limits["prompts_alone"] else list(decoding)
            ends = sum(one["held"] + taken == one["goal"] for one, taken in chunks)
            now += step_s(times, [one["held"] for one in beside], [(one["held"], taken) for one, taken in chunks], ends)
        elif decoding:
            if len(decoding) > 1 and limits["kv_tokens"] - held() < len(decoding):
                newest = next(one for one in reversed(admitted) if one in decoding)
                decoding.remove(newest)
                while admitted[-1] is not newest:
                    admitted.pop()
                admitted.pop()
                newest["cached"] = newest["held"] = 0
                waiting.insert(0, newest)
                preempted += 1
                seen = now
                continue
            beside = list(decoding)
            now += step_s(times, [one["held"] for one in beside], [], 0)
        else:
            continue
        for one in beside:
            one["held"] += 1
            one["made"] += 1
            if one["made"] == one["answer"]:
                decoding.remove(one)
                last[one["id"]] = now
        for one, taken in chunks:
            one["held"] += taken
            if one["held"] == one["goal"]:
                prompts.remove(one)
                if one["made"] == 0:
                    first[one["id"]] = now
                one["made"] += 1
                if one["made"] >= one["answer"]:
                    last[one["id"]] = now
                else:
                    decoding.append(one)
        seen = began
    return first, last, preempted
