"""Backends of the inference port (spine/inference.py): models in process, and the protocols of model servers."""
