"""The slime-mold model by itself, and the interface of the project that first described it (`docs/slime.md`).

May import: every floor below but the command line. Never here: what a search or `evo train` needs.
"""

from evo.api.slime.config import Config as Config
from evo.api.slime.config import load_config as load_config
from evo.api.slime.encoder import FlowState as FlowState
from evo.api.slime.encoder import SlimeMoldEncoder as SlimeMoldEncoder
from evo.api.slime.export import export_encoder as export_encoder
from evo.api.slime.texts import load_tinystories as load_tinystories
from evo.api.slime.texts import load_wikitext as load_wikitext
from evo.api.slime.trainer import Trainer as Trainer
from evo.bench.profile import profile_model as profile_model
from evo.slime.adaptation import Adaptation as Adaptation
from evo.slime.chemotaxis import Chemotaxis as Chemotaxis
from evo.slime.feedback import Feedback as Feedback
from evo.slime.messages import Bus as Bus
from evo.slime.messages import Message as Message
from evo.slime.observability import MetricsCollector as MetricsCollector
from evo.slime.pseudopod import Pseudopod as Pseudopod
from evo.slime.telemetry import TelemetryCollector as TelemetryCollector
from evo.slime.tubes import Tubes as Tubes
