"""The mathematics of detection: anchors, box coder, assigners, losses, post-processing."""
