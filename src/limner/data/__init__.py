"""Image data: opens a folder, zip, IDX file or array as a Source, scans it, and decodes it once into a Dataset."""

from limner.data.dataset import Dataset, prepare, prepare_validation
from limner.data.decode import default_size
from limner.data.image import Damaged
from limner.data.open import open_source
from limner.data.report import report_table, write_sheet
from limner.data.samples import SAMPLES
from limner.data.scan import DataReport, scan
from limner.data.source import Source

__all__ = [
    "SAMPLES", "Damaged", "DataReport", "Dataset", "Source", "default_size", "open_source", "prepare",
    "prepare_validation", "report_table", "scan", "write_sheet",
]
