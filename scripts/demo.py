"""Open the demo of a study: a local page that draws with its models, shows its pictures and takes
people's votes (docs/demo.md).

Reads the config as Snakemake does, and results/<study>: models, prompts.tsv and, of a finished
study, scores and pictures. Writes results/<study>/votes.csv and nothing else. It listens on this
machine alone unless --host says otherwise.
"""

import importlib.util
import logging
import os
from pathlib import Path

from vlg.errors import UserError
from vlg.workflow import cli

ROOT = Path(__file__).resolve().parents[1]


def main(args):
    for name, remedy in (("gradio", "run `make demo`, which adds it to .venv"), *MCP[: args.mcp]):
        if importlib.util.find_spec(name) is None:
            raise UserError(f"{name}: not installed; {remedy}")
    study = open_study(args.configfile)
    logging.getLogger().setLevel(logging.WARNING)  # a line for each request helps nobody
    from vlg.demo import app
    from vlg.demo.engine import Engine

    engine = Engine(study, args.device, args.threads or threads_for(study))
    try:
        names = [study.models[0], next(filter(study.mixes, reversed(study.models)), "")]
        engine.load(*filter(None, names))
        hosts = {*app.LOCAL, args.host, *args.name}
        page = app.application(study, engine, hosts, args.mcp)
        app.serve(page, args.host, args.port, tell)
    finally:
        engine.close()


def threads_for(study):
    """How many CPU threads a picture is drawn with: small models are slower with more than one."""
    weights = study.model(study.models[0]).rglob("*.safetensors")
    return 1 if sum(file.stat().st_size for file in weights) < SMALL else os.cpu_count()


def tell(url):
    print(f"Demo: {url}  (Ctrl-C ends it)", flush=True)


SMALL = 100e6  # bytes of a model
MCP = (("mcp", "pip install 'gradio[mcp]' into .venv, or leave --mcp away"),)


def open_study(files):
    """The study of these config files, laid over each other as Snakemake does."""
    from snakemake.common.configfile import load_configfile
    from snakemake.utils import update_config

    from vlg.config.load import load
    from vlg.demo.study import Study

    config = {}
    for file in files:
        if not file.is_file():
            raise UserError(f"--configfile: no file {file}; check the path")
        update_config(config, load_configfile(str(file)))
    return Study(load(config, Path()))


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    add = arguments.add_argument
    add(
        "--configfile",
        type=Path,
        nargs="+",
        default=[ROOT / "config.yaml"],
        help="config.yaml and overlays",
    )
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for the whole network")
    add("--name", action="append", default=[], help="a further host name by which browsers ask")
    add("--port", type=int, default=7860, help="0 takes a free one")
    add("--device", default="auto", help="auto, cpu or cuda, and options: auto,channels_last")
    add("--threads", type=int, default=0, help="CPU threads; 0 chooses by the size of the model")
    add(
        "--mcp",
        action="store_true",
        help="offer the API to assistants, too (needs the package mcp)",
    )
    cli.run(main, arguments)
