"""YAML to core: how documents are read, checked and compiled."""
