"""What was measured, beside the paper: records, sections and the page made from them."""

from versatile_influence.report.page import page
from versatile_influence.report.records import Record, Records
from versatile_influence.report.sections import Section, by_both, sections

__all__ = ["Record", "Records", "Section", "by_both", "page", "sections"]
