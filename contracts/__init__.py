"""What travels between the services, and nothing else: records, names, settings. Imports nothing of ours."""
