"""The dashboard: one web page over the ledger and the running system. `views/__init__.py` registers its views."""
