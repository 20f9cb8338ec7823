"""The mathematics of image-text pairs: losses over the batch of all processes, and large batches in small parts."""
