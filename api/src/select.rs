//! Endpoint selection: one endpoint out of a service, by locality scope, health and weight. Pure.
