"""The engine's proof: an oracle written from the definition, and what must agree with it."""
