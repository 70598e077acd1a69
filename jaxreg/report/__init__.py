"""The report of one or several studies: text, tables, figures, and one page that stands alone."""
