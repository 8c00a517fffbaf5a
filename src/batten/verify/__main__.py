"""``python -m batten.verify -i INVENTORY``: the suite without the CLI, for ``playbooks/verify.yml`` and molecule."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from batten import runner
from batten.errors import BattenError
from batten.verify import expectations, report, run


def main(arguments: list[str]) -> int:
    """Run the controls and print the report; exit code 0 all hold, 2 some fail, 1 a host could not be judged."""
    parser = argparse.ArgumentParser(prog="batten.verify", description=__doc__)
    parser.add_argument("-i", "--inventory", required=True, help="directory or file")
    parser.add_argument("--limit", help="hosts, as Ansible's --limit takes them")
    parser.add_argument("--plans", type=Path, help="JSON file of plans; made anew if left out")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    options = parser.parse_args(arguments)
    try:
        plans, told = None, None
        if options.plans:
            plans = expectations.load(options.plans)
            # What role host is told stands in the inventory only, and so does which hosts --limit means.
            told = expectations.variables_of(runner.load_hosts(options.inventory, options.limit))
            plans = expectations.within(plans, told, str(options.plans)) if options.limit else plans
        found = run(options.inventory, limit=options.limit, plans=plans, variables=told)
    except BattenError as error:
        sys.stderr.write(f"batten: {error}\n")
        return 1
    sys.stdout.write(json.dumps(found.to_json()) + "\n" if options.json else report.text(found))
    return found.exit_code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
