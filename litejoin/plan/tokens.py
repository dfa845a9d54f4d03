"""SQL text -> tokens with their exact offsets, after SQLite's own lexical rules.

Called by `shape`. The compiler rewrites queries by splicing their text, never by printing a syntax
tree: a printer that turns `json_extract(a, b)` into `a -> b` would change what the query means. So
all it needs is where each token starts and ends. https://www.sqlite.org/draft/tokenreq.html
"""

import re

from litejoin.frozen import dataclass

# A word is of letters, digits, _, $ and whatever is not ASCII. Written as what it is not, because
# re takes milliseconds to compile a set that reaches up to U+10FFFF.
_PATTERN = re.compile(
    r"""(?P<space>\s+|--[^\n]*|/\*.*?(?:\*/|\Z))
      | (?P<blob>[xX]'[0-9a-fA-F]*')
      | (?P<string>'(?:[^']|'')*')
      | (?P<name>"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\])
      | (?P<number>0[xX][0-9a-fA-F]+|(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
      | (?P<word>[^\x00-@\[-^`{-\x7f][^\x00-#%-/:-@\[-^`{-\x7f]*)
      | (?P<op>->>|->|\|\||<<|>>|<=|>=|<>|!=|==|.)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Token:
    """`text` is upper case for words, unquoted for names; `depth` counts the parentheses around
    it.
    """

    kind: str
    text: str
    start: int
    end: int
    depth: int

    def is_word(self, *words: str) -> bool:
        return self.kind == "word" and self.text in words

    def is_op(self, *ops: str) -> bool:
        return self.kind == "op" and self.text in ops

    @property
    def is_identifier(self) -> bool:
        return self.kind in ("word", "name")

    @property
    def string(self) -> str:
        """What a string literal says."""
        return self.text[1:-1].replace("''", "'")


def tokenize(sql: str) -> list[Token]:
    """The tokens of `sql` without white space and comments. Any text gives tokens; nothing
    raises.
    """
    tokens: list[Token] = []
    depth = 0
    for match in _PATTERN.finditer(sql):
        kind = match.lastgroup or "op"
        if kind == "space":
            continue
        text = match.group()
        if text == ")":
            depth -= 1
        tokens.append(Token(kind, _meaning(kind, text), match.start(), match.end(), depth))
        if text == "(":
            depth += 1
    return tokens


def _meaning(kind: str, text: str) -> str:
    if kind == "word":
        return text.upper()
    if kind == "name":
        quote = text[-1]
        return text[1:-1] if quote == "]" else text[1:-1].replace(quote * 2, quote)
    return text


def quoted(name: str) -> str:
    """`name` as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
