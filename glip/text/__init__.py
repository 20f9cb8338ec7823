"""Strings to tokens and back: prompts, spans, token map, noun phrases."""
