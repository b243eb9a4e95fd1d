"""What makes the engine's step fast, each to be switched off by itself."""
