"""Put runs on one self-contained page: learning curves, intervals, videos, differences, commands.

python scripts/compare.py RUN... [--out report.html] [--title TEXT] [--allow-mixed]
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agents.report import write_report
from agents.statistics import ReportError
from scripts import cli


def main() -> None:
    """Parse, write the page, say where it is; 2 for runs that cannot be compared, 1 for a failure on the way."""
    parser = cli.Parser(description="Compare runs on one self-contained HTML page.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder, as made by scripts/train.py")
    parser.add_argument("--out", type=Path, default=Path("report.html"), help="the page (default: %(default)s)")
    parser.add_argument("--title", help="the page's heading")
    parser.add_argument("--allow-mixed", action="store_true", help="accept different games or protocols on one page")
    arguments = parser.parse_args()
    page = write_report(arguments.runs, arguments.out, title=arguments.title, allow_mixed=arguments.allow_mixed)
    print(f"{page}  ({page.stat().st_size / 1e6:.1f} MB, opens in any browser, offline too)")


if __name__ == "__main__":
    cli.guarded(main, (ReportError,))
