//! Metric and log labels of a connection, built once from the model and shared by every reporter.
