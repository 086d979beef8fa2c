//! Generated wire messages; see `proto/` and `tests/regenerate.rs`.
