"""What a report is made of: its answer, tables, figures and page."""
