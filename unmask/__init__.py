"""Let chosen layers of a decoder LLM look right, and find out which."""
