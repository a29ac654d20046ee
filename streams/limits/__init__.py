"""Limits: what they are of (measures), where they are counted (accounts), and which hold for a request (policy)."""
