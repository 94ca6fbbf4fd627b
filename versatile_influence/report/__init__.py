"""What was measured, beside the paper: records, sections and the page made from them."""

from versatile_influence.report.page import page
from versatile_influence.report.records import Record, Records
from versatile_influence.report.sections import Section, sections

__all__ = ["Record", "Records", "Section", "page", "sections"]
