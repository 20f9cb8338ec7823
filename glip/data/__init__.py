"""Files on disk to examples, and examples to training batches."""
