"""Tables, one a file, found by their names (`vlg.analysis.table`)."""
