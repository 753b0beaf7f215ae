"""What a study may say and what it asks for: keys, checks, names and paths."""

import sys

try:
    import pydantic  # noqa: F401 - the first package that every step asks for
except ModuleNotFoundError as error:
    sys.exit(f"error: {error.name}: not installed; run `make study`, or Snakemake with --use-conda")
