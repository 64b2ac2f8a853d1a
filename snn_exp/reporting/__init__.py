"""Stored runs as statistics, tables, figures, documents and dashboards. No torch."""
