"""run.json: all that is needed to train one run again, and what came of it the first time.

It lies beside the saved labeler. The backbone's weights and the data are not inside; the record
names them and holds their digests, so that `unmask reproduce` can tell whether it found the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unmask.results.run import RunResult

RECORD_FILE = "run.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class RunRecord:
    """A finished run, where its backbone came from, and how its corpus was read.

    `load_from` is what to hand to `load_backbone`; `data` holds the arguments of `load_task`.
    """

    result: RunResult
    load_from: str
    data: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """Write run.json into `folder`."""
        path = folder / RECORD_FILE
        values = {
            "format_version": FORMAT_VERSION,
            "load_from": self.load_from,
            "data": self.data,
            **self.result.to_dict(),
        }
        path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        return path

    @classmethod
    def read(cls, path: Path) -> RunRecord:
        """Read a run.json, or the one in a folder.

        Raises:
            FileNotFoundError: when there is none.
            ValueError: when it is no such record.
        """
        path = path / RECORD_FILE if path.is_dir() else path
        if not path.is_file():
            raise FileNotFoundError(f"there is no {path}; give the run.json of a sweep's run")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            version = values.pop("format_version")
            load_from, data = values.pop("load_from"), values.pop("data")
            result = RunResult.from_dict(values)
        except KeyError as error:
            raise ValueError(f"{path} is no record of a run: it lacks {error}") from None
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is no record of a run: {error!s:.200}") from None
        if version != FORMAT_VERSION:
            raise ValueError(f"{path} has format version {version!r}, expected {FORMAT_VERSION}")
        return cls(result, load_from, data)
