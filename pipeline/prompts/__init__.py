"""Versioned prompt templates, one file each; a template's id and hash go on every generated row."""

from pipeline.prompts.template import Prompt, load_prompt

__all__ = ["Prompt", "load_prompt"]
