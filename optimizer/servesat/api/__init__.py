"""Servesat in Python: one function a question, whose answer is a document, a table, a text and a page."""
