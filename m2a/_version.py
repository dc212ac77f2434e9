"""The version of m2a, in a module of its own so that the build reads it without importing m2a."""

__version__ = "0.1.0"
