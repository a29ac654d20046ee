"""One file per engine; inference/engine.py has the line that registers it."""
