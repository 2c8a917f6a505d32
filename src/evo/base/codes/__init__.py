"""Every diagnostic code: 0xx files, 1xx YAML, 2xx schema, 3xx meaning, 4xx patches, 5xx data and devices, 6xx runs."""

from __future__ import annotations

from evo.base.codes.code import Code as Code
from evo.base.codes.files import FILES
from evo.base.codes.flow import FLOW
from evo.base.codes.meaning import MEANING
from evo.base.codes.patches import PATCHES
from evo.base.codes.runs import RUNS
from evo.base.codes.schema import SCHEMA
from evo.base.codes.syntax import SYNTAX

_GROUPS = {**FILES, **SYNTAX, **SCHEMA, **MEANING, **FLOW, **PATCHES, **RUNS}
CODES: dict[str, Code] = dict(sorted(_GROUPS.items()))
"""The table, in the order of the codes."""
