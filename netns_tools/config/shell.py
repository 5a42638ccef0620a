"""Plain shell-style files: assignments, read exactly as bash reads them, but without bash.

A file is *plain* when it holds nothing but assignments. The values may use every
kind of quoting and ``$NAME ${NAME}`` with the operators ``- = + ?`` (with and
without ``:``), ``#NAME``, ``# ## % %%`` with literal text, ``*`` and ``?``, and
``:OFFSET:LENGTH`` with plain numbers. A value is expanded once and never again.

The rule for everything else:

* *Real shell* (RealShell is raised, bash reads the file): command and process
  substitution, arithmetic, arrays, functions, ``&&`` and ``||``, here-documents,
  a statement that begins with a keyword (``if for case [[ ...``) or a builtin
  (``export declare local source . set echo ...``), also after assignments
  (``IFS=, read ...``); each expansion and each variable of bash's own
  (``$1 $$ ${X/a/b} ~ $HOME $RANDOM``) that is not done here exactly as bash does it.
* A *mistake* (ConfigError, nothing is run): ``NAME = value``; a value with blanks
  that is not quoted (``A=10.0.0.1/24 broadcast +``); another command line; one of
  ``& | < > ( )`` in an unquoted value; a quote or brace that is not closed. The
  command lines among these are not mistakes in a file that has real shell further
  down: its author writes shell.
"""

from __future__ import annotations

from netns_tools.config.value import Value
from netns_tools.errors import ConfigError, Problem

NAME_START = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")
NAME_CHARS = NAME_START | frozenset("0123456789")
_DIGITS = frozenset("0123456789")
_BLANKS = frozenset(" \t")
_META = frozenset(" \t\n;&|()<>")
_SPECIAL_PARAMETERS = frozenset("*@#?-$!0123456789")
_VALUE_STOP = _META | frozenset("'\"\\$`~")
_QUOTED_STOP = frozenset('"\\$`')
_MULTILINE = frozenset("'\"\\`({")
SOURCE_MAX = 400
"""Characters of a source line that are kept to show it."""

PROBLEMS_MAX = 50
"""Reading stops after so many mistakes: the file is no configuration."""

_BASH_INTERNAL = frozenset("\1\x7f")  # bash's own marks in words (CTLESC, CTLNUL): it mixes them up
_DEPTH_MAX = 32
_PATTERN_WORK_MAX = 1 << 15
_EXPANDED_MAX = 1 << 23  # characters of all values of a file together: A=$A$A doubles with each line


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_KEYWORDS = _words("""
    if then else elif fi case esac for select while until do done in function time coproc { } ! [[
    ]]
""")
_BUILTINS = _words("""
    . : [ alias bg bind break builtin caller cd command compgen complete compopt continue declare
    dirs disown echo enable eval exec exit export false fc fg getopts hash help history jobs kill
    let local logout mapfile popd printf pushd pwd read readarray readonly return set shift shopt
    source suspend test times trap true type typeset ulimit umask unalias unset wait
""")
# Variables that bash sets, watches or computes; what they do cannot be imitated.
_SHELL_OWN = _words("""
    _ AUTO_RESUME CDPATH CHILD_MAX COLUMNS DIRSTACK EMACS ENV EUID EXECIGNORE FCEDIT FIGNORE
    FUNCNAME FUNCNEST GLOBIGNORE GROUPS HISTCMD HISTCONTROL HISTFILE HISTFILESIZE HISTIGNORE
    HISTSIZE HISTTIMEFORMAT HOME HOSTFILE HOSTNAME HOSTTYPE IFS IGNOREEOF INPUTRC INSIDE_EMACS LANG
    LANGUAGE LINENO LINES MACHTYPE MAIL MAILCHECK MAILPATH MAPFILE OLDPWD OPTARG OPTERR OPTIND
    OSTYPE PATH PIPESTATUS POSIXLY_CORRECT PPID PROMPT_COMMAND PROMPT_DIRTRIM PS0 PS1 PS2 PS3 PS4
    PWD RANDOM REPLY SECONDS SHELL SHELLOPTS SHLVL SRANDOM TERM TEXTDOMAIN TEXTDOMAINDIR TIMEFORMAT
    TMOUT TMPDIR TZ UID auto_resume histchars
""")
_SHELL_OWN_PREFIXES = ("BASH", "COMP", "COPROC", "EPOCH", "LC_", "READLINE_")

_ANSI_C = {
    "a": "\a", "b": "\b", "e": "\x1b", "E": "\x1b", "f": "\f", "n": "\n", "r": "\r", "t": "\t",
    "v": "\v", "\\": "\\", "'": "'", '"': '"', "?": "?",
}  # fmt: skip


class RealShell(Exception):
    """The file needs bash; ``reason`` says what in it, ``line`` where (from 1)."""

    def __init__(self, reason: str, line: int) -> None:
        super().__init__(f"line {line}: {reason}")
        self.reason = reason
        self.line = line


def is_name(text: str) -> bool:
    """Whether ``text`` is a name of a shell variable."""
    return bool(text) and text[0] in NAME_START and NAME_CHARS.issuperset(text)


def is_shell_own(name: str) -> bool:
    """Whether bash itself sets or watches a variable of this name."""
    return name in _SHELL_OWN or name.startswith(_SHELL_OWN_PREFIXES)


def decode(data: bytes, path: str) -> str:
    """The text of a configuration file. Raises ConfigError for what no editor for Linux writes."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line, column, source = _place_of_byte(data, error.start)
        message = f"byte 0x{data[error.start]:02x} is not UTF-8"
        hint = "save the file as UTF-8"
        raise ConfigError(
            [Problem(message, path=path, line=line, column=column, text=source, hint=hint)]
        ) from None
    if text.startswith("\ufeff"):
        hint = "save it as UTF-8 without a BOM"
        raise ConfigError([Problem("begins with a byte order mark", path=path, line=1, column=1, hint=hint)])
    for character, message, hint in (
        ("\0", "a NUL byte", "configuration files are text"),
        (
            "\r\n",
            "Windows line end (CR LF); the CR would become part of the value",
            f"sed -i 's/\\r$//' {path}",
        ),
    ):
        at = text.find(character)
        if at >= 0:
            line, column, source = _place_of_byte(data, len(text[:at].encode()))
            raise ConfigError([Problem(message, path=path, line=line, column=column, text=source, hint=hint)])
    return text


def _place_of_byte(data: bytes, offset: int) -> tuple[int, int, str]:
    start = data.rfind(b"\n", 0, offset) + 1
    end = data.find(b"\n", offset)
    source = data[start : end if end >= 0 else len(data)].decode(errors="replace").rstrip("\r")
    return data.count(b"\n", 0, offset) + 1, len(data[start:offset].decode(errors="replace")) + 1, source


def evaluate(text: str, path: str, variables: dict[str, str]) -> dict[str, Value]:
    """The variables that a plain file sets, with the place of their last assignment.

    ``variables`` are in scope and are not changed. Raises RealShell when only bash
    can say, ConfigError for mistakes: all of them where they can be told apart.
    """
    for character in _BASH_INTERNAL:
        if character in text:
            raise RealShell("a control character", text.count("\n", 0, text.index(character)) + 1)
    return _Reader(text, path, variables).read()


class _Mistake(Exception):
    """A mistake after which the rest of the file cannot be read sensibly."""


class _Reader:
    def __init__(self, text: str, path: str, variables: dict[str, str]) -> None:
        self.text = text
        self.end = len(text)
        self.pos = 0
        self.path = path
        self.variables = dict(variables)
        self.assigned: dict[str, Value] = {}
        self.problems: list[Problem] = []
        self.fatal = False
        self.live = True
        self.depth = 0
        self.expanded = 0
        self._line_start, self._line_end, self._line = 0, -1, ""
        self._counted_pos = 0
        self._counted_line = 1

    # Places

    def line_at(self, pos: int) -> int:
        if pos < self._counted_pos:
            return self.text.count("\n", 0, pos) + 1
        self._counted_line += self.text.count("\n", self._counted_pos, pos)
        self._counted_pos = pos
        return self._counted_line

    def place(self, pos: int) -> tuple[int, int, str]:
        start, end = self._line_start, self._line_end
        if not start <= pos <= end:
            start = self._line_start = self.text.rfind("\n", 0, pos) + 1
            found = self.text.find("\n", pos)
            end = self._line_end = found if found >= 0 else self.end
            self._line = self.text[start : min(end, start + SOURCE_MAX)]
        return self.line_at(pos), pos - start + 1, self._line

    def problem(self, pos: int, message: str, hint: str = "", width: int = 1) -> None:
        line, column, source = self.place(pos)
        width = max(1, min(width, len(source) - column + 1))
        if column > len(source) + 1:
            source = ""  # cut before this place
        self.problems.append(
            Problem(message, path=self.path, line=line, column=column, width=width, text=source, hint=hint)
        )

    def mistake(self, pos: int, message: str, hint: str = "") -> _Mistake:
        self.problem(pos, message, hint)
        self.fatal = True
        return _Mistake()

    def real(self, reason: str, pos: int | None = None) -> RealShell:
        return RealShell(reason, self.line_at(self.pos if pos is None else pos))

    # Statements

    def read(self) -> dict[str, Value]:
        try:
            while self.skip_to_statement():
                self.statement()
                if len(self.problems) >= PROBLEMS_MAX:
                    break
        except _Mistake:
            pass
        except RealShell:
            if not self.fatal:
                raise
        if self.problems:
            raise ConfigError(self.problems)
        return self.assigned

    def peek(self, offset: int = 0) -> str:
        at = self.pos + offset
        return self.text[at] if at < self.end else ""

    def skip_blanks(self) -> None:
        text, pos = self.text, self.pos
        while pos < self.end:
            if text[pos] in _BLANKS:
                pos += 1
            elif text[pos] == "\\" and text.startswith("\\\n", pos):
                pos += 2
            elif text[pos] == "#":
                pos = text.find("\n", pos)
                if pos < 0:
                    pos = self.end
            else:
                break
        self.pos = pos

    def skip_to_statement(self) -> bool:
        self.skip_blanks()
        while self.peek() == "\n":
            self.pos += 1
            self.skip_blanks()
        return self.pos < self.end

    def statement(self) -> None:
        """One list of assignments up to ``;`` or the end of the line."""
        if self.peek() in "&|;)":
            raise self.mistake(self.pos, f"a statement cannot begin with {self.peek()!r}")
        if self.peek() in "(<>":
            raise self.real(f"{self.peek()!r}")
        first = True
        while True:
            start = self.pos
            name, append = self.assignment_name()
            if not name:
                self.command(start, first)
                return
            self.assign(name, append, start)
            first = False
            self.skip_blanks()
            after = self.peek()
            if after in ("", "\n"):
                return
            if after == ";":
                if self.peek(1) in (";", "&"):
                    raise self.mistake(self.pos, f"unexpected {self.text[self.pos : self.pos + 2]!r}")
                self.pos += 1
                return
            if after in "&|<>()":
                self.operator_after_value(after)

    def operator_after_value(self, after: str) -> None:
        pair = after + self.peek(1)
        if pair in ("&&", "||"):
            raise self.real(repr(pair))
        if pair in ("<(", ">("):
            raise self.real("process substitution")
        raise self.mistake(
            self.pos,
            f"{after!r} is not part of a value unless quoted",
            "put the value into quotes: NAME='...'",
        )

    def assignment_name(self) -> tuple[str, bool]:
        """Read ``NAME=`` or ``NAME+=``: the NAME and whether it is appended to; "" for something else."""
        text, pos = self.text, self.pos
        if text[pos] not in NAME_START:
            return "", False
        while pos < self.end and text[pos] in NAME_CHARS:
            pos += 1
        name = text[self.pos : pos]
        if text.startswith("\\\n", pos):
            raise self.real("a name over two lines")
        if text.startswith("[", pos):
            raise self.real("an array")
        append = text.startswith("+=", pos)
        if not append and not text.startswith("=", pos):
            if text.startswith("+\\\n", pos):
                raise self.real("a name over two lines")
            return "", False
        self.pos = pos + (2 if append else 1)
        return name, append

    def assign(self, name: str, append: bool, start: int) -> None:
        if is_shell_own(name):
            raise self.real(f"{name} belongs to the shell", start)
        self.skip_continuations()
        value_start = self.pos
        if self.peek() == "(":
            raise self.real("an array")
        value = self.word()
        if append:
            value = self.variables.get(name, "") + value
        self.record(name, value, value_start, self.pos)

    def record(self, name: str, value: str, start: int, end: int) -> None:
        self.count(value)
        self.variables[name] = value
        line, column, source = self.place(start)
        width = max(1, min(end - start, len(source) - column + 1))
        self.assigned[name] = Value(value, self.path, line, column, source, width)

    def skip_continuations(self) -> None:
        while self.text.startswith("\\\n", self.pos):
            self.pos += 2

    # What is not an assignment

    def command(self, start: int, first: bool) -> None:
        """A command word at ``start``: real shell, or a mistake after which the next statement is read."""
        word = self.raw_word()
        if word in _BUILTINS or (first and word in _KEYWORDS):
            raise self.real(repr(word), start)
        if word.startswith(("((", "[[")) or word == "(":
            raise self.real(repr(word), start)
        name = self.spaced_equals(start)
        if name:
            hint = f"write {name}='...' without blanks beside the '='"
            mistake = self.mistake(self.text.index("=", start), "no blanks around '='", hint)
            self.skip_simple_line(mistake)
            return
        live, self.live = self.live, False
        self.skip_command(start)
        self.live = live
        self.explain_command(start, word, first)

    def raw_word(self) -> str:
        pos = self.pos
        while pos < self.end and self.text[pos] not in _META:
            pos += 1
        return self.text[self.pos : pos]

    def skip_command(self, start: int) -> None:
        """Go to the end of a command line; raises RealShell at what a mistake does not look like."""
        while self.pos < self.end:
            self.skip_blanks()
            after = self.peek()
            if after in ("", "\n"):
                return
            pair = after + self.peek(1)
            if after == ";":
                self.pos += 1
                return
            function = after == "(" and is_name(self.text[start : self.pos].strip())
            if function or pair in ("&&", "||", "<<", "<(", ">("):
                raise self.real(repr(pair))
            if after in _META:
                self.pos += 1
            else:
                self.word()

    def spaced_equals(self, start: int) -> str:
        """The NAME of ``NAME = value`` at ``start``; "" for something else."""
        pos = start
        while pos < self.end and self.text[pos] in NAME_CHARS:
            pos += 1
        rest = self.text[pos : pos + 80].lstrip(" \t")
        if pos > start and self.text[pos : pos + 1] in _BLANKS and rest.startswith(("=", "+=")):
            return "" if rest.startswith("==") else self.text[start:pos]
        return ""

    def skip_simple_line(self, mistake: _Mistake) -> None:
        """Go to the end of the line, unless something in it may go on in the next."""
        end = self.text.find("\n", self.pos)
        end = end if end >= 0 else self.end
        if not _MULTILINE.isdisjoint(self.text[self.pos : end]):
            raise mistake
        self.pos = end

    def explain_command(self, start: int, word: str, first: bool) -> None:
        if not first:
            hint = "put a value that contains blanks into quotes: NAME='...'"
            self.problem(start, f"{word!r} would be run as a command", hint, len(word))
        elif "=" in word:
            name = word.partition("=")[0]
            if name.startswith("$") and is_name(name[1:]):
                hint = f"write {name[1:]}=... without the '$'"
            else:
                hint = "a name has letters, digits and '_' only"
            self.problem(start, f"{name!r} is not the name of a variable", hint, len(name))
        else:
            hint = "lines look like NAME='value'; comments begin with '#'"
            shown = word or self.text[start]
            self.problem(start, f"{shown!r} is a command, not an assignment", hint, len(word))

    # Words

    def word(self) -> str:
        """The value of the word at the current place, expanded as in an assignment."""
        text, pieces = self.text, []
        while self.pos < self.end:
            start = pos = self.pos
            while pos < self.end and text[pos] not in _VALUE_STOP:
                pos += 1
            if pos > start:
                pieces.append(text[start:pos])
                self.pos = pos
                continue
            if text[pos] in _META:
                break
            pieces.append(self.special(text[pos]))
        return "".join(pieces)

    def special(self, character: str) -> str:
        """A quote, backslash or expansion outside double quotes."""
        if character == "'":
            return self.single_quoted()
        if character == '"':
            return self.double_quoted()
        if character == "\\":
            if self.pos + 1 >= self.end:
                raise self.real("a backslash at the end of the file")
            self.pos += 2
            escaped = self.text[self.pos - 1]
            return "" if escaped == "\n" else escaped
        if character == "$":
            return self.dollar(quoted=False)
        if character == "`":
            raise self.real("command substitution")
        raise self.real("'~'")

    def single_quoted(self) -> str:
        end = self.text.find("'", self.pos + 1)
        if end < 0:
            raise self.mistake(self.pos, "this quote is never closed", "add the closing '")
        value = self.text[self.pos + 1 : end]
        self.pos = end + 1
        return value

    def double_quoted(self) -> str:
        text, pieces = self.text, []
        opened = self.pos
        self.pos += 1
        while self.pos < self.end:
            start = pos = self.pos
            while pos < self.end and text[pos] not in _QUOTED_STOP:
                pos += 1
            if pos > start:
                pieces.append(text[start:pos])
                self.pos = pos
                continue
            if text[pos] == '"':
                self.pos += 1
                return "".join(pieces)
            if text[pos] == "`":
                raise self.real("command substitution")
            if text[pos] == "$":
                pieces.append(self.dollar(quoted=True))
                continue
            escaped = self.peek(1)
            if escaped == "":
                break
            if escaped != "\n":
                pieces.append(escaped if escaped in '$`"\\' else "\\" + escaped)
            self.pos += 2
        raise self.mistake(opened, "this quote is never closed", 'add the closing "')

    def ansi_c_quoted(self) -> str:
        """``$'...'``; numbers above ASCII and NUL are left to bash."""
        pieces: list[str] = []
        opened = self.pos
        self.pos += 2
        while self.pos < self.end:
            character = self.text[self.pos]
            self.pos += 1
            if character == "'":
                return "".join(pieces)
            if character != "\\":
                pieces.append(character)
                continue
            escape = self.peek()
            if escape in _ANSI_C:
                pieces.append(_ANSI_C[escape])
                self.pos += 1
            elif escape == "":
                break
            else:
                raise self.real("a numeric escape in $'...'")
        raise self.mistake(opened, "this quote is never closed", "add the closing '")

    # Expansions

    def dollar(self, quoted: bool) -> str:
        """The expansion at ``$``."""
        following = self.peek(1)
        if following in NAME_START and following:
            pos = self.pos + 1
            while pos < self.end and self.text[pos] in NAME_CHARS:
                pos += 1
            name = self.text[self.pos + 1 : pos]
            if self.text.startswith("\\\n", pos):
                raise self.real("a name over two lines")
            self.pos = pos
            return self.get(name) or ""
        if following == "{":
            return self.braced(quoted)
        if following in ("(", "["):
            raise self.real("command substitution or arithmetic")
        if following == "'" and not quoted:
            return self.ansi_c_quoted()
        if (following == '"' and not quoted) or following in _SPECIAL_PARAMETERS or following == "\\":
            raise self.real(f"${following}")
        self.pos += 1
        return "$"

    def get(self, name: str) -> str | None:
        if is_shell_own(name):
            raise self.real(f"${name} belongs to the shell")
        value = self.variables.get(name)
        if value:
            self.count(value)
            if not _BASH_INTERNAL.isdisjoint(value):
                raise self.real("a control character")
        return value

    def count(self, value: str) -> None:
        """Bound what the values of a file hold together."""
        self.expanded += len(value)
        if self.expanded > _EXPANDED_MAX:
            raise self.mistake(self.pos - 1, "the values of this file grow without bound")

    def braced(self, quoted: bool) -> str:
        """``${...}``."""
        opened = self.pos
        self.depth += 1
        if self.depth > _DEPTH_MAX:
            raise self.mistake(opened, f"more than {_DEPTH_MAX} ${{...}} inside each other")
        self.pos += 2
        length = self.peek() == "#"
        if length:
            self.pos += 1
        start = self.pos
        while self.pos < self.end and self.text[self.pos] in NAME_CHARS:
            self.pos += 1
        name = self.text[start : self.pos]
        if self.pos >= self.end:
            raise self.unclosed(opened)
        if not is_name(name):
            raise self.real("a special parameter", opened)
        if length and self.peek() != "}":
            raise self.real("${#...}", opened)
        value = self.get(name)
        if self.peek() == "}":
            result = value or ""
            if length:
                result = str(len(result))
        else:
            result = self.operation(name, value, opened, quoted)
        self.pos += 1
        self.depth -= 1
        return result

    def unclosed(self, opened: int) -> _Mistake:
        return self.mistake(opened, "this '${' is never closed", "add the closing }")

    def operation(self, name: str, value: str | None, opened: int, quoted: bool) -> str:
        """The value of ``${NAME`` operator ... ``}``; stops at the closing brace."""
        operator = self.peek()
        self.pos += 1
        if operator in "#%":
            longest = self.peek() == operator
            if longest:
                self.pos += 1
            # bash does not expand the pattern when there is nothing to remove it from.
            live, self.live = self.live, self.live and bool(value)
            pattern = self.operand(opened, quoted, pattern=True)
            self.live = live
            return _strip_match(value or "", pattern, operator == "#", longest)
        colon = operator == ":"
        if colon:
            operator = self.peek()
            if operator not in ("-", "=", "+", "?"):
                return self.substring(value or "")
            self.pos += 1
        missing = value is None or (colon and not value)
        if operator == "-":
            default = self.lazy_operand(missing, opened, quoted)
            return default if missing else value or ""
        if operator == "+":
            alternative = self.lazy_operand(not missing, opened, quoted)
            return "" if missing else alternative
        if operator == "=":
            start = self.pos
            default = self.lazy_operand(missing, opened, quoted)
            if missing and self.live:
                self.record(name, default, start, self.pos)
            return default if missing else value or ""
        if operator == "?":
            message = self.lazy_operand(missing, opened, quoted)
            if missing and self.live:
                self.problem(
                    opened, f"{name}: {message or 'not set'}", f"set {name} in this file or a lower layer"
                )
                self.fatal = True
            return value or ""
        raise self.real(f"${{{name}{operator}...}}", opened)

    def substring(self, value: str) -> str:
        """``${NAME:OFFSET:LENGTH}`` with plain numbers."""
        end = self.pos
        while end < self.end and end - self.pos < 24 and self.text[end] != "}":
            end += 1
        offset_text, colon, length_text = self.text[self.pos : end].partition(":")
        negative = offset_text.startswith(" -")
        if negative:
            offset_text = offset_text[2:]
        offset = _plain_number(offset_text)
        length = _plain_number(length_text) if colon else len(value)
        if offset is None or length is None or not value or (negative and not 0 < offset <= len(value)):
            raise self.real("${NAME:OFFSET}")
        self.pos = end
        if negative:
            offset = len(value) - offset
        return value[offset : offset + length]

    def lazy_operand(self, wanted: bool, opened: int, quoted: bool) -> str:
        """The operand; when it is not wanted, it is read without effects, as bash does not expand it."""
        live = self.live
        self.live = live and wanted
        pieces = self.operand(opened, quoted, pattern=False)
        self.live = live
        return "".join(text for text, _ in pieces)

    def operand(self, opened: int, quoted: bool, pattern: bool) -> list[tuple[str, bool]]:
        """The text up to the closing brace, in pieces with whether each is quoted; stops at the brace.

        Inside double quotes, quotes and backslashes of the operand follow rules of
        their own that differ by operator: those are left to bash.
        """
        text = self.text
        pieces: list[tuple[str, bool]] = []
        while self.pos < self.end:
            character = text[self.pos]
            if character == "}":
                return pieces
            if character in "'\"\\" and quoted:
                raise self.real('quotes inside "${...}"')
            if character in "'\"\\":
                pieces.append((self.special(character), True))
            elif character == "$":
                ansi_c = self.peek(1) == "'"
                if ansi_c and (quoted or pattern):
                    raise self.real("$' inside ${...}")
                pieces.append((self.dollar(quoted), False))
            elif character in "`~{" or (pattern and character in "[]()|!@+"):
                raise self.real(f"{character!r} inside ${{...}}")
            elif character in "<>" and self.peek(1) == "(":
                raise self.real("process substitution")
            else:
                pieces.append((character, False))
                self.pos += 1
        raise self.unclosed(opened)


def _plain_number(text: str) -> int | None:
    """A decimal number that bash's arithmetic cannot read differently."""
    if not text or len(text) > 9 or not _DIGITS.issuperset(text) or (text[0] == "0" and len(text) > 1):
        return None
    return int(text)


def _strip_match(value: str, pieces: list[tuple[str, bool]], prefix: bool, longest: bool) -> str:
    """``value`` without its shortest or longest prefix or suffix that matches the pattern."""
    tokens: list[str] = []  # "*" and "?" match; every other token is a letter, quoted ones with a leading "="
    for text, quoted in pieces:
        for character in text:
            if character in "[]\\()|" and not quoted:
                raise RealShell("a pattern", 0)
            tokens.append(character if character in "*?" and not quoted else "=" + character)
    if len(value) * len(tokens) > _PATTERN_WORK_MAX:
        raise RealShell("a long pattern", 0)
    if not prefix:
        value = value[::-1]
        tokens.reverse()
    lengths = _match_lengths(value, tokens)
    if lengths:
        value = value[max(lengths) if longest else min(lengths) :]
    return value if prefix else value[::-1]


def _match_lengths(value: str, tokens: list[str]) -> set[int]:
    """The lengths of the prefixes of ``value`` that the tokens match."""
    states = {0}
    size = len(value)
    for token in tokens:
        if not states:
            break
        if token == "*":
            states = set(range(min(states), size + 1))
        elif token == "?":
            states = {at + 1 for at in states if at < size}
        else:
            states = {at + 1 for at in states if at < size and value[at] == token[1]}
    return states
