"""Published checkpoints: a file to a `GlipConfig` and our state dict. One table for each kind of file; no network."""
