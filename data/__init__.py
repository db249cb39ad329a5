"""The input pipeline: where pictures come from, which crops a step takes, and how they reach the step."""
