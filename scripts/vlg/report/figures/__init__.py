"""Figures, one a file, found by their names (`vlg.report.figure`)."""
