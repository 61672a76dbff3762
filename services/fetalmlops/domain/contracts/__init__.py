"""The language of the system: events, topics, identifiers, planes and their JSON Schemas."""
