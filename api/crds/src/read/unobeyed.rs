//! What to use in place of kinds that nothing enforces yet.

use crate::code::Code;
use crate::fault::Severity;
use crate::kind::{Kind, Standing};

/// What to tell the owner of an object.
pub(super) struct Advice {
    pub(super) code: Code,
    /// A warning where somebody may rely on being protected, or where it will never mean anything.
    pub(super) severity: Severity,
    pub(super) mend: &'static str,
}

/// Advice about a kind; none if it is enforced or nobody's business here.
pub(super) fn advice(kind: Kind) -> Option<Advice> {
    if kind.standing() != Standing::NotYetEnforced {
        return None;
    }
    let (code, severity, mend) = match kind {
        Kind::Sidecar | Kind::EnvoyFilter | Kind::ProxyConfig | Kind::WasmPlugin | Kind::WorkloadGroup => {
            (Code::SidecarKind, Severity::Warning, of_sidecars(kind))
        }
        Kind::IstioGateway => (
            Code::KindNotYet,
            Severity::Warning,
            "write a Gateway of gateway.networking.k8s.io/v1 with gatewayClassName ambit, and an HTTPRoute",
        ),
        Kind::RequestAuthentication => {
            (Code::KindNotYet, Severity::Warning, "verify tokens in the application until it is")
        }
        Kind::LinkerdServer
        | Kind::LinkerdServerAuthorization
        | Kind::LinkerdAuthorizationPolicy
        | Kind::LinkerdMeshTlsAuthentication
        | Kind::LinkerdNetworkAuthentication
        | Kind::TrafficTarget
        | Kind::HttpRouteGroup => (
            Code::KindNotYet,
            Severity::Warning,
            "write an AuthorizationPolicy of security.istio.io/v1 in its place",
        ),
        Kind::TrafficSplit | Kind::LinkerdHttpRoute | Kind::LinkerdServiceProfile => (
            Code::KindNotYet,
            Severity::Warning,
            "write an HTTPRoute whose parent is the Service in its place, or a VirtualService",
        ),
        _ => (Code::KindNotYet, Severity::Note, "no traffic depends on it"),
    };
    Some(Advice { code, severity, mend })
}

fn of_sidecars(kind: Kind) -> &'static str {
    match kind {
        Kind::Sidecar => "delete it: proxies learn only what they need, so there is nothing to narrow",
        Kind::EnvoyFilter => "delete it: no proxy here is Envoy; say what you need with routes and policies",
        Kind::WasmPlugin => "delete it: no proxy here runs filters of others; use routes and policies",
        Kind::ProxyConfig => {
            "delete it: settings of proxies are those of ztunnel and of the waypoint's Gateway"
        }
        _ => "delete it: workloads outside Kubernetes cannot join yet",
    }
}
