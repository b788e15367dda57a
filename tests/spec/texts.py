"""Specs as text."""

from pathlib import Path

from servesat import Spec

BASE = "cost_model: ideal\nmodel: llama-3-70b\nworkload: {context_tokens: 8192}\n"
V5E = BASE + "search: {chips: [tpu-v5e]}\n"


def read(tmp_path: Path, text: str | bytes) -> Spec:
    path = tmp_path / "spec.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Spec.load(path)
