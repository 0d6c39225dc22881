"""Traces in HDF5: written while the run advances, in bounded memory; validated when read."""

from mecsim.trace.output_file import resource_columns
from mecsim.trace.provenance import Provenance
from mecsim.trace.reader import TraceFile
from mecsim.trace.writer import TraceWriter

__all__ = ["Provenance", "TraceFile", "TraceWriter", "resource_columns"]
