"""Detections and truth to numbers."""
