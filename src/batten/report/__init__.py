"""Plain text out of plans and results; colour is the CLI's business."""

from batten.report.plan import budget_bar, plan_text, size, table

__all__ = ["budget_bar", "plan_text", "size", "table"]
