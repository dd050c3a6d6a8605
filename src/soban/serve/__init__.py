"""One small server that speaks OpenAI's, Ollama's and Anthropic's APIs, for many people at once."""

from soban.serve.app import app
from soban.serve.settings import Limits

__all__ = ["Limits", "app"]
