"""The schedulers that come with mecsim: one algorithm, one file."""
