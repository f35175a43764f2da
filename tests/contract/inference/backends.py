"""Names of the backends that the contract is run against, by what they are there for."""

WRITERS = ("scripted", "journaled", "local", "openai chat", "openai completions", "transformers serve", "tgi")
EVALUATORS = ("kserve evaluator rest", "kserve evaluator grpc")
ENCODERS = ("kserve encoder rest", "kserve encoder grpc")
BACKENDS = (*WRITERS, *EVALUATORS, *ENCODERS)
LABELS = (" best", " reasonable", " worst")
