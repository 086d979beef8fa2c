//! The waypoint: the optional HTTP proxy of a namespace.
//!
//! One life, read top to bottom in [`exchange`]: what arrives ([`arrive`], [`serve`]) is matched, judged, sent on
//! ([`upstream`]) and recorded. Connections that are not HTTP are carried by [`opaque`].

pub mod app;
pub mod arrive;
pub mod attempt;
pub mod balance;
pub mod body;
pub mod changes;
pub mod clusters;
pub mod detach;
pub mod dump;
pub mod endpoint;
pub mod exchange;
pub mod filter;
pub mod framing;
pub mod judge;
pub mod known;
pub mod limits;
pub mod listeners;
pub mod mesh;
pub mod message;
pub mod mirror;
pub mod observe;
pub mod opaque;
pub mod outlier;
pub mod record;
pub mod refuse;
pub mod relief;
pub mod report;
pub mod retry;
pub mod serve;
pub mod settings;
pub mod sniff;
pub mod trace;
pub mod upgrade;
pub mod upstream;
pub mod watch;
