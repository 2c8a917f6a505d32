"""YAML 1.2 with positions: value and place come from one parse, and no input makes it crash."""

from evo.dsl.yaml.nodes import Data as Data
from evo.dsl.yaml.nodes import Entry as Entry
from evo.dsl.yaml.nodes import Node as Node
from evo.dsl.yaml.nodes import node_of as node_of
from evo.dsl.yaml.reader import MAX_BYTES as MAX_BYTES
from evo.dsl.yaml.reader import MAX_DEPTH as MAX_DEPTH
from evo.dsl.yaml.reader import MAX_NODES as MAX_NODES
from evo.dsl.yaml.reader import STDIN as STDIN
from evo.dsl.yaml.reader import read as read
from evo.dsl.yaml.reader import read_all as read_all
from evo.dsl.yaml.reader import read_file as read_file
from evo.dsl.yaml.reader import read_text as read_text
from evo.dsl.yaml.writer import write as write
