"""The account of an ingest: every row read is a sample, a duplicate or in the quarantine."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ingest.assemble import Facts
from pipeline.ingest.columns import TEXT_FAKE
from pipeline.ingest.duplicates import Repeats
from pipeline.ingest.facts import CheckedImages, ImageFacts
from pipeline.ingest.originals import Originals
from pipeline.ingest.quarantine import Quarantine
from schemas.vocabulary import FAKE_CLS, ORIGINAL_FROM, QUARANTINE_REASONS, SPLITS


def summarise(
    table: pa.Table,
    facts: Facts,
    originals: Originals,
    repeats: Repeats,
    quarantine: Quarantine,
    images: CheckedImages,
    rows_read: int,
) -> dict[str, Any]:
    """Return the summary that ``--json`` prints.

    ``original_text_coverage`` is the share of text-manipulated samples whose original text is known, null
    when there are none.

    Raises:
        AssertionError: The rows do not add up, which is a defect of this program.
    """
    keep = facts.keep
    classes = table.column("fake_cls").to_numpy()[keep]
    splits = np.bincount(table.column("split").to_numpy()[keep], minlength=len(SPLITS))
    samples = int(keep.sum())
    if rows_read != samples + repeats.duplicates + len(quarantine):
        raise AssertionError(
            f"{rows_read} rows read, but {samples} samples, {repeats.duplicates} duplicates and "
            f"{len(quarantine)} in quarantine"
        )
    joined = originals.joined[keep][TEXT_FAKE[classes]]
    known = int((joined >= 0).sum())
    counts = np.bincount(classes, minlength=len(FAKE_CLS)).tolist()
    order = list(QUARANTINE_REASONS)
    return {
        "rows_read": rows_read,
        "samples": samples,
        "duplicates": repeats.duplicates,
        "quarantined": len(quarantine),
        "by_reason": {code: quarantine.by_reason[code] for code in order if quarantine.by_reason[code]},
        "by_split": dict(zip(SPLITS, splits.tolist(), strict=True)),
        "by_class": {name: count for name, count in zip(FAKE_CLS, counts, strict=True) if count},
        "leaked": sum(repeats.leaked.values()),
        "leaked_by_split": {f"{taken} -> {kept}": n for (taken, kept), n in sorted(repeats.leaked.items())},
        "clamped_boxes": int((facts.clamped & keep).sum()),
        "text_manipulated": len(joined),
        "original_text_coverage": known / len(joined) if len(joined) else None,
        "original_text_by": {
            **{name: int((joined == code).sum()) for code, name in enumerate(ORIGINAL_FROM)},
            "unknown": len(joined) - known,
        },
        "images": {**_image_counts(images, facts, table), **_captions(facts, samples)},
    }


def _captions(facts: Facts, samples: int) -> dict[str, int]:
    """Return how many captions the samples need, one per distinct image, and how many that saves."""
    keys = facts.image_key.filter(pa.array(facts.keep))
    needed = pc.count_distinct(keys, mode="only_valid").as_py()
    return {"captions_needed": needed, "captions_saved": samples - keys.null_count - needed}


def _image_counts(images: CheckedImages, facts: Facts, table: pa.Table) -> dict[str, Any]:
    """Return counts of the distinct image files."""
    good = {
        images.found[name]: verdict
        for name, verdict in images.verdicts.items()
        if isinstance(verdict, ImageFacts)
    }
    modes = Counter(verdict.mode for verdict in good.values())
    rotated = {path for path, verdict in good.items() if verdict.exif_rotated}
    boxed = pa.array(facts.keep & facts.has_box)
    return {
        "usable": len(good),
        "distinct": len({verdict.image_key for verdict in good.values()}),
        "unusable": len(images.verdicts) - sum(isinstance(v, ImageFacts) for v in images.verdicts.values()),
        "checked": images.checked,
        "from_cache": images.cached,
        "modes": dict(modes.most_common()),
        "converted": sum(count for mode, count in modes.items() if mode != "RGB"),
        "exif_rotated": len(rotated),
        "exif_rotated_with_box": (
            len(rotated.intersection(facts.image_path.filter(boxed).to_pylist())) if rotated else 0
        ),
    }


def warnings_of(summary: dict[str, Any], image_root: str) -> list[str]:
    """Return what a person should look at, in sentences."""
    said = []
    rows, reasons, images = summary["rows_read"], summary["by_reason"], summary["images"]
    if not rows:
        said.append("the files hold no rows")
    elif not summary["samples"]:
        said.append("not one row became a sample; see the quarantine")
    if rows and reasons.get("missing_image", 0) * 2 > rows:
        said.append(f"more than half of the rows miss their image; is {image_root} the right --image-root?")
    if summary["leaked"]:
        moves = ", ".join(f"{count:,} {move}" for move, count in summary["leaked_by_split"].items())
        said.append(
            f"{summary['leaked']:,} rows stand in two splits and are kept in the evaluated one ({moves})"
        )
    if images["exif_rotated_with_box"]:
        said.append(
            f"{images['exif_rotated_with_box']:,} images with a face box are turned by EXIF; boxes are taken "
            "to be in the picture as displayed"
        )
    return said
