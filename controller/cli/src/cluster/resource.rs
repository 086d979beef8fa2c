//! The kinds that commands work with, and their paths.

/// A kind, as its API server serves it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    /// `group/version`, or `v1`.
    pub(crate) api_version: &'static str,
    /// Its name.
    pub(crate) kind: &'static str,
    plural: &'static str,
    in_namespace: bool,
}

macro_rules! kinds {
    ($($name:ident = $api_version:literal $kind:literal $plural:literal $in_namespace:literal;)*) => {
        /// One name for each.
        pub(crate) mod kinds {
            use super::Resource;
            $(
                #[doc = $kind]
                pub(crate) const $name: Resource = Resource {
                    api_version: $api_version, kind: $kind, plural: $plural, in_namespace: $in_namespace,
                };
            )*
            /// All.
            pub(crate) static ALL: &[Resource] = &[$($name),*];
        }
    };
}

kinds! {
    NAMESPACE = "v1" "Namespace" "namespaces" false;
    NODE = "v1" "Node" "nodes" false;
    POD = "v1" "Pod" "pods" true;
    SERVICE = "v1" "Service" "services" true;
    SERVICE_ACCOUNT = "v1" "ServiceAccount" "serviceaccounts" true;
    CONFIG_MAP = "v1" "ConfigMap" "configmaps" true;
    SECRET = "v1" "Secret" "secrets" true;
    RESOURCE_QUOTA = "v1" "ResourceQuota" "resourcequotas" true;
    DEPLOYMENT = "apps/v1" "Deployment" "deployments" true;
    DAEMON_SET = "apps/v1" "DaemonSet" "daemonsets" true;
    CLUSTER_ROLE = "rbac.authorization.k8s.io/v1" "ClusterRole" "clusterroles" false;
    CLUSTER_ROLE_BINDING = "rbac.authorization.k8s.io/v1" "ClusterRoleBinding" "clusterrolebindings" false;
    ROLE = "rbac.authorization.k8s.io/v1" "Role" "roles" true;
    ROLE_BINDING = "rbac.authorization.k8s.io/v1" "RoleBinding" "rolebindings" true;
    DISRUPTION_BUDGET = "policy/v1" "PodDisruptionBudget" "poddisruptionbudgets" true;
    AUTOSCALER = "autoscaling/v2" "HorizontalPodAutoscaler" "horizontalpodautoscalers" true;
    NETWORK_POLICY = "networking.k8s.io/v1" "NetworkPolicy" "networkpolicies" true;
    LEASE = "coordination.k8s.io/v1" "Lease" "leases" true;
    WEBHOOK = "admissionregistration.k8s.io/v1" "ValidatingWebhookConfiguration" "validatingwebhookconfigurations" false;
    MUTATING_WEBHOOK = "admissionregistration.k8s.io/v1" "MutatingWebhookConfiguration" "mutatingwebhookconfigurations" false;
    ADMISSION_POLICY = "admissionregistration.k8s.io/v1" "ValidatingAdmissionPolicy" "validatingadmissionpolicies" false;
    ADMISSION_BINDING = "admissionregistration.k8s.io/v1" "ValidatingAdmissionPolicyBinding" "validatingadmissionpolicybindings" false;
    DEFINITION = "apiextensions.k8s.io/v1" "CustomResourceDefinition" "customresourcedefinitions" false;
    ACCESS_REVIEW = "authorization.k8s.io/v1" "SelfSubjectAccessReview" "selfsubjectaccessreviews" false;
    AUTHORIZATION_POLICY = "security.istio.io/v1" "AuthorizationPolicy" "authorizationpolicies" true;
    GATEWAY = "gateway.networking.k8s.io/v1" "Gateway" "gateways" true;
    GATEWAY_CLASS = "gateway.networking.k8s.io/v1" "GatewayClass" "gatewayclasses" false;
}

impl Resource {
    /// The kind of a manifest.
    pub(crate) fn find(api_version: &str, kind: &str) -> Option<&'static Self> {
        kinds::ALL.iter().find(|one| one.api_version == api_version && one.kind == kind)
    }

    /// Its name in paths.
    pub(crate) fn plural(&self) -> &'static str {
        self.plural
    }

    /// The group, empty for the core's.
    pub(crate) fn group(&self) -> &'static str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    /// Where objects of this kind are: of all namespaces if none is named, and one of them if its name is.
    pub(crate) fn path(&self, namespace: &str, name: &str) -> String {
        let root = if self.group().is_empty() { "api" } else { "apis" };
        let mut path = format!("/{root}/{}", self.api_version);
        if self.in_namespace && !namespace.is_empty() {
            path.push_str(&format!("/namespaces/{namespace}"));
        }
        path.push_str(&format!("/{}", self.plural));
        if !name.is_empty() {
            path.push_str(&format!("/{name}"));
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api_server() {
        let cases = [
            (kinds::POD.path("a", "b"), "/api/v1/namespaces/a/pods/b"),
            (kinds::POD.path("", ""), "/api/v1/pods"),
            (kinds::NAMESPACE.path("", "a"), "/api/v1/namespaces/a"),
            (kinds::DEPLOYMENT.path("a", ""), "/apis/apps/v1/namespaces/a/deployments"),
            (
                kinds::DEFINITION.path("", "x.y"),
                "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/x.y",
            ),
        ];
        for (path, expected) in cases {
            assert_eq!(path, expected);
        }
        assert_eq!(Resource::find("apps/v1", "DaemonSet"), Some(&kinds::DAEMON_SET));
        assert_eq!(Resource::find("v1", "DaemonSet"), None);
    }
}
