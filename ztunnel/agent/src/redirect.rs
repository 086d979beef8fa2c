//! Redirection: which packets of a pod go to the ztunnel. `rules` writes the text, `apply` puts it into the pod's network.

pub mod apply;
pub mod command;
pub mod rules;
