//! Codes of findings: names that stay the same, by which a person looks up what is meant and how to mend it. Each has a page
//! in `deploy/findings`, which is part of the program.

use std::fmt;

use serde::{Serialize, Serializer};

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $name:literal;)*) => {
        /// What a finding is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $($(#[$doc])* $code,)* }

        impl Code {
            /// Every code, in order.
            pub const ALL: &[Self] = &[$(Self::$code,)*];

            /// As people write it, for example `AMB0101`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$code => $name,)* }
            }

            /// Its page: Markdown that begins with the line `# CODE: title`.
            pub fn page(self) -> &'static str {
                match self { $(Self::$code => include_str!(concat!("../../../deploy/findings/", $name, ".md")),)* }
            }
        }
    };
}

codes! {
    /// A folder that cannot be read.
    FolderUnreadable = "AMB0001";
    /// A folder without manifests.
    FolderEmpty = "AMB0002";
    /// A file that cannot be read, or is too large.
    FileUnreadable = "AMB0003";
    /// A document that is no YAML.
    NotYaml = "AMB0004";
    /// A document that is no object.
    NotAnObject = "AMB0005";
    /// A kind that is not known.
    UnknownKind = "AMB0006";
    /// A version of an API that is not read.
    UnknownVersion = "AMB0007";
    /// A name that no object can have.
    BadName = "AMB0008";
    /// An object that is there twice.
    Duplicate = "AMB0009";
    /// A last good version that cannot be kept for a restart.
    LastGoodNotKept = "AMB0010";

    /// A field that the kind does not have.
    UnknownField = "AMB0101";
    /// A value of the wrong type.
    WrongType = "AMB0102";
    /// A word that is none of those that a field knows.
    UnknownValue = "AMB0103";
    /// A field that has to be there.
    MissingField = "AMB0104";
    /// A value, or several together, that cannot be obeyed.
    BadValue = "AMB0105";

    /// A kind that nothing enforces yet.
    KindNotYet = "AMB0201";
    /// A kind that means a sidecar, and there are none.
    SidecarKind = "AMB0202";
    /// A field that nothing enforces yet.
    FieldNotYet = "AMB0203";
    /// A field that is obeyed otherwise than elsewhere, or means nothing here.
    FieldMeansLess = "AMB0204";
    /// A field of the mesh configuration that nothing uses.
    MeshFieldUnused = "AMB0205";
    /// Rules for a Gateway of Istio's API.
    IstioGateway = "AMB0206";

    /// A system namespace is to be in the mesh.
    SystemNamespace = "AMB0301";
    /// A sidecar is asked for.
    SidecarInjection = "AMB0302";
    /// A pod in the node's network is to be in the mesh.
    HostNetwork = "AMB0303";
    /// A label of ours with a value that means nothing.
    LabelValue = "AMB0304";
    /// A label that looks like a misspelt one of ours.
    LabelName = "AMB0305";
    /// Callers without mutual TLS before ports that demand it.
    PlaintextCallers = "AMB0306";
    /// A service account that is not there.
    ServiceAccountMissing = "AMB0307";

    /// A Service that selects no pod.
    ServiceWithoutPods = "AMB0401";
    /// A target port that the pods do not have.
    TargetPort = "AMB0402";
    /// A port whose protocol is not declared where HTTP is wanted.
    PortProtocol = "AMB0403";
    /// A Service that is closed because no waypoint stands before it.
    ServiceLocked = "AMB0404";
    /// A Service whose ports are closed by another one's policy.
    SharedPort = "AMB0405";
    /// A headless Service whose policy closes it to its callers.
    HeadlessLocked = "AMB0406";

    /// A waypoint that is named and does not exist.
    WaypointMissing = "AMB0501";
    /// A Gateway that is not accepted.
    GatewayRefused = "AMB0502";
    /// A Gateway of a class that is not known.
    GatewayClass = "AMB0503";
    /// A waypoint that does not admit the namespace.
    WaypointNotAdmitting = "AMB0504";
    /// A waypoint that serves other traffic.
    WaypointOtherTraffic = "AMB0505";
    /// A second waypoint that gets no share.
    WaypointCanary = "AMB0506";

    /// A policy that lets nobody in.
    DeniesEverything = "AMB0601";
    /// A policy that changes nothing.
    PolicyNoEffect = "AMB0602";
    /// A policy that covers no pod.
    NoWorkloads = "AMB0603";
    /// A target that does not exist.
    TargetNotFound = "AMB0604";
    /// A policy that only a waypoint can judge, and none is there.
    PolicyWaypointRequired = "AMB0605";
    /// A policy whose pods are not in the mesh.
    NotEnrolled = "AMB0606";
    /// A port that is none of the pods'.
    PolicyPort = "AMB0607";
    /// A port that Services lead to different ports.
    PolicyPortAmbiguous = "AMB0608";
    /// An identity that nobody can have.
    Principal = "AMB0609";
    /// A client that does not exist.
    ClientMissing = "AMB0610";
    /// A pattern that no request matches.
    PatternNeverMatches = "AMB0611";
    /// An external authorizer that is not configured.
    ProviderMissing = "AMB0612";
    /// Everything without a token is refused, and tokens are not read.
    TokensNotRead = "AMB0613";

    /// A PeerAuthentication with a selector in the root namespace.
    PeerSelectorInRoot = "AMB0701";
    /// Two PeerAuthentications for the same pods.
    PeerDuplicate = "AMB0702";
    /// A port of a PeerAuthentication that no container has.
    PeerPort = "AMB0703";
    /// DISABLE, which means PERMISSIVE.
    PeerDisable = "AMB0704";

    /// A host that is no Service.
    HostNotFound = "AMB0801";
    /// A subset that no DestinationRule defines.
    SubsetNotDefined = "AMB0802";
    /// A subset without pods.
    SubsetEmpty = "AMB0803";
    /// A port that the Service does not have.
    DestinationPort = "AMB0804";
    /// A rule that no request reaches.
    RuleUnreachable = "AMB0805";
    /// Weights that do not sum to 100.
    Weights = "AMB0806";
    /// Several VirtualServices of one host.
    HostShared = "AMB0807";
    /// Rules before which no waypoint stands.
    RouteWaypointRequired = "AMB0808";
    /// A Gateway of a VirtualService that does not exist.
    GatewayMissing = "AMB0809";
    /// A delegate that is missing or does not fit.
    Delegate = "AMB0810";
    /// Times that cannot both be kept.
    Timeouts = "AMB0811";
    /// Retries of requests that must not be sent twice.
    RetriesUnsafe = "AMB0812";
    /// A parent that does not exist or does not admit the route.
    ParentNotFound = "AMB0813";
    /// A backend that cannot be referred to.
    BackendNotResolved = "AMB0814";
    /// A DestinationRule of which an older one takes a part.
    RuleShadowed = "AMB0815";
    /// Rules that a waypoint does not see.
    NotSeen = "AMB0816";
}

impl Code {
    /// The code of this name, in any case of letters.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.name().eq_ignore_ascii_case(name.trim()))
    }

    /// What it is about, in a few words: the title of its page.
    pub fn title(self) -> &'static str {
        let title = self.page().lines().next().unwrap_or_default();
        title.split_once(": ").map_or("", |(_, title)| title)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests;
