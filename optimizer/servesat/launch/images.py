"""Images that stand beside those of engines, which engines/ names, with the releases that targets are written for."""

ROUTER = "python:3.12-slim"
"""Installs the router of an engine while it starts."""

LLM_D_SIDECAR = "ghcr.io/llm-d/llm-d-router-disagg-sidecar:v0.10.0"

DYNAMO_RELEASE = "1.6.1"


def dynamo(program: str) -> str:
    """Dynamo's own image of an engine."""
    return f"nvcr.io/nvidia/ai-dynamo/{program}-runtime:{DYNAMO_RELEASE}"
