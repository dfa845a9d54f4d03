"""JSON Schemas as package data: of the config file and of `plan --format json`."""
