"""Headers of compressed frames, and where the fragments of encapsulated pixel data lie."""
