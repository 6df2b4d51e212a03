"""Which CLI, in which words: definitions as data, and what is rendered from them."""
