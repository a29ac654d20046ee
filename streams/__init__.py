"""Faust: dedupe, meter, route, settle. Decisions are pure functions of state and record; the agents only carry them."""
