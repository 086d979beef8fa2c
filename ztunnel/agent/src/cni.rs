//! The way a pod takes into the mesh when it is started: the plugin that the container runtime calls, and what the agent
//! has to do with it.
//!
//! `protocol` is what the two say to each other, `server` the agent's side of it, `plugin` the program's; `chain` decides
//! what the runtime's configuration has to look like, `install` makes it so.
//!
//! # Who may start without the agent
//!
//! The plugin cannot know whether a pod belongs to the mesh; the agent does. So a pod starts when the agent has said that it
//! is outside, or that the ztunnel serves it, and the kubelet tries again until then. That must not keep a node from
//! starting:
//!
//! 1. The agent shares the node's network; the runtime calls no plugin for it.
//! 2. Pods of exempt namespaces (`kube-system`, the agent's own, those of `AMBIT_CNI_EXEMPT_NAMESPACES`) are not asked about:
//!    ztunnel, controller and the cluster's DNS start whatever the agent does. One of them that is enrolled all the same is
//!    enrolled while it runs.
//! 3. The agent says "outside" without the ztunnel and without the controller. Only pods of the mesh wait for the ztunnel.
//! 4. `AMBIT_CNI_WHEN_AWAY=allow` lets all others start, too, while the agent is away. It finds them when it is back; until
//!    then they are outside the mesh.

pub mod chain;
pub mod install;
pub mod plugin;
pub mod protocol;
pub mod server;
