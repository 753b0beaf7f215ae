"""How a study was made and whether it is whole: provenance, integrity, archive."""
