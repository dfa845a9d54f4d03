"""The JSON Schema of the config file, as package data: `litejoin.schema.json`."""
