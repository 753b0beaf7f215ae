"""Scoring pictures: kinds of judges."""
