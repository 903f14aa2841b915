"""What `allora-lab run` keeps of a run: its record, and beside it the trained adapters.

`out/RUN_ID.json` is the record and `out/RUN_ID.safetensors` the checkpoint, which at the end holds the
trained adapters, so that a finished run can be exported later without training again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from allora_lab.config import RunConfig
from allora_lab.experiments.records import (
    RunRecord,
    changed_data,
    make_room,
    read_record,
    set_aside,
)
from allora_lab.experiments.runner import restored_model
from allora_lab.export import export_peft, require_exportable
from allora_lab.files import require_writable
from allora_lab.locks import claimed


@dataclass(frozen=True)
class RunFiles:
    """The record and the checkpoint of a run in a folder."""

    folder: Path
    config: RunConfig

    @property
    def record(self) -> Path:
        """Return the path of the record."""
        return self.folder / f"{self.config.run_id}.json"

    @property
    def checkpoint(self) -> Path:
        """Return the path of the checkpoint, which holds the trained adapters at the end."""
        return self.folder / f"{self.config.run_id}.safetensors"

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Keep other processes from making the run; ValueError if one is making it."""
        with claimed(self.checkpoint) as is_mine:
            if not is_mine:
                raise ValueError(
                    f"another process is making this run in {self.folder}: wait for it, or name "
                    "another folder with --out"
                )
            yield

    def earlier(self, *, is_fresh: bool) -> RunRecord | None:
        """Return the record of the finished run, or None if the run is to be trained.

        With `is_fresh` the record and the checkpoint are cleared away first; the record is renamed,
        and so is a damaged one.  Raises ValueError if the record is of data that changed since.
        """
        if is_fresh:
            kept = make_room(self.record)
            self.checkpoint.unlink(missing_ok=True)
            if kept:
                print(f"the earlier record is kept as {kept}")
        if not self.record.exists():
            return None
        try:
            record = read_record(self.record)
        except ValueError as error:
            print(f"{error}; it is kept as {set_aside(self.record, 'damaged')}")
            return None
        if changed_data(record):
            raise ValueError(
                f"{self.config.dataset} changed since {self.record} was recorded: put the old file "
                "back, or add --fresh to train on the new content and keep the old record"
            )
        return record

    def export(self, folder: Path, *, trust_remote_code: bool) -> None:
        """Write the adapters of the finished run for PEFT.

        Raises ValueError if the adapters were not kept, or PEFT cannot express them.
        """
        if not self.checkpoint.exists():
            raise ValueError(
                f"{self.record} is recorded, but {self.checkpoint.name} with its adapters is not "
                "beside it: add --fresh to train anew"
            )
        require_writable(folder)
        model = restored_model(self.config, self.checkpoint, trust_remote_code=trust_remote_code)
        require_exportable(model)
        export_peft(model, folder)


def print_result(record: RunRecord) -> None:
    """Print the speed and the scores of a run."""
    if record.tokens_per_second is not None:
        memory = record.peak_memory_bytes / 2**30
        print(f"{record.tokens_per_second:,.0f} tokens a second, peak memory {memory:.2f} GiB")
    shown = ", ".join(
        f"{name.removeprefix('eval_').replace('_', ' ')} {value:.3f}"
        for name, value in record.metrics.items()
    )
    print(f"{record.config['eval_split']} {shown}")
