//! Tests of the workload model.
