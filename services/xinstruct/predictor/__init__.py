"""The model server for evaluator and encoder: KServe's own, around the models in process of inference/local.py."""
