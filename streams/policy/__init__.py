"""Which model serves a request: what it needs, which rule it fits, what each choice would cost. No state, no clock."""
