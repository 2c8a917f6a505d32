"""The next token of a text, cut by a tokenizer of the `tokenizers` package."""
