"""Traces in HDF5: written as the run goes, in bounded memory; read with every check."""

from mecsim.trace.output_file import resource_columns
from mecsim.trace.provenance import Provenance
from mecsim.trace.reader import TraceFile
from mecsim.trace.writer import TraceWriter

__all__ = ["Provenance", "TraceFile", "TraceWriter", "resource_columns"]
