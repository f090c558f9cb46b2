"""Ask a language model behind an OpenAI-compatible API: within a budget, through faults of all kinds, never twice."""
