"""Programs that measure, side by side; see README.md."""
