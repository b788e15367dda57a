"""Words of command lines for a shell: what a plan says is quoted, the variables of scripts stay open."""

import re
import shlex
from collections.abc import Sequence

from servesat.launch.flags import program
from servesat.launch.servers import Server

_OPEN = re.compile(
    r"\$(leader|rank|LWS_WORKER_INDEX|LWS_LEADER_ADDRESS|SKYPILOT_NODE_RANK)(:\d+)?"
    r"|\$\(\(\$?\w+ \* \d+\)\)|\$\(\(\d+ \+ server \* \d+\)\)"
)
"""The variables that scripts leave open: addresses, ranks and ports; whatever else a plan says is quoted."""


def quoted(word: str) -> str:
    """A word of a command line; the variables of scripts stay open."""
    return f'"{word}"' if _OPEN.fullmatch(word) else shlex.quote(word)


def shell_words(server: Server, words: Sequence[str]) -> str:
    """A command line for a shell, in which variables stay open."""
    return " ".join(["exec", *map(quoted, [*program(server), *words])])
