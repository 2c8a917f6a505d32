"""The living pool: pseudopods that are born, compete and die while their network trains, and the memory of them.

| file | holds |
| --- | --- |
| `spec.py` | the settings of a life (`train.life`) |
| `vitals.py` | what every step and look note of each slot, on the device |
| `transfer.py` | copies between host and device that wait for no step |
| `behaviour.py` | five measures of what each slot does |
| `fitness.py` | what a pseudopod is worth to its network |
| `elites.py` | the archive: the best pseudopod of each behaviour, as low-rank factors |
| `chemotaxis.py` | where the next birth aims |
| `colony.py` | one pool of a network: births and deaths, in place |
| `gate.py` | no births and deaths while the loss is far above its average |
| `glance.py` | a look at all pools, one CUDA graph where steps are |
| `lifecycle.py` | when what happens: timescales, phases, temperature |
| `lives.py` | who lived where, how long and from whom, by the events of a training |
| `pseudopod.py` | one slot by itself: its statistics, its weights as data |
| `comonad.py` | a pseudopod among its neighbours, and what is relative to them |
| `tubes.py` | memory of what flowed, fading |
| `messages.py`, `feedback.py` | a bus between components; what surprise and loss do to the memory |
| `adaptation.py` | learning at test time: a rate a component, and back where it harms |
| `placement.py`, `spread.py` | which device a cell of behaviour space belongs to; a pool whose slots stand on several |
| `observability.py`, `slo.py` | series, spans, Prometheus' text; objectives with error budgets |
| `telemetry.py` | the same to OpenTelemetry |

May import: evo.base, evo.dsl, evo.kernels, evo.blocks, evo.archive, torch. Never here: trainers, files, a global seed;
nothing that changes the shape of a network while it trains.
"""
