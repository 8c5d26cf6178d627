"""What `scripts/audit` says of pip-audit's report: `python -m tests.audit FOLDER`.

pip-audit counts a package that its service does not know as one without vulnerabilities. On a machine that
only reaches a mirror of PyPI, which has no vulnerabilities, that is all of them.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str]) -> int:
    """Prints what was found; 1 when there are vulnerabilities, 2 when a package could not be compared."""
    report = Path(arguments[0]) / "report.json"
    try:
        packages = json.loads(report.read_text())["dependencies"]
    except (OSError, ValueError):
        print("Nothing was audited: pip-audit made no report. What it said last:", file=sys.stderr)
        return 2
    skipped = [f"{one['name']}: {one['skip_reason']}" for one in packages if "skip_reason" in one]
    if len(skipped) == len(packages):
        print(
            f"Nothing was audited: the vulnerability service knows none of {len(packages)} packages. "
            "A mirror of PyPI tells no vulnerabilities: run this where https://pypi.org is reached, or with "
            "--vulnerability-service osv where https://api.osv.dev is.",
            file=sys.stderr,
        )
        return 2
    vulnerable = [one for one in packages if one.get("vulns")]
    for one in vulnerable:
        for found in one["vulns"]:
            fixed = ", ".join(found["fix_versions"]) or "no version yet"
            print(f"{one['name']} {one['version']}: {found['id']}, mended in {fixed}")
    for line in skipped:
        print(f"not compared: {line}", file=sys.stderr)
    print(f"{len(packages) - len(skipped)} packages compared, {len(vulnerable)} with vulnerabilities")
    return 1 if vulnerable else 2 if skipped else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
