"""What makes the engine's step fast, each to be switched off by itself."""

from peftstudy import lean  # noqa: F401 -- first: what comes after it loads Transformers' models
