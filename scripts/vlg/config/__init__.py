"""What a study may say and what it asks for: keys, checks, names and paths."""
