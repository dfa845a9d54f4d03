"""What is known about SQLite's functions: which may stand in an equality that is followed."""

AGGREGATES = frozenset(
    [
        "avg",
        "count",
        "group_concat",
        "json_group_array",
        "json_group_object",
        "jsonb_group_array",
        "jsonb_group_object",
        "max",
        "median",
        "min",
        "percentile",
        "percentile_cont",
        "percentile_disc",
        "string_agg",
        "sum",
        "total",
        "geopoly_group_bbox",
    ]
)
"""`min` and `max` of several arguments are ordinary functions."""

VOLATILE = frozenset(["random", "randomblob", "changes", "total_changes", "last_insert_rowid"])

CLOCK = frozenset(["date", "time", "datetime", "julianday", "strftime", "unixepoch", "timediff"])

STRICT = CLOCK | frozenset(
    [
        "abs",
        "ceil",
        "ceiling",
        "floor",
        "instr",
        "json",
        "json_array_length",
        "json_extract",
        "json_type",
        "length",
        "lower",
        "ltrim",
        "mod",
        "replace",
        "round",
        "rtrim",
        "sign",
        "substr",
        "substring",
        "trim",
        "trunc",
        "unicode",
        "upper",
    ]
)
"""NULL when any of their arguments is NULL."""

PURE = STRICT | frozenset(
    [
        "char",
        "coalesce",
        "concat",
        "concat_ws",
        "format",
        "hex",
        "if",
        "ifnull",
        "iif",
        "json_array",
        "json_object",
        "json_quote",
        "json_valid",
        "max",
        "min",
        "nullif",
        "printf",
        "quote",
        "typeof",
    ]
)
"""Their value depends on their arguments and nothing else."""

LATERALS = {
    name: ("key", "value", "type", "atom", "id", "parent", "fullkey", "path")
    for name in ("json_each", "json_tree")
}
"""Table-valued functions and the columns they show."""
