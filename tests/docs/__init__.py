"""Tests of README.md, docs/ and the files that describe the project."""
