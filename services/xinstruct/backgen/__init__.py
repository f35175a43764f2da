"""Back-generation: a native document in, the English instruction that it answers out."""
