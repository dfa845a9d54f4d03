"""The registry of rule codes: what each finding means, by an example, and how to fix it.

Codes are stable: a code is never reused for something else. `LJ1xx` are about the file, its
structure and its values, `LJ2xx` about what the config means, SQL included. Read by `diagnostics`
(the level), `litejoin explain` and the generated errors page. Registering a code twice fails. It is
one file because it is one table.
"""

from typing import Literal

from litejoin.frozen import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `ignorable`: an inline `# litejoin: ignore[CODE]` hides it."""

    code: str
    level: Literal["error", "warning"]
    title: str
    cause: str
    example: str
    fix: str
    ignorable: bool = False


CODES: dict[str, Rule] = {}


def _error(
    code: str, title: str, cause: str, example: str, fix: str, *, ignorable: bool = False
) -> None:
    _register(Rule(code, "error", title, cause, example, fix, ignorable))


def _warning(code: str, title: str, cause: str, example: str, fix: str) -> None:
    _register(Rule(code, "warning", title, cause, example, fix, ignorable=True))


def _register(rule: Rule) -> None:
    if rule.code in CODES:
        raise ValueError(f"rule {rule.code} is registered twice")
    CODES[rule.code] = rule


# The file and its YAML

_error(
    "LJ101",
    "YAML syntax",
    "The text is not YAML, so nothing after this place can be read.",
    "name: a: b",
    "Quote texts that hold ': ' or start with @, %, ` or *; indent with spaces, not tabs.",
)
_error(
    "LJ102",
    "duplicate key",
    "A mapping holds one key twice; only one of the values could count.",
    "storage:\n  batch_size: 100\n  batch_size: 200",
    "Remove one of the two.",
)
_error(
    "LJ103",
    "unknown key",
    "The key is not part of the config language at this place; it would have no effect.",
    "storage:\n  shards: 4",
    "Correct the spelling or remove the key; `litejoin schema` lists all keys.",
    ignorable=True,  # the key is left out, and a config may be shared with a newer version
)
_error(
    "LJ104",
    "wrong type",
    "The value is of another type than the key takes.",
    "storage:\n  shard_count: many",
    "Write a value of the type that the message names.",
)
_error(
    "LJ105",
    "missing key",
    "A required key is absent or has no value.",
    "sources:\n  - name: push\n    type: http",
    "Add the key.",
)
_error(
    "LJ106",
    "unknown value",
    "The key takes one of a few words.",
    "delivery:\n  guarantee: exactly_once",
    "Use one of the words that the message lists.",
)
_error(
    "LJ107",
    "bad duration",
    "Durations are numbers with units, written as in Go.",
    "retention:\n  duration: 1 day",
    "Write 10ms, 30s, 1m, 1h30m or 168h.",
)
_error(
    "LJ108",
    "bad size",
    "Sizes are whole numbers with a unit; units are powers of 1024.",
    "server:\n  limits: {max_body_bytes: lots}",
    "Write 64KB, 128MB or 1GB.",
)
_error(
    "LJ109",
    "bad address",
    "A listening address is a host (or nothing, for all interfaces), a colon and a port.",
    "server:\n  addr: localhost",
    "Write 127.0.0.1:9100, or :9100 for all interfaces.",
)
_error(
    "LJ110",
    "bad URL",
    "The text is not a URL of the kind that the key takes.",
    "url: api.example.com/orders",
    "Write the URL with its scheme and host: https://api.example.com/orders.",
)
_error(
    "LJ111",
    "out of bounds",
    "A number, a length or a count is outside of what the key takes.",
    "storage:\n  shard_count: 0",
    "Stay within the bounds that the message names.",
)
_error(
    "LJ112",
    "bad name",
    "Names start with a letter or an underscore, then letters, digits, underscores, dots and "
    "hyphens, at most 128 in all.",
    "joins:\n  - name: top 10",
    "Rename it, such as top-10.",
)
_error(
    "LJ113",
    "bad path",
    "The text is not a gjson path.",
    "key_path: $.id",
    "Write names and indexes joined by dots: data.items, user.id, tags.0.",
)
_error(
    "LJ114",
    "keys that do not go together",
    "Exactly one of several keys is needed, or a key needs another one.",
    "joins:\n  - {name: a, query: SELECT 1, sink: x, sinks: [y]}",
    "Keep one of them, or add the one that is missing.",
)
_error(
    "LJ115",
    "key of another type",
    "The key exists, but for another type of source, window, sink, pagination or auth.",
    "windows:\n  - {name: w, type: tumbling, size: 5m, gap: 1m}",
    "Remove the key or change the type.",
)
_error(
    "LJ116",
    "bad value",
    "The text is not written as the key needs it.",
    "config: {brokers: localhost}",
    "Write brokers as host:port, a status as 429 or 5xx, base64 after whsec_: see the message.",
)
_error(
    "LJ117",
    "repeated item",
    "A list holds an item twice.",
    "topics: [orders, orders]",
    "Remove one of the two.",
)
_warning(
    "LJ118",
    "duration rounded up",
    "The duration is no whole number of milliseconds, which is what time is counted in.",
    "size: 100us",
    "Write the milliseconds that you mean.",
)
_error(
    "LJ120",
    "not a text file",
    "A config is UTF-8 text without control characters.",
    "name: a\\0b",
    "Save the file as UTF-8 and remove the character.",
)
_error(
    "LJ121",
    "too large",
    "A config has at most 1 MiB and 50,000 values, aliases counted in full.",
    "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]",
    "Split the pipeline, or remove aliases of aliases.",
)
_error(
    "LJ122",
    "too deep",
    "A config is nested at most 32 levels deep.",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
    "Flatten the value.",
)
_error(
    "LJ123",
    "bad alias",
    "An alias names no anchor before it, or there are more than 100 of them.",
    "name: *nobody",
    "Define the anchor (&name) first, or write the value out.",
)
_error(
    "LJ124",
    "several documents",
    "A config is one YAML document; what follows `---` would be ignored.",
    "name: a\n---\nname: b",
    "Put every pipeline into a file of its own.",
)
_error(
    "LJ125",
    "empty config",
    "The file holds no YAML value.",
    "# nothing here",
    "`litejoin init` prints a config to start from.",
)
_error(
    "LJ126",
    "YAML tag",
    "Tags make other values out of a text; a config needs none.",
    "name: !!binary aGk=",
    "Remove the tag.",
)
_error(
    "LJ127",
    "bad key",
    "A key is a text, not a list or a mapping.",
    "? [a, b]\n: c",
    "Use a text as the key.",
)
_error(
    "LJ128",
    "too many findings",
    "There are more findings than anybody reads.",
    "(a file of another kind)",
    "Fix the first ones and run again.",
)
_error(
    "LJ130",
    "undefined variable",
    "`${NAME}` names an environment variable that is not set.",
    "url: https://${HOST}/orders",
    "Set it, give a default with ${NAME:-default}, or write $${ for a literal ${.",
)
_error(
    "LJ131",
    "bad expansion",
    "`${` is not followed by a name and a closing brace.",
    "url: https://example.com/${",
    "Write ${NAME}, ${NAME:-default} or ${file:/path}; $${ is a literal ${.",
)
_error(
    "LJ132",
    "unreadable file",
    "The file of `${file:PATH}` cannot be read, or is no small UTF-8 text.",
    "token: ${file:/run/secrets/missing}",
    "Correct the path or the file's permissions.",
)
_error(
    "LJ133",
    "bad override",
    "`--set` takes PATH=VALUE, and the path must lead to a place in the config.",
    "--set storage.shard_count",
    "Write --set storage.shard_count=4 or --set sources[0].api.interval=5s.",
)
_warning(
    "LJ140",
    "unknown code in an ignore comment",
    "`# litejoin: ignore[CODE]` names a code that does not exist or cannot be ignored.",
    "name: a  # litejoin: ignore[LJ999]",
    "Correct the code; only warnings can be ignored.",
)

# What the config means

_error(
    "LJ201",
    "duplicate name",
    "Two things of one kind have the same name; upper and lower case count as equal. Joins and "
    "windows share their names.",
    "sinks:\n  - {name: out, type: stdout}\n  - {name: OUT, type: stdout}",
    "Rename one of them.",
)
_error(
    "LJ202",
    "reserved name",
    "Names that start with sqlite_ belong to SQLite; a window may not have the name of a topic.",
    "topic: sqlite_orders",
    "Choose another name.",
)
_error(
    "LJ203",
    "unknown sink",
    "A join or window names a sink that is not in sinks.",
    "joins:\n  - {name: j, query: SELECT key FROM orders, sink: webhok}",
    "Correct the name or add the sink.",
)
_warning(
    "LJ204",
    "unused sink",
    "No join and no window sends to the sink.",
    "sinks:\n  - {name: out, type: stdout}",
    "Name it in a join's sink, or remove it.",
)
_error(
    "LJ205",
    "address clash",
    "Two different addresses cannot be listened on at once: same port, and one of them is all "
    "interfaces.",
    "addr: :8080 and addr: 127.0.0.1:8080",
    "Use the same address for both, which then share one listener, or another port.",
)
_error(
    "LJ206",
    "slide larger than size",
    "A sliding window that moves further than its size would skip messages.",
    "windows:\n  - {type: sliding, size: 1m, slide: 5m}",
    "Make slide at most size.",
)
_error(
    "LJ207",
    "deletes with a filtered fetch",
    "With a watermark a poll fetches only what is new; what is missing is not deleted.",
    "detect_deletes: true\nwatermark: {strategy: timestamp, path: updated_at}",
    "Add full_sweep_interval, or switch one of the two off.",
)
_error(
    "LJ208",
    "first wait longer than the longest",
    "retry_interval or backoff is above max_backoff, or min_interval above max_interval.",
    "dlq: {retry_interval: 10m, max_backoff: 5m}",
    "Raise the longest or lower the first.",
)
_warning(
    "LJ209",
    "topic needs quotes in SQL",
    "The topic's name is an SQL keyword or no plain SQL name, and no query has it in quotes.",
    "topic: order",
    'Write it quoted in queries, FROM "order", or rename it.',
)
_error(
    "LJ225",
    "file written twice",
    "Two sinks write the same file, or a sink or the dead-letter queue names a file in which the "
    "pipeline keeps its own data.",
    "sinks:\n  - {name: a, type: file, config: {path: out}}\n"
    "  - {name: b, type: sqlite, config: {path: ./out}}",
    "Give each its own file. Several sqlite sinks may share one.",
)
_warning(
    "LJ221",
    "polls above the rate limit",
    "The polls need more requests a minute than rate_limit allows: requests = pages per poll / "
    "interval, added up over the sources of one group or host. They wait, and data gets older.",
    "interval: 1s\nrate_limit: {requests_per_minute: 30}",
    "Raise the interval, or the limit if the API allows more.",
)
_error(
    "LJ222",
    "webhook topic taken twice",
    "Two sources in webhook mode take one topic at one address; a request could have two keys.",
    "sources:\n"
    "  - {name: a, type: http, topics: [t], config: {addr: :8080, webhook: {key_path: id}}}\n"
    "  - {name: b, type: http, topics: [t], config: {addr: :8080, webhook: {key_path: no}}}",
    "List each topic at one of them, or give one of them an address of its own.",
)
_warning(
    "LJ223",
    "setting without effect",
    "What the setting needs is off, so nothing comes of it: no rows are moved, no files copied.",
    "storage:\n  archive: {cloud: {enabled: true, bucket: cold}}",
    "Switch on what the message names, or remove the setting.",
)
_error(
    "LJ224",
    "collation that has no effect",
    "SQLite does not tell a topic the collation of a value that its key is compared with in "
    "IN (SELECT x COLLATE ...): keys would be looked up by their bytes.",
    "query: SELECT key FROM orders WHERE key IN (SELECT key COLLATE NOCASE FROM users)",
    "Write the collation on the left side: key COLLATE NOCASE IN (SELECT ...).",
)
_error(
    "LJ226",
    "no JSON path",
    "A JSON function is given a text that is no path. SQLite says so only when it evaluates a row, "
    "and then for every row.",
    "query: SELECT key, json_extract(payload, '.amount') AS amount FROM orders",
    "Begin the path with $: '$.amount', '$.items[0].sku'.",
)
_warning(
    "LJ227",
    "path that is the name of a member",
    "After -> and ->> a text that does not begin with $ is the name of a member: '.amount' is "
    "looked for with its dot, and is NULL where no member has that name.",
    "query: SELECT key, payload ->> '.amount' AS amount FROM orders",
    "Write '$.amount' or 'amount'.",
)
_warning(
    "LJ228",
    "window that sends very many results",
    "A message is in size / slide windows, each of which is evaluated and sent: with a slide below "
    "10ms more than 100 a second for each key, with emit: update (or on_late: update) all at once, "
    "of which one step takes 500.",
    "type: sliding\nsize: 24h\nslide: 1ms",
    "Make the slide longer, or the window shorter.",
)
_error(
    "LJ210",
    "SQL error",
    "SQLite cannot compile the query.",
    "query: SELEC key FROM orders",
    "Correct the query at the marked place.",
)
_error(
    "LJ211",
    "unknown topic in a query",
    "No source feeds a topic of this name, and it is no window.",
    "query: SELECT key FROM ordrs",
    "Correct the name, or list the topic in a source.",
)
_error(
    "LJ212",
    "unknown column",
    "A topic has the columns key, payload, timestamp, timestamp_ms, op and changes.",
    "query: SELECT user_id FROM orders",
    "Read JSON fields with json_extract(payload, '$.user_id') or payload ->> '$.user_id'.",
)
_error(
    "LJ213",
    "several statements",
    "A query is one statement.",
    "query: SELECT key FROM orders; SELECT key FROM users",
    "Make two joins.",
)
_error(
    "LJ214",
    "not a SELECT",
    "A query reads; everything else is refused.",
    "query: DELETE FROM orders",
    "Write one SELECT.",
)
_error(
    "LJ215",
    "forbidden in a query",
    "Queries may not load extensions, read or write files, or see SQLite's own tables.",
    "query: SELECT readfile('/etc/passwd') FROM orders",
    "Remove the call.",
)
_error(
    "LJ216",
    "key column not in the output",
    "key_column names a column that the query does not return.",
    "query: SELECT key AS id FROM orders\nkey_column: order_id",
    "Name one of the query's output columns.",
)
_warning(
    "LJ217",
    "topic that nobody feeds",
    "A query reads a topic that no source of this config feeds.",
    "query: SELECT key FROM customers",
    "Correct the name, or add a source.",
)
_error(
    "LJ220",
    "joins in a circle",
    "A join reads the results of a join that reads its own, directly or through others.",
    "joins:\n  - {name: a, query: SELECT key FROM b, sink: out}\n"
    "  - {name: b, query: SELECT key FROM a, sink: out}",
    "Read topics, or joins that do not read this one.",
)
_error(
    "LJ218",
    "JSON column not in the output",
    "json_columns names a column that the query does not return.",
    "query: SELECT key, payload FROM orders\njson_columns: [tags]",
    "Name output columns of the query only.",
)
_warning(
    "LJ219",
    "output column twice",
    "Two output columns have one name; a JSON object can hold one of them only.",
    "query: SELECT o.key, u.key FROM orders o JOIN users u ON o.key = u.key",
    "Give one of them another name with AS.",
)
_error(
    "LJ230",
    "Kafka topic without a topic here",
    "Queries must be able to name what a Kafka topic feeds: a pattern needs a name, and so does a "
    "Kafka topic whose own name is none here.",
    "topics: [^shop\\..*]",
    "Name the topic in topic_map: {'^shop\\..*': orders}.",
)
_warning(
    "LJ231",
    "topic_map entry without effect",
    "topic_map renames a Kafka topic that topics does not list.",
    "topics: [orders]\nconfig: {topic_map: {order: shop_orders}}",
    "Write the name as it is in topics.",
)
_error(
    "LJ232",
    "Kafka setting that is not free",
    "What is promised about order, loss and offsets rests on some settings of librdkafka; others "
    "have a key of their own.",
    "options: {enable.auto.commit: true}",
    "Remove it from options.",
)
_warning(
    "LJ241",
    "full re-evaluation",
    "The join cannot be kept up to date by the changed keys alone, so its query runs anew.",
    "query: SELECT key FROM orders LIMIT 10",
    "Rewrite the query as the message says; `litejoin plan` shows the strategy.",
)
_warning(
    "LJ242",
    "unbounded join",
    "No condition ties one of the topics to the others, so there is a result for every row of one "
    "with every row of the other.",
    "query: SELECT o.key, u.payload FROM orders o JOIN users u",
    "Add the condition, such as ON o.payload ->> '$.user_id' = u.key.",
)
_warning(
    "LJ260",
    "public address without auth",
    "The address can be reached from other machines, and everybody may push and subscribe.",
    "server:\n  addr: :9100",
    "Listen on 127.0.0.1, or set server.auth.tokens.",
)
_warning(
    "LJ261",
    "secret in clear",
    "A password or token is written in the file, where backups and version control keep it.",
    "headers: {Authorization: Bearer 3f9ac2d81b7e}",
    "Use ${NAME} or ${file:/run/secrets/name}.",
)
_warning(
    "LJ270",
    "not supported yet",
    "The config is valid, but this version of `litejoin run` refuses the feature.",
    "feature: {enabled: true}",
    "Remove it, or wait for a version that runs it.",
)
