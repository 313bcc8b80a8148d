"""InstructBLIP for vLLM, which no release of vLLM serves: a model from outside its tree.

vLLM finds ``register`` through the entry point ``vllm.general_plugins`` (see pyproject.toml) in every process
that it starts: the caller's, the engine's, the workers'. So nothing is imported here, and no device touched,
until a model of this architecture is asked for.

Parts: ``prompt`` (what a request consists of; used by our engine), ``processing`` (pictures and instructions
into tensors, placeholders into the prompt), ``qformer``, ``model``, ``weights``.
"""

ARCHITECTURE = "InstructBlipForConditionalGeneration"


def register() -> None:
    """Make the architecture known to vLLM, by name only; calling it again changes nothing."""
    from vllm import ModelRegistry

    ModelRegistry.register_model(ARCHITECTURE, f"{__name__}.model:{ARCHITECTURE}")
