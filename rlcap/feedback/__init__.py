"""Textual feedback: prompts and captions that are rewritten by critique."""
