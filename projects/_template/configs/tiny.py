"""The method on the embedded tiny model. A leaf names only what differs; shared parts go to ``_base_``."""

load_from = "pretrained/tiny"
pipeline = dict(type="TemplatePipeline", gate=dict(type="EveryKGate", k=3))
