//! What is wrong with a Gateway beyond the shape of its fields, as Gateway API's own rules see it.

use std::collections::BTreeSet;

use super::{AllowedNamespaces, FromNamespaces, GatewaySpec, Listener, ListenerTlsMode};
use crate::check::{At, Check, Wrong, each, label_name};
use crate::gateway_api::check::{at_most, hostname, one_of};

/// The most listeners.
const MAX_LISTENERS: usize = 64;

impl Check for GatewaySpec {
    fn check(&self) -> Result<(), Wrong> {
        if self.gateway_class_name.is_empty() {
            return Err(
                Wrong::new("no class is named; write for example ambit-waypoint").under("gatewayClassName")
            );
        }
        if self.listeners.is_empty() {
            let sentence =
                "a Gateway needs a listener; for a waypoint write name mesh, port 15008, protocol HBONE";
            return Err(Wrong::new(sentence).under("listeners"));
        }
        at_most(&self.listeners, MAX_LISTENERS).at("listeners")?;
        each("listeners", &self.listeners, listener)?;
        let (mut names, mut places) = (BTreeSet::new(), BTreeSet::new());
        each("listeners", &self.listeners, |one| unique(one, &mut names, &mut places))?;
        if let Some(allowed) = &self.allowed_listeners {
            namespaces(&allowed.namespaces).at("allowedListeners.namespaces")?;
        }
        one_of(self.default_scope.as_deref(), &["All", "None"]).at("defaultScope")
    }
}

fn listener(one: &Listener) -> Result<(), Wrong> {
    label_name(&one.name).at("name")?;
    if one.protocol.is_empty() {
        return Err(
            Wrong::new("it is empty; write for example HTTP, or HBONE for a waypoint").under("protocol")
        );
    }
    one.hostname.as_deref().map_or(Ok(()), hostname).at("hostname")?;
    let protocol = one.protocol.as_str();
    if one.hostname.is_some() && matches!(protocol, "TCP" | "UDP") {
        return Err(Wrong::new(format!("{protocol} has no host names; remove it")).under("hostname"));
    }
    match (&one.tls, protocol) {
        (Some(_), "HTTP" | "TCP" | "UDP") => {
            return Err(
                Wrong::new(format!("{protocol} has no TLS; remove it, or change the protocol")).under("tls")
            );
        }
        (Some(tls), "HTTPS") if tls.mode == ListenerTlsMode::Passthrough => {
            return Err(Wrong::new("HTTPS ends here; write Terminate").under("tls.mode"));
        }
        _ => {}
    }
    namespaces(&one.allowed_routes.namespaces).at("allowedRoutes.namespaces")
}

fn unique<'a>(
    one: &'a Listener,
    names: &mut BTreeSet<&'a str>,
    places: &mut BTreeSet<(u16, &'a str, Option<&'a str>)>,
) -> Result<(), Wrong> {
    if !names.insert(&one.name) {
        return Err(Wrong::new(format!("{:?} is there twice; rename one", one.name)).under("name"));
    }
    if !places.insert((one.port.get(), &one.protocol, one.hostname.as_deref())) {
        let sentence = "another listener has this port, protocol and hostname; change one of them";
        return Err(Wrong::new(sentence).under("port"));
    }
    Ok(())
}

fn namespaces(allowed: &AllowedNamespaces) -> Result<(), Wrong> {
    if allowed.from == Some(FromNamespaces::Selector) && allowed.selector.is_none() {
        return Err(Wrong::new("from is Selector, and none is there; write which labels").under("selector"));
    }
    Ok(())
}
