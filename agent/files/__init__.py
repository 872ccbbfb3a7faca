"""Text of files: documents, voice notes."""
