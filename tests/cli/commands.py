"""Commands run in this process, and the specs that they are asked about."""

from typer.testing import CliRunner

from servesat.cli import app
from tests.helpers import ROOT

EXAMPLE = str(ROOT / "examples" / "llama-3-405b-under-15ms.yaml")
CHAT = str(ROOT / "examples" / "llama-3-70b-chat.yaml")


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))
