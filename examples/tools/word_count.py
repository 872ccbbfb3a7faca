"""A tool that reads a file of the workspace.

Copy it to the folder `tools` beside interject.toml, and try it:

    interject tools try word_count '{"path": "notes.txt"}' --workspace .
"""

from interject import ToolContext, read_workspace_file, tool


@tool(effect="read")
def word_count(context: ToolContext, path: str) -> str:
    """Counts the lines, words and characters of a text file in the workspace."""
    text = read_workspace_file(context, path).decode(errors="replace")
    return f"{path}: {len(text.splitlines())} lines, {len(text.split())} words, {len(text)} characters"
