//! waypoint: the optional HTTP proxy of a namespace. This build holds its settings only.

pub mod settings;
