"""Policy files that are wrong: each gives one clear message with file and line, and never a traceback."""

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from autotune.policy import Policy, PolicyError
from autotune.policy_files import MOST_BYTES, MOST_RULES, load_policy
from autotune.policy_messages import MOST_SHOWN

RULE = "rules:\n- force: lu\n  "
MATCH = RULE + "match: {%s}"
OPTIONS = RULE + "options: {%s}"

# name: (text or bytes, line, what the message contains besides file and line)
TEXT = {
    # -- keys ------------------------------------------------------------------------------------
    "typo at the top": ("margn: 0.1", 1, "key 'margn'", "unknown key", "Did you mean 'margin'?"),
    "typo in capitals": ("MARGIN: 0.1", 1, "key 'MARGIN'", "Did you mean 'margin'?"),
    "typo in the version": ("versoin: 1", 1, "key 'versoin'", "Did you mean 'version'?"),
    "singular for plural": ("rule: []", 1, "key 'rule'", "Did you mean 'rules'?"),
    "plural for singular": ("margins: 0.1", 1, "key 'margins'", "Did you mean 'margin'?"),
    "hyphen for underscore": ("memory-limit: 8GiB", 1, "'memory-limit'", "Did you mean 'memory_limit'?"),
    "space for underscore": ("memory limit: 8GiB", 1, "'memory limit'", "Did you mean 'memory_limit'?"),
    "joined words": ("memorylimit: 8GiB", 1, "'memorylimit'", "Did you mean 'memory_limit'?"),
    "typo in accuracy": ("accuracy:\n  solve_tol: 1e-8", 2, "'accuracy.solve_tol'", "mean 'solve_rtol'?"),
    "typo in logdet_rtol": ("accuracy: {logdet_tol: 1e-3}", 1, "'accuracy.logdet_tol'", "'logdet_rtol'?"),
    "typo in match": (MATCH % "nam: K", 3, "'rules[0].match.nam'", "Did you mean 'name'?"),
    "typo in min_n": (MATCH % "minn: 3", 3, "'rules[0].match.minn'", "Did you mean 'min_n'?"),
    "typo in structure": (MATCH % "struct: dense", 3, "'rules[0].match.struct'", "'structure'?"),
    "typo in a rule": ("rules:\n- forse: lu", 2, "'rules[0].forse'", "Did you mean 'force'?"),
    "typo in a second rule": ("rules:\n- force: lu\n- forbidd: lu", 3, "'rules[1].forbidd'", "'forbid'?"),
    "typo in options": (OPTIONS % "max_iteration: 3", 3, "'rules[0].options.max_iteration'", "iterations'?"),
    "unknown option": (
        OPTIONS % "block_size: 3",
        3,
        "options.block_size'",
        "valid: condition_number, max_it",
    ),
    "typo in preconditioner": (
        OPTIONS % "preconditioner: {name: jacobi, rnk: 3}",
        3,
        "preconditioner.rnk'",
        "'rank'?",
    ),
    "tolerance at the top": ("solve_rtol: 1e-8", 1, "'solve_rtol'", "belongs under 'accuracy'"),
    "force at the top": ("force: lu", 1, "'force'", "belongs under 'rules'"),
    "condition on the rule": (RULE + "min_n: 5", 3, "'rules[0].min_n'", "belongs under 'match'"),
    "option on the rule": (RULE + "condition_number: 5", 3, "condition_number'", "belongs under 'options'"),
    "margin in a rule": (RULE + "margin: 0.1", 3, "'rules[0].margin'", "belongs at the top level"),
    "rank in the options": (OPTIONS % "rank: 5", 3, "options.rank'", "belongs under 'preconditioner'"),
    "empty key": ("'': 1", 1, "key ''", "unknown key"),
    "key of blanks": ("' ': 1", 1, "key ' '", "unknown key"),
    "key with a line break": ('"mar\\ngin": 1', 1, "key 'mar\\ngin'", "unknown key"),
    "key with a zero byte": ('"mar\\0gin": 1', 1, "unknown key"),
    "key with a surrogate": ('"mar\\ud800": 1', 1, "found the character '\\ud800'"),
    "key of 1000 letters": ("x" * 1000 + ": 1", 1, "key 'xxx", "xxx..': found an unknown key"),
    "number as key": ("1: 2", 1, "the key '1'", "a key is text"),
    "float as key": ("sizes:\n  0.5: 2", 2, "the key '0.5'", "a key is text"),
    "null as key": ("~: 2", 1, "the key '~'", "a key is text"),
    "true as key": ("true: 2", 1, "the key 'true'", "a key is text"),
    "list as key": ("sizes: {[a]: 3}", 1, "a list or mapping as a key"),
    "mapping as key": ("? {a: 1}\n: 3", 1, "a list or mapping as a key"),
    "no key": (": 3", 1, "found ':'"),
    "duplicate key": ("margin: 0.1\nmargin: 0.2", 2, "key 'margin'", "found twice, first on line 1"),
    "duplicate key in quotes": ("margin: 0.1\n'margin': 0.2", 2, "key 'margin'", "found twice"),
    "duplicate key in a rule": ("rules:\n- force: lu\n  force: cg", 3, "'rules[0].force'", "first on line 2"),
    "duplicate size": ("sizes: {n: 3, n: 4}", 1, "key 'sizes.n'", "found twice"),
    "duplicate rules": ("rules: []\nmargin: 0\nrules: []", 3, "key 'rules'", "found twice, first on line 1"),
    # -- values ----------------------------------------------------------------------------------
    "version of the future": ("version: 2", 1, "key 'version'", "found 2; supported: 1"),
    "version zero": ("version: 0", 1, "key 'version'", "found 0"),
    "version as text": ("\nversion: '1'", 2, "key 'version'", "found '1'; supported: 1"),
    "version as float": ("version: 1.0", 1, "key 'version'", "found 1.0"),
    "version true": ("version: true", 1, "key 'version'", "found true"),
    "version of three parts": ("version: 1.0.0", 1, "key 'version'", "found '1.0.0'"),
    "version null": ("version:", 1, "key 'version'", "found null"),
    "version as list": ("version: [1]", 1, "key 'version'", "found a list"),
    "version huge": ("version: 1" + "0" * 5000, 1, "key 'version'", "a number of 5001 digits"),
    "memory without B": ("memory_limit: 8G", 1, "'memory_limit'", "found '8G'", "8GiB"),
    "memory in iB": ("memory_limit: 8iB", 1, "'memory_limit'", "found '8iB'"),
    "memory in bits": ("memory_limit: 8 Gbit", 1, "'memory_limit'", "found '8 Gbit'"),
    "memory in pages": ("memory_limit: 8 pages", 1, "'memory_limit'", "found '8 pages'"),
    "memory in percent": ("memory_limit: 50%", 1, "'memory_limit'", "found '50%'"),
    "memory in exabytes": ("memory_limit: 8EB", 1, "'memory_limit'", "found '8EB'"),
    "memory with a comma": ("memory_limit: '1,5GiB'", 1, "'memory_limit'", "found '1,5GiB'"),
    "memory negative": ("memory_limit: -8GiB", 1, "'memory_limit'", "found '-8GiB'"),
    "memory negative number": ("memory_limit: -1", 1, "'memory_limit'", "found -1"),
    "memory zero": ("memory_limit: 0", 1, "'memory_limit'", "found 0"),
    "memory of half a byte": ("memory_limit: 0.5", 1, "'memory_limit'", "found 0.5"),
    "memory of 0.2B": ("memory_limit: 0.2B", 1, "'memory_limit'", "found '0.2B'"),
    "memory unit alone": ("memory_limit: GiB", 1, "'memory_limit'", "found 'GiB'"),
    "memory infinite": ("memory_limit: .inf", 1, "'memory_limit'", "found inf"),
    "memory nan": ("memory_limit: .nan", 1, "'memory_limit'", "found nan"),
    "memory overflowing": ("memory_limit: 1e400", 1, "'memory_limit'", "found inf"),
    "memory beyond any machine": ("memory_limit: 99999999999TiB", 1, "found '99999999999TiB'"),
    "memory of 1000 digits": (f"memory_limit: {'9' * 1000}GiB", 1, "'memory_limit'", "found '999", "..."),
    "memory true": ("memory_limit: true", 1, "'memory_limit'", "found true"),
    "memory as list": ("memory_limit: [8GiB]", 1, "'memory_limit'", "found a list"),
    "memory as mapping": ("memory_limit: {GiB: 8}", 1, "'memory_limit'", "found a mapping"),
    "memory as date": ("memory_limit: 2020-01-01", 1, "'memory_limit'", "found '2020-01-01'"),
    "size with a bad key": ("sizes: {'K[': 3}", 1, "'sizes.K['", "'K[0]'"),
    "size with a negative axis": ("sizes: {'K[-1]': 3}", 1, "'sizes.K[-1]'", "'K[0]'"),
    "size with a named axis": ("sizes: {'K[rows]': 3}", 1, "'sizes.K[rows]'", "'K[0]'"),
    "size with an empty key": ("sizes: {'': 3}", 1, "found the size ''"),
    "sizes as list": ("sizes: [3]", 1, "key 'sizes'", "found a list", "a mapping of"),
    "sizes as number": ("sizes: 3", 1, "key 'sizes'", "found 3"),
    "size unquoted": ("sizes: {K[0]: 5000}", 1, "quotes, brackets"),
    "accuracy as number": ("accuracy: 1e-8", 1, "key 'accuracy'", "found 1e-08", "solve_rtol, logdet_rtol"),
    "accuracy as list": ("accuracy: [1e-8]", 1, "key 'accuracy'", "found a list"),
    "tolerance zero": ("accuracy: {solve_rtol: 0}", 1, "'accuracy.solve_rtol'", "found 0;"),
    "tolerance null": ("accuracy: {solve_rtol: null}", 1, "'accuracy.solve_rtol'", "found null"),
    "tolerance one": ("accuracy:\n  logdet_rtol: 1", 2, "'accuracy.logdet_rtol'", "found 1;"),
    "tolerance with a letter": ("accuracy: {solve_rtol: 1e-8x}", 1, "found '1e-8x'"),
    "tolerance with a Unicode minus": ("accuracy: {solve_rtol: 1e−8}", 1, "found '1e−8'"),
    "tolerance in hexadecimal": ("accuracy: {solve_rtol: 0x1}", 1, "found '0x1'"),
    "margin one": ("margin: 1", 1, "key 'margin'", "found 1;", "less than 1"),
    "margin negative": ("margin: -0.1", 1, "key 'margin'", "found -0.1"),
    "margin null": ("margin:", 1, "key 'margin'", "found null"),
    # -- rules -----------------------------------------------------------------------------------
    "rules as mapping": ("rules: {force: cg}", 1, "key 'rules'", "found a mapping", "a list of rules"),
    "rules as text": ("rules: lu", 1, "key 'rules'"),
    "rules as number": ("rules: 3", 1, "key 'rules'", "found 3"),
    "rule as text": ("rules:\n- cg", 2, "key 'rules[0]'", "found 'cg'", "match, force, forbid, options"),
    "rule as null": ("rules:\n- force: lu\n-", 3, "key 'rules[1]'", "found null"),
    "rule as list": ("rules:\n- [force, lu]", 2, "key 'rules[0]'", "found a list"),
    "rule empty": ("rules:\n- {}", 2, "key 'rules[0]'", "without effect"),
    "rule that only matches": ("rules:\n- match: {name: K}", 2, "'rules[0]'", "force, forbid, options"),
    "rule that forbids nothing": ("rules:\n- forbid: []", 2, "'rules[0]'", "without effect"),
    "match as text": (RULE + "match: K", 3, "'rules[0].match'", "found 'K'", "a mapping"),
    "match as list": (RULE + "match: [{name: K}]", 3, "'rules[0].match'", "found a list"),
    "name as number": (MATCH % "name: 5", 3, "match.name'", "found 5", "a name or a pattern"),
    "name as list": (MATCH % "name: [K, A]", 3, "match.name'", "found a list"),
    "name empty": (MATCH % "name: ''", 3, "match.name'", "found ''"),
    "name true": (MATCH % "name: true", 3, "match.name'", "found true"),
    "request unknown": (MATCH % "request: slove", 3, "match.request'", "'slove'", "mean 'solve'?"),
    "request in capitals": (MATCH % "request: LogDet", 3, "match.request'", "Did you mean 'logdet'?"),
    "request empty": (MATCH % "request: []", 3, "match.request'", "one or a list of solve"),
    "request as number": (MATCH % "request: 3", 3, "match.request'", "found 3"),
    "request in one text": (MATCH % "request: 'solve, logdet'", 3, "match.request'", "'solve, logdet'"),
    "request of a list in a list": (MATCH % "request: [[solve]]", 3, "match.request[0]'", "found a list"),
    "second request unknown": (MATCH % "request: [solve, lodget]", 3, "request[1]'", "mean 'logdet'?"),
    "structure unknown": (MATCH % "structure: sparse", 3, "match.structure'", "'sparse'", "dense, diagonal"),
    "structure with a hyphen": (MATCH % "structure: low-rank", 3, "match.structure'", "mean 'low_rank'?"),
    "structure as mapping": (MATCH % "structure: {low_rank: 5}", 3, "match.structure'", "found a mapping"),
    "sizes the wrong way round": (MATCH % "min_n: 9, max_n: 3", 3, "'rules[0].match'", "min_n 9 > max_n 3"),
    "strategy unknown": ("rules:\n- force: wodbury", 2, "'rules[0].force'", "mean 'woodbury'?"),
    "strategy in capitals": ("rules:\n- force: CG", 2, "'rules[0].force'", "mean 'cg'?"),
    "strategy planned": ("rules:\n- force: banded", 2, "'rules[0].force'", "planned but not available"),
    "strategy of another library": ("rules:\n- force: GMRES", 2, "'rules[0].force'", "'GMRES'", "keep, "),
    "strategy as number": ("rules:\n- force: 3", 2, "'rules[0].force'", "found 3", "the name of one"),
    "two strategies forced": ("rules:\n- force: [lu, cg]", 2, "'rules[0].force'", "name of one strategy"),
    "two strategies joined": ("rules:\n- force: lu+cg", 2, "'rules[0].force'", "'lu+cg'"),
    "forbidden unknown": ("rules:\n- forbid: lanczoz", 2, "'rules[0].forbid'", "mean 'lanczos'?"),
    "second forbidden unknown": ("rules:\n- forbid:\n  - cg\n  - lux", 4, "forbid[1]'", "mean 'lu'?"),
    "forbidden number": ("rules:\n- forbid: [3]", 2, "'rules[0].forbid[0]'", "found 3"),
    "forbidden mapping": ("rules:\n- forbid: {cg: true}", 2, "'rules[0].forbid'", "found a mapping"),
    "options as text": (RULE + "options: fast", 3, "'rules[0].options'", "found 'fast'"),
    "options as list": (RULE + "options: [condition_number]", 3, "'rules[0].options'", "found a list"),
    "preconditioner as text": (OPTIONS % "preconditioner: jacobi", 3, "'jacobi'", "{name: jacobi}"),
    "preconditioner unknown": (
        OPTIONS % "preconditioner: {name: ilu}",
        3,
        "preconditioner.name'",
        "'ilu'",
        "none, jacobi",
    ),
    "preconditioner misspelt": (OPTIONS % "preconditioner: {name: jacoby}", 3, "mean 'jacobi'?"),
    "preconditioner without a name": (OPTIONS % "preconditioner: {rank: 5}", 3, ".name'", "no value"),
    "rank without a rank": (
        OPTIONS % "preconditioner: {name: jacobi, rank: 5}",
        3,
        "preconditioner'",
        "only 'pivoted_cholesky'",
    ),
    # -- contradictions --------------------------------------------------------------------------
    "forced and forbidden in one": ("rules:\n- {force: cg, forbid: cg}", 2, "both forced and forbidden"),
    "forbidden after forced": ("rules:\n- force: cg\n- forbid: cg", 3, "'rules[1].forbid'", ":2 forces"),
    "forced after forbidden": ("rules:\n- forbid: cg\n- force: cg", 3, "'rules[1].force'", ":2 forbids"),
    "general after special": (
        "rules:\n- {match: {name: K_a}, force: cg}\n- forbid: lu\n- match: {name: 'K_*'}\n  forbid: [lu, cg]",
        5,
        "'rules[2].forbid'",
        ":2 forces",
    ),
    # -- YAML ------------------------------------------------------------------------------------
    "a list": ("- margin", 1, "found a list", "a mapping with keys of version"),
    "a word": ("\nmargin", 2, "found 'margin'"),
    "a number": ("3", 1, "found 3"),
    "a boolean": ("true", 1, "found true"),
    "a text of a thousand words": ("word " * 1000, 1, "found 'word word", "..."),
    "a Python file": ("import autotune\nmargin = 0.1\n", 1, "found 'import autotune margin = 0.1'"),
    "an ini file": ("[autotune]\nmargin = 0.1\n", 2, "expected", "brackets"),
    "a toml file": ("[accuracy]\nsolve_rtol = 1e-8\n[[rules]]", 2, "expected"),
    "an xml file": ("<?xml version='1.0'?>\n<margin>0.1</margin>", 1, "found"),
    "json with a trailing brace": ('{"margin": 0.1}}', 1, "brackets"),
    "equals for colon": ("margin = 0.1", 1, "found 'margin = 0.1'"),
    "no blank after the colon": ("margin:0.1", 1, "found 'margin:0.1'"),
    "two colons": ("margin: memory_limit: 3", 1, "mapping values are not allowed here"),
    "tab for indentation": ("accuracy:\n\tsolve_rtol: 1", 2, "found a tab; use spaces"),
    "tab after spaces": ("accuracy:\n  \tsolve_rtol: 1e-8", 2, "found a tab"),
    "tab after the dash": ("rules:\n-\tforce: lu\n-\t\tforce: cg", 2, "found a tab"),
    "bracket left open": ("rules:\n- force: lu\n  forbid: [cg, keep", 3, "expected ',' or ']'"),
    "brace left open": ("sizes: {n: 3", 1, "expected ',' or '}'"),
    "brace closed by a bracket": ("sizes: {n: 3]", 1, "expected ',' or '}'"),
    "quote left open": ("margin: 'x", 1, "quotes"),
    "double quote left open": ('rules:\n- force: "lu', 2, "quotes"),
    "indentation too small": ("rules:\n- force: lu\n match: {}", 3, "indentation"),
    "indentation too large": ("margin: 0.1\n  version: 1", 2, "mapping values are not allowed"),
    "dash without a blank": ("rules:\n-force: lu", 2, "key '-force'", "unknown key"),
    "unknown escape": ('rules:\n- force: "\\lu"', 2, "unknown escape character"),
    "escape out of range": ('margin: 0.1\nsizes: {"\\UFFFFFFFF": 3}', 2, "out of range"),
    "escape cut short": ('rules: "\\x1"', 1, "hexadecimal"),
    "reserved character": ("margin: @x", 1, "cannot start any token"),
    "percent sign": ("margin: %x", 1, "cannot start any token"),
    "backquote": ("rules:\n- force: `lu`", 2, "cannot start any token"),
    "directive unknown": ("%TAG ! tag:x,2000:\nmargin: 0.1", 2, "expected '<document start>'"),
    "directive of YAML 2": ("%YAML 2.0\n---\nmargin: 0.1", 1, "incompatible YAML document"),
    "directive with a huge version": (f"%YAML 1.{'9' * 5000}\n---\nmargin: 0.1", 1, "out of range"),
    "anchor": ("margin: &m 0.2", 1, "found the anchor 'm'"),
    "anchor and alias": ("margin: &m 0.2\nsizes: {n: *m}", 1, "found the anchor 'm'"),
    "alias alone": ("margin: 0.1\nsizes: {n: *m}", 2, "found the alias 'm'"),
    "alias to itself": ("sizes: &a {n: *a}", 1, "found the anchor 'a'"),
    "alias as key": ("*m : 3", 1, "found the alias 'm'"),
    "anchor of 1000 letters": (f"margin: &{'m' * 1000} 0.2", 1, "found the anchor 'mmm", "..."),
    "billion laughs": (
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(
            f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        1,
        "found the anchor 'a'",
    ),
    "merge key": ("rules:\n- <<: {force: lu}\n  match: {}", 2, "the merge key '<<'"),
    "merge key of a list": ("<<: [{margin: 0.1}]", 1, "the merge key '<<'"),
    "merge of an alias": ("base: &b {force: lu}\nrules:\n- <<: *b", 1, "found the anchor 'b'"),
    "Python object": ("margin: !!python/object/apply:os.system ['true']", 1, "found the tag"),
    "Python name": ("margin: !!python/name:os.system", 1, "found the tag"),
    "own tag": ("rules: !mine []", 1, "found the tag '!mine'"),
    "tag of a number": ("margin: !!float '0.1'", 1, "found the tag 'tag:yaml.org,2002:float'"),
    "tag of binary data": ("margin: !!binary aGVsbG8=", 1, "found the tag"),
    "tag of a set": ("rules:\n- force: lu\n  forbid: !!set {cg}", 3, "found the tag"),
    "tag of a key": ("!!str margin: 0.1", 1, "found the tag"),
    "tag undefined": ("margin: !a!b 0.1", 1, "undefined tag handle"),
    "tag of nothing": ("margin: ! 0.1", 1, "found the tag '!'"),
    "two documents": ("margin: 0.1\n---\nmargin: 0.2", 2, "a second document"),
    "two documents, the first empty": ("---\n---\nmargin: 0.2", 2, "a second document"),
    "document after its end": ("margin: 0.1\n...\nmargin: 0.2", 3, "expected '<document start>'"),
    "complex key": ("? margin", 1, "key 'margin'", "found null"),
    "complex key without a value": ("? margin\n? {a: 1}", 2, "a list or mapping as a key"),
    "block text as number": ("margin: |\n  0.1\n", 1, "key 'margin'", "found '0.1\\n'"),
    "folded text as strategy": ("rules:\n- force: >\n    lu\n", 2, "'rules[0].force'", "'lu\\n'"),
    "deep lists": ("rules: " + "[" * 10_000, 1, "more than 16 levels"),
    "deep mappings": ("a: " + "{a: " * 10_000, 1, "more than 16 levels"),
    "deep block lists": ("rules:\n" + "- " * 10_000 + "x", 2, "more than 16 levels"),
    "deep and closed": ("rules: " + "[" * 50_000 + "]" * 50_000, 1, "more than 16 levels"),
    "deep under a known key": ("sizes: " + "{a: " * 300 + "1" + "}" * 300, 1, "more than 16 levels"),
    "long line": ("rules: [" + "{force: lu}, " * 500 + "{forse: lu}]", 1, "'rules[500].forse'"),
    "long text": ("rules:\n- force: " + "x" * 20_000, 2, "'rules[0].force'", "found 'xxx", "..."),
    "long quoted text": (f"margin: '{'x y ' * 5000}'", 1, "found 'x y", "..."),
    "long comment before a mistake": ("#" * 20_000 + "\nmargin: 2", 2, "found 2;"),
    "many blank lines before a mistake": ("\n" * 20_000 + "margin: 2", 20_001, "found 2;"),
    "too many rules": ("rules:\n" + "- force: lu\n" * (MOST_RULES + 1), 1, f"at most {MOST_RULES}"),
    # -- characters ------------------------------------------------------------------------------
    "zero byte": ("margin: 0.1\nmemory_limit: \0", 2, "found the character '\\x00'"),
    "zero bytes alone": ("\0" * 100, 1, "found the character '\\x00'"),
    "bell": ("\nmargin: \a", 2, "found the character '\\x07'"),
    "escape sequence": ("margin: \x1b[31m0.1", 1, "found the character '\\x1b'"),
    "delete": ("margin: 0.1\x7f", 1, "found the character '\\x7f'"),
    "not a character": ("margin: \ufffe", 1, "found the character"),
    "curly quotes": ("rules:\n- force: “lu”", 2, "'rules[0].force'", "“lu”"),
    "no-break space": ("margin:\u00a00.1", 1, "found 'margin:\\xa00.1'"),
    "no-break space in a name": ("rules:\n- force: lu\u00a0", 2, "'rules[0].force'"),
    "letters of another script": ("rules:\n- force: ӏu", 2, "'rules[0].force'", "keep, "),
    "lone surrogate": ('rules:\n- force: "\\ud800"', 2, "found the character '\\ud800'"),
    "surrogate as a name": (MATCH % 'name: "\\udfff"', 3, "found the character '\\udfff'"),
    "mistake after a byte-order mark": ("\ufeffmargin: 2", 1, "key 'margin'", "found 2;"),
    "byte-order mark in the middle": ("margin: 0.1\n\ufeffversion: 1", 2, "version"),
    "mistake after Windows line ends": ("version: 1\r\nmargin: 2\r\n", 2, "key 'margin'", "found 2;"),
    "mistake after old Mac line ends": ("version: 1\rmargin: 2\r", 2, "key 'margin'", "found 2;"),
    "zero byte after Windows line ends": ("version: 1\r\n\r\nmargin: \0", 3, "'\\x00'"),
}

BYTES = {
    "Latin-1": (b"# caf\xe9\nmargin: 0.1", 1, "not UTF-8"),
    "Latin-1 further down": (b"version: 1\r\n\r\nmargin: 0.1 # \xe4", 3, "not UTF-8"),
    "UTF-16, little end first": ("margin: 0.1".encode("utf-16"), 1, "not UTF-8"),
    "UTF-16 without a mark": ("margin: 0.1".encode("utf-16-le"), 1, "'\\x00'"),
    "UTF-32": ("margin: 0.1".encode("utf-32"), 1, "not UTF-8"),
    "overlong UTF-8": (b"margin: \xc0\x80", 1, "not UTF-8"),
    "encoded surrogate": (b"margin: \xed\xa0\x80", 1, "not UTF-8"),
    "cut inside a character": ("margin: 0.1 # é".encode()[:-1], 1, "not UTF-8"),
    "a PNG": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 1, "not UTF-8"),
    "a gzip file": (b"\x1f\x8b\x08\0\0\0\0\0\0\x03", 1, "not UTF-8"),
    "a zip file": (b"PK\x03\x04\x14\0\0\0", 1, "found the character '\\x03'"),
    "an ELF file": (b"\x7fELF\x02\x01\x01\0", 1, "found the character '\\x7f'"),
    "a pickle": (b"\x80\x04\x95\x0b\0\0\0\0\0\0\0}", 1, "not UTF-8"),
}

# Keys that hold a number of each kind, and what is none of them.
NUMBERS = {
    "margin": "margin: %s",
    "accuracy.solve_rtol": "accuracy: {solve_rtol: %s}",
    "sizes.n": "sizes: {n: %s}",
    "rules[0].match.min_n": "rules: [{force: lu, match: {min_n: %s}}]",
    "rules[0].options.condition_number": "rules: [{options: {condition_number: %s}}]",
    "rules[0].options.preconditioner.rank": (
        "rules: [{options: {preconditioner: {name: pivoted_cholesky, rank: %s}}}]"
    ),
}
NO_NUMBERS = {
    "a word": ("many", "found 'many'"),
    "a quoted number": ("'0.5'", "found '0.5'"),
    "a number with a unit": ("5 rows", "found '5 rows'"),
    "a thousands separator": ('"1,000"', "found '1,000'"),
    "a time": ("1:30", "found '1:30'"),
    "an octal number": ("017", "found '017'"),
    "a date": ("2020-01-01", "found '2020-01-01'"),
    "a date and time": ("2020-01-01T00:00:00Z", "found '2020-01-01T00:00:00Z'"),
    "a date that does not exist": ("2020-13-45", "found '2020-13-45'"),
    "true": ("true", "found true"),
    "yes": ("yes", "found 'yes'"),
    "a list": ("[0.5]", "found a list"),
    "a mapping": ("{value: 0.5}", "found a mapping"),
    "not a number": (".nan", "found nan"),
    "infinity": (".inf", "found inf"),
    "minus infinity": ("-.inf", "found -inf"),
    "a negative number": ("-3", "found -3"),
    "a number that overflows": ("1e400", "found inf"),
    "a number of 5000 digits": ("9" * 5000, "a number of 5000 digits"),
}
GENERATED = {
    f"{what} in {key}": (template % value, 1, f"key '{key}'", found)
    for key, template in NUMBERS.items()
    for what, (value, found) in NO_NUMBERS.items()
} | {
    f"a number of 400 digits in {key}": (template % ("9" * 400), 1, f"key '{key}'", "about 400 digits")
    for key, template in NUMBERS.items()
    if "condition_number" not in key
}
CASES = TEXT | BYTES | GENERATED


def test_there_are_two_hundred_distinct_files():
    assert len({case[0] for case in CASES.values()}) == len(CASES) >= 200


def content(case) -> bytes:
    return case[0] if isinstance(case[0], bytes) else case[0].encode()


@pytest.fixture
def malformed(tmp_path):
    def write(name: str):
        path = tmp_path / "policy.yaml"
        path.write_bytes(content(CASES[name]))
        return path

    return write


@pytest.mark.parametrize("name", CASES)
def test_a_malformed_file_gives_one_clear_message_with_file_and_line(name, malformed):
    path = malformed(name)
    _, line, *words = CASES[name]
    with pytest.raises(PolicyError) as failure:
        load_policy(path, layers=False)
    message = str(failure.value)
    assert message.startswith(f"{path}:{line}: ")
    assert all(word in message for word in words), message
    assert message.endswith((".", "?"))
    assert len(message.splitlines()) == 1
    assert len(message) < 500
    assert message.isprintable()


def test_the_mistakes_of_a_file_are_counted_when_there_are_many(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text("".join(f"key_{i}: 1\n" for i in range(100)))
    with pytest.raises(PolicyError) as failure:
        load_policy(path, layers=False)
    lines = str(failure.value).splitlines()
    assert len(lines) == MOST_SHOWN + 1
    assert lines[-1] == f"{path}: {100 - MOST_SHOWN} more mistakes."


@pytest.mark.parametrize("name", ["billion laughs", "deep mappings", "a number of 5000 digits in margin"])
def test_a_short_file_does_not_grow_large_in_memory(name, malformed):
    path = malformed(name)
    tracemalloc.start()
    with pytest.raises(PolicyError):
        load_policy(path, layers=False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50 * 2**20


def test_a_file_that_is_too_large_is_not_parsed(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_bytes(b"#" * (MOST_BYTES + 1))
    with pytest.raises(
        PolicyError, match=r"policy\.yaml: found more than 256 KiB; a policy file is smaller\."
    ):
        load_policy(path, layers=False)
    path.write_bytes(b"#" * MOST_BYTES)
    assert load_policy(path, layers=False) == Policy()


def _directory(path: Path) -> None:
    path.mkdir()


def _nothing(path: Path) -> None:
    path.unlink(missing_ok=True)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_nothing, "No such file or directory"),
        (_directory, "Is a directory"),
        (_pipe, "Is no regular file"),
        (_device, "Is no regular file"),
        (_link_to_itself, "symbolic links"),
    ],
)
@pytest.mark.parametrize("name", ["policy.yaml", "two\nlines.yaml"])
def test_what_is_no_file_is_one_message_and_never_waited_for(tmp_path, make, reason, name):
    path = tmp_path / name
    make(path)
    with pytest.raises(PolicyError) as failure:
        load_policy(path, layers=False)
    message = str(failure.value)
    assert reason in message
    assert message.endswith("give the path of a policy file.")
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("path", ["", "~nobody/policy.yaml", "policy\0.yaml", "x" * 5000])
def test_what_is_no_path_is_one_message(path):
    with pytest.raises(PolicyError, match=r"give the path of a policy file\.$") as failure:
        load_policy(path, layers=False)
    assert str(failure.value).isprintable()


COMMANDS = """
import sys, typer
from autotune.cli_policy import check, policies
app = typer.Typer(pretty_exceptions_enable=False)
app.add_typer(policies, name="policy")
app.command()(check)
app(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("typo at the top", "check"),
        ("billion laughs", "policy show"),
        ("UTF-16, little end first", "check"),
        ("deep lists", "policy show"),
    ],
)
def test_the_command_line_prints_the_message_and_no_traceback(name, command, malformed):
    path = malformed(name)
    words = [sys.executable, "-c", COMMANDS, *command.split(), str(path)]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert ran.stderr.startswith(f"autotune: {path}:{CASES[name][1]}: ")
    assert len(ran.stderr.splitlines()) == 1
