"""Scoring: a pair in, three label probabilities of the trained evaluator out. Two slots, blue and green."""
