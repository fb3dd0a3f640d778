"""The command line as a script for `python` and `torchrun`, with the verbs of training."""

from pipeline.cli import app, main
from pipeline.commands.evaluate import evaluate
from pipeline.commands.train import export_authors, train

registered = {each.callback for each in app.registered_commands}
for name, verb in (("train", train), ("eval", evaluate), ("export-authors", export_authors)):
    if verb not in registered:
        app.command(name)(verb)

if __name__ == "__main__":
    main()
