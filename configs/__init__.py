"""Experiment sheets: `base` holds every field with a comment, the others are short deltas on it."""
