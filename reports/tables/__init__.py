"""Tables: rows, conditions, the paper's layout, Markdown, LaTeX and CSV."""
