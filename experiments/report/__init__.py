"""What was measured, beside the paper: records, sections and the page made from them."""

from experiments.report.page import page
from experiments.report.records import Record, Records
from experiments.report.sections import Section, by_both, sections

__all__ = ["Record", "Records", "Section", "by_both", "page", "sections"]
