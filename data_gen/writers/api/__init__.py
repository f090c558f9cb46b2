"""Write triples by a language model behind an OpenAI-compatible API."""
