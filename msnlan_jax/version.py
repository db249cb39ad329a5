"""The version of this package, which results and wheels carry."""

__version__ = "0.1.0"
