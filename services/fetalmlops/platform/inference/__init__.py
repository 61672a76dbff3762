"""Both ends of inference: the client and its connection, the bundles that are served, and their promotion."""
