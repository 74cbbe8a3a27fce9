"""Agents: policies rolled out in the environments."""
