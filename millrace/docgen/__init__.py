"""Reference documents made from the contracts: JSON Schemas, AsyncAPI, OpenAPI, the table of settings."""
