"""Text scorers without a model: n-grams, CIDEr-D, hedges, phrases, sentences and lengths."""
