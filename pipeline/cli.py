"""The command line. Every verb is thin: it reads options, calls the library, prints a table.

Exit codes: 0 fine; 1 something failed (what could be finished is on disk); 2 the command or the
configuration is wrong; 130 interrupted by Ctrl-C.
"""

from __future__ import annotations

import inspect
import logging
import sys
from typing import Annotated

import typer

from gait.errors import GaitError
from pipeline.commands.audit import app as audit
from pipeline.commands.bench import app as bench
from pipeline.commands.calibrate import calibrate
from pipeline.commands.console import Console
from pipeline.commands.data import app as data
from pipeline.commands.doctor import doctor
from pipeline.commands.embed import embed
from pipeline.commands.evaluate import evaluate, results
from pipeline.commands.export import export
from pipeline.commands.gallery import app as gallery
from pipeline.commands.identify import identify
from pipeline.commands.keys import keys
from pipeline.commands.perceive import perceive
from pipeline.commands.privacy import app as privacy
from pipeline.commands.process import demo, process
from pipeline.commands.purge import purge
from pipeline.commands.run import run
from pipeline.commands.synth import app as synth
from pipeline.commands.top import top
from pipeline.commands.track_eval import track_eval
from pipeline.commands.train import export_authors, export_weights, train
from pipeline.commands.tune import tune
from pipeline.errors import ConfigError, PipelineError
from pipeline.version import __version__

app = typer.Typer(
    help="Recognise people by how they walk: video in, who was where and when out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
VIDEO, LIVE, PEOPLE = "Recorded video", "Live cameras", "People, and what is kept of them"
MEASURE, NETWORKS, MACHINE = "Train and measure", "Networks and data", "This machine"
app.command(rich_help_panel=VIDEO)(process)
app.command(rich_help_panel=VIDEO)(demo)
app.command(rich_help_panel=LIVE)(run)
app.command(rich_help_panel=LIVE)(top)
app.command(rich_help_panel=LIVE)(perceive)
app.command(rich_help_panel=LIVE)(identify)
app.command(rich_help_panel=LIVE)(keys)
app.command(rich_help_panel=PEOPLE)(purge)
app.command(rich_help_panel=MEASURE)(calibrate)
app.command(rich_help_panel=MEASURE)(train)
app.command("eval", rich_help_panel=MEASURE)(evaluate)
app.command(rich_help_panel=MEASURE)(results)
app.command("track-eval", rich_help_panel=MEASURE)(track_eval)
app.command(rich_help_panel=MEASURE)(tune)
app.command(rich_help_panel=NETWORKS)(embed)
app.command(rich_help_panel=NETWORKS)(export)
app.command(rich_help_panel=NETWORKS)(export_weights)
app.command(rich_help_panel=NETWORKS)(export_authors)
app.command(rich_help_panel=MACHINE)(doctor)
app.add_typer(gallery, name="gallery", rich_help_panel=PEOPLE)
app.add_typer(privacy, name="privacy", rich_help_panel=PEOPLE)
app.add_typer(audit, name="audit", rich_help_panel=PEOPLE)
app.add_typer(data, name="data", rich_help_panel=NETWORKS)
app.add_typer(synth, name="synth", rich_help_panel=NETWORKS)
app.add_typer(bench, name="bench", rich_help_panel=MACHINE)


def _join_lines(of: typer.Typer) -> None:
    """Let paragraphs of help flow: typer breaks them where the source does, and again at 80."""
    for command in of.registered_commands:
        text = inspect.getdoc(command.callback) or ""
        command.help = "\n\n".join(part.replace("\n", " ") for part in text.split("\n\n"))
    for group in of.registered_groups:
        if group.typer_instance:
            _join_lines(group.typer_instance)


_join_lines(app)

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"trackletgait {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log what happens, and show tracebacks.")
    ] = False,
) -> None:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.ERROR,
        format="%(levelname)s %(name)s: %(message)s",
    )
    for ours in ("pipeline", "gait"):
        logging.getLogger(ours).setLevel(logging.INFO if verbose else logging.WARNING)
    for chatty in ("onnxscript", "onnx_ir"):  # hundreds of lines an export
        logging.getLogger(chatty).setLevel(logging.ERROR)


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        app()
    except (PipelineError, GaitError) as error:
        if "--verbose" in sys.argv or "-v" in sys.argv:
            logging.getLogger(__name__).exception("failed")
        Console(stderr=True).problem(error)
        sys.exit(EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED)
    except KeyboardInterrupt:
        Console(stderr=True).print("Stopped.")
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
