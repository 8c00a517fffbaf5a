"""Text, pages and XML out of plans and results; colour is the CLI's business.

``html.py`` and ``junit.py`` write verify reports; they are imported where they are asked for.
"""

from batten.report.drift import drift_text
from batten.report.plan import budget_bar, plan_text, size, table
from batten.report.spec import budget_svg, compared_text, spec_text

__all__ = ["budget_bar", "budget_svg", "compared_text", "drift_text", "plan_text", "size", "spec_text", "table"]
