"""The networks: tensors in, `GlipOutput` out."""
