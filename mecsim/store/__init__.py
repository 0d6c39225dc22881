"""Traces in HDF5: written as the run goes, in bounded memory; read with every check."""

from mecsim.store.output import resource_columns
from mecsim.store.provenance import Provenance
from mecsim.store.reader import TraceFile
from mecsim.store.writer import TraceWriter

__all__ = ["Provenance", "TraceFile", "TraceWriter", "resource_columns"]
