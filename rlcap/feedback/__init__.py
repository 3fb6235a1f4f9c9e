"""Textual feedback: a judge criticises and rewrites captions and prompts."""
